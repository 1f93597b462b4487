"""Run trainings in parallel: each slot is a process that takes one training after another."""

import argparse
import json
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from spacy.tokens import DocBin

from benchmarks.accuracy.convergence.plan import THEIRS, Source
from benchmarks.accuracy.peer import train_theirs
from benchmarks.harness.common import say
from benchmarks.harness.trials import Corpus
from benchmarks.harness.workers import Worker

TRAINER = "benchmarks.accuracy.convergence.trainer"
#: Seconds between two looks at the histories of the trainings that run.
PAUSE = 1.0
#: Seconds that are too few for another training.
TOO_FEW = 10.0


class Slots:
    """The queue of trainings and the processes that take from it.

    args: the command line. encoder: folder of a converted encoder. work: a scratch folder.
    runs: gets a row for each training that has begun. session: its number, for these rows.
    write: is called when `runs` changed.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        encoder: Path,
        sources: dict[str, Source],
        work: Path,
        runs: list[dict[str, Any]],
        session: int,
        write: Callable[[], None],
    ) -> None:
        self.args, self.encoder, self.sources, self.work = args, encoder, sources, work
        self.runs, self.session, self.write = runs, session, write
        self.lock = threading.Lock()
        self.began = time.monotonic()
        self.todo: list[dict[str, Any]] = []
        self.folders: dict[int, Path] = {}
        self.changed = False

    def run(self, jobs: list[dict[str, Any]]) -> None:
        """Run the jobs, in this order, until all are done or the time is over."""
        self.todo = list(jobs)
        count = min(self.args.workers, len(jobs))
        slots = [
            threading.Thread(target=self._serve, args=(number,), daemon=True)
            for number in range(count)
        ]
        for slot in slots:
            slot.start()
        while any(slot.is_alive() for slot in slots):
            time.sleep(PAUSE)
            self._look()
        self._look()

    def left(self) -> float:
        """Seconds until the end of all trainings."""
        if not self.args.seconds:
            return float(self.args.job_seconds)
        return float(self.args.seconds - (time.monotonic() - self.began))

    def _serve(self, number: int) -> None:
        """Take jobs until there is none, or too little time."""
        worker: Worker | None = None
        while True:
            with self.lock:
                if not self.todo or self.left() < TOO_FEW:
                    break
                job = self.todo.pop(0)
                run: dict[str, Any] = {**job, "epochs_done": [], "complete": False, "error": ""}
                run["session"] = self.session
                run["began"] = round(time.monotonic() - self.began, 1)
                self.runs.append(run)
                folder = self.work / f"job-{len(self.runs)}"
            end = time.monotonic() + min(self.args.job_seconds, self.left())
            folder.mkdir()
            try:
                if job["variant"] == THEIRS:
                    self._train_theirs(run, folder, end)
                else:
                    worker = worker or self._start(number)
                    self._train_ours(worker, run, folder, end)
            except Exception as err:  # of one training: the others go on
                if worker and job["variant"] != THEIRS:
                    worker.kill()
                    worker.close()
                    worker = None
                self._end(run, folder, error=f"{err}" or type(err).__name__)
            else:
                self._end(run, folder)
        if worker:
            worker.close()

    def _start(self, number: int) -> Worker:
        worker = Worker(None, TRAINER, self.args.threads, self.work / f"slot-{number}.log")
        worker.ask("load", kind="trainer")
        return worker

    def _train_ours(self, worker: Worker, run: dict[str, Any], folder: Path, end: float) -> None:
        corpus = self.sources[run["corpus"]].corpus
        job = {key: run[key] for key in ("epochs", "limit", "dev_limit", "max_steps", "seed")}
        job |= {"encoder": str(self.encoder), "train": str(corpus.train), "dev": str(corpus.dev)}
        job |= {"settings": {**self.args.set, **run["settings"]}, "layers": 0}
        job |= {"threads": self.args.threads, "gpu_id": self.args.gpu_id}
        with self.lock:
            self.folders[id(run)] = folder
        patience = max(1.0, end - time.monotonic())
        answer = worker.ask("train", patience, job=job, folder=str(folder))
        with self.lock:
            run["memory"] = round(answer["peak"])

    def _train_theirs(self, run: dict[str, Any], folder: Path, end: float) -> None:
        def report(epochs: list[dict[str, Any]]) -> None:
            with self.lock:
                run["epochs_done"] = [dict(row) for row in epochs]
                self.changed = True

        own = argparse.Namespace(**vars(self.args))
        own.epochs = run["epochs"]
        found = train_theirs(
            own, self.encoder, limited(self.sources[run["corpus"]].corpus, run, folder),
            self.args.peer_python, run["seed"], folder,
            device=f"cuda:{self.args.gpu_id}" if self.args.gpu_id >= 0 else "cpu",
            packages=self.args.peer_packages,
            patience=lambda: max(1.0, end - time.monotonic()), report=report,
        )  # fmt: skip
        more = ("versions", "left_out_of_training", "dev_not_read", "dev_cut")
        with self.lock:
            run.update({key: found[key] for key in more})

    def _end(self, run: dict[str, Any], folder: Path, error: str = "") -> None:
        self._read(run, folder)
        with self.lock:
            self.folders.pop(id(run), None)
            run["complete"], run["error"] = not error, error
            run["took"] = round(time.monotonic() - self.began - run["began"], 1)
            self.changed = True
        if run["keep"] and self.args.models and (folder / "model-best").is_dir():
            name = f"{run['corpus']}-{run['variant']}-{run['seed']}".replace(" ", "_")
            shutil.move(folder / "model-best", self.args.models / name)
        shutil.rmtree(folder, ignore_errors=True)
        scores = " ".join(f"{100 * row['f']:.2f}" for row in run["epochs_done"])
        said = f"  {error.splitlines()[-1][:300]}" if error else ""
        name = f"{run['corpus']}, {run['row']}, seed {run['seed']}"
        say(f"{time.monotonic() - self.began:6.0f} s  {name}: {scores}{said}")

    def _look(self) -> None:
        """Read the histories of what runs, and write if anything is new."""
        with self.lock:
            folders = dict(self.folders)
        for run in self.runs:
            if id(run) in folders:
                self._read(run, folders[id(run)])
        with self.lock:
            if self.changed:
                self.changed = False
                self.write()

    def _read(self, run: dict[str, Any], folder: Path) -> None:
        path = folder / "history.json"
        if run["variant"] == THEIRS or not path.is_file():
            return
        with suppress(OSError, ValueError):
            history = json.loads(path.read_text(encoding="utf8"))
            rows = [
                {
                    "epoch": row["epoch"],
                    **{key: row.get(f"ents_{key}", 0.0) for key in "prf"},
                    "seconds": row["seconds"] - row["evaluation_seconds"],
                    "loss": row["loss"],
                    "step": row["step"],
                }
                for row in history["epochs"]
            ]
            with self.lock:
                if len(rows) > len(run["epochs_done"]):
                    run["epochs_done"] = rows
                    self.changed = True


def limited(corpus: Corpus, run: dict[str, Any], folder: Path) -> Corpus:
    """The corpus as the limits of a training cut it."""
    if not (run["limit"] or run["dev_limit"]):
        return corpus
    paths: dict[str, Path] = {}
    for name, path, limit in (
        ("train", corpus.train, run["limit"]),
        ("dev", corpus.dev, run["dev_limit"]),
    ):
        paths[name] = folder / f"{name}.spacy"
        DocBin(docs=corpus.docs(path)[: limit or None]).to_disk(paths[name])
    return replace(corpus, train=paths["train"], dev=paths["dev"])
