"""The training loop around a pipeline: epochs, evaluation at their end, best epoch, resume.

Runs on a spaCy training config. It makes the same updates as `spacy train`: after the same number
of updates the weights are equal. These things differ:

- The pipeline is evaluated at the end of every epoch.
- Folders are replaced by rename, so that they are always complete.
- An interrupted training goes on from a saved state.
- Where the optimizer's `total_steps` is 0, it is filled in here. `spacy train` knows no total and
  keeps the learning rates at their peak.
"""

import json
import logging
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Optional

from spacy import util
from spacy.language import Language
from spacy.schemas import ConfigSchemaTraining
from spacy.training import Example
from spacy.training.initialize import init_nlp
from spacy.training.loop import (
    create_before_to_disk_callback,
    create_evaluation_callback,
    subdivide_batch,
    update_meta,
)
from spacy.util import registry, resolve_dot_names
from thinc.api import Config

from .._devices import use_allocator, use_device
from .._files import atomic_folder, remove_folder, sweep, write_text
from .._host import plain_torch
from .._memory import explained_memory
from .._provenance import META, flat_settings, missing_shared, versions
from .._signals import Stop
from ..annotation.docbin import check_docbins
from ..errors import BertCrfError
from ..model.optimizer import GroupedAdamW
from . import checks
from . import state as ts
from .batcher import count_batches
from .new_labels import learn_new_labels
from .progress import Finalize, LogStep, Progress

BEST, LAST = "model-best", "model-last"
#: What may prepare a training, from its pipeline and its examples.
Begin = Callable[[Language, list[Example]], None]

#: Messages about a run. The commands print them.
logger = logging.getLogger("spacy_bert_crf.training")


@plain_torch()
@explained_memory()
def train(
    config: Config,
    output: Path,
    *,
    use_gpu: int = -1,
    resume: bool = False,
    keep_state: bool = True,
    save_minutes: float = 10.0,
    overwrite: bool = False,
    begin: Optional[Begin] = None,
) -> dict[str, Any]:
    """Train a pipeline; write `model-best`, `model-last` and `history.json` under `output`.

    Progress goes to the logger that `[training.logger]` names. It is called as `spacy train` calls
    it: with spaCy's dict after an evaluation, with None after any other update.

    config: a spaCy training config, not interpolated.
    output: folder to write; it is created if need be.
    use_gpu: number of a GPU, -1 for the CPU.
    resume: go on from the state under `output`, if there is one.
    keep_state: save a state at each evaluation and every `save_minutes`; removed at the end.
    save_minutes: minutes between two saved states.
    overwrite: start anew where `output` holds an interrupted training.
    begin: called with the pipeline and its training examples, which are none where the corpus is
        streamed, before the first update of this run.
    RETURNS: the history: epochs, best epoch, seconds, seed, versions.
    Raises BertCrfError for a config, data, device or state that can't be used, where the memory of
    the device is full, and after a signal.
    """
    checks.check_start(config, output, resume, overwrite)
    use_device(use_gpu)
    output.mkdir(parents=True, exist_ok=True)
    sweep(output)  # of a run that was killed while it wrote
    logger.info("reading the corpora and the encoder")
    try:
        check_docbins(Path(value) for _, value in flat_settings(config) if ts.is_path(value))
        run = _Run(config, output, use_gpu, resume, keep_state, save_minutes)
        checks.warn_section(config, begin is not None)
    except BertCrfError:
        raise
    except (ValueError, OSError, KeyError) as err:  # raised by spaCy for the config or a corpus
        raise BertCrfError(f"the training can't begin: {err}{missing_shared(err)}") from err
    if run.complete:
        return run.history
    if begin is not None:
        begin(run.nlp, run.examples)
    return run.loop()


class _Run:
    """One call of `train`."""

    def __init__(
        self,
        config: Config,
        output: Path,
        use_gpu: int,
        resume: bool,
        keep_state: bool,
        save_minutes: float,
    ) -> None:
        self.output = output
        self.save_seconds = save_minutes * 60
        has_state = resume and (output / ts.FOLDER).is_dir()
        self.nlp = nlp = (
            ts.load_nlp(output, config) if has_state else init_nlp(config, use_gpu=use_gpu)
        )
        # Files may have moved since a state was saved. Their contents are compared below.
        self.config = Config(nlp.config).merge({"paths": config.get("paths", {})}).interpolate()
        if own_logger := config.interpolate()["training"].get("logger"):
            self.config["training"]["logger"] = own_logger  # a resumed training may have another
        settings = self.config["training"]
        checks.warn_unused(settings)
        checks.check_quantize(nlp)
        if settings["seed"] is not None:
            util.fix_random_seed(settings["seed"])
        if use_gpu >= 0 and settings["gpu_allocator"]:
            use_allocator(settings["gpu_allocator"])
        self.T = registry.resolve(settings, schema=ConfigSchemaTraining)
        dot_names = [self.T["train_corpus"], self.T["dev_corpus"]]
        self.train_corpus, self.dev_corpus = resolve_dot_names(self.config, dot_names)
        self.optimizer = self.T["optimizer"]
        self.keep_state = keep_state and checks.can_keep_state(self.optimizer)
        self.streamed = self.T["max_epochs"] < 0
        self.examples: list[Example] = [] if self.streamed else list(self.train_corpus(nlp))
        if not self.streamed and not self.examples:
            raise BertCrfError(
                "the training corpus has no examples: check [corpora.train] and its path."
            )
        with checks.same_random():
            learn_new_labels(nlp, config, self.train_corpus, is_resumed=has_state)
            checks.check_corpora(nlp, self.examples, list(self.dev_corpus(nlp)))
        self.total_steps = self._count_steps()
        if isinstance(self.optimizer, GroupedAdamW) and not self.optimizer.total_steps:
            self.optimizer.total_steps = self.total_steps
        self.belongs_to = ts.fingerprint(config, self.examples)
        nlp.meta[META] = {
            "seed": settings["seed"],
            **ts.hashes(self.belongs_to),
            "versions": versions(),
        }
        checks.record_description(nlp, config)
        self.state = ts.TrainingState()
        self.random: Optional[dict[str, Any]] = None
        self.history = ts.read_history(output) if resume else {}
        self.complete = (
            bool(self.history.get("complete"))
            and not has_state
            and (output / BEST).is_dir()
            and not ts.difference(self.history["belongs_to"], self.belongs_to)
        )
        if self.complete:
            logger.info("training is complete: best epoch %d", self.history["best_epoch"])
        elif has_state:
            data = ts.read_state(output, self.belongs_to)
            assert data is not None
            self.state = ts.restore_state(output, data, nlp, self.optimizer)
            self.random = data["random"]
            logger.info("resuming at epoch %d, step %d", self.state.epoch + 1, self.state.step)

    def loop(self) -> dict[str, Any]:
        """Train until a limit of the config is reached, and return the history.

        Raises BertCrfError after SIGINT or SIGTERM, once the state is saved.
        """
        checks.choose_rates(self.nlp, self.optimizer, self.T["frozen_components"])
        log_step, finalize = self._start_logger()
        try:
            with Stop() as stop:
                self._loop(stop, log_step)
        finally:
            finalize()
        self._write_history(complete=True)
        remove_folder(self.output / ts.FOLDER)
        return self.history

    def _loop(self, stop: Stop, log_step: LogStep) -> None:
        T, state = self.T, self.state
        evaluate = create_evaluation_callback(self.nlp, self.dev_corpus, T["score_weights"])
        started, saved_at = time.monotonic() - state.seconds, time.monotonic()
        for epoch, batch, is_last in self._batches():
            self._update(batch, epoch)
            state.seconds = time.monotonic() - started
            finished = self._is_enough(state.step) or (
                is_last and T["max_epochs"] > 0 and epoch + 1 >= T["max_epochs"]
            )
            state.step += 1
            state.batches_done += 1
            if is_last or finished:
                if isinstance(log_step, Progress):
                    log_step.evaluating()
                log_step(self._evaluate(evaluate, epoch, started))
                finished = finished or self._is_enough(state.step - 1)
            else:
                log_step(None)
            if is_last:
                state.epoch, state.batches_done = epoch + 1, 0
            if finished:
                return
            is_due = time.monotonic() - saved_at > self.save_seconds
            if self.keep_state and (is_last or is_due or stop.signal_name):
                ts.save_state(self.output, state, self.nlp, self.optimizer, self.belongs_to)
                saved_at = time.monotonic()
            if stop.signal_name:
                raise BertCrfError(
                    f"stopped by {stop.signal_name} after step {state.step}. "
                    + ("Go on with --resume." if self.keep_state else "No state was kept.")
                )

    def _start_logger(self) -> tuple[LogStep, Finalize]:
        """Set up the logger of the config, as spaCy's loop does."""
        with self.nlp.select_pipes(disable=self.T["frozen_components"]):
            log_step, finalize = self.T["logger"](self.nlp, sys.stdout, sys.stderr)
        if isinstance(log_step, Progress):
            log_step.watch(self.state, self.optimizer, self.total_steps, self.nlp.pipe_names)
        return log_step, finalize

    def _batches(self) -> Iterator[tuple[int, list[Example], bool]]:
        """Batches from the state's position on, as (epoch, batch, is the last of its epoch)."""
        state, saved, done = self.state, self.random, self.state.batches_done
        saved_order, order = state.order, list(range(len(self.examples)))
        if saved is None:
            state.start_random = random.getstate()
        else:
            ts.set_random_states(saved)
            ts.set_python_random(state.start_random)
            for _ in range(state.epoch):
                for _ in self._draw(order):
                    pass
        while self.T["max_epochs"] < 1 or state.epoch < self.T["max_epochs"]:
            batches = self._draw(order)
            for _ in range(done):
                next(batches, None)
            batch = next(batches, None)
            if batch is None:
                raise BertCrfError("the training corpus has no batch: check [training.batcher].")
            if done and not self.streamed and saved_order != order:
                raise BertCrfError(
                    f"can't resume from {self.output / ts.FOLDER}: the batches can't be drawn "
                    "again in the same order. Delete the folder to start anew."
                )
            done, state.order = 0, None if self.streamed else list(order)
            while batch is not None:
                following = next(batches, None)
                yield state.epoch, batch, following is None
                batch = following

    def _draw(self, order: list[int]) -> Iterator[list[Example]]:
        """Batches of the next epoch. `order` is shuffled in place, as in spaCy's loop."""
        if self.streamed:
            return iter(self.T["batcher"](self.train_corpus(self.nlp)))
        random.shuffle(order)
        return iter(self.T["batcher"]([self.examples[i] for i in order]))

    def _update(self, batch: list[Example], epoch: int) -> None:
        """One update, as in spaCy's own loop."""
        T, nlp = self.T, self.nlp
        if T["before_update"]:
            T["before_update"](nlp, {"step": self.state.step, "epoch": epoch})
        dropout = T["dropout"] if isinstance(T["dropout"], float) else next(T["dropout"])
        frozen = T["frozen_components"]
        for part in subdivide_batch(batch, T["accumulate_gradient"]):
            nlp.update(
                part,
                drop=dropout,
                losses=self.state.losses,
                sgd=False,
                exclude=frozen,
                annotates=T["annotating_components"],
            )
        for name, pipe in nlp.pipeline:
            if name in frozen or not getattr(pipe, "is_trainable", False):
                continue
            if pipe.model not in (True, False, None):
                pipe.finish_update(self.optimizer)
        self.optimizer.step_schedules()
        # The losses of some spaCy components are numpy floats, which JSON can't write.
        for name, loss in self.state.losses.items():
            self.state.losses[name] = float(loss)
        self.state.loss_steps += 1
        self.state.words += sum(len(example) for example in batch)

    def _evaluate(
        self, evaluate: Callable[[], tuple[float, dict[str, Any]]], epoch: int, started: float
    ) -> dict[str, Any]:
        """Score the dev corpus and write `model-last`; also `model-best` if no score was higher.

        epoch: number of the epoch, from 0.
        started: when the training began, on the monotonic clock.
        RETURNS: spaCy's dict for loggers, plus the epoch's row of the history under "row".
        """
        state = self.state
        trained = state.seconds - sum(row["seconds"] for row in state.epochs)
        began = time.monotonic()
        with self._averages():
            score, scores = evaluate()
        is_best = not state.results or score > max(state.results)[0]
        state.results.append((score, state.step - 1))
        info: dict[str, Any] = {
            "epoch": epoch,
            "step": state.step - 1,  # spaCy counts updates from 0
            "score": score,
            "other_scores": scores,
            "losses": dict(state.losses),
            "checkpoints": list(state.results),
            "words": state.words,
        }
        frozen = self.T["frozen_components"]
        with self.nlp.select_pipes(disable=frozen):
            update_meta(self.T, self.nlp, info)
        before_to_disk = create_before_to_disk_callback(self.T["before_to_disk"])
        with atomic_folder(self.output / LAST) as folder, self._averages():
            before_to_disk(self.nlp).to_disk(folder)
        if is_best:
            with atomic_folder(self.output / BEST) as folder:
                shutil.copytree(self.output / LAST, folder, dirs_exist_ok=True)
        state.seconds = time.monotonic() - started
        numbers = {k: float(v) for k, v in scores.items() if isinstance(v, (int, float))}
        row: dict[str, Any] = {
            "epoch": epoch + 1,
            "step": state.step,
            "loss": sum(state.losses.values()) / max(state.loss_steps, 1),
            "losses": dict(state.losses),
            "score": score,
            "best": is_best,
            "seconds": round(trained + time.monotonic() - began, 3),
            "evaluation_seconds": round(time.monotonic() - began, 3),
            "epoch_words": state.words - sum(row["epoch_words"] for row in state.epochs),
        }
        row |= {k: numbers[k] for k in ("ents_p", "ents_r", "ents_f") if k in numbers}
        state.epochs.append(row)
        state.losses, state.loss_steps = {}, 0
        self._write_history(complete=False)
        path = str(self.output / LAST)
        return {**info, "seconds": int(state.seconds), "output_path": path, "row": row}

    def _averages(self) -> AbstractContextManager[Any]:
        """Within the block, the pipeline has averaged weights, if the optimizer keeps them."""
        averages = self.optimizer.averages
        return self.nlp.use_params(averages) if averages else nullcontext()

    def _write_history(self, complete: bool) -> None:
        state = self.state
        best = max(state.epochs, key=lambda row: (row["score"], -row["epoch"]))
        self.history = {
            "complete": complete,
            "best_epoch": best["epoch"],
            "epochs": state.epochs,
            "steps": state.step,
            "seconds": round(state.seconds, 3),
            "seed": self.T["seed"],
            "versions": versions(),
            **ts.hashes(self.belongs_to),
            "belongs_to": self.belongs_to,
        }
        write_text(self.output / ts.HISTORY, json.dumps(self.history, indent=2) + "\n")

    def _is_enough(self, step: int) -> bool:
        """Whether to stop after the update `step` (from 0), by the rules of spaCy's loop."""
        T, results = self.T, self.state.results
        if T["max_steps"] and step >= T["max_steps"]:
            return True
        if not (T["patience"] and results):
            return False
        best_step = -max((score, -at) for score, at in results)[1]
        return bool(step - best_step >= T["patience"])

    def _count_steps(self) -> int:
        """Number of updates of the whole training; 0 if it is not known."""
        T = self.T
        # spaCy stops after the update whose number, from 0, is max_steps.
        limits = [T["max_steps"] + 1] if T["max_steps"] else []
        if T["max_epochs"] > 0:
            section = self.config["training"]["batcher"]
            with checks.same_random():
                limits.append(count_batches(section, self.examples, T["max_epochs"]))
        return min(limits, default=0)
