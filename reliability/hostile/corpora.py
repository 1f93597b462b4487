"""Mutated corpora of every format, as targets of fuzz.py.

    python -m reliability.hostile.fuzz --corpora --cases 200000

A reader must refuse a mutated file with a message that names it, or return entities that lie in
their texts, do not overlap, make docs, and survive being written and read again.
"""

import io
import tempfile
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

from reliability.hostile import mutate

#: Between the .txt and the .ann of brat, in one input.
_CUT = b"\n=====\n"
_WEBANNO = """#FORMAT=WebAnno TSV 3.3
#T_SP=de.tudarmstadt.ukp.dkpro.core.api.ner.type.NamedEntity|identifier|value


#Text=John Smith lives in Paris.
1-1\t0-4\tJohn\t*[1]\tPER[1]\t
1-2\t5-10\tSmith\t*[1]\tPER[1]\t
1-3\t11-16\tlives\t_\t_\t
1-4\t17-19\tin\t_\t_\t
1-5\t20-25\tParis\t*\tLOC\t
"""
_COLUMNS = [
    "北 B-LOC\n京 I-LOC\n\n好 O\n",
    "EU B_ORG\nrejects O\n",
    "-DOCSTART- -X- O O\n\nEU NNP B-NP I-ORG\nis VBZ B-VP O\n\n# note\nGerman JJ B-NP I-MISC\n",
    "PER-B\tJohn\nPER-E\tSmith\nO\tlives\n",
    "1\tJohn\tB-PER\tO\n2\tlives\tO\tO\n",
]
_TUPLES = (
    '[["John in Paris", {"entities": [[0, 4, "PER"], [8, 13, "LOC"]]}], ["x", {"entities": []}]]'
)
_PARAGRAPHS = (
    '[{"id": 1, "paragraphs": [{"raw": "John in Paris", "sentences": [{"tokens": ['
    '{"orth": "John", "ner": "U-PER"}, {"orth": "in", "ner": "O"}, '
    '{"orth": "Paris", "ner": "-"}]}]}]}]'
)


def seeds() -> dict[str, list[bytes]]:
    """Good inputs of each format."""
    from spacy_bert_crf.annotation.formats import FORMATS, AnnotatedText, Entity, write_corpus

    texts = [
        AnnotatedText("😀王明 lives in Paris", [Entity(1, 3, "PER"), Entity(13, 18, "LOC")]),
        AnnotatedText("e\u0301 北京", [Entity(3, 5, "LOC")], document="d1"),
        AnnotatedText("nothing", []),
    ]
    out: dict[str, list[bytes]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, each in FORMATS.items():
            if name == "brat" or not each.write:
                continue
            path = Path(folder) / "seed"
            write_corpus(path, texts, name)
            out[name] = [path.read_bytes()]
    ann = b"T1\tPER 0 4\tJohn\nT2\tLOC 14 19\tParis\nR1\tx Arg1:T1 Arg2:T2\nT3\tX 0 2;3 4\tJo n\n"
    out["brat"] = [b"John lives in Paris" + _CUT + ann]
    out["columns"] += [text.encode() for text in _COLUMNS]
    out["spacy-json"] += [_TUPLES.encode(), _PARAGRAPHS.encode()]
    out["webanno"] = [_WEBANNO.encode()]
    return out


def _parquet() -> list[bytes]:
    import json

    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table({"tokens": [["John", "in"], ["x"]], "ner_tags": [[1, 0], [0]]})
    info = {"features": {"ner_tags": {"feature": {"names": ["O", "B-PER", "I-PER"]}}}}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": info})})
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return [buffer.getvalue()]


@lru_cache(maxsize=1)
def _nlp() -> Any:
    import spacy

    return spacy.blank("xx")


def reader(name: str) -> Any:
    """The reader of a format: given a file with the input, whether it was accepted."""

    def read(path: Path, data: bytes) -> bool:
        from spacy_bert_crf.annotation.formats import ON_ERROR, read_corpus
        from spacy_bert_crf.errors import BertCrfError

        rng = Random(len(data) * 257 + sum(data[:64]))
        if name == "brat":
            text, _, ann = data.partition(_CUT)
            (path.parent / "doc.txt").write_bytes(text)
            path = path.parent / "doc.ann"
            path.write_bytes(ann)
        try:
            corpus = read_corpus(
                path,
                format=rng.choice(["auto", name]),
                on_error=rng.choice(ON_ERROR),
                overlap=rng.choice(["longest", "first", "fail"]),
                partial=rng.random() < 0.1,
            )
        except BertCrfError as err:
            message = str(err)
            assert str(path.parent) in message, f"the message names no file: {message!r}"
            assert message.count("\n") < 13 and len(message) < 6000, "the message is too long"
            raise
        check(corpus.texts, path.parent)
        return True

    return read


def check(texts: list[Any], folder: Path) -> None:
    """Raise AssertionError if entities are wrong, or do not survive a file of doccano."""
    from spacy_bert_crf.annotation.formats import read_corpus, to_docs, write_corpus

    for item in texts:
        end = 0
        for entity in item.entities:
            assert end <= entity.start < entity.end <= len(item.text), item
            assert isinstance(entity.label, str) and entity.label.strip(), item
            end = entity.end
        for start, end in item.words or ():
            assert 0 <= start < end <= len(item.text), item
    docs, problems = to_docs(_nlp(), texts)
    assert [doc.text for doc in docs] == [item.text for item in texts]
    kept = sum(len(doc.ents) for doc in docs) + sum(p.outcome == "lost" for p in problems)
    assert kept == sum(len(item.entities) for item in texts), problems
    plain = [item for item in texts if _has_no_space_at_ends(item)]
    if plain:
        path = folder / "again.jsonl"
        write_corpus(path, plain, "doccano")
        again = read_corpus(path).texts
        assert [(a.text, a.entities, a.partial) for a in again] == [
            (item.text, item.entities, item.partial) for item in plain
        ]


def _has_no_space_at_ends(item: Any) -> bool:
    texts = [item.text[start:end] for start, end, _ in item.entities]
    return bool(item.text.strip()) and all(text == text.strip() for text in texts)


#: How a format is mutated, if not by bytes.
_MUTATE = {
    "label-studio": mutate.mutate_json,
    "json-min": mutate.mutate_json,
    "spacy-json": mutate.mutate_json,
}


def _mutate_lines(data: bytes, rng: Random, others: list[bytes]) -> bytes:
    """JSONL with a changed value in a line, or changed bytes."""
    if rng.random() < 0.3:
        return mutate.mutate_bytes(data, rng, others)
    lines = data.strip(b"\n").split(b"\n")
    at = rng.randrange(len(lines))
    lines[at] = mutate.mutate_json(lines[at], rng, others)
    return b"\n".join(lines) + b"\n"


def _change(name: str, good: list[bytes]) -> Any:
    if name in _MUTATE:
        return _MUTATE[name]
    return _mutate_lines if good[0].startswith(b'{"') else mutate.mutate_bytes


def targets(docbins: list[bytes]) -> dict[str, tuple[list[bytes], Any, Any, str]]:
    """Seeds, mutation, reader and suffix of each format."""
    out = {
        f"corpus {name}": (good, _change(name, good), reader(name), "")
        for name, good in seeds().items()
    }
    out["corpus spacy"] = (docbins, mutate.mutate_docbin, reader("spacy"), ".spacy")
    try:
        out["corpus parquet"] = (_parquet(), mutate.mutate_bytes, reader("parquet"), ".parquet")
    except ImportError:
        print("corpus parquet: left out, pyarrow is not installed")
    return out
