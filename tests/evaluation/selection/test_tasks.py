"""Tasks of annotation tools: what they hold, that predictions are no gold, and the way back."""

import json

import pytest
import spacy

from spacy_bert_crf import convert_corpus, select_texts
from spacy_bert_crf.annotation.docbin import read_docs
from spacy_bert_crf.annotation.formats import detect_format, read_corpus, read_texts
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.evaluation.selection.tasks import TASKS, write_tasks
from support.predictions import make_random
from support.toys import TEXTS, characters, make_examples

GOLD = {text: [list(span) for span in spans] for text, spans in TEXTS}


@pytest.fixture(scope="module")
def selection(encoder_path):
    return select_texts(make_random(encoder_path), list(GOLD), number=6, near=1.0)


def written(selection, folder, to):
    path = folder / f"tasks-{to}"
    write_tasks(selection, path, to)
    text = path.read_text(encoding="utf8")
    return path, json.loads(text) if to == "label-studio" else [
        json.loads(line) for line in text.splitlines()
    ]


def entities_of(record):
    """The predicted entities of a task, each with its probability."""
    if "predictions" in record:
        results = record["predictions"][0]["result"]
        values = [(each["value"], each["score"]) for each in results]
        return [[v["start"], v["end"], v["labels"][0], p] for v, p in values]
    if "probabilities" in record:
        assert record["label"] == [each[:3] for each in record["probabilities"]]
        return record["probabilities"]
    name = "probability" if "entities" in record else "score"
    found = record.get("entities", record.get("spans"))
    return [[each["start"], each["end"], each["label"], each[name]] for each in found]


@pytest.mark.parametrize("to", TASKS)
def test_a_task_has_predictions_probabilities_and_doubts(selection, tmp_path, to):
    _, records = written(selection, tmp_path, to)
    assert len(records) == len(selection.chosen) == 6
    assert any(each.predicted.uncertain for each in selection.chosen)
    for record, each in zip(records, selection.chosen, strict=True):
        held = record.get("data", record)
        assert held["text"] == each.text
        assert entities_of(record) == [list(e) for e in each.predicted.entities]
        assert held["uncertain"] == [list(e) for e in each.predicted.uncertain]
        origin = record["meta"] if to == "prodigy" else held
        assert origin["where"] == each.name and origin["score"] == round(each.score, 6)


def test_tokens_of_prodigy_are_those_of_its_spans(selection, tmp_path):
    _, records = written(selection, tmp_path, "prodigy")
    for record in records:
        for span in record["spans"]:
            tokens = record["tokens"][span["token_start"] : span["token_end"] + 1]
            assert tokens[0]["start"] == span["start"] and tokens[-1]["end"] == span["end"]
        assert all(record["text"][t["start"] : t["end"]] == t["text"] for t in record["tokens"])


def test_uncertain_regions_of_label_studio_have_a_note(selection, tmp_path):
    _, records = written(selection, tmp_path, "label-studio")
    for record, each in zip(records, selection.chosen, strict=True):
        results = record["predictions"][0]["result"]
        for result, entity in zip(results, each.predicted.entities, strict=True):
            assert ("meta" in result) == (entity in each.predicted.uncertain)
        for start, end, label, _ in each.predicted.uncertain:
            assert f"{each.text[start:end]} {label}" in record["data"]["doubts"]


@pytest.mark.parametrize("to", ["jsonl", "label-studio", "prodigy"])
def test_what_is_only_predicted_is_no_gold(selection, tmp_path, to):
    path, _ = written(selection, tmp_path, to)
    with pytest.raises(BertCrfError, match="no sentence is left"):
        read_corpus(path, on_error="skip-sentence")
    with pytest.raises(BertCrfError, match="only predicted|not annotated"):
        read_corpus(path)
    assert sorted(read_texts(path)) == sorted(each.text for each in selection.chosen)


def test_unchanged_tasks_of_doccano_are_counted(selection, tmp_path):
    path, records = written(selection, tmp_path, "doccano")
    assert read_corpus(path).details["as predicted"] == "6 of 6"
    records[0]["label"] = [
        [0, 1, "PER"],
        *([[1, 2, "LOC"]] if len(records[0]["label"]) < 2 else []),
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf8")
    assert read_corpus(path).details["as predicted"] == "5 of 6"


def test_another_format_is_refused(selection, tmp_path):
    with pytest.raises(BertCrfError, match="use one of jsonl, doccano"):
        write_tasks(selection, tmp_path / "tasks", "paper")
    assert not list(tmp_path.iterdir())


def corrected(records, to):
    """The tasks as a tool exports them: corrected, the last one in part, one left alone.

    doccano writes metadata before the label. Of the last text, only the first entity is known.
    """
    out = []
    for number, record in enumerate(records):
        text = record.get("data", record)["text"]
        gold, partial = GOLD[text], number == len(records) - 1
        gold = gold[:1] if partial else gold
        mark = {"partial": True} if partial else {}
        if to == "doccano":
            kept = {k: v for k, v in record.items() if k not in ("text", "label")}
            out.append({"id": number, "text": text, **kept, **mark, "label": gold, "Comments": []})
        elif to == "label-studio":
            result = [
                {"to_name": "text", "from_name": "label", "type": "labels",
                 "value": {"start": s, "end": e, "labels": [label], "text": text[s:e]}}
                for s, e, label in gold
            ]  # fmt: skip
            done = [] if number == 1 else [{"id": 1, "result": result}]
            data = {**record["data"], **mark}
            out.append({**record, "data": data, "annotations": done, "drafts": []})
        else:
            spans = [{"start": s, "end": e, "label": label} for s, e, label in gold]
            key, answer = "entities", {"predicted": False}
            if to == "prodigy":
                key, answer = "spans", {"answer": "ignore" if number == 1 else "accept"}
            out.append({**record, key: spans, **answer, **mark})
    return out


@pytest.mark.parametrize("to", TASKS)
def test_corrected_tasks_come_back_and_train(selection, tmp_path, encoder_path, to):
    path, records = written(selection, tmp_path, to)
    done = corrected(records, to)
    as_lines = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in done)
    path.write_text(json.dumps(done) if to == "label-studio" else as_lines, encoding="utf8")
    formats = {"jsonl": "doccano"}
    assert detect_format(path) == formats.get(to, to)
    report = convert_corpus(path, tmp_path / "more.spacy")
    skipped = to in ("label-studio", "prodigy")
    assert report.sentences == 6 - skipped and report.skipped == skipped

    nlp = make_random(encoder_path)
    docs = read_docs(tmp_path / "more.spacy", nlp)
    texts = [each.text for each in selection.chosen]
    assert [doc.text for doc in docs] == [
        t for i, t in enumerate(texts) if not (skipped and i == 1)
    ]
    for doc in docs[:-1]:
        assert characters(doc) == [tuple(span) for span in GOLD[doc.text]]
        assert all(token.ent_iob for token in doc)
    assert characters(docs[-1]) == [tuple(span) for span in GOLD[texts[-1]][:1]]
    assert any(token.ent_iob == 0 for token in docs[-1])
    losses = one_step(docs, encoder_path)
    assert losses["bert_crf"] > 0


def one_step(docs, encoder_path):
    """One update of a new pipeline on docs. RETURNS: the losses."""
    from spacy.training import Example

    from spacy_bert_crf.model.optimizer import create_adamw
    from support.toys import own_config

    nlp = spacy.blank("zh")
    nlp.add_pipe("bert_crf", config=own_config(encoder_path))
    nlp.initialize(lambda: make_examples(nlp))
    examples = [Example(nlp.make_doc(doc.text), doc) for doc in docs]
    return nlp.update(examples, sgd=create_adamw(warmup=0))
