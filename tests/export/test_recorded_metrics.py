"""An export without figures keeps those that are known."""

import json

import pytest
import torch

from spacy_bert_crf.export.folder import export_pipeline
from support.commands import cli
from support.toys import randomise_head

FIGURES = {"ents_p": 0.5, "ents_r": 0.25, "ents_f": 0.3, "ents_per_type": {}, "seed": 7}
MEASURED = {"ents_p": 0.8, "ents_r": 0.8, "ents_f": 0.8, "speed": 100.0}


def recorded(out, name=""):
    return json.loads((out / name / "best_model.json").read_text(encoding="utf8"))


def without_seed(figures):
    return {key: value for key, value in figures.items() if key != "seed"}


def test_the_figures_of_the_export_before_are_kept(trained, tmp_path):
    out = tmp_path / "out"
    trained.meta["performance"] = MEASURED
    export_pipeline(trained, out, metrics=FIGURES)
    export_pipeline(trained, out, formats=["huggingface"])
    for info in (recorded(out), recorded(out, "huggingface")):
        assert info["metrics"] == without_seed(FIGURES) and info["seed"] == 7
    export_pipeline(trained, out, metrics={"ents_f": 0.9})
    assert recorded(out)["metrics"] == {"ents_f": 0.9}


def test_figures_of_other_weights_are_not_kept(trained, tmp_path):
    out = tmp_path / "out"
    export_pipeline(trained, out, metrics=FIGURES)
    torch.manual_seed(1)
    randomise_head(trained)
    export_pipeline(trained, out)
    assert recorded(out)["metrics"] == {}


def test_figures_of_the_training_are_taken_from_meta(trained, tmp_path):
    trained.meta["performance"] = MEASURED
    export_pipeline(trained, tmp_path / "out")
    wanted = dict.fromkeys(("ents_p", "ents_r", "ents_f"), 0.8)
    assert recorded(tmp_path / "out")["metrics"] == {
        **wanted, "source": "performance in meta.json",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weights_sha256": "x"}'])
def test_a_description_that_can_not_be_read_is_replaced(text, trained, tmp_path):
    out = tmp_path / "out"
    export_pipeline(trained, out)
    (out / "best_model.json").write_text(text, encoding="utf8")
    export_pipeline(trained, out)
    assert recorded(out)["metrics"] == {}


def test_the_command_keeps_them(trained_path, tmp_path):
    figures = tmp_path / "metrics.json"
    figures.write_text(json.dumps(FIGURES), encoding="utf8")
    cli("export", trained_path, tmp_path / "out", "--metrics", figures)
    cli("export", trained_path, tmp_path / "out", "--to", "huggingface")
    assert recorded(tmp_path / "out")["metrics"] == without_seed(FIGURES)
