"""The project from end to end on the device, all its processes; killed and resumed."""

import json
import os
import re

import pytest

from support.projects import copy_project, killed_at_first_state, run, small
from tests.cuda.pretend.environment import VARIABLE, environment

WORDS = ["all", ".", "--vars.profile", "toy", "--vars.gpu_id", "0", "--vars.max_epochs", "2"]


@pytest.mark.skipif(VARIABLE in os.environ, reason="it starts processes with the device itself")
@pytest.mark.xfail(strict=True, reason="C1: spacy.util has no set_gpu_allocator")
def test_project_run_all_on_the_gpu(tmp_path):
    project, env = copy_project(tmp_path / "project"), environment()
    small(project, "toy")
    training = project / "training" / "toy"
    words = [*WORDS, "--vars.save_minutes", "0"]
    killed_at_first_state(project, words, training / "state", env)
    state = json.loads((training / "state" / "state.json").read_text(encoding="utf8"))
    assert state["random"]["cuda"]  # it was a training on the GPU
    text = run(project, *WORDS, env=env)
    assert re.search(r"resuming at epoch 1, step \d+", text)
    assert text.count("Skipping") == 4
    metrics = json.loads((training / "metrics.json").read_text(encoding="utf8"))
    assert 0 <= metrics["ents_f"] <= 1 and len(metrics["epochs"]) == 2
    assert (training / "report.html").is_file()
    for name in ("best_model.pt", "best_model.json", "config.json", "vocab.txt"):
        assert (project / "export" / "toy" / name).stat().st_size
