"""The large corpus: other names in the same texts, and shards that are compared."""

import spacy

from benchmarks.speed.large import markdown, same_shards, texts_of
from support.toys import make_examples


def test_texts_have_other_names_of_the_same_labels():
    docs = [eg.reference for eg in make_examples(spacy.blank("zh"))]
    size = 40 * sum(len(doc.text) for doc in docs)
    texts = list(texts_of(docs, size, seed=1))
    assert size <= sum(map(len, texts)) < size + max(map(len, texts))
    assert texts == list(texts_of(docs, size, seed=1)) != list(texts_of(docs, size, seed=2))
    assert set(texts) - {doc.text for doc in docs}  # names were exchanged
    names = {ent.text for doc in docs for ent in doc.ents}
    rests = {_without(doc.text, names) for doc in docs}
    assert {_without(text, names) for text in texts} <= rests


def _without(text, names):
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, "_")
    return text


def test_shards_are_compared_by_name_and_bytes(tmp_path):
    for name in ("local", "ray"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.parquet").write_bytes(b"same")
    folders = [tmp_path / "local", tmp_path / "ray"]
    assert same_shards(folders) == (1, True)
    (folders[1] / "0.parquet").write_bytes(b"other")
    assert same_shards(folders) == (1, False)
    (folders[1] / "0.parquet").unlink()
    assert same_shards(folders) == (1, False)


def test_the_page_says_whether_shards_are_equal_only_of_several_engines():
    row = {
        "engine": "local", "seconds": 60.0, "speed": 10.0, "nlp_pipe": [10.0, 11.0], "ratio": 0.95,
        "parent_first_tenth": 2**20, "parent_last_tenth": 2**20, "worker": 2**20,
        "nlp_pipe_process": 2**20,
    }  # fmt: skip
    content = {
        "rows": {"local": row}, "texts": 3, "characters": 600, "corpora": ["a.spacy"],
        "int8": False, "shards": 1, "equal": True, "machine": {"machine": "a machine"},
        "versions": {}, "command": "python",
    }  # fmt: skip
    assert "1 shards from local." in markdown(content)
    content["rows"]["ray"] = row
    assert "1 shards, equal, byte for byte, from local and ray." in markdown(content)
    content["equal"] = False
    assert "NOT EQUAL" in markdown(content)
