"""The backend for Label Studio, through the HTTP of the real package: predictions and training."""

import json

import pytest
import spacy
import srsly

from spacy_bert_crf import BertCrfError
from support.predictions import scored
from support.toys import TEXTS

pytest.importorskip("label_studio_ml.model", reason="label-studio-ml is not installed")

from label_studio_ml import api

from spacy_bert_crf.adapters import label_studio_training
from spacy_bert_crf.adapters.label_studio import NEWEST, BertCrfBackend, find_controls

GIVEN = [text for text, _ in TEXTS]
CONFIG = """<View>
  <Labels name="entities" toName="passage">
    <Label value="Person" predicted_values="PER,PERSON"/><Label value="loc"/><Label value="ORG"/>
  </Labels>
  <Text name="passage" value="$content"/>
</View>"""
NAMES = {"PER": "Person", "LOC": "loc", "ORG": "ORG"}
TASKS = [{"id": number, "data": {"content": text}} for number, text in enumerate(GIVEN)]
PROJECT = "7.1700000000"


@pytest.fixture
def client(trained_path, tmp_path, monkeypatch):
    """A client of the backend's server, as `label-studio-ml start` makes it."""
    monkeypatch.setenv("LABEL_STUDIO_ML_BACKEND_V2", "")

    class Backend(BertCrfBackend):
        pipeline = str(trained_path)
        settings = {"training.max_epochs": 2, "training.max_steps": 0}

    monkeypatch.setattr(api._manager, "_current_model", {})
    with api.init_app(Backend, model_dir=str(tmp_path / "models")).test_client() as client:
        yield client


def predict(client, tasks=TASKS, config=CONFIG):
    words = {"tasks": tasks, "project": PROJECT, "label_config": config}
    return client.post("/predict", json={**words, "params": {"context": {}}})


def spans(prediction, text):
    found = []
    for region in prediction["result"]:
        value = region["value"]
        assert (region["from_name"], region["to_name"]) == ("entities", "passage")
        assert value["text"] == text[value["start"] : value["end"]]
        found.append((value["start"], value["end"], value["labels"][0], region["score"]))
    return found


def test_predictions_over_http_have_our_entities_and_probabilities(client, trained_path):
    predictions = predict(client).get_json()["results"]
    total = 0
    for text, ours, theirs in zip(GIVEN, scored(trained_path, GIVEN), predictions, strict=True):
        expected = [(start, end, NAMES[label], p) for start, end, label, p in ours]
        assert spans(theirs, text) == expected
        scores = [each[3] for each in ours]
        assert theirs["score"] == pytest.approx(sum(scores) / len(scores) if scores else 1.0)
        total += len(expected)
    assert total > 5


def annotated(label=lambda name: NAMES[name]):
    """Tasks as Label Studio exports them, each text twice."""
    out = []
    for number, (text, entities) in enumerate(TEXTS * 2):
        result = [
            {
                "from_name": "entities",
                "to_name": "passage",
                "type": "labels",
                "value": {"start": s, "end": e, "text": text[s:e], "labels": [label(name)]},
            }
            for s, e, name in entities
        ]
        done = [{"id": number, "result": result}]
        out.append({"id": number, "data": {"content": text}, "annotations": done})
    return out


def test_training_makes_a_new_pipeline_which_then_predicts(client, tmp_path):
    tasks = annotated()
    words = {"annotations": tasks, "project": PROJECT, "label_config": CONFIG}
    assert client.post("/train", json=words).status_code == 201
    (result,) = (tmp_path / "models").rglob("job_result.json")
    trained = json.loads(result.read_text("utf8"))["train_output"]
    assert trained["tasks"] == len(tasks) and trained["ents_f"] > 0.5
    answer = predict(client).get_json()
    assert {each["model_version"] for each in answer["results"]} == {trained["pipeline"]}
    (newest,) = (tmp_path / "models").rglob(NEWEST)
    assert newest.read_text("utf8").strip() == trained["pipeline"]
    meta = srsly.read_json(f"{trained['pipeline']}/meta.json")
    assert meta["labels"]["bert_crf"] == ["LOC", "ORG", "PER"]  # the pipeline's names, not theirs


def test_an_event_trains_on_the_exported_project(trained_path, tmp_path, monkeypatch):
    """What the newer backend and webhooks do: the event names a project, its tasks are read."""
    asked = []

    class Answer:
        def __init__(self, content):
            self.content = content

        def raise_for_status(self):
            pass

        def json(self):
            return self.content

    def get(url, params, headers, timeout):
        asked.append((url, params["exportType"], headers["Authorization"]))
        return Answer(annotated())

    monkeypatch.setattr(label_studio_training.requests, "get", get)
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://studio/")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "secret")

    class Backend(BertCrfBackend):
        pipeline = str(trained_path)
        output = str(tmp_path / "out")
        settings = {"training.max_epochs": 1}

    backend = Backend(label_config=CONFIG)
    event = {"project": {"id": 7}}
    assert backend.process_event("ANNOTATION_CREATED", event, "1", {}) is None and not asked
    result = backend.process_event("START_TRAINING", event, "1", {})
    assert asked == [("http://studio/api/projects/7/export", "JSON", "Token secret")]
    assert result["pipeline"].startswith(str(tmp_path / "out"))
    assert str(backend._path()) == result["pipeline"]  # the next prediction takes it


def test_labels_that_the_project_lacks_are_kept(trained_path, tmp_path):
    """Only persons and a new label are annotated: places and organisations are not unlearned."""
    few = CONFIG.replace('<Label value="loc"/><Label value="ORG"/>', '<Label value="DAY"/>')

    class Backend(BertCrfBackend):
        pipeline = str(trained_path)
        settings = {"training.max_epochs": 4}

    tasks = annotated()
    for task in tasks:
        (done,) = task["annotations"]
        text = task["data"]["content"]
        done["result"] = [r for r in done["result"] if r["value"]["labels"] == ["Person"]]
        if "昨天" in text:
            start = text.index("昨天")
            value = {"start": start, "end": start + 2, "text": "昨天", "labels": ["DAY"]}
            done["result"].append({"type": "labels", "to_name": "passage", "value": value})
    backend = Backend(label_config=few)
    result = backend.fit(tasks, str(tmp_path))
    nlp = spacy.load(result["pipeline"])
    assert set(nlp.get_pipe("bert_crf").labels) == {"PER", "LOC", "ORG", "DAY"}
    found = [ent.label_ for doc in nlp.pipe(GIVEN) for ent in doc.ents]
    assert found.count("LOC") >= 3 and found.count("ORG") >= 2 and "PER" in found


def test_texts_and_configs_that_do_not_fit(client, trained_path):
    backend = BertCrfBackend.__subclasses__()[-1](label_config=CONFIG)
    with pytest.raises(BertCrfError, match="task 3 has no text 'content'"):
        backend.predict([{"id": 3, "data": {"text": "张三"}}])
    other = CONFIG.replace("Person", "Animal").replace("PER,PERSON", "").replace("loc", "x")
    with pytest.raises(BertCrfError, match="give a Label the same name"):
        find_controls(
            type(backend)(label_config=other.replace("ORG", "y")).parsed_label_config, ["PER"]
        )
    with pytest.raises(BertCrfError, match="has no Labels of a Text"):
        find_controls({}, ["PER"])
    with pytest.raises(BertCrfError, match="10 or more"):
        backend.fit(annotated()[:3], str(trained_path.parent / "few"))


def test_without_a_pipeline_it_says_what_to_set():
    with pytest.raises(BertCrfError, match="BERT_CRF_PIPELINE"):
        BertCrfBackend(label_config=CONFIG).predict(TASKS)
