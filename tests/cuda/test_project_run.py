"""The project from end to end on the device, all its processes."""

import json
import os

import pytest

from support.projects import copy_project, run, small
from tests.cuda.pretend.environment import VARIABLE, environment


@pytest.mark.nightly
@pytest.mark.skipif(VARIABLE in os.environ, reason="it starts processes with the device itself")
def test_project_run_all_on_the_gpu(tmp_path):
    project = copy_project(tmp_path / "project")
    small(project, "toy")
    words = ["all", ".", "--vars.profile", "toy", "--vars.gpu_id", "0"]
    # The pretended device is slow. Students on it are in cases/test_distillation.py.
    words += ["--vars.max_steps", "4", "--vars.student_layers", "none"]
    text = run(project, *words, env=environment())
    assert "best epoch 1" in text
    training = project / "training" / "toy"
    metrics = json.loads((training / "metrics.json").read_text(encoding="utf8"))
    assert 0 <= metrics["ents_f"] <= 1 and metrics["dev"]["docs"] > 50
    assert (training / "report.html").is_file()
    for name in ("best_model.pt", "best_model.json", "config.json", "vocab.txt"):
        assert (project / "export" / "toy" / name).stat().st_size
