"""Start workers, give them orders, and let them take turns."""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.harness.common import PEERS, ROOT, Failed, other_environ, say

#: Seconds after which an order counts as hanging.
PATIENCE = 3600.0
#: Seconds before an order, in which the threads of the last one go to sleep (OpenMP's of Intel spin
#: for 0.2 s, GNU's for less).
PAUSE = 0.4
#: The package itself, as a worker.
OWN_WORKER = "benchmarks.speed.own_worker"
_living: set["Worker"] = set()


@atexit.register
def _kill_the_living() -> None:
    """End workers that were not closed, whatever ended the benchmark."""
    for worker in list(_living):
        worker.kill()


class Worker:
    """A process that answers orders (see peer_loop.py).

    python: of its environment, None for this one. log: takes what it prints.
    program: a file of the peers' folder, or the name of a module of this checkout.
    root: a folder from which the peer imports packages first, None for no such folder.
    """

    def __init__(
        self,
        python: Path | None,
        program: str,
        threads: int,
        log: Path,
        root: Path | None = None,
    ) -> None:
        if python is None:
            command = [sys.executable, "-m", program]
            paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
            environ = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        else:
            command, environ = [str(python), str(PEERS / program)], other_environ()
            environ |= {} if root is None else {"PYTHONPATH": str(root)}
        environ.pop("TOKENIZERS_PARALLELISM", None)
        self.log = log
        self._handle = log.open("ab")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._handle,
            env=environ | quiet_environ(threads),
            text=True,
            encoding="utf8",
            start_new_session=True,  # so that its own children can be ended with it
        )
        _living.add(self)

    def ask(self, do: str, patience: float = PATIENCE, **job: Any) -> dict[str, Any]:
        """Give an order and wait. Raises Failed if it can't be done, dies or takes too long."""
        assert self._process.stdin and self._process.stdout
        time.sleep(PAUSE)
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self.kill()

        timer = threading.Timer(patience, give_up)
        timer.start()
        try:
            order = json.dumps({"do": do, **job}, ensure_ascii=True)
            self._process.stdin.write(order + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if late.is_set():
            raise Failed(f"no answer after {patience:.0f} s")
        if not line:
            raise Failed(f"the process ended: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin
        with suppress(OSError, subprocess.TimeoutExpired):
            self._process.stdin.close()
            self._process.wait(timeout=20)
        self.kill()
        self._process.wait()
        self._handle.close()
        _living.discard(self)

    def kill(self) -> None:
        """End the process and its children at once."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _last_words(self) -> str:
        lines = self.log.read_text(encoding="utf8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "without a word"


class Crew:
    """Workers by name. Those that fail are reported and left out.

    python: of the peers. work: folder for logs. wanted: parts of names; others are not started.
    A program that is a module of this checkout runs in this environment.
    """

    def __init__(
        self, python: Path, work: Path, threads: int, wanted: Sequence[str] = ("",)
    ) -> None:
        self.python, self.work, self.threads = python, work, threads
        self.wanted = wanted
        self.workers: dict[str, Worker] = {}
        self.notes: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, list[dict[str, Any]]] = {}
        self.failed: dict[str, str] = {}

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *error: Any) -> None:
        for name in list(self.workers):
            self._drop(name)

    def add(self, name: str, program: str, kind: str, **job: Any) -> None:
        """Start a worker, load and warm it up."""
        if not any(part in name for part in self.wanted):
            return
        own = not program.endswith(".py")
        log = self.work / f"{len(self.runs):02d}-{kind}.log"
        say(f"  {name}: loads and warms up")
        worker = Worker(None if own else self.python, program, self.threads, log)
        self.workers[name] = worker
        self.runs[name] = []
        try:
            worker.ask("load", kind=kind, threads=self.threads, **job)
            self.notes[name] = worker.ask("warm_up")
        except Failed as err:
            self._fail(name, err)

    def take_turns(self, rounds: int) -> None:
        """Let each worker run once a round. Another one begins in each round."""
        for number in range(rounds):
            names = list(self.workers)
            first = number % max(1, len(names))
            for name in names[first:] + names[:first]:
                answer = self.ask(name, "run")
                if answer is not None:
                    self.runs[name].append(answer)
            say(f"  round {number + 1} of {rounds}")

    def ask(self, name: str, do: str, **job: Any) -> dict[str, Any] | None:
        """The answer of one worker; None if it fails or has failed before."""
        if name not in self.workers:
            return None
        try:
            return self.workers[name].ask(do, **job)
        except Failed as err:
            self._fail(name, err)
            return None

    def _fail(self, name: str, err: Failed) -> None:
        say(f"  {name}: not available ({err})")
        self.failed[name] = str(err)
        self._drop(name)

    def _drop(self, name: str) -> None:
        self.workers.pop(name).close()


def quiet_environ(threads: int) -> dict[str, str]:
    """The same number of threads for all.

    OMP_WAIT_POLICY=PASSIVE would let no thread spin at any time, but it makes torch slower than
    it is in use (a trial: by a fifth). Left alone, threads spin for some milliseconds and
    then sleep: PAUSE covers that.
    """
    counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
    return {
        **dict.fromkeys(counts, str(threads)),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }
