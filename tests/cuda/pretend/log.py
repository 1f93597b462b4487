"""What happened on the pretend device, with the place in the code."""

import collections
import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

#: Paths of the code whose lines are reported: parts of a file name.
_REPORTED = ("spacy_bert_crf/", "spacy_transformers/", "transformers/", "thinc/", "torch/optim")
#: Its lines are always reported beside those of a library.
_OWN = "spacy_bert_crf/"
_DEVICE = "tests/cuda/pretend"
#: The place of operations that no Python code calls: those of backpropagation.
_AUTOGRAD = "autograd"


@dataclass
class Log:
    """Events since the last `reset`."""

    #: Kernels: name of the operation -> number.
    launches: collections.Counter[str] = field(default_factory=collections.Counter)
    #: The same: place -> number.
    launch_places: collections.Counter[str] = field(default_factory=collections.Counter)
    #: Host waits: (what, place).
    waits: list[tuple[str, str]] = field(default_factory=list)
    #: Number of launches before each wait.
    launches_before: list[int] = field(default_factory=list)
    #: Copies to the device: (place, bytes).
    copies_in: list[tuple[str, int]] = field(default_factory=list)
    #: Copies to the host: (place, bytes).
    copies_out: list[tuple[str, int]] = field(default_factory=list)
    #: Operations of CuPy: name -> number. Each is a launch, too.
    cupy: collections.Counter[str] = field(default_factory=collections.Counter)

    def reset(self) -> None:
        """Start from zero."""
        self.__init__()  # type: ignore[misc]

    def launch(self, name: str, kernels: int = 1) -> None:
        self.launches[name] += kernels
        self.launch_places[place()] += kernels

    def wait(self, what: str) -> None:
        self.waits.append((what, place()))
        self.launches_before.append(self.launches.total())

    def copy_in(self, size: int) -> None:
        """size: in bytes."""
        self.copies_in.append((place(), size))

    def copy_out(self, size: int) -> None:
        """size: in bytes."""
        self.copies_out.append((place(), size))

    def counts(self) -> dict[str, int]:
        """Number of waits, launches, copies in and out, and operations of CuPy."""
        return {
            "waits": len(self.waits),
            "launches": self.launches.total(),
            "copies in": len(self.copies_in),
            "copies out": len(self.copies_out),
            "CuPy": self.cupy.total(),
        }

    def places(self, kind: str) -> str:
        """Where the events of a kind of `counts` come from, the most frequent first; a line each.

        Place and number of the event, and for a wait what it is.
        """
        found: collections.Counter[str] = collections.Counter()
        if kind == "waits":
            found.update(f"{where}: {what}" for what, where in self.waits)
        elif kind == "launches":
            found = self.launch_places
        elif kind == "CuPy":
            found = self.cupy
        else:
            events = self.copies_in if kind == "copies in" else self.copies_out
            found.update(f"{where}: {size} bytes" for where, size in events)
        return "\n".join(f"  {number} x {name}" for name, number in found.most_common(40))


LOG = Log()


def place() -> str:
    """File and line of the running code: the innermost library, and this project's line."""
    frame, found = sys._getframe(1), []
    outside = _AUTOGRAD
    while frame is not None and len(found) < 2:
        name = frame.f_code.co_filename
        if _DEVICE in name:
            frame = frame.f_back
            continue
        if any(part in name for part in _REPORTED):
            short = name.split("site-packages/")[-1]
            short = _OWN + short.split(_OWN)[-1] if _OWN in short else short
            if not found or short.startswith(_OWN):
                found.append(f"{short}:{frame.f_lineno}")
            if short.startswith(_OWN):
                break
        elif outside == _AUTOGRAD and "/torch/" not in name:
            outside = f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return " < ".join(found) or outside


@contextlib.contextmanager
def counted() -> Iterator[Log]:
    """The log, from zero."""
    LOG.reset()
    yield LOG
