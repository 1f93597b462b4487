"""The part "training": one pass over some sentences, and its memory."""

import json
from pathlib import Path
from statistics import median
from typing import Any

from spacy.tokens import Doc, DocBin

from benchmarks.harness.common import Failed, entities_of, say, write_json
from benchmarks.harness.workers import OWN_WORKER, Worker

OURS, THEIRS = "spacy bert-crf train", "bert4torch, model.fit"
SEED = 42


def training(
    pipeline: Path,
    encoder: Path,
    train: list[Doc],
    dev: list[Doc],
    python: Path,
    work: Path,
    threads: int,
    rounds: int,
) -> dict[str, Any]:
    """Each round trains both in new processes, in turns; medians over rounds.

    train: the sentences of the pass. dev: a few, since the command evaluates after the pass
    (its time is left out).
    """
    labels = sorted({ent.label_ for doc in train for ent in doc.ents})
    DocBin(docs=train).to_disk(work / "train.spacy")
    DocBin(docs=dev[:16]).to_disk(work / "dev.spacy")
    jobs: dict[str, tuple[Path | None, str, dict[str, Any]]] = {
        OURS: (None, OWN_WORKER, ours(pipeline, encoder, work)),
        THEIRS: (python, "bert4torch_speed.py", theirs(encoder, train, labels, work)),
    }
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in jobs}
    failed: dict[str, str] = {}
    for number in range(rounds):
        order = list(jobs) if number % 2 == 0 else list(jobs)[::-1]
        for name in order:
            if name in failed:
                continue
            there, program, job = jobs[name]
            worker = Worker(there, program, threads, work / f"{program}.log")
            try:
                worker.ask("load", threads=threads, seed=SEED, **job)
                runs[name].append(worker.ask("run"))
            except Failed as err:
                say(f"  {name}: not available ({err})")
                failed[name] = str(err)
            finally:
                worker.close()
        say(f"  round {number + 1} of {rounds}")
    characters = sum(len(doc.text) for doc in train)
    rows: dict[str, Any] = {name: {"not_available": said} for name, said in failed.items()}
    for name in jobs.keys() - failed.keys():
        speeds = [characters / run["seconds"] for run in runs[name]]
        rows[name] = {
            "characters_per_second": median(speeds),
            "min": min(speeds),
            "max": max(speeds),
            "rounds": speeds,
            **{key: median(run[key] for run in runs[name]) for key in ("loaded", "peak", "loss")},
        }
    if len(rows) == 2 and not failed:
        ratio = rows[OURS]["characters_per_second"] / rows[THEIRS]["characters_per_second"]
        rows[OURS]["to_bert4torch"] = ratio
        rows[OURS]["peak_to_bert4torch"] = rows[OURS]["peak"] / rows[THEIRS]["peak"]
    kept = {name: rows[name] for name in jobs}
    return {"rows": kept, "sentences": len(train), "characters": characters, "rounds": rounds}


def ours(pipeline: Path, encoder: Path, work: Path) -> dict[str, Any]:
    """The pipeline's own config, on these files."""
    return {
        "kind": "train",
        "config": str(pipeline / "config.cfg"),
        "encoder": str(encoder),
        "data": str(work / "train.spacy"),
        "dev": str(work / "dev.spacy"),
    }


def theirs(encoder: Path, train: list[Doc], labels: list[str], work: Path) -> dict[str, Any]:
    """bert4torch's example, on the same encoder."""
    folder = work / "theirs"
    folder.mkdir()
    config = json.loads((encoder / "config.json").read_text(encoding="utf8"))
    write_json(folder / "bert4torch_config.json", {**config, "model": "bert"})
    return {
        "kind": "fit",
        "folder": str(folder),
        "checkpoint": str((encoder / "pytorch_model_cvt.bin").resolve()),
        "vocab": str((encoder / "vocab.txt").resolve()),
        "train": [(doc.text, sorted(entities_of(doc))) for doc in train],
        "tags": ["O", *(f"{prefix}-{label}" for label in labels for prefix in "BI")],
    }
