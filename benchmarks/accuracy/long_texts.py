"""Ways of covering long texts, and what each costs in F1: windows, sentences, overlaps.

    python -m benchmarks.accuracy.long_texts --pipeline training/people-daily/model-best \\
        --data corpus/people-daily/dev.spacy --output benchmarks/results/long_texts

Texts are sentences of the data put one behind another, so that gold and what the pipeline finds
in each sentence alone are known.
"""

import sys
import time
from pathlib import Path
from typing import Any

import spacy
import torch

from benchmarks.accuracy.joined import by_length, f_of, shifted
from benchmarks.harness.common import (
    command_line,
    entities_of,
    parser_for,
    read_docs,
    say,
    write_json,
)
from benchmarks.harness.machine_info import machine
from benchmarks.harness.tables import table, words
from spacy_bert_crf._provenance import versions
from spacy_bert_crf.component.pipe import BertCrf
from spacy_bert_crf.model.layers import own_encoder_of

#: (long_texts, max_length, overlap) of each row.
COVERS = [
    ("sentences", 512, 128),
    ("windows", 512, 0),
    ("windows", 512, 64),
    ("windows", 512, 128),
    ("windows", 512, 256),
    ("windows", 256, 64),
    ("windows", 128, 0),
    ("windows", 128, 32),
    ("windows", 128, 64),
    ("windows", 64, 32),
]


def main() -> int:
    parser = parser_for(__doc__)
    parser.add_argument("--pipeline", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="annotated sentences (.spacy)")
    parser.add_argument("--length", type=int, default=3000, help="characters of a text, at least")
    parser.add_argument("--limit", type=int, default=0, help="sentences; 0: all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, required=True, help="NAME.json and NAME.md")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    nlp = spacy.load(args.pipeline)
    (pipe,) = (p for _, p in nlp.pipeline if isinstance(p, BertCrf))
    own = own_encoder_of(pipe.model)
    assert own is not None, "the pipeline needs an encoder of its own"
    docs = read_docs(args.data, nlp, args.limit)
    groups = list(by_length(docs, args.length))
    docs = [doc for group in groups for doc in group]
    gold = shifted(groups, {id(doc): entities_of(doc) for doc in docs})
    texts = ["".join(doc.text for doc in group) for group in groups]
    began = time.perf_counter()
    found = [entities_of(doc) for doc in nlp.pipe([doc.text for doc in docs])]
    took = time.perf_counter() - began
    alone = shifted(groups, {id(doc): e for doc, e in zip(docs, found, strict=True)})
    rows: list[dict[str, Any]] = [
        {"cover": "the sentences alone", "to_alone": 100.0, "f": f_of(alone, gold), "seconds": took}
    ]
    for way, max_length, overlap in COVERS:
        own.cfg |= {"long_texts": way, "max_length": max_length, "overlap": overlap}
        began = time.perf_counter()
        found = [entities_of(doc) for doc in nlp.pipe(texts)]
        took = time.perf_counter() - began
        cover = f"{way}, {max_length}" + (f", overlap {overlap}" if way == "windows" else "")
        row = {"cover": cover, "to_alone": f_of(found, alone), "f": f_of(found, gold)}
        rows.append({**row, "seconds": took})
        say(f"{cover}: {row['f']:.2f} against gold, {row['to_alone']:.2f} against sentences alone")
    content = {
        "rows": rows,
        "texts": len(texts),
        "characters": sum(map(len, texts)),
        "sentences": len(docs),
        "machine": machine(),
        "versions": versions(),
        "command": command_line(),
    }
    write_json(args.output.with_suffix(".json"), content)
    lines = [
        "# Long texts", "",
        f"{content['texts']} texts of at least {args.length:,} characters, {len(docs):,} sentences "
        f"put one behind another, {content['characters']:,} characters in all. F in percent.", "",
        *table(
            ["how they are covered", "against gold", "against the sentences alone", "seconds"],
            [[r["cover"], f"{r['f']:.2f}", f"{r['to_alone']:.2f}", f"{r['seconds']:.1f}"]
             for r in rows],
        ), "",
        f"Machine: {content['machine']}, {args.threads} threads. "
        f"Versions: {words(content['versions'])}.", "",
        f"Command: `{content['command']}`", "",
    ]  # fmt: skip
    args.output.with_suffix(".md").write_text("\n".join(lines), encoding="utf8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
