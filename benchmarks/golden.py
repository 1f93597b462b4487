"""Entities of a pipeline on a corpus as JSON: written once, compared with later.

The file holds offsets and labels, no text, and hashes of the weights and of the texts.

python -m benchmarks.golden write PIPELINE DATA.spacy GOLDEN.json
python -m benchmarks.golden check PIPELINE DATA.spacy GOLDEN.json   (exit code 1 if they differ)
"""

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.common import parser_for, read_docs

Found = list[list[list[Any]]]


def entities(docs: Any) -> Found:
    """[start, end, label] by characters for each entity of each doc."""
    return [[[e.start_char, e.end_char, e.label_] for e in doc.ents] for doc in docs]


def text_hash(texts: Sequence[str]) -> str:
    """SHA-256 over texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def make(nlp: Any, texts: Sequence[str]) -> dict[str, Any]:
    """What a golden file holds."""
    from spacy_bert_crf._provenance import versions
    from spacy_bert_crf.export.trained import gather

    return {
        "versions": versions(),
        "weights_sha256": gather(nlp, "", {}).info["weights_sha256"],
        "text_sha256": [text_hash([text])[:16] for text in texts],
        "entities": entities(nlp.pipe(texts)),
    }


def compare(golden: dict[str, Any], texts: Sequence[str], found: Found) -> dict[str, Any]:
    """How what was found differs from a golden file.

    Texts are looked up by their hashes, so that a part of the corpus can be compared.
    RETURNS: counts, and the places of the texts that differ. Raises ValueError for a text that
    the file doesn't have.
    """
    known = dict(zip(golden["text_sha256"], golden["entities"], strict=True))
    differ = []
    for i, (text, each) in enumerate(zip(texts, found, strict=True)):
        key = text_hash([text])[:16]
        if key not in known:
            raise ValueError(f"text {i} is not in the golden file: it is of another corpus.")
        if sorted(map(list, known[key])) != sorted(map(list, each)):
            differ.append(i)
    return {"texts": len(texts), "same": len(texts) - len(differ), "differ": differ}


def main() -> int:
    """RETURNS: the exit code."""
    parser = parser_for(__doc__)
    parser.add_argument("what", choices=("write", "check"))
    parser.add_argument("pipeline", type=Path)
    parser.add_argument("data", type=Path, help="docs (.spacy), of which the texts are taken")
    parser.add_argument("golden", type=Path, help="the JSON file")
    args = parser.parse_args()
    import spacy

    nlp = spacy.load(args.pipeline)
    texts = [doc.text for doc in read_docs(args.data, spacy.blank(nlp.lang), 0)]
    made = make(nlp, texts)
    if args.what == "write":
        args.golden.write_text(json.dumps(made) + "\n", encoding="utf8")
        print(f"{args.golden}: {sum(map(len, made['entities']))} entities in {len(texts)} texts")
        return 0
    golden = json.loads(args.golden.read_text(encoding="utf8"))
    if golden["weights_sha256"] != made["weights_sha256"]:
        print("the weights are other ones than those of the golden file")
        return 1
    result = compare(golden, texts, made["entities"])
    print(f"{result['same']} of {result['texts']} texts have the same entities")
    for place in result["differ"][:20]:
        print(f"text {place}: {golden['entities'][place]} became {made['entities'][place]}")
    return 1 if result["differ"] else 0


if __name__ == "__main__":
    sys.exit(main())
