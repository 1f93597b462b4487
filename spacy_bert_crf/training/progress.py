"""What a training shows while it runs: a line an epoch, and where it is in between."""

import sys
import time
from typing import Any, Optional

from thinc.api import Optimizer
from tqdm import tqdm

from ..model.optimizer import GroupedAdamW

#: Seconds between two lines where the output is no terminal.
_QUIET_SECONDS = 30.0
_COLUMNS = ("epoch", "step", "loss", "ents_p", "ents_r", "ents_f", "chars/s", "seconds")


class Progress:
    """Prints to stdout; in a terminal, a bar on stderr shows the present epoch's place.

    total_steps: updates of the whole training, 0 if not known.
    max_epochs: epochs of the whole training, 0 or less if not known.
    """

    def __init__(self, total_steps: int, max_epochs: int) -> None:
        self.total_steps = total_steps
        self.max_epochs = max_epochs
        self._bar: Optional[Any] = None
        self._told_at = self._began = time.monotonic()
        self._first_step = 0
        self._words_at: Optional[tuple[int, float]] = None

    def begin(self, pipe_names: list[str], optimizer: Optimizer, step: int) -> None:
        """Print what is trained and how."""
        self._first_step = step
        print(f"pipeline: {', '.join(pipe_names)}")
        if isinstance(optimizer, GroupedAdamW):
            rates = ", ".join(f"{name} {rate:g}" for name, rate in optimizer.rates.items())
            total = optimizer.total_steps or "an open number of"
            print(f"peak learning rates: {rates}; {total} updates, {optimizer.decay} decay")
        print("".join(f"{name:>9}" for name in _COLUMNS), flush=True)
        self._bar = tqdm(
            total=self.total_steps or None, initial=step, unit="batch", disable=None, leave=False
        )

    def step(self, state: Any, optimizer: Optimizer) -> None:
        """An update was made."""
        now = time.monotonic()
        if self._words_at is None:
            self._words_at = (state.words, now)
        assert self._bar is not None
        loss = sum(state.losses.values()) / max(state.loss_steps, 1)
        self._bar.set_postfix(loss=f"{loss:.3f}", lr=f"{optimizer.learn_rate:.1e}", refresh=False)
        self._bar.update()
        if self._bar.disable and now - self._told_at > _QUIET_SECONDS:
            self._told_at = now
            words, since = self._words_at
            speed = (state.words - words) / max(now - since, 1e-9)
            of_steps = f"/{self.total_steps}" if self.total_steps else ""
            of_epochs = f"/{self.max_epochs}" if self.max_epochs > 0 else ""
            print(
                f"  epoch {state.epoch + 1}{of_epochs}, update {state.step}{of_steps}, loss "
                f"{loss:.3f}, {speed:.0f} characters/s, {self._left(state.step, now)}",
                flush=True,
            )

    def evaluating(self) -> None:
        """The dev corpus is being scored."""
        if self._bar is not None and not self._bar.disable:
            self._bar.set_description("scoring")
            self._bar.refresh()
        self._words_at = None

    def epoch(self, row: dict[str, Any]) -> None:
        """Print an epoch's line."""
        if self._bar is not None:
            self._bar.clear()
            self._bar.set_description("")
        training = max(row["seconds"] - row["evaluation_seconds"], 1e-9)
        cells = [f"{row['epoch']}", f"{row['step']}", f"{row['loss']:.3f}"]
        cells += [f"{row[key] * 100:.2f}" if key in row else "-" for key in _COLUMNS[3:6]]
        cells += [f"{row['epoch_words'] / training:.0f}", f"{row['seconds']:.0f}"]
        best = "  best" if row["best"] else ""
        print("".join(f"{cell:>9}" for cell in cells) + best, flush=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
        sys.stdout.flush()

    def _left(self, step: int, now: float) -> str:
        done = step - self._first_step
        if not self.total_steps or not done:
            return "time left not known"
        minutes = (now - self._began) / done * (self.total_steps - step) / 60
        return f"about {minutes:.0f} min left" if minutes >= 1 else "less than a minute left"
