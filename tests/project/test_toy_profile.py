"""The toy profile from end to end, killed and gone on with. It takes minutes: a file of its own."""

import json
import os
import re
import runpy

import pytest
import spacy
from spacy.tokens import DocBin

from spacy_bert_crf.encoder.smaller.layers import count_layers
from spacy_bert_crf.model.layers import own_encoder_of
from support.paths import ROOT
from support.projects import killed_at_first_state, run, small

TOY = ("all", ".", "--vars.profile", "toy")


@pytest.mark.nightly
@pytest.mark.skipif(os.name == "nt", reason="kills a group of processes")
def test_toy_from_end_to_end_with_a_kill(project):
    small(project, "toy")
    words = [*TOY, "--vars.max_epochs", "2"]
    training = project / "training" / "toy"
    killed_at_first_state(project, [*words, "--vars.save_minutes", "0"], training / "state")
    text = run(project, *words)
    found = re.search(r"resuming at epoch 1, step (\d+)", text)
    assert found and int(found[1]) > 0
    assert text.count("Skipping") == 4
    left = [p.name for p in training.iterdir()]
    assert "state" not in left and not [name for name in left if name.endswith(".tmp")]
    metrics = json.loads((training / "metrics.json").read_text(encoding="utf8"))
    assert 0 <= metrics["ents_f"] <= 1 and metrics["dev"]["docs"] > 50
    assert len(metrics["epochs"]) == 2 and metrics["seed"] == 1
    assert re.search(r"best epoch [12]", text)
    nlp = spacy.load(training / "model-best")
    assert nlp.get_pipe("bert_crf").tag_set.tags == (
        "O", *(f"{role}-{label}" for label in ("LOC", "PER", "ORG") for role in "BIES")
    )  # fmt: skip
    page = (training / "report.html").read_text(encoding="utf8")
    assert "Learning curve" in page and "toy/model-best on test.spacy" in page
    for name in ("best_model.pt", "best_model.json", "config.json", "vocab.txt"):
        assert (project / "export" / "toy" / name).stat().st_size
    # The reader in the docs, on this very export.
    reader = runpy.run_path(str(ROOT / "docs" / "read_best_model.py"))
    loaded = reader["load"](project / "export" / "toy")
    test = DocBin().from_disk(project / "corpus" / "toy" / "test.spacy")
    texts = [doc.text for doc in test.get_docs(nlp.vocab)]
    for doc in nlp.pipe(texts):
        want = [(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents]
        assert reader["entities"](doc.text, *loaded) == want
    small_nlp = spacy.load(training / "model-small")
    assert small_nlp.config["components"]["bert_crf"]["quantize"] == "int8"
    own = own_encoder_of(small_nlp.get_pipe("bert_crf").model)
    assert own is not None and count_layers(own.loaded) == 1
    assert "layers 2 of the teacher's 2" in text and "model-small  " in text
    scores = json.loads((training / "metrics-small.json").read_text(encoding="utf8"))
    assert set(scores["ents_per_type"]) == {"LOC", "ORG", "PER"} and scores["dev"]["docs"] > 50
    exported = json.loads((project / "export/toy-small/best_model.json").read_text("utf8"))
    assert exported["metrics"]["ents_f"] == scores["ents_f"] != metrics["ents_f"]
    assert run(project, *words).count("Skipping") == 11
    none = [*TOY, "--vars.seed", "9", "--vars.max_steps", "4", "--vars.student_layers", "none"]
    again = run(project, *none)
    assert again.count("Skipping") == 3 and "best epoch" in again
    assert "no student: student.layers is 0" in again
    assert not [
        path
        for path in (
            project / "export/toy-small",
            training / "model-small",
            training / "student",
            training / "metrics-small.json",
        )
        if path.exists()
    ]
    assert run(project, *none).count("Skipping") == 11
