"""Faults that only a GPU shows: each case of `fault_cases` on the pretend device."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
CASES = [
    "predict_after_loading_on_the_cpu",
    "update_after_loading_on_the_cpu",
    "predict_on_the_gpu_after_require_cpu",
    "add_label_after_loading_on_the_cpu",
    "add_label_in_a_thread",
    "move_to_the_gpu",
    "train_with_the_shipped_config",
    "refuse_8_bit_integers",
    "refuse_the_second_gpu",
    "resume_a_state_of_four_gpus",
    "rows_are_joined_without_a_copy",
]


@pytest.fixture(scope="module")
def outcomes(encoder_path, tmp_path_factory):
    """What went wrong in each case, by its name; "" for nothing."""
    if not (TESTS / "cuda" / "pretend").is_dir():
        pytest.skip("there is no pretend device")
    path = os.pathsep.join(map(str, (TESTS, TESTS.parent)))
    words = [TESTS / "cuda" / "fault_cases.py", encoder_path, tmp_path_factory.mktemp("faults")]
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith('["')]
    found = dict(map(json.loads, lines))
    assert found, done.stdout + done.stderr
    return found


def test_every_case_runs(outcomes):
    assert list(outcomes) == CASES


@pytest.mark.parametrize("case", CASES)
def test_case(outcomes, case):
    assert outcomes.get(case, "it did not run") == ""
