"""Whether models go to bert4torch and come back with the same entities, with the real bert4torch.

Out: `spacy bert-crf export --to bert4torch`, read by the model of bert4torch's own CRF example.
Back: that example trained by bert4torch, read by `spacy bert-crf import-model`. bert4torch runs
in a virtual environment of its own, see bert4torch_side.py; README.md says what is compared.

python benchmarks/bert4torch_interchange.py --pipeline training/people-daily/model-best \
    --data corpus/people-daily/dev.spacy --encoder encoders/people-daily \
    --train corpus/people-daily/train.spacy --output benchmarks/results/bert4torch_interchange
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import spacy
import torch
from common import (
    HERE,
    Entities,
    Failed,
    call_there,
    entities_of,
    f_score,
    machine,
    make_env,
    read_docs,
    say,
    spacy_command,
    table,
    words,
    write_json,
)
from numpy.typing import NDArray
from spacy.language import Language
from spacy.tokens import Doc

from spacy_bert_crf._provenance import versions
from spacy_bert_crf.encoder.passes import doc_pieces, tokenize
from spacy_bert_crf.export.graphs import FORBIDDEN
from spacy_bert_crf.export.trained import gather
from spacy_bert_crf.model.crf_batches import decode

#: Paths whose scores differ by no more are a tie: either is right.
TIE = 1e-4
#: What the example is trained for, and import-model is told.
SCHEME = "BIO"

Array = NDArray[Any]


@dataclass
class Side:
    """What one side found in texts.

    entities: of each text, by characters; None for a text that it can't take.
    ids, tags, emissions: of the wordpieces of each text (of its tokens in a pipeline), special
        ones included where the side has them.
    start, end, transitions: scores of its CRF, with what it forbids far below any other.
    seconds: for all texts.
    """

    entities: list[Entities | None]
    ids: list[Array]
    tags: list[Array]
    emissions: list[Array]
    start: Array
    end: Array
    transitions: Array
    seconds: float

    def score(self, text: int, tags: Array) -> float:
        """Score of a path through a text, in float64."""
        rows = self.emissions[text].astype(np.float64)
        path = np.asarray(tags)
        steps = self.transitions.astype(np.float64)[path[:-1], path[1:]].sum()
        ends = float(self.start[path[0]]) + float(self.end[path[-1]])
        return float(rows[np.arange(len(path)), path].sum() + steps + ends)


class OtherPython:
    """The environment with bert4torch, and a folder through which data goes there and back."""

    def __init__(self, env: Path, work: Path, threads: int) -> None:
        self.work = work
        self.threads = threads
        self.python = make_env(env, "requirements-bert4torch.txt", "bert4torch", work / "pip.log")

    def run(self, kind: str, **job: Any) -> tuple[dict[str, Any], dict[str, Array]]:
        """Do a job of bert4torch_side.py; RETURNS its result and its arrays."""
        result = self.work / f"{kind}-result"
        path = self.work / f"{kind}-job.json"
        job |= {"kind": kind, "result": str(result), "threads": self.threads}
        path.write_text(json.dumps(job, ensure_ascii=False), encoding="utf8")
        command = [str(self.python), str(HERE / "bert4torch_side.py"), str(path)]
        call_there(command, kind, self.work / f"{kind}.log")
        answer = json.loads(Path(f"{result}.json").read_text(encoding="utf8"))
        with np.load(f"{result}.npz", allow_pickle=False) as data:
            return answer, {name: data[name] for name in data.files}

    def predict(self, kind: str, texts: list[str], **job: Any) -> tuple[Side, dict[str, Any]]:
        """A job that predicts texts: what it found, and the rest of its result."""
        answer, arrays = self.run(kind, texts=texts, **job)
        cuts = np.cumsum(arrays["lengths"])[:-1]
        parts = (np.split(arrays[name], cuts) for name in ("ids", "tags", "emissions"))
        names = ("start_transitions", "end_transitions", "transitions")
        entities = [
            None if found is None else {(start, end, label) for start, end, label in found}
            for found in answer.pop("entities")
        ]
        scores = (arrays[name] for name in names)
        side = Side(entities, *parts, *scores, seconds=answer.pop("prediction_seconds"))
        return side, answer


def own_side(nlp: Language, texts: list[str]) -> tuple[Side, list[bool]]:
    """What a pipeline finds; and for each text whether each token is just one wordpiece."""
    trained = gather(nlp, "", {})
    pipe = next(pipe for _, pipe in nlp.pipeline if hasattr(pipe, "tag_set"))
    began = time.perf_counter()
    entities: list[Entities | None] = [entities_of(doc) for doc in nlp.pipe(texts)]
    seconds = time.perf_counter() - began
    docs = [nlp.make_doc(text) for text in texts]
    for _, other in nlp.pipeline:  # a shared transformer, where there is one
        if other is pipe:
            break
        docs = list(other.pipe(docs))
    emissions: list[Any] = []
    for i in range(0, len(docs), 256):
        emissions += pipe.model.predict(docs[i : i + 256])
    tags, _ = decode(pipe.crf, emissions)
    pieces = tokenize(trained.encoder.tokenizer, texts)
    start, end, transitions = (score.numpy() for score in trained.chain.masked(FORBIDDEN))
    side = Side(
        entities,
        [each.ids for each in pieces],
        list(tags),
        [np.asarray(rows) for rows in emissions],
        start,
        end,
        transitions,
        seconds,
    )
    single = []
    for doc, each in zip(docs, pieces, strict=True):
        firsts, stops = doc_pieces(doc, each).T
        alone = len(doc) == len(each.ids) and np.array_equal(firsts, np.arange(len(doc)))
        single.append(bool(alone and np.array_equal(stops, firsts + 1)))
    return side, single


def check_out(
    args: argparse.Namespace, other: OtherPython, gold: list[Doc], nlp: Language
) -> dict[str, Any]:
    """Export the pipeline, and compare what bert4torch finds with what the pipeline finds."""
    texts = [doc.text for doc in gold]
    folder = other.work / "export"
    spacy_command("export", str(args.pipeline), str(folder), "--to", "bert4torch")
    trained = gather(nlp, "", {})
    say("out: the pipeline predicts")
    ours, single = own_side(nlp, texts)
    say("out: bert4torch predicts")
    theirs, _ = other.predict(
        "out",
        texts,
        folder=str(folder / "bert4torch"),
        tags=list(trained.tag_set.tags),
        lower=lower_case(trained.encoder.tokenizer),
        longest=trained.info["max_length"],
    )
    result = describe(texts, ours, theirs, single, gold)
    differ = [0.0]
    for text in where(single, theirs):
        rows = theirs.emissions[text][1:-1]
        if rows.shape == ours.emissions[text].shape:
            differ.append(float(np.abs(rows - ours.emissions[text]).max()))
    result["largest_difference_of_emissions"] = max(differ)
    # A tie is one under the pipeline's scores, which are what must be kept.
    found = [
        difference(text, theirs, ours, ours.score, ours.tags[text], theirs.tags[text][1:-1])
        for text in where(single, theirs)
        if ours.entities[text] != theirs.entities[text]
    ]
    result["differences"] = found
    result["encoder"] = encoder_words(trained.config)
    result["holds"] = {
        "loads with strict=True": True,
        "same entities where each token is one wordpiece": result["single"] > 0
        and all(each["is_tie"] for each in found),
    }
    return result


def check_back(
    args: argparse.Namespace, other: OtherPython, gold: list[Doc], train: list[Doc]
) -> dict[str, Any]:
    """Train by bert4torch, import, and compare the pipeline's tags with bert4torch's own."""
    texts = [doc.text for doc in gold]
    labels = args.labels.split(",")
    tags = ["O", *(f"{prefix}-{label}" for label in labels for prefix in "BI")]
    source = other.work / "theirs"
    source.mkdir()
    config = json.loads((args.encoder / "config.json").read_text(encoding="utf8"))
    layers_there = config["num_hidden_layers"]
    config["num_hidden_layers"] = min(layers_there, args.max_layers or layers_there)
    write_json(source / "config.json", config)
    write_json(source / "bert4torch_config.json", {**config, "model": "bert"})
    vocab = (args.encoder / "vocab.txt").read_bytes()
    (source / "vocab.txt").write_bytes(vocab)
    examples = [
        (doc.text, [(e.start_char, e.end_char, e.label_) for e in doc.ents if e.label_ in labels])
        for doc in train[: args.train_sentences]
    ]
    say("back: bert4torch trains and predicts")
    theirs, said = other.predict(
        "back",
        texts,
        folder=str(source),
        checkpoint=str((args.encoder / "pytorch_model_cvt.bin").resolve()),
        vocab=str(source / "vocab.txt"),
        weights=str(source / "best_model.pt"),
        train=examples,
        tags=tags,
        lower=True,
        longest=min(512, config["max_position_embeddings"]),
        max_length=256,  # as in the example
        batch_size=args.batch_size,
        epochs=args.epochs,
        rate=args.rate,
        seed=args.seed,
    )
    # What a user has: its weights, the encoder's configuration and vocabulary.
    (source / "bert4torch_config.json").unlink()
    target = other.work / "imported"
    asked = ["--labels", args.labels, "--scheme", SCHEME, "--no-constraints"]
    spacy_command("import-model", str(source), str(target), *asked)
    say("back: the imported pipeline predicts")
    nlp = spacy.load(target)
    ours, single = own_side(nlp, texts)
    result = describe(texts, ours, theirs, single, gold)
    differ = [0.0]
    found = []
    read_alike = 0
    for text in where(single, theirs):
        full = theirs.tags[text]
        rows = theirs.emissions[text][1:-1]
        if rows.shape != ours.emissions[text].shape:
            found.append(difference(text, theirs, ours, theirs.score, full, None))
            continue
        differ.append(float(np.abs(rows - ours.emissions[text]).max()))
        read_alike += theirs.entities[text] == read_as_there(ours.tags[text], tags, gold[text])
        if not np.array_equal(full[1:-1], ours.tags[text]):
            # A tie is one under bert4torch's scores, [CLS] and [SEP] included.
            path = np.concatenate([full[:1], ours.tags[text], full[-1:]])
            found.append(difference(text, theirs, ours, theirs.score, full, path))
    result["same_tags"] = result["single"] - len(found)
    result["same_entities_read_as_there"] = read_alike
    result["differences"] = found
    result["largest_difference_of_emissions"] = max(differ)
    special = [(path[0], path[-1]) for path in theirs.tags if len(path)]
    result["texts_with_tagged_specials"] = sum(1 for pair in special if any(pair))
    result["found_by_bert4torch"] = sum(len(each or ()) for each in theirs.entities)
    result["training"] = {
        "sentences": len(examples),
        "epochs": args.epochs,
        "batch": args.batch_size,
        "rate": args.rate,
        "seed": args.seed,
        "seconds": round(said["training_seconds"], 1),
        "losses": [round(loss, 3) for loss in said["losses"]],
    }
    result["encoder"] = encoder_words(nlp_config(nlp)) + f" (of {layers_there})"
    result["holds"] = {
        "import-model takes what save_weights wrote": True,
        "same tags where each token is one wordpiece": result["single"] > 0
        and all(each["is_tie"] for each in found),
        f"at least {args.min_entities} entities found": result["found_by_bert4torch"]
        >= args.min_entities,
    }
    return result


def describe(
    texts: list[str], ours: Side, theirs: Side, single: list[bool], gold: list[Doc]
) -> dict[str, Any]:
    """Counts that both directions have."""
    fits = [i for i, ids in enumerate(theirs.ids) if len(ids)]
    ones = where(single, theirs)
    rest = [i for i in fits if not single[i]]
    same_ids = [i for i in fits if np.array_equal(theirs.ids[i][1:-1], ours.ids[i])]
    differ = {i for i in fits if ours.entities[i] != theirs.entities[i]}
    return {
        "texts": len(texts),
        "fit": len(fits),
        "same_wordpieces": len(same_ids),
        "single": len(ones),
        "share_single": len(ones) / max(1, len(fits)),
        "single_other_wordpieces": len(set(ones) - set(same_ids)),
        "single_same_entities": len(set(ones) - differ),
        "rest": len(rest),
        "rest_differ": len(differ & set(rest)),
        "unplaced": sum(1 for i in fits if theirs.entities[i] is None),
        "entities_single": sum(len(ours.entities[i] or ()) for i in ones),
        "entities_ours": sum(len(ours.entities[i] or ()) for i in fits),
        "entities_theirs": sum(len(theirs.entities[i] or ()) for i in fits),
        "f_ours": f_score([ours.entities[i] for i in fits], [gold[i] for i in fits]),
        "f_theirs": f_score([theirs.entities[i] for i in fits], [gold[i] for i in fits]),
        "seconds_ours": round(ours.seconds, 1),
        "seconds_theirs": round(theirs.seconds, 1),
    }


def where(single: list[bool], theirs: Side) -> list[int]:
    """The texts that are compared: those that fit, each token one wordpiece."""
    return [i for i, one in enumerate(single) if one and len(theirs.ids[i])]


def read_as_there(path: Array, tags: list[str], doc: Doc) -> Entities:
    """Entities of the tags of a doc's tokens as the example reads them.

    It drops an I- that continues no entity of its type; this package lets it begin one.
    """
    spans: list[tuple[int, int, str]] = []
    is_open = False
    for token, tag_id in zip(doc, path, strict=True):
        prefix, _, label = tags[tag_id].partition("-")
        end = token.idx + len(token)
        if prefix == "B":
            spans.append((token.idx, end, label))
        elif prefix == "I" and is_open and spans[-1][2] == label:
            spans[-1] = (spans[-1][0], end, label)
        is_open = bool(spans) and spans[-1][1] == end
    return set(spans)


def difference(
    text: int, theirs: Side, ours: Side, score: Any, best: Array, path: Array | None
) -> dict[str, Any]:
    """A text in which the sides differ.

    score: gives a path's score. best, path: what its own side took, and what the other one did;
        None if the paths are not of the same length.
    """
    margin = None
    if path is not None and len(path) == len(best):
        margin = score(text, best) - score(text, path)
    return {
        "text": text,
        "margin": margin,
        "is_tie": margin is not None and abs(margin) <= TIE,
        "pipeline": sorted(ours.entities[text] or ()),
        "bert4torch": sorted(theirs.entities[text] or ()),
        "steps": None if margin is None else int((best != path).sum()),
    }


def lower_case(tokenizer: Any) -> bool:
    """Whether a BERT tokenizer lower-cases."""
    return bool(getattr(tokenizer, "do_lower_case", True))


def nlp_config(nlp: Language) -> Any:
    """The Hugging Face config of a pipeline's encoder."""
    return gather(nlp, "", {}).config


def encoder_words(config: Any) -> str:
    """An encoder in words."""
    return f"width {config.hidden_size}, {config.num_hidden_layers} layers"


def markdown(result: dict[str, Any]) -> str:
    """The result as tables."""
    lines = [
        "# Interchange with bert4torch",
        "",
        "Written by `benchmarks/bert4torch_interchange.py`; how, and what the rows mean, is in "
        "`benchmarks/README.md`.",
        "",
        f"Data: {result['data']}. Machine: {result['machine']}, {result['threads']} thread(s). "
        f"bert4torch: {words(result['versions_bert4torch'])}. "
        f"This side: {words(result['versions'])}.",
        "",
    ]
    sides = [(name, result[name]) for name in ("out", "back") if name in result]
    heads = {"out": "out: export → bert4torch", "back": "back: bert4torch → import-model"}
    if result.get("note"):
        lines += [f"**Note.** {result['note']}", ""]
    if sides:
        lines += table(
            ["", *(heads[name] for name, _ in sides)],
            [[row, *(show(side) for _, side in sides)] for row, show in _ROWS.items()],
        )
    for name, side in sides:
        lines += ["", f"Differences, {name}, where each token is one wordpiece: "]
        if not side["differences"]:
            lines[-1] += "none."
            continue
        lines[-1] += f"{len(side['differences'])}."
        lines.append("")
        rows = [
            [
                each["text"],
                each["steps"],
                _number(each["margin"]),
                "yes" if each["is_tie"] else "no",
            ]
            for each in side["differences"]
        ]
        lines += table(["text", "tags that differ", "score margin", "a tie"], rows)
    if "back" in result:
        training = result["back"]["training"]
        losses = ", ".join(str(loss) for loss in training["losses"])
        lines += [
            "",
            f"bert4torch's training: {training['sentences']} sentences, {training['epochs']} "
            f"epochs, batches of {training['batch']}, Adam at {training['rate']:g}, seed "
            f"{training['seed']}, {training['seconds']} s; loss that it reports after each epoch: "
            f"{losses}.",
        ]
    lines += ["", *table(["guarantee", "holds"], [[k, v] for k, v in guarantees(result)])]
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def _same(side: dict[str, Any]) -> str:
    key = "same_tags" if "same_tags" in side else "single_same_entities"
    return f"{side[key]} of {side['single']}"


_ROWS: dict[str, Any] = {
    "encoder": lambda side: side["encoder"],
    "texts": lambda side: side["texts"],
    "of them in one window": lambda side: side["fit"],
    "same wordpieces by both tokenizers": lambda side: (
        f"{side['same_wordpieces']} of {side['fit']}"
    ),
    "each token one wordpiece": lambda side: f"{side['single']} ({side['share_single']:.1%})",
    "there: same entities": lambda side: f"{side['single_same_entities']} of {side['single']}",
    "there: same tags": lambda side: _same(side) if "same_tags" in side else "",
    "there: same entities, tags read as the example does": lambda side: (
        f"{side['same_entities_read_as_there']} of {side['single']}"
        if "same_entities_read_as_there" in side
        else ""
    ),
    "there: entities of the pipeline": lambda side: side["entities_single"],
    "there: largest difference of emissions": lambda side: _number(
        side["largest_difference_of_emissions"]
    ),
    "the other texts": lambda side: side["rest"],
    "of them with other entities": lambda side: side["rest_differ"],
    "texts with a tag on [CLS] or [SEP]": lambda side: side.get("texts_with_tagged_specials", ""),
    "entities: pipeline, bert4torch": lambda side: (
        f"{side['entities_ours']}, {side['entities_theirs']}"
    ),
    "entity F against the data: pipeline, bert4torch": lambda side: (
        f"{side['f_ours']:.4f}, {side['f_theirs']:.4f}"
    ),
    "seconds: pipeline, bert4torch": lambda side: (
        f"{side['seconds_ours']}, {side['seconds_theirs']}"
    ),
}


def guarantees(result: dict[str, Any]) -> list[tuple[str, str]]:
    """What must hold, and whether it does."""
    found = [(f"{name}: runs to its end", "NO") for name in result.get("broken_off", ())]
    for name in ("out", "back"):
        for what, holds in result.get(name, {}).get("holds", {}).items():
            found.append((f"{name}: {what}", "yes" if holds else "NO"))
    return found


def run(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """All that is asked for. Raises Failed."""
    blank = spacy.blank("zh")
    gold = read_docs(args.data, blank, args.limit)
    characters = sum(len(doc.text) for doc in gold)
    other = OtherPython(args.env or work / "env", work, args.threads)
    there, _ = other.run("versions")
    stub = "a stub" if there["torchvision_is_a_stub"] else "installed"
    result: dict[str, Any] = {
        "data": f"{args.data.parent.name}/{args.data.name}, {len(gold)} texts, "
        f"{characters} characters, {sum(len(doc.ents) for doc in gold)} entities",
        "machine": machine(),
        "threads": args.threads or torch.get_num_threads(),
        "versions": versions(),
        "versions_bert4torch": {**there["versions"], "torchvision": stub},
        "tie": TIE,
        "note": args.note,
    }
    if args.pipeline:
        nlp = spacy.load(args.pipeline)
        attempt(result, "out", lambda: check_out(args, other, gold, nlp))
    if args.encoder:
        train = read_docs(args.train, blank, args.train_sentences)
        attempt(result, "back", lambda: check_back(args, other, gold, train))
    return result


def attempt(result: dict[str, Any], name: str, check: Callable[[], dict[str, Any]]) -> None:
    """Do one direction; if it breaks off, the other one is done all the same."""
    try:
        result[name] = check()
    except Failed as err:
        say(str(err))
        result["broken_off"] = [*result.get("broken_off", []), name]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="annotated docs (.spacy) that are predicted")
    add("--pipeline", type=Path, help="out: a trained pipeline")
    add("--encoder", type=Path, help="back: the folder of a converted encoder")
    add("--train", type=Path, help="back: annotated docs (.spacy) to train with")
    add("--train-sentences", type=int, default=800, help="back: how many of them, from the start")
    add("--epochs", type=int, default=8, help="back: epochs of training")
    add("--max-layers", type=int, default=4, help="back: layers of the encoder; 0 takes all")
    add("--rate", type=float, default=3e-4, help="back: learning rate")
    add("--batch-size", type=int, default=16, help="back: sentences of a batch")
    add("--seed", type=int, default=42, help="back: seed, the example's own by default")
    add("--labels", default="LOC,PER,ORG", help="back: entity types in the order of their tags")
    add("--min-entities", type=int, default=500, help="back: fewer found prove too little")
    add("--limit", type=int, default=0, help="only the first N docs of --data; 0 takes all")
    add("--env", type=Path, help="virtual environment with bert4torch; made if it isn't there")
    add("--threads", type=int, default=0, help="threads of both sides; 0: as torch says")
    add("--note", default="", help="a sentence for the results, on what else they depend on")
    add("--output", type=Path, help="write NAME.md and NAME.json")
    args = parser.parse_args()
    if not args.pipeline and not args.encoder:
        parser.error("give --pipeline, or --encoder and --train, or all of them")
    if bool(args.encoder) != bool(args.train):
        parser.error("--encoder and --train belong together")
    for path in (args.data, args.pipeline, args.encoder, args.train):
        if path and not path.exists():
            parser.error(f"there is no {path}")
    return args


def main() -> int:
    """RETURNS: the exit code."""
    args = parse()
    if args.threads:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory(prefix="bert4torch-") as folder:
        try:
            result = run(args, Path(folder))
        except Failed as err:
            say(str(err))
            return 1
    text = markdown(result)
    print(text)
    if args.output:
        stem = args.output.parent / args.output.name.removesuffix(".md").removesuffix(".json")
        stem.parent.mkdir(parents=True, exist_ok=True)
        Path(f"{stem}.md").write_text(text, encoding="utf8")
        write_json(Path(f"{stem}.json"), result)
    return 0 if all(holds == "yes" for _, holds in guarantees(result)) else 1


if __name__ == "__main__":
    sys.exit(main())
