"""Imported models on mixed Chinese and Latin text: the source's own entities?

Trains two tiny token classifiers on invented texts: the CRF example of bert4torch, by bert4torch
in an environment of its own, and transformers' BertForTokenClassification. Both predict other
texts with their own decoding. `spacy bert-crf import-model` reads each, and the pipeline's
entities are compared with the source's by characters. README.md says what is compared.

python -m benchmarks.interchange.mixed --output benchmarks/results/interchange_mixed
"""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import spacy
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from benchmarks.harness.common import (
    Entities,
    Failed,
    entities_of,
    parser_for,
    say,
    spacy_command,
    stem_of,
    write_json,
)
from benchmarks.harness.machine_info import machine
from benchmarks.harness.tables import table, words
from benchmarks.interchange.mixed_hugging_face import train_and_predict
from benchmarks.interchange.mixed_texts import LABELS, Text, generate, vocabulary
from benchmarks.interchange.sides import OtherPython
from spacy_bert_crf._provenance import versions
from spacy_bert_crf.annotation.schemes import TagSet

#: Share of texts that must have the source's own entities.
ENOUGH = 0.99
TAGS = TagSet(LABELS, "BIO").tags
#: Kinds of differences, in the order in which they are looked for.
KINDS = {
    "unplaced": "bert4torch can't find the wordpieces in the text",
    "places": "bert4torch places an unknown wordpiece at other characters",
    "wordpieces": "bert4torch's tokenizer splits the text otherwise than transformers' does",
    "special": "the source tags [CLS] or [SEP] as part of an entity",
    "scheme": "the source's tags break the scheme, which the pipeline keeps to",
    "step": "a character without wordpieces is a step for the pipeline, none for the source",
    "other": "not explained",
}


def encoder(folder: Path) -> BertTokenizerFast:
    """Write a BERT of 2 layers with random weights, as published checkpoints look."""
    pieces = vocabulary()
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf8")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces), hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=128, max_position_embeddings=256,
    )  # fmt: skip
    model = BertModel(config)
    config.save_pretrained(folder)
    config_text = (folder / "config.json").read_text(encoding="utf8")
    named = config_text.replace("{", '{\n  "model": "bert",', 1)
    (folder / "bert4torch_config.json").write_text(named, encoding="utf8")
    state = {f"bert.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save(state, folder / "start.bin")
    return BertTokenizerFast(
        vocab_file=str(folder / "vocab.txt"), do_lower_case=True, model_max_length=256
    )


def from_bert4torch(
    args: argparse.Namespace, work: Path, train: list[Text], texts: list[str]
) -> dict[str, Any]:
    """Train the CRF example there, import it, and compare."""
    source = work / "bert4torch"
    source.mkdir()
    tokenizer = encoder(source)
    other = OtherPython(args.env or work / "env", work, args.threads)
    say("bert4torch trains and predicts")
    theirs, said = other.predict(
        "back", texts, folder=str(source), checkpoint=str(source / "start.bin"),
        vocab=str(source / "vocab.txt"), weights=str(source / "best_model.pt"), train=train,
        tags=list(TAGS), lower=True, longest=256, max_length=256, batch_size=16,
        epochs=args.epochs, rate=args.rate, seed=args.seed,
    )  # fmt: skip
    (source / "bert4torch_config.json").unlink()
    (source / "start.bin").unlink()
    kinds: list[str] = []
    elsewhere: list[Entities | None] = []
    for i, text in enumerate(texts):
        kind = "other"
        path = theirs.tags[i].tolist()
        if theirs.entities[i] is None:
            kind = "unplaced"
        elif theirs.ids[i].tolist() != tokenizer(text)["input_ids"]:
            kind = "wordpieces"
        elif path[0] or path[-1]:
            kind = "special"
        elif breaks_scheme(path[1:-1]):
            kind = "scheme"
        elif any(char in text for char in "\u200b\u3000\n"):
            kind = "step"
        kinds.append(kind)
        offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        elsewhere.append(read_by(offsets, path) if len(offsets) == len(path) else None)
    options = ["--labels", ",".join(LABELS), "--scheme", "BIO"]
    found = compare(source, work / "imported-b", texts, theirs.entities, kinds, options, elsewhere)
    found["losses"] = [round(loss, 3) for loss in said["losses"]]
    return found


def from_hugging_face(
    args: argparse.Namespace, work: Path, train: list[Text], texts: list[str]
) -> dict[str, Any]:
    """Train a BertForTokenClassification, import it, and compare."""
    source = work / "hugging-face"
    source.mkdir()
    tokenizer = encoder(source)
    (source / "bert4torch_config.json").unlink()
    (source / "start.bin").unlink()
    say("transformers trains and predicts")
    theirs, paths, losses = train_and_predict(
        source, tokenizer, TAGS, train, texts, args.epochs, args.rate, args.seed
    )
    kinds = ["scheme" if breaks_scheme(path) else "other" for path in paths]
    found = compare(source, work / "imported-h", texts, theirs, kinds, [], theirs)
    return {**found, "losses": losses}


def read_by(offsets: list[tuple[int, int]], path: list[int]) -> Entities:
    """Entities of tags as bert4torch's example reads them, by offsets of the wordpieces."""
    out: list[tuple[int, int, str]] = []
    is_open = False
    for (start, end), tag in zip(offsets, path, strict=True):
        prefix, _, label = TAGS[tag].partition("-")
        if end > start and prefix == "B":
            out.append((start, end, label))
            is_open = True
        elif end > start and prefix == "I" and is_open and label == out[-1][2]:
            out[-1] = (out[-1][0], end, label)
        else:
            is_open = False
    return set(out)


def breaks_scheme(path: list[int]) -> bool:
    """Whether a path of tag ids has an I- that continues no entity of its type."""
    return any(
        TAGS[tag].startswith("I-") and (i == 0 or TAGS[path[i - 1]][2:] != TAGS[tag][2:])
        for i, tag in enumerate(path)
    )


def compare(
    source: Path,
    target: Path,
    texts: list[str],
    theirs: list[Entities | None],
    kinds: list[str],
    options: list[str],
    elsewhere: list[Entities | None],
) -> dict[str, Any]:
    """Import the source and compare entities by characters.

    theirs: of the source; None where it can't take a text.
    kinds: what would explain a difference in each text, a key of KINDS.
    elsewhere: the source's entities by the offsets of transformers' tokenizer.
    """
    by_setting = []
    for setting in (["--no-constraints"], ["--constraints"], []):
        spacy_command("import-model", str(source), str(target), *options, *setting)
        by_setting.append([entities_of(doc) for doc in spacy.load(target).pipe(texts)])
    free, legal, ours = by_setting
    differ = [i for i in range(len(texts)) if ours[i] != theirs[i]]
    for i in differ:
        if ours[i] == elsewhere[i]:
            kinds[i] = "places"
    counts = Counter(kinds[i] for i in differ)
    return {
        "texts": len(texts),
        "same": len(texts) - len(differ),
        "same_with_constraints": sum(a == b for a, b in zip(legal, theirs, strict=True)),
        "same_without_constraints": sum(a == b for a, b in zip(free, theirs, strict=True)),
        "breaks_scheme": kinds.count("scheme"),
        "entities_source": sum(len(each or ()) for each in theirs),
        "entities_pipeline": sum(map(len, ours)),
        "kinds": {kind: counts[kind] for kind in KINDS if counts[kind]},
        "differences": [
            {
                "text": texts[i],
                "kind": kinds[i],
                "source": sorted(theirs[i] or ()),
                "pipeline": sorted(ours[i]),
            }
            for i in differ
        ],
    }


def markdown(result: dict[str, Any]) -> str:
    """The result as tables."""
    there = result.get("versions_bert4torch")
    lines = [
        "# Imported models on mixed text", "",
        "Written by `python -m benchmarks.interchange.mixed`; what is compared is in "
        "`benchmarks/README.md`.", "",
        f"{result['train']} invented texts to train with, {result['texts']} others to predict; "
        f"2 layers of width 64, {result['epochs']} epochs. Machine: {result['machine']}. "
        f"Versions: {words(result['versions'])}"
        + (f"; bert4torch's environment: {words(there)}." if there else "."), "",
    ]  # fmt: skip
    sides = result["sides"]
    rows: list[list[Any]] = [
        ["texts with the source's own entities", *(_share(side) for side in sides.values())],
        [
            "the same with `--constraints`",
            *(side["same_with_constraints"] for side in sides.values()),
        ],
        [
            "the same with `--no-constraints`",
            *(side["same_without_constraints"] for side in sides.values()),
        ],
        [
            "texts in which the source's tags break the scheme",
            *(side["breaks_scheme"] for side in sides.values()),
        ],
        ["entities of the source", *(side["entities_source"] for side in sides.values())],
        ["entities of the pipeline", *(side["entities_pipeline"] for side in sides.values())],
    ]
    rows += [
        [f"differs: {text}", *(side["kinds"].get(kind, 0) for side in sides.values())]
        for kind, text in KINDS.items()
    ]
    lines += table(["", *sides], rows)
    for name, side in sides.items():
        for each in side["differences"]:
            if each is side["differences"][0]:
                lines += ["", f"## Differences, {name}", ""]
            lines.append(
                f"- {each['kind']}: `{each['text']!r}`: source {_spans(each, 'source')}, "
                f"pipeline {_spans(each, 'pipeline')}"
            )
    return "\n".join(lines) + "\n"


def _share(side: dict[str, Any]) -> str:
    return f"{side['same']} of {side['texts']} ({side['same'] / side['texts']:.1%})"


def _spans(each: dict[str, Any], side: str) -> str:
    other = each["pipeline" if side == "source" else "source"]
    own = [span for span in each[side] if span not in other]
    return ", ".join(f"{each['text'][a:b]!r} {label}" for a, b, label in own) or "none"


def main() -> int:
    """RETURNS: the exit code; 1 if too few texts have the source's entities."""
    parser = parser_for(__doc__ or "")
    add = parser.add_argument
    add("--texts", type=int, default=500, help="texts that are predicted")
    add("--train", type=int, default=9000, help="texts to train with")
    add("--epochs", type=int, default=12, help="epochs of each training")
    add("--rate", type=float, default=1e-3, help="learning rate")
    add("--seed", type=int, default=42, help="seed of both trainings")
    add("--threads", type=int, default=1, help="threads of both sides")
    add("--env", type=Path, help="virtual environment with bert4torch; made if it isn't there")
    add("--without-bert4torch", action="store_true", help="compare Hugging Face only")
    add("--output", type=Path, help="write NAME.md and NAME.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    every = generate(args.train + args.texts, args.seed)
    train, texts = every[: args.train], [each.text for each in every[args.train :]]
    result: dict[str, Any] = {
        "train": len(train), "texts": len(texts), "epochs": args.epochs, "rate": args.rate,
        "seed": args.seed, "machine": machine(), "versions": versions(), "sides": {},
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="mixed-") as folder:
        work = Path(folder)
        try:
            result["sides"]["Hugging Face"] = from_hugging_face(args, work, train, texts)
            if not args.without_bert4torch:
                found = from_bert4torch(args, work, train, texts)
                result["sides"]["bert4torch"] = found
                other = OtherPython(args.env or work / "env", work, args.threads)
                result["versions_bert4torch"] = other.run("versions")[0]["versions"]
        except Failed as err:
            say(str(err))
            return 1
    text = markdown(result)
    print(text)
    if args.output:
        stem = stem_of(args.output)
        stem.parent.mkdir(parents=True, exist_ok=True)
        Path(f"{stem}.md").write_text(text, encoding="utf8")
        write_json(Path(f"{stem}.json"), result)
    sides = result["sides"].values()
    ok = all(s["same"] >= ENOUGH * s["texts"] and "other" not in s["kinds"] for s in sides)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
