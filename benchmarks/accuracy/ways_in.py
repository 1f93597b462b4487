"""Every way to train the component on a small corpus, with nothing set by hand, in one table.

    python -m benchmarks.accuracy.ways_in --encoder encoders/quickstart --train train.bmes \\
        --dev dev.bmes --sentences 500 --output benchmarks/results/ways_in

The result is written after each training. Ways that it has are not run again.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import spacy
import torch
import yaml
from spacy.tokens import DocBin
from spacy.training import Corpus
from spacy.util import fix_random_seed, minibatch

from benchmarks.harness.common import ROOT, Failed, parser_for, say, write_json
from benchmarks.harness.tables import table
from benchmarks.harness.trials import add_options, parse, prepare, status
from spacy_bert_crf._devices import use_device
from spacy_bert_crf._files import write_text
from spacy_bert_crf.training.config import fill_config, schedule

#: Each way by its name, as a person types it.
WAYS = {
    "init-config": "`bert-crf init-config`, then `bert-crf train`",
    "header": "the command in the header of configs/bert_crf.cfg",
    "profile": "a profile: a copy of people-daily.yml for the corpus",
    "create_optimizer": "`create_optimizer()` and `nlp.update`",
    "initialize": "`nlp.update(sgd=nlp.initialize(...))`",
    "spacy-init": "`spacy init config -p bert_crf`, then `bert-crf train`",
    "spacy-train": "`spacy init config -p bert_crf`, then `spacy train`",
}


def run_python(*words: Any) -> None:
    """Run Python with these words. Raises Failed with the last lines it printed."""
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()[-8:]
        raise Failed(" ".join(command[1:6]) + " … failed:\n" + "\n".join(said))


def train(way: str, args: argparse.Namespace, encoder: Path, work: Path) -> Path:
    """Train one way. RETURNS: the folder of its pipeline."""
    out = work / way
    corpora = ("--paths.train", work / "train.spacy", "--paths.dev", work / "dev.spacy")
    name = ("--components.bert_crf.model.tok2vec.name", encoder)
    ours, config = ("-m", "spacy", "bert-crf"), work / f"{way}.cfg"
    gpu = ("--gpu-id", args.gpu_id)
    if way == "init-config":
        run_python(
            *ours, "init-config", config, "--lang", args.lang, "--encoder", encoder,
            "--train", work / "train.spacy", "--dev", work / "dev.spacy",
        )  # fmt: skip
        run_python(*ours, "train", config, out, *gpu)
    elif way == "header":
        header = ROOT / "configs" / "bert_crf.cfg"
        run_python(*ours, "train", header, out, *corpora, *name, *gpu)
    elif way == "profile":
        profile = ROOT / "configs" / "profiles" / "people-daily.yml"
        training = yaml.safe_load(profile.read_text(encoding="utf8"))["training"]
        keys = ("seed", "max_epochs", "max_steps", "encoder_lr", "settings")
        filled, _ = fill_config(
            ROOT / "configs" / "bert_crf.cfg", encoder=encoder, lang=args.lang,
            train=str(work / "train.spacy"), dev=str(work / "dev.spacy"),
            labels=str(work / "none.json"), sentences=args.sentences,
            **{key: training[key] for key in keys},
        )  # fmt: skip
        filled.to_disk(config)
        run_python(*ours, "train", config, out, *gpu)
    elif way in ("create_optimizer", "initialize"):
        loop_words = ("--loop", way, encoder, work, args.lang, args.gpu_id)
        run_python("-m", "benchmarks.accuracy.ways_in", *loop_words)
        return out
    else:
        init = ("-m", "spacy", "init", "config", config, "-l", args.lang, "-p", "bert_crf")
        run_python(*init, "--force")
        end = ("--training.max_steps", args.max_steps)
        if way == "spacy-init":
            run_python(*ours, "train", config, out, *corpora, *name, *end, *gpu)
        else:
            words = (config, "-o", out, *corpora, *name, *end, *gpu)
            run_python("-m", "spacy", "train", *words)
    return out / "model-best"


def loop(way: str, encoder: str, work: Path, lang: str, gpu_id: int) -> None:
    """A training loop in code: spaCy's documented one, with the schedule of `make_config`."""
    use_device(gpu_id)
    fix_random_seed(0)
    nlp = spacy.blank("zh", config={"nlp": {"tokenizer": {"segmenter": "char"}}})
    if lang != "zh":
        nlp = spacy.blank(lang)
    nlp.add_pipe("bert_crf", config={"model": {"tok2vec": {"name": encoder}}})
    examples = list(Corpus(work / "train.spacy")(nlp))
    optimizer = nlp.initialize(lambda: examples)
    if way == "create_optimizer":
        optimizer = nlp.get_pipe("bert_crf").create_optimizer()  # type: ignore[attr-defined]
    epochs, size = schedule(len(examples))
    for _ in range(epochs):
        random.shuffle(examples)
        for batch in minibatch(examples, size):
            nlp.update(batch, sgd=optimizer, drop=0.1)
    nlp.to_disk(work / way)


def run(args: argparse.Namespace, work: Path) -> None:
    """Run all trainings and write the result after each. Raises Failed."""
    encoder, corpus, about = prepare(args, work)
    vocab = spacy.blank(args.lang).vocab
    docs = list(DocBin().from_disk(corpus.train).get_docs(vocab))[: args.sentences or None]
    DocBin(docs=docs).to_disk(corpus.train)
    stem = Path(f"{args.stem}.json")
    before = json.loads(stem.read_text(encoding="utf8")) if stem.exists() else {}
    ways: dict[str, Any] = before.get("ways", {})
    for way in args.only or WAYS:
        if way in ways and not args.only:
            continue
        say(way)
        began = time.monotonic()
        folder = train(way, args, encoder, work)
        seconds = time.monotonic() - began
        scores = work / f"{way}.json"
        run_python(
            "-m", "spacy", "bert-crf", "evaluate", folder, work / "dev.spacy", "--output", scores
        )
        found = json.loads(scores.read_text(encoding="utf8"))
        ways[way] = {f"ents_{key}": found[f"ents_{key}"] for key in "prf"}
        ways[way] |= {
            "seconds": seconds,
            "versions": found["versions"],
            "gpu": gpu_name(args.gpu_id),
        }
        say(f"  {way}: F {100 * ways[way]['ents_f']:.2f}, {seconds:.0f} s")
        write(args, about, len(docs), ways)


def gpu_name(gpu_id: int) -> str:
    """Name of the GPU; empty for the CPU."""
    return torch.cuda.get_device_name(gpu_id) if gpu_id >= 0 else ""


def write(args: argparse.Namespace, about: dict[str, Any], n: int, ways: dict[str, Any]) -> None:
    """Write NAME.json and NAME.md."""
    ways = {way: ways[way] for way in WAYS if way in ways}
    write_json(Path(f"{args.stem}.json"), {**about, "sentences": n, "ways": ways})
    rows = [
        [WAYS[way], *(f"{100 * row[f'ents_{key}']:.2f}" for key in "prf"), f"{row['seconds']:.0f}"]
        for way, row in ways.items()
    ]
    scores = [100 * row["ents_f"] for row in ways.values()]
    gpus = ", ".join(sorted({row.get("gpu", "") for row in ways.values()} - {""}))
    lines = [
        f"# Ways to train on {n} sentences",
        "",
        f"`{about['command']}`",
        "",
        f"{about['encoder']}; {gpus or about['machine']['machine']}; "
        f"dev: {about['corpus']['dev']['docs']} texts. "
        "Nothing is set but the encoder and the corpora. The two trainings on a config of spaCy's "
        f"end after {args.max_steps} updates. Seconds are with all evaluations. {about['note']}",
        "",
        *table(["way", "P", "R", "F", "seconds"], rows),
        "",
        f"Highest less lowest F: {max(scores) - min(scores):.2f}.",
        "",
    ]
    write_text(Path(f"{args.stem}.md"), "\n".join(lines))


def main() -> int:
    """The command line. RETURNS: the exit code."""
    if sys.argv[1:2] == ["--loop"]:
        way, encoder, work, lang, gpu_id = sys.argv[2:]
        loop(way, encoder, Path(work), lang, int(gpu_id))
        return 0
    parser = parser_for(__doc__)
    add_options(parser)
    parser.add_argument("--sentences", type=int, default=500, help="training texts; 0 for all")
    parser.add_argument("--max-steps", type=int, default=1600, help="of spaCy's own configs")
    parser.add_argument("--gpu-id", type=int, default=-1, help="a GPU by number, -1 for the CPU")
    parser.add_argument("--only", nargs="+", choices=tuple(WAYS), help="run these again")
    function: Callable[[argparse.Namespace, Path], None] = run
    return status(parse(parser), function, "ways-in-")


if __name__ == "__main__":
    sys.exit(main())
