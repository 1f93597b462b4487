"""benchmarks.cuda on the CPU: every section runs, and a section that fails does not end the run."""

import json
from importlib.util import find_spec

import pytest
import spacy
from spacy.tokens import DocBin

from benchmarks.cuda import crf
from benchmarks.cuda.__main__ import main
from benchmarks.cuda.report import markdown
from benchmarks.cuda.subject import random_pipeline
from support.toys import TEXTS, make_examples

SECTIONS = {"equality", "counts", "speed", "training", "crf", "peers"}
PEERS = {"transformers, bare encoder", "transformers, token-classification pipeline"}
if find_spec("spacy_transformers"):
    PEERS |= {"spaCy, transformer + ner"}


def run(tmp_path, *words):
    words = [*words, "--gpu", "-1", "--output", str(tmp_path / "out")]
    assert main(list(map(str, words))) == 0
    result = json.loads((tmp_path / "out.json").read_text(encoding="utf8"))
    assert (tmp_path / "out.md").read_text(encoding="utf8") == markdown(result)
    return result


def test_all_sections_with_random_weights(tmp_path):
    result = run(tmp_path, "--random")
    assert result.keys() >= SECTIONS and result["left_out"] == {}
    exact = result["equality"]["float32"]
    assert exact["same_entities"] == 1.0 and exact["largest_difference"] < 1e-4
    assert exact["spread"] > 0.1
    for row in result["speed"].values():
        assert all(min(speeds.values()) > 0 for speeds in row["by_pass"].values())
        assert row["one_text"]["milliseconds"] > 0
    assert result["training"]["bfloat16"]["8"]["tokens_per_second"] > 0
    rows = result["peers"]["rows"]
    assert {name for name, row in rows.items() if row.get("characters_per_second")} >= PEERS


def test_a_section_that_fails_is_named(tmp_path, monkeypatch):
    def fail(*args):
        raise RuntimeError("no kernel")

    monkeypatch.setattr(crf, "times", fail)
    result = run(tmp_path, "--random", "--only", "crf", "equality")
    assert result["left_out"] == {"crf": "RuntimeError: no kernel"}
    assert "equality" in result and "crf" not in result
    assert "- crf: RuntimeError: no kernel" in markdown(result)


def test_what_is_left_when_the_time_is_up(tmp_path):
    result = run(tmp_path, "--random", "--seconds", "0.001")
    assert result["left_out"] == dict.fromkeys(SECTIONS, "the time was up")


def test_a_pipeline_of_ones_own(tmp_path, trained_path):
    nlp = spacy.blank("zh")
    DocBin(docs=[eg.reference for eg in make_examples(nlp)]).to_disk(tmp_path / "docs.spacy")
    words = ["--pipeline", trained_path, "--data", tmp_path / "docs.spacy"]
    result = run(tmp_path, *words, "--only", "equality")
    assert result["texts"]["texts"] == len(TEXTS)
    assert result["equality"]["float32"]["same_entities"] == 1.0


def test_a_pipeline_without_the_component_is_refused(tmp_path, capsys):
    spacy.blank("zh").to_disk(tmp_path / "blank")
    words = ["--pipeline", str(tmp_path / "blank"), "--gpu", "-1", "--output", str(tmp_path / "o")]
    assert main(words) == 1
    assert "has no bert_crf component" in capsys.readouterr().err


def test_the_random_pipeline_finds_entities(tmp_path):
    nlp = spacy.load(random_pipeline(tmp_path, is_small=True))
    texts = ["".join(chr(0x4E00 + 7 * i + j) for j in range(30)) for i in range(8)]
    assert sum(len(doc.ents) for doc in nlp.pipe(texts)) > 10


@pytest.mark.parametrize("words", [[], ["--random", "--pipeline", "x"], ["--pipeline", "x"]])
def test_wrong_options(tmp_path, words):
    with pytest.raises(SystemExit):
        main([*words, "--output", str(tmp_path / "out")])
