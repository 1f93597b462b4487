"""Corpora and pipelines for tests of bulk annotation."""

import gzip
import json
import os
import time
from pathlib import Path

import spacy
from spacy.language import Language
from spacy.tokens import Doc

#: File of the registered components below, for `--code`.
CODE = Path(__file__)
#: Texts that the component `toy_faults` treats badly.
HANGS, KILLS, GROWS, RAISES = "please hang", "please die", "please grow", "please raise"


@Language.component("toy_faults")
def toy_faults(doc: Doc) -> Doc:
    """Hang, die, take memory or raise an error where a text requests it."""
    if HANGS in doc.text:
        time.sleep(3600)
    if KILLS in doc.text:
        os._exit(7)
    if GROWS in doc.text:
        held = [bytearray(50 * 2**20) for _ in range(40)]
        for block in held:
            block[::4096] = b"x" * len(block[::4096])
        time.sleep(3600)
    if RAISES in doc.text:
        raise ValueError("raised as requested")
    return doc


@Language.component("toy_slow")
def toy_slow(doc: Doc) -> Doc:
    """Take a moment for each text, so that kills meet work under way."""
    time.sleep(0.004)
    return doc


def write_ruler(path, *components, lang="en"):
    """Write a pipeline that finds Apple (ORG) and Berlin (LOC)."""
    nlp = spacy.blank(lang)
    ruler = nlp.add_pipe("entity_ruler")
    ruler.add_patterns(
        [{"label": "ORG", "pattern": "Apple"}, {"label": "LOC", "pattern": "Berlin"}]
    )
    for name in components:
        nlp.add_pipe(name)
    nlp.to_disk(path)
    return path


def records(count, first=0):
    """Records of texts of several lengths; every tenth text is that of its predecessor."""
    out = []
    for index in range(first, first + count):
        number = index - 1 if index % 10 == 9 else index
        words = ["Apple", f"number{number}", "is", "in", "Berlin", *["again"] * (number % 13)]
        out.append({"key": f"d{index}", "text": " ".join(words), "year": 1990 + index % 30})
    return out


def write_jsonl(path, rows):
    """Write JSON lines, compressed if the name says so."""
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


def read_output(folder):
    """The documents of an output in Parquet, in order."""
    import pyarrow.parquet as pq

    return pq.read_table(Path(folder) / "data").to_pylist()


def shard_bytes(folder):
    """The bytes of the shards by the names of their files."""
    return {path.name: path.read_bytes() for path in sorted((Path(folder) / "data").iterdir())}


def quarantine(folder):
    """What was set apart: the reason by the id."""
    path = Path(folder) / "quarantine.jsonl"
    lines = path.read_text(encoding="utf8").splitlines() if path.is_file() else []
    return {each["id"]: each["reason"] for each in map(json.loads, lines)}
