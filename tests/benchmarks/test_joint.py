"""Parts of the benchmark of corpora with different labels."""

import argparse
import json

import spacy
from spacy.tokens import DocBin

from benchmarks.accuracy.joint import ALONE, TOGETHER, Part, convert, join_devs, markdown, readers
from spacy_bert_crf.annotation.coverage.covers import covers_of
from spacy_bert_crf.training.corpora import create_corpora
from support.toys import entities


def write(path, text, label):
    line = json.dumps({"text": text, "label": label}, ensure_ascii=False)
    path.write_text(f"{line}\n", encoding="utf8")
    return path


def test_parts_are_converted_joined_and_read_with_what_they_cover(tmp_path):
    one = write(tmp_path / "one.jsonl", "王小明在北京。", [[0, 3, "NAME"]])
    other = write(tmp_path / "other.jsonl", "李伟在南京。", [[3, 5, "LOC"]])
    parts = [
        Part("one", {"train": one, "dev": one}, "NAME=PER", 2.0),
        Part("other", {"train": other, "dev": other}),
    ]
    args = argparse.Namespace(lang="zh", on_error="fail", limit=0)
    counts = {}
    for part in parts:
        counts |= convert(part, args, tmp_path)
    assert [part.labels for part in parts] == [("PER",), ("LOC",)]
    assert counts["one train"]["entities"] == counts["other dev"]["entities"] == 1
    nlp = spacy.blank("zh")
    join_devs(parts, tmp_path / "dev.spacy", "zh")
    dev = list(DocBin().from_disk(tmp_path / "dev.spacy").get_docs(nlp.vocab))
    assert sorted(sorted(covers_of(doc)) for doc in dev) == [["LOC"], ["PER"]]
    settings = readers(parts)
    read = create_corpora(settings["corpora"], settings["seed"])
    train = [eg.reference for eg in read(nlp)]
    assert [entities(doc) for doc in train] == [[(0, 3, "PER")]] * 2 + [[(3, 5, "LOC")]]


def test_the_table_has_the_difference_of_the_same_seeds():
    run = {
        "p": 0.5, "r": 0.5, "per_type": {}, "versions": {"spacy": "3"}, "settings": {},
        "epochs": [],
    }  # fmt: skip
    sides = {
        "one": {
            ALONE: [{**run, "seed": seed, "f": f} for seed, f in ((1, 0.5), (2, 0.9))],
            TOGETHER: [{**run, "seed": 1, "f": 0.625}],
        }
    }
    text = markdown({
        "command": "x", "note": "", "encoder": "e", "labels": ["PER"], "corpus": {},
        "machine": {"flags": {}, "machine": "m", "threads": 1, "load_average": 0.0},
        "covers": {"one": ["PER"]}, "sides": sides,
    })  # fmt: skip
    assert "| one | together | 50.00 | 50.00 | 62.50 | +12.50 | 62.50 (1) |" in text
