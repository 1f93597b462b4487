"""What the accuracy benchmarks share: corpora, and a training of the package with its scores."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import spacy
import srsly
from spacy.tokens import Doc, DocBin

from benchmarks.harness.common import (
    ROOT,
    Failed,
    command_line,
    end_at_sigterm,
    say,
    spacy_command,
    status_of,
    stem_of,
)
from benchmarks.harness.machine_info import describe_machine, gpu_name
from benchmarks.harness.workers import quiet_environ
from spacy_bert_crf.annotation.docbin import read_docbin
from spacy_bert_crf.annotation.formats import ON_ERROR
from spacy_bert_crf.annotation.tags import SCHEME_NAMES
from spacy_bert_crf.encoder.checkpoint_files import read_json
from spacy_bert_crf.training.config import fill_config

TEMPLATE = ROOT / "configs" / "bert_crf.cfg"


@dataclass
class Corpus:
    """Docs of train and dev; scheme: a key of schemes.SCHEMES; counts: of docs and entities."""

    train: Path
    dev: Path
    labels: list[str]
    scheme: str
    lang: str
    counts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def docs(self, path: Path) -> list[Doc]:
        """Docs of one of its files, or of one that was made of it."""
        return list(read_docbin(path, spacy.blank(self.lang).vocab))


def write_docs(path: Path, docs: list[Doc]) -> None:
    """Write docs, with what they cover."""
    path.write_bytes(DocBin(docs=docs, store_user_data=True).to_bytes())


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that the accuracy benchmarks share: a corpus, and how it is trained on."""
    add = parser.add_argument
    add("--train", type=Path, required=True, help="columns, or docs (.spacy)")
    add("--dev", type=Path, required=True, help="the same, scored after each epoch")
    add("--dev-docs", type=int, default=0, help="score on so many docs of dev; 0 takes all")
    add("--scheme", default="auto", choices=("auto", *SCHEME_NAMES), help="of the columns")
    add_training_options(parser)


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of an encoder and of trainings of it."""
    add = parser.add_argument
    add("--encoder", type=Path, required=True, help="folder of a converted encoder")
    add("--on-error", default="fail", choices=ON_ERROR, help="bad lines; see convert-corpus")
    add("--lang", default="zh", help="language of the tokenizer")
    add("--epochs", type=int, default=3)
    add("--seeds", type=int, nargs="+", default=[1])
    add("--output", type=Path, required=True, help="write NAME.md and NAME.json")
    add(
        "--set", action="append", default=[], metavar="SECTION.NAME=VALUE",
        help="a setting of configs/bert_crf.cfg, as often as wanted",
    )  # fmt: skip
    add("--layers", type=int, default=0, help="keep so many layers of the encoder; 0 keeps all")
    add("--limit", type=int, default=0, help="so many docs of each corpus; 0 takes all")
    add("--threads", type=int, default=2)
    add("--gpu-id", type=int, default=-1, help="of the trainings; -1 for the CPU")
    add("--note", default="", help="a sentence for the results")


def add_keep(parser: argparse.ArgumentParser) -> None:
    """Add the option of `train_sides` that keeps the pipelines."""
    parser.add_argument(
        "--keep", type=Path, help="new folder for the trained pipelines, NAME-SEED; else removed"
    )


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The command line; `set` as a dict, `stem` where the results go, `command` as it was."""
    args = parser.parse_args()
    end_at_sigterm()
    args.command = command_line()
    for path in (args.encoder, *(getattr(args, name, None) for name in ("train", "dev"))):
        if path is not None and not path.exists():
            parser.error(f"there is no {path}")
    args.set = settings_of(parser, args.set)
    if (keep := getattr(args, "keep", None)) and keep.exists():
        parser.error(f"--keep {keep} is there already: name a new folder")
    if min(args.epochs, args.threads) < 1 or min(args.limit, args.layers) < 0:
        parser.error("--epochs and --threads must be at least 1, --limit and --layers at least 0")
    args.stem = stem_of(args.output)
    return args


def settings_of(parser: argparse.ArgumentParser, given: list[str]) -> dict[str, Any]:
    """Read settings of the form SECTION.NAME=VALUE. A value is JSON, or else text."""
    settings = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or "." not in name:
            parser.error(f"--set {text} is not of the form SECTION.NAME=VALUE")
        try:
            settings[name] = json.loads(value)
        except ValueError:
            settings[name] = value
    return settings


def prepare(args: argparse.Namespace, work: Path) -> tuple[Path, Corpus, dict[str, Any]]:
    """Cut the encoder if --layers says so, and write the corpora as DocBins under `work`.

    RETURNS: the encoder, the corpora, and what a result says of them, of the machine and of the
    command. Raises Failed.
    """
    machine = describe_machine(args.threads)
    encoder = cut_encoder(args, work)
    scheme = args.scheme
    vocab = spacy.blank(args.lang).vocab
    counts = {}
    labels: set[str] = set()
    for name, path in (("train", args.train), ("dev", args.dev)):
        dst = work / f"{name}.spacy"
        if path.suffix == ".spacy":
            shutil.copyfile(path, dst)
        else:
            if scheme == "auto" and name == "train":
                scheme = _scheme_of(path)
            spacy_command(
                "convert-corpus", str(path), str(dst), "--scheme", scheme, "--lang", args.lang,
                "--on-error", args.on_error,
            )  # fmt: skip
        docs = [doc for doc in read_docbin(dst, vocab) if len(doc)]
        docs = docs[: (args.dev_docs if name == "dev" else 0) or args.limit or None]
        with dst.open("wb") as handle:
            handle.write(DocBin(docs=docs).to_bytes())
        if name == "train":
            labels = {ent.label_ for doc in docs for ent in doc.ents}
        counts[name] = count(docs)
    if not labels:
        raise Failed(f"{args.train}: there is no entity in what is trained on.")
    scheme = SCHEME_NAMES["bio" if scheme == "auto" else scheme]
    corpus = Corpus(
        work / "train.spacy", work / "dev.spacy", sorted(labels), scheme, args.lang, counts
    )
    return encoder, corpus, about(args, machine, encoder, counts, corpus.labels)


def cut_encoder(args: argparse.Namespace, work: Path) -> Path:
    """The encoder, or a folder under `work` with its first --layers layers. Raises Failed."""
    encoder: Path = args.encoder.resolve()
    there = read_json(encoder / "config.json")["num_hidden_layers"]
    if not args.layers or args.layers >= there:
        return encoder
    cut = work / "encoder"
    spacy_command("convert-checkpoint", str(encoder), str(cut), "--layers", str(args.layers))
    return cut


def about(
    args: argparse.Namespace,
    machine: dict[str, Any],
    encoder: Path,
    counts: dict[str, dict[str, Any]],
    labels: list[str],
) -> dict[str, Any]:
    """What a result says of the machine, the command, the encoder and the corpora."""
    config = read_json(encoder / "config.json")
    return {
        "command": args.command,
        "note": args.note,
        "machine": {**machine, "gpu": gpu_name(args.gpu_id)},
        "encoder": f"{args.encoder.name}, {config['num_hidden_layers']} layers, "
        f"width {config['hidden_size']}",
        "corpus": counts,
        "labels": labels,
        "epochs": args.epochs,
    }


def _scheme_of(path: Path) -> str:
    from spacy_bert_crf.annotation.formats.columns import read_columns
    from spacy_bert_crf.annotation.tags import detect_scheme

    return detect_scheme(read_columns(path).sentences)


def count(docs: list[Doc]) -> dict[str, int]:
    """Docs, tokens, tokens whose annotation is known, characters and entities."""
    return {
        "docs": len(docs),
        "tokens": sum(map(len, docs)),
        "annotated_tokens": sum(token.ent_iob != 0 for doc in docs for token in doc),
        "characters": sum(len(doc.text) for doc in docs),
        "entities": sum(len(doc.ents) for doc in docs),
    }


def train_ours(
    args: argparse.Namespace,
    encoder: Path,
    corpus: Corpus,
    train: Path,
    seed: int,
    work: Path,
    *,
    change: Callable[[Any], None] = lambda config: None,
    keep: Path | None = None,
) -> dict[str, Any]:
    """`spacy bert-crf train` with the project's config, in a process of its own.

    train: docs to train on. work: an empty folder, of which only the log is kept.
    change: changes the config before it is used. keep: where the trained pipeline is moved, if any.
    RETURNS: scores on dev after each epoch and, after the last, per type; seconds of training
    without evaluation; the settings. Raises Failed.
    """
    labels, out = work / "labels.json", work / "out"
    srsly.write_json(labels, corpus.labels)
    config, settings = fill_config(
        TEMPLATE, encoder=encoder, train=str(train), dev=str(corpus.dev), labels=str(labels),
        seed=seed, max_epochs=args.epochs, lang=corpus.lang, settings=args.set,
    )  # fmt: skip
    change(config)
    config.to_disk(work / "config.cfg", interpolate=False)
    _run("train", args, work / "log", work / "config.cfg", out, "--no-state")
    history = read_json(out / "history.json")
    epochs = [
        {
            "epoch": row["epoch"],
            **{key: row[f"ents_{key}"] for key in "prf"},
            "seconds": row["seconds"] - row["evaluation_seconds"],
            "loss": row["loss"],
        }
        for row in history["epochs"]
    ]
    last = evaluate(args, out / "model-last", corpus.dev, work)
    if keep is not None:
        keep.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(out / "model-last", keep)
    shutil.rmtree(out)
    shown = ("training.optimizer.encoder_lr", *args.set)
    return {
        "seed": seed,
        "epochs": epochs,
        "seconds": sum(row["seconds"] for row in epochs),
        "per_type": last["ents_per_type"],
        "last_by_evaluate": {key: last[f"ents_{key}"] for key in "prf"},
        "settings": {name: settings[name] for name in shown},
        "versions": last["versions"],
    }


def evaluate(args: argparse.Namespace, pipeline: Path, dev: Path, work: Path) -> dict[str, Any]:
    """`spacy bert-crf evaluate`, in a process of its own. RETURNS: its scores. Raises Failed."""
    scores = work / "scores.json"
    _run("evaluate", args, work / "log", pipeline, dev, "--output", scores)
    found: dict[str, Any] = read_json(scores)
    return found


def _run(what: str, args: argparse.Namespace, log: Path, *words: Any) -> None:
    say(f"spacy bert-crf {what}")
    words = (*words, "--gpu-id", args.gpu_id)
    command = [sys.executable, "-m", "spacy", "bert-crf", what, *map(str, words)]
    with log.open("ab") as handle:
        done = subprocess.run(
            command,
            stdout=handle,
            stderr=subprocess.STDOUT,
            env=os.environ | quiet_environ(args.threads),
        )
    if done.returncode:
        said = log.read_text(encoding="utf8", errors="replace").strip().splitlines()[-8:]
        raise Failed(f"spacy bert-crf {what} failed:\n" + "\n".join(said))


def train_sides(
    args: argparse.Namespace,
    encoder: Path,
    corpus: Corpus,
    files: dict[str, Path],
    work: Path,
    write: Callable[[dict[str, list[dict[str, Any]]]], None],
) -> None:
    """Train on each of several files, with each seed.

    args: the command line, with `add_keep`.
    files: the DocBin of each side, by its name.
    work: folder for the trainings, which are removed.
    write: called after each training, with the runs of each side so far.
    """
    sides: dict[str, list[dict[str, Any]]] = {name: [] for name in files}
    for seed in args.seeds:
        for name, file in files.items():
            say(f"{name}, seed {seed}")
            keep = args.keep and args.keep / f"{name}-{seed}"
            with tempfile.TemporaryDirectory(dir=work) as folder:
                found = train_ours(args, encoder, corpus, file, seed, Path(folder), keep=keep)
            say_epochs(name, found)
            sides[name].append(found)
            write(sides)


def say_epochs(name: str, run: dict[str, Any]) -> None:
    """A line for each epoch of a run."""
    for row in run["epochs"]:
        say(
            f"  {name}, seed {run['seed']}, epoch {row['epoch']}: F {row['f'] * 100:.2f}, "
            f"{row['seconds']:.0f} s"
        )


def status(
    args: argparse.Namespace, run: Callable[[argparse.Namespace, Path], None], prefix: str
) -> int:
    """Run all trainings in a scratch folder and print the table. RETURNS: the exit code."""
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        return status_of(lambda: run(args, Path(folder)), args.stem)
