"""Every format read by docs/read_export.py, in processes without spaCy and this package."""

import json
import os
import runpy
import subprocess
import sys

import pytest

from spacy_bert_crf.export.formats.format import READERS
from support.exports import FLOAT_FORMATS, ROUNDED_FORMATS
from support.hiding import HIDING
from support.paths import ROOT
from support.toys import TEXTS, characters

READER = ROOT / "docs" / "read_export.py"
DECODING = ["torchscript", "onnx", *ROUNDED_FORMATS]
#: Runs the reader over jobs from standard input, as if what is blocked were not installed.
DRIVER = (
    HIDING
    + """
reader = runpy.run_path(sys.argv[2])
out = []
for folder, decode, texts in json.load(sys.stdin):
    model = reader["load"](folder, decode)
    out.append([reader["entities"](text, model) for text in texts])
assert not BLOCKED & {name.partition(".")[0] for name in sys.modules}
json.dump(out, sys.stdout)
"""
)
JOBS = [("zh", name, False) for name in FLOAT_FORMATS + ROUNDED_FORMATS]
JOBS += [(toy, name, False) for toy in ("english", "bioes", "free") for name in FLOAT_FORMATS]
JOBS += [("zh", name, True) for name in DECODING]
JOBS += [(toy, name, True) for toy in ("english", "bioes", "free") for name in DECODING[:2]]


def run(jobs, toys, blocked):
    given = [[str(toys[toy].out / name), decode, toys[toy].texts] for toy, name, decode in jobs]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, blocked, str(READER)],
        input=json.dumps(given), capture_output=True, text=True, encoding="utf8",
        env={**os.environ, "PYTHONUTF8": "1", "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return {
        job: [[tuple(e) for e in text] for text in texts]
        for job, texts in zip(jobs, found, strict=True)
    }


@pytest.fixture(scope="session")
def read(toys):
    """Entities of all jobs. The ONNX graphs run without torch and transformers."""
    onnx = [job for job in JOBS if job[1].startswith("onnx")]
    others = [job for job in JOBS if job not in onnx]
    ours = "spacy,spacy_bert_crf,thinc,spacy_transformers"
    return run(onnx, toys, f"{ours},torch,transformers,onnx") | run(others, toys, ours)


@pytest.fixture(scope="session")
def wanted(toys):
    return {
        name: [characters(doc) for doc in toy.nlp.pipe(toy.texts)] for name, toy in toys.items()
    }


@pytest.mark.parametrize("job", [job for job in JOBS if job[1] in FLOAT_FORMATS], ids=str)
def test_float_formats_give_the_pipelines_entities(job, read, wanted, toys):
    for text, got, want in zip(toys[job[0]].texts, read[job], wanted[job[0]], strict=True):
        assert got == want, text


def test_the_toys_have_entities_to_lose(wanted, toys):
    """The test above needs texts with entities."""
    for name in toys:
        assert sum(map(len, wanted[name])) >= 4, name
        assert any(not found for found in wanted[name])
    free = {label for found in wanted["free"] for _, _, label in found}
    assert len(free) > 1


@pytest.mark.parametrize("job", [job for job in JOBS if job[1] in ROUNDED_FORMATS], ids=str)
def test_rounded_formats_find_what_was_learned(job, read, wanted, toys):
    """Scores differ a little, but not on the training texts, which the toy has overfitted."""
    learned = {text for text, _ in TEXTS}
    results = list(zip(toys["zh"].texts, read[job], wanted["zh"], strict=True))
    same = [got == want for _, got, want in results]
    assert sum(same) >= 0.8 * len(same), [r for r in results if r[1] != r[2]]
    assert all(got == want for text, got, want in results if text in learned)


def test_decoding_in_the_graph_is_that_on_the_host(read):
    for toy, name, decode in JOBS:
        if decode:
            assert read[toy, name, True] == read[toy, name, False], (toy, name)


def test_the_command_prints_entities(toys):
    words = [str(toys["zh"].out / "onnx"), TEXTS[0][0]]
    for more in ([], ["--decode"]):
        done = subprocess.run(
            [sys.executable, str(READER), *words, *more],
            capture_output=True, text=True, encoding="utf8",
            env={**os.environ, "PYTHONUTF8": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.split("\n")[:3] == [
            "0 3 PER 王小明",
            "6 8 LOC 北京",
            "11 15 ORG 清华大学",
        ]


def test_what_the_reader_refuses(toys):
    reader = runpy.run_path(str(READER))
    with pytest.raises(ValueError, match="decode"):
        reader["load"](toys["zh"].out / "huggingface", decode=True)
    model = reader["load"](toys["zh"].out / "onnx")
    assert reader["entities"]("", model) == []


def test_tokens_of_another_tokenizer_may_be_given(toys):
    """A text whose tokens are not separated by white space needs the pipeline's tokens."""
    toy = toys["english"]
    reader = runpy.run_path(str(READER))
    model = reader["load"](toy.out / "onnx", decode=True)
    text = "Bob's city, Paris."
    doc = toy.nlp(text)
    tokens = [(token.idx, token.idx + len(token)) for token in doc]
    assert len(tokens) == 6
    assert reader["entities"](text, model, tokens) == characters(doc)


@pytest.mark.parametrize("scheme", ["BIO", "BIOES", "BMES", "BILUO"])
def test_the_readers_spans_are_those_of_the_scheme(scheme):
    """For any sequence of tags, also illegal ones."""
    import random

    from spacy_bert_crf.annotation.schemes import TagSet

    spans = runpy.run_path(str(READERS / "reader.py"))["spans"]
    tag_set, rng = TagSet(("A", "B-C"), scheme), random.Random(0)
    for _ in range(300):
        ids = [rng.randrange(len(tag_set.tags)) for _ in range(rng.randrange(9))]
        want = [tuple(span) for span in tag_set.decode(ids)]
        assert spans([tag_set.tags[i] for i in ids]) == want, ids
