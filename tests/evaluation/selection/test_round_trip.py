"""Texts that `select` chose, annotated in a tool, converted and trained on."""

import json
from pathlib import Path

import pytest

from spacy_bert_crf.training.config import fill_config
from support.commands import cli
from support.formats import read_docs
from support.toys import TEXTS

CONFIG = Path(__file__).parents[3] / "configs" / "bert_crf.cfg"
GOLD = dict(TEXTS)


def corrected(text):
    return [[*span] for span in GOLD[text]]


def by_doccano(path):
    """What doccano exports once every text but the last is approved, in its order."""
    records = [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()]
    done = [
        {**record, "id": i, "label": corrected(record["text"]), "Comments": []}
        for i, record in enumerate(records[:-1])
    ]
    lines = [json.dumps(record, ensure_ascii=False) for record in done]
    path.write_text("\n".join(lines) + "\n", encoding="utf8")
    return [record["text"] for record in done]


def by_label_studio(path):
    """What Label Studio exports: all tasks, the last one without an annotation."""
    tasks = json.loads(path.read_text(encoding="utf8"))
    for task in tasks[:-1]:
        text = task["data"]["text"]
        regions = [
            {
                "id": f"r{i}", "from_name": "label", "to_name": "text", "type": "labels",
                "value": {"start": a, "end": b, "text": text[a:b], "labels": [label]},
            }
            for i, (a, b, label) in enumerate(corrected(text))
        ]  # fmt: skip
        task["annotations"] = [{"id": task["id"], "was_cancelled": False, "result": regions}]
    path.write_text(json.dumps(tasks, ensure_ascii=False), encoding="utf8")
    return [task["data"]["text"] for task in tasks[:-1]]


@pytest.mark.parametrize(
    ("tool", "annotate"), [("doccano", by_doccano), ("label-studio", by_label_studio)]
)
def test_selected_texts_come_back_corrected(tool, annotate, trained_path, encoder_path, tmp_path):
    texts, tasks = tmp_path / "texts.txt", tmp_path / "tasks.json"
    texts.write_text("\n".join(GOLD), encoding="utf8")
    cli("select", trained_path, texts, "-n", 6, "--near", 1, "--to", tool, "--output", tasks)
    wanted = annotate(tasks)
    corpus = tmp_path / "more.spacy"
    cli("convert-corpus", tasks, corpus)
    assert sorted(read_docs(corpus)) == sorted((text, GOLD[text]) for text in wanted)
    assert len(wanted) == 5

    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps(["LOC", "ORG", "PER"]), encoding="utf8")
    config, _ = fill_config(
        CONFIG, encoder=encoder_path, train=str(corpus), dev=str(corpus),
        labels=str(labels), seed=0, max_epochs=1,
    )  # fmt: skip
    config.to_disk(tmp_path / "config.cfg")
    cli("train", tmp_path / "config.cfg", tmp_path / "out")
    again = tmp_path / "again.jsonl"
    cli(
        "select", tmp_path / "out" / "model-best", texts, "-n", 9, "--near", 1, "--exclude",
        corpus, "--output", again,
    )  # fmt: skip
    left = [json.loads(line)["text"] for line in again.read_text(encoding="utf8").splitlines()]
    assert sorted(left) == sorted(set(GOLD) - set(wanted))
