"""Report scores, errors and entities of a trained pipeline on annotated text and plain sentences.

    python -m scripts.report PIPELINE --data corpus.spacy --texts sentences.txt --html out.html

It prints the scores per type, the worst errors, and the entities of the plain sentences. The worst
errors are the sentences where the predicted path outscores the gold path by the largest margin. The
HTML is that of displaCy.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
from spacy import displacy
from spacy.tokens import Doc

from spacy_bert_crf._files import write_text
from spacy_bert_crf.annotation.docbin import read_docs
from spacy_bert_crf.component.pipelines import find_component, load_pipeline
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.evaluation.evaluate import score_docs
from spacy_bert_crf.model import layers


def spans(doc: Doc) -> set[tuple[int, int, str]]:
    """Return start, end and label of each entity."""
    return {(ent.start, ent.end, ent.label_) for ent in doc.ents}


def marked(doc: Doc) -> str:
    """Return the text with its entities as 【text/LABEL】."""
    out, at = [], 0
    for ent in doc.ents:
        out += [doc.text[at : ent.start_char], f"【{ent.text}/{ent.label_}】"]
        at = ent.end_char
    return "".join([*out, doc.text[at:]])


def as_one(docs: list[Doc]) -> dict[str, Any]:
    """Return the docs as lines of one text, for displaCy with manual=True."""
    text, ents = "", []
    for doc in docs:
        ents += [
            {"start": len(text) + e.start_char, "end": len(text) + e.end_char, "label": e.label_}
            for e in doc.ents
        ]
        text += doc.text + "\n"
    return {"text": text.rstrip("\n"), "ents": ents}


def preference(pipe: Any, doc: Doc, gold: Doc) -> float:
    """Return the score of the predicted path minus that of the gold path."""
    tags = pipe.tag_set
    emissions = torch.as_tensor(pipe.model.predict([doc])[0])[None]
    mask = torch.ones(emissions.shape[:2], dtype=torch.bool)
    crf = layers.head_of(pipe.model).module.crf
    paths = [
        torch.tensor([tags.encode(((e.start, e.end, e.label_) for e in d.ents), len(doc))])
        for d in (doc, gold)
    ]
    with torch.inference_mode():
        predicted, annotated = (float(crf.score(emissions, path, mask)) for path in paths)
    return predicted - annotated


def report(args: argparse.Namespace) -> None:
    """Print the report; write the HTML if it is requested."""
    nlp = load_pipeline(args.pipeline)
    pipe = find_component(nlp)
    if args.data:
        gold = [doc for doc in read_docs(args.data, nlp) if len(doc)]
        began = time.perf_counter()
        found = list(nlp.pipe(doc.text for doc in gold))
        seconds = time.perf_counter() - began
        print(score_docs(found, gold, pipe.scheme).table(args.data.name))
        characters = sum(len(doc.text) for doc in gold)
        print(
            f"{characters / seconds:.0f} characters a second, {torch.get_num_threads()} threads\n"
        )
        wrong = [
            (preference(pipe, doc, want), doc, want)
            for doc, want in zip(found, gold, strict=True)
            if spans(doc) != spans(want) and len(doc) == len(want)
        ]
        wrong.sort(key=lambda row: -row[0])
        print(f"{len(wrong)} of {len(gold)} sentences differ from gold. The worst:\n")
        for value, doc, want in wrong[: args.worst]:
            print(f"{value:.1f}\n  gold:      {marked(want)}\n  predicted: {marked(doc)}\n")
    if args.texts:
        lines = args.texts.read_text(encoding="utf8").split("\n")
        docs = list(nlp.pipe(line for line in lines if line.strip()))
        for doc in docs:
            print(marked(doc))
        if args.html:
            html = displacy.render(as_one(docs), style="ent", page=True, manual=True)
            write_text(args.html, html)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("pipeline", type=Path)
    parser.add_argument("--data", type=Path, help="annotated docs (.spacy)")
    parser.add_argument("--worst", type=int, default=10, help="number of errors to print")
    parser.add_argument("--texts", type=Path, help="plain sentences, one a line")
    parser.add_argument("--html", type=Path, help="file for displaCy's page of these sentences")
    try:
        report(parser.parse_args())
    except BertCrfError as err:
        print(f"✘ {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
