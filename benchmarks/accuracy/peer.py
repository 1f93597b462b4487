"""Training by bert4torch, and the scores of its entities."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.harness.common import entities_of, say, write_json
from benchmarks.harness.trials import Corpus
from benchmarks.harness.workers import Worker
from spacy_bert_crf.annotation.schemes import TagSet
from spacy_bert_crf.encoder.checkpoint_files import read_json
from spacy_bert_crf.evaluation.scores import Scores, score

#: An epoch that takes longer than so many seconds is taken for one that hangs.
PATIENCE = 24 * 3600.0


def spelling(scheme: str) -> list[str]:
    """Prefixes of the first, the inner and the last wordpiece of an entity, and of one alone."""
    tags = TagSet(("X",), scheme)
    prefixes = [tag.partition("-")[0] for tag in tags.tags]
    begin, inside, last = (prefixes[i] for i in tags.span_tags(3, "X"))
    return [begin, inside, last, prefixes[tags.span_tags(1, "X")[0]]]


def train_theirs(
    args: argparse.Namespace,
    encoder: Path,
    corpus: Corpus,
    python: Path,
    seed: int,
    work: Path,
    *,
    device: str = "cpu",
    packages: Path | None = None,
    patience: Callable[[], float] = lambda: PATIENCE,
    report: Callable[[list[dict[str, Any]]], None] = lambda epochs: None,
) -> dict[str, Any]:
    """Train bert4torch's CRF example on the same encoder and docs.

    device: "cpu" or "cuda:N". packages: a folder of packages that `python` lacks.
    patience: seconds that the next order may take. report: takes the epochs so far, after each.
    RETURNS what trials.train_ours does, and how many texts it cut or could not read.
    Raises Failed.
    """
    folder = work / "theirs"
    folder.mkdir()
    config = read_json(encoder / "config.json")
    write_json(folder / "bert4torch_config.json", {**config, "model": "bert"})
    settings = encoder / "tokenizer_config.json"
    lower = read_json(settings).get("do_lower_case", True) if settings.is_file() else True
    gold = corpus.docs(corpus.dev)
    tags = TagSet(tuple(corpus.labels), corpus.scheme)
    worker = Worker(python, "bert4torch_accuracy.py", args.threads, work / "log", packages)
    try:
        worker.ask(
            "load", patience(), kind="trial", threads=args.threads, seed=seed,
            folder=str(folder), checkpoint=str((encoder / "pytorch_model_cvt.bin").resolve()),
            vocab=str((encoder / "vocab.txt").resolve()), rate=args.rate, lower=lower,
            device=device, products=getattr(args, "peer_products", "highest"),
            train=[(doc.text, sorted(entities_of(doc))) for doc in corpus.docs(corpus.train)],
            tags=list(tags.tags), spelling=spelling(corpus.scheme),
        )  # fmt: skip
        about = worker.ask("about")
        epochs: list[dict[str, Any]] = []
        for number in range(args.epochs):
            ran = worker.ask("run", patience())
            answer = worker.ask("find", patience(), texts=[doc.text for doc in gold])
            scores = score_found(answer["found"], gold, tags)
            entities = scores.to_dict()
            epochs.append(
                {
                    "epoch": number + 1,
                    **{key: entities[f"ents_{key}"] for key in "prf"},
                    "seconds": ran["seconds"],
                    "loss": ran["loss"],
                }
            )
            report(epochs)
            say(f"  bert4torch, epoch {number + 1}: F {entities['ents_f'] * 100:.2f}")
    finally:
        worker.close()
    return {
        "seed": seed,
        "epochs": epochs,
        "seconds": sum(row["seconds"] for row in epochs),
        "per_type": entities["ents_per_type"],
        "settings": {"rate": args.rate, "tags": corpus.scheme},
        "versions": about["versions"],
        "left_out_of_training": about["left_out"],
        "dev_not_read": sum(each is None for each in answer["found"]),
        "dev_cut": answer["cut"],
    }


def score_found(found: list[Any], gold: list[Any], tags: TagSet) -> Scores:
    """Scores of the peer's entities, by characters, on whole texts.

    What it cut off or could not read counts as missed. found: of each text, as Trial.find in
    peers/bert4torch_accuracy.py gives it.
    """
    return score(
        (
            (read(each, tags), sorted(entities_of(doc)), len(doc.text))
            for each, doc in zip(found, gold, strict=True)
        ),
        tags.scheme,
    )


def read(found: Any, tags: TagSet) -> list[tuple[int, int, str]]:
    """Entities by characters of the wordpieces' places and tags, read as conlleval does."""
    if found is None:
        return []
    places, path = found
    out: list[tuple[int, int, str]] = []
    for start, end, label in tags.decode(path):
        span = (places[start][0], places[end - 1][1], label)
        if not out or span[0] >= out[-1][1]:  # two wordpieces may be of one character
            out.append(span)
    return out
