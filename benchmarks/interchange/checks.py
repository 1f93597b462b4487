"""The two directions: what is exported, trained and imported, and how the sides are compared."""

import argparse
import json
from typing import Any

import numpy as np
import spacy
from spacy.language import Language
from spacy.tokens import Doc

from benchmarks.harness.common import (
    Entities,
    f_score,
    say,
    spacy_command,
    write_json,
)
from benchmarks.interchange.sides import Array, OtherPython, Side, own_side
from spacy_bert_crf.export.trained import gather

#: Paths whose scores differ by no more are a tie: either is right.
TIE = 1e-4


#: The scheme that the example is trained for and import-model gets.
SCHEME = "BIO"


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
    options = ["--labels", args.labels, "--scheme", SCHEME, "--no-constraints"]
    spacy_command("import-model", str(source), str(target), *options)
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
