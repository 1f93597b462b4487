"""The logger `spacy_bert_crf.ProgressLogger.v1`: a line for each epoch, and a bar in between.

It follows spaCy's logger protocol, so that `spacy train` can use it too. In this package's loop it
also shows the loss and the learning rate between two evaluations. The protocol does not carry them.
"""

import sys
import time
from collections.abc import Callable
from typing import IO, Any, Optional

from spacy.language import Language
from spacy.util import registry
from thinc.api import Optimizer
from tqdm import tqdm

from ..model.optimizer import GroupedAdamW
from .state import TrainingState

#: Seconds between two lines where the output is no terminal.
_QUIET_SECONDS = 30.0
_COLUMNS = ("epoch", "step", "loss", "ents_p", "ents_r", "ents_f", "chars/s", "seconds")

LogStep = Callable[[Optional[dict[str, Any]]], None]
Finalize = Callable[[], None]


@registry.loggers("spacy_bert_crf.ProgressLogger.v1")
def create_progress_logger() -> Callable[..., tuple[LogStep, Finalize]]:
    """A logger for `[training.logger]`: a line for each evaluation on stdout.

    In a terminal, a bar on stderr shows how far the training is. Elsewhere a line is printed every
    30 seconds.
    """

    def setup_printer(
        nlp: Language, stdout: IO[str] = sys.stdout, stderr: IO[str] = sys.stderr
    ) -> tuple[LogStep, Finalize]:
        progress = Progress(nlp, stdout, stderr)
        return progress, progress.close

    return setup_printer


class Progress:
    """The `log_step` function of the logger; `close` is its `finalize` function.

    nlp: the pipeline in training.
    stdout: where the lines are printed.
    stderr: where the bar is drawn.
    """

    def __init__(self, nlp: Language, stdout: IO[str], stderr: IO[str]) -> None:
        self.stdout = stdout
        self.stderr = stderr
        self.total_steps = int(nlp.config["training"]["max_steps"] or 0)
        self.max_epochs = int(nlp.config["training"]["max_epochs"] or 0)
        self._state: Optional[TrainingState] = None
        self._optimizer: Optional[Optimizer] = None
        self._bar: Optional[Any] = None
        self._printed_at = self._began = self._evaluated_at = time.monotonic()
        self._steps = self._first_step = self._evaluated_steps = self._evaluated_words = 0
        self._words_at: Optional[tuple[int, float]] = None

    def watch(
        self, state: TrainingState, optimizer: Optimizer, total_steps: int, pipe_names: list[str]
    ) -> None:
        """Show figures beyond the protocol: settings now, loss and learning rate at each step.

        state: counters of the training, which the training keeps up to date.
        optimizer: its learning rates are shown.
        total_steps: updates of the whole training; 0 if not known.
        pipe_names: components of the pipeline, in order.
        """
        self._state, self._optimizer, self.total_steps = state, optimizer, total_steps
        self._steps = self._first_step = state.step
        self._print(f"pipeline: {', '.join(pipe_names)}")
        if isinstance(optimizer, GroupedAdamW):
            found = ((name, rate) for name, rate in optimizer.rates.items() if rate)
            rates = ", ".join(f"{name} {rate:g}" for name, rate in found)
            total = optimizer.total_steps or "an open number of"
            self._print(f"peak learning rates: {rates}; {total} updates, {optimizer.decay} decay")
        self._start()
        for row in state.epochs:  # those before an interruption
            self._print_row(row)

    def __call__(self, info: Optional[dict[str, Any]]) -> None:
        """Show one update.

        info: spaCy's dict about the evaluation that followed the update; None if there was none.
        """
        self._steps += 1
        bar = self._start()
        if self._state is not None and self._optimizer is not None:
            loss = sum(self._state.losses.values()) / max(self._state.loss_steps, 1)
            rate = f"{self._optimizer.learn_rate:.1e}"
            if self._state.loss_steps:
                bar.set_postfix(loss=f"{loss:.3f}", lr=rate, refresh=False)
        bar.update()
        if info is not None:
            bar.clear()
            bar.set_description("")
            self._print_row(info.get("row") or self._row(info))
            self._words_at = None
        elif bar.disable:
            self._print_between()

    def evaluating(self) -> None:
        """Show that the dev corpus is being scored."""
        bar = self._start()
        if not bar.disable:
            bar.set_description("scoring")
            bar.refresh()

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
        self.stdout.flush()

    def _start(self) -> Any:
        """The bar; before it is made, print the heads of the columns."""
        if self._bar is None:
            self._print("".join(f"{name:>9}" for name in _COLUMNS))
            self._bar = tqdm(
                total=self.total_steps or None, initial=self._first_step, unit="batch",
                disable=None, leave=False, file=self.stderr,
            )  # fmt: skip
        return self._bar

    def _print(self, line: str) -> None:
        print(line, file=self.stdout, flush=True)

    def _print_row(self, row: dict[str, Any]) -> None:
        """Print the line of an epoch, from its row in history.json."""
        training = max(row["seconds"] - row["evaluation_seconds"], 1e-9)
        cells = [f"{row['epoch']}", f"{row['step']}", f"{row['loss']:.3f}"]
        cells += [f"{row[key] * 100:.2f}" if key in row else "-" for key in _COLUMNS[3:6]]
        cells += [f"{row['epoch_words'] / training:.0f}", f"{row['seconds']:.0f}"]
        best = "  best" if row["best"] else ""
        self._print("".join(f"{cell:>9}" for cell in cells) + best)

    def _row(self, info: dict[str, Any]) -> dict[str, Any]:
        """The line of an evaluation in another loop, from what the protocol carries."""
        now = time.monotonic()
        scores = {k: v for k, v in info["other_scores"].items() if isinstance(v, (int, float))}
        losses = sum(float(loss) for loss in info["losses"].values())
        row = {
            **{key: scores[key] for key in _COLUMNS[3:6] if key in scores},
            "epoch": info["epoch"] + 1,
            "step": info["step"] + 1,
            "loss": losses / (self._steps - self._evaluated_steps),
            "best": info["score"] >= max(score for score, _ in info["checkpoints"]),
            "epoch_words": info["words"] - self._evaluated_words,
            "seconds": now - self._evaluated_at,
            "evaluation_seconds": 0.0,
        }
        self._evaluated_at, self._evaluated_steps = now, self._steps
        self._evaluated_words = info["words"]
        return row

    def _print_between(self) -> None:
        """Now and then, print how far the training is."""
        now, state = time.monotonic(), self._state
        if state is not None and self._words_at is None:
            self._words_at = (state.words, now)
        if now - self._printed_at <= _QUIET_SECONDS:
            return
        self._printed_at = now
        of_steps = f"/{self.total_steps}" if self.total_steps else ""
        parts = [f"update {self._steps}{of_steps}"]
        if state is not None and self._words_at is not None:
            of_epochs = f"/{self.max_epochs}" if self.max_epochs > 0 else ""
            words, since = self._words_at
            speed = (state.words - words) / max(now - since, 1e-9)
            loss = sum(state.losses.values()) / max(state.loss_steps, 1)
            parts = [f"epoch {state.epoch + 1}{of_epochs}", *parts]
            parts += [f"loss {loss:.3f}", f"{speed:.0f} characters/s"]
        self._print(f"  {', '.join([*parts, self._left(now)])}")

    def _left(self, now: float) -> str:
        done = self._steps - self._first_step
        if not self.total_steps or not done:
            return "time left not known"
        minutes = (now - self._began) / done * (self.total_steps - self._steps) / 60
        return f"about {minutes:.0f} min left" if minutes >= 1 else "less than a minute left"
