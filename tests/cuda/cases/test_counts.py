"""Host waits, launches and copies stay within the bounds of `bounds.py`."""

import importlib.metadata

import pytest

from support.paths import ROOT
from support.toys import write_encoder
from tests.cuda.bounds import BOUNDS, COLUMNS, GOAL
from tests.cuda.workloads import LAYERS, PRECISIONS, WORKLOADS, count, pipeline

BY_NAME = {workload.name: workload for workload in WORKLOADS}
#: Predictions of two passes: padded texts are of a similar length in each.
PASSES = {
    ("predict 256 texts of 20 to 60 characters", "float32"): 2,
    ("predict 256 texts of 20 to 60 characters, with scores", "float32"): 2,
    ("predict 255 texts of 30 characters and one of 4,000", "float32"): 2,
}


def other_version():
    """A package whose version is not that of requirements.txt; empty if there is none."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf8").splitlines()
    pinned = dict(line.split("==") for line in lines if line.count("==") == 1)
    for name in ("torch", "transformers", "thinc", "spacy"):
        found = importlib.metadata.version(name).split("+")[0]
        if name in pinned and pinned[name].split()[0] != found:
            return f"counted with {name} {pinned[name]}, here is {found}"
    return ""


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory):
    path = write_encoder(tmp_path_factory.mktemp("encoder") / "e", LAYERS)
    return {precision: pipeline(path, precision) for precision in PRECISIONS}


def test_every_workload_has_bounds():
    assert set(BOUNDS) == {(name, precision) for name in BY_NAME for precision in PRECISIONS}


@pytest.mark.parametrize("name, precision", [key for key in BOUNDS if "update" not in key[0]])
def test_the_bounds_of_predictions_are_within_the_goal(name, precision):
    bounds = dict(zip(COLUMNS, BOUNDS[name, precision], strict=True))
    n_layers = LAYERS * PASSES.get((name, precision), 1)
    assert bounds["waits"] <= GOAL["waits"] and bounds["copies in"] <= GOAL["copies in"]
    assert bounds["launches"] / n_layers <= GOAL["launches"]


@pytest.mark.skipif(other_version() != "", reason=other_version())
@pytest.mark.parametrize("name, precision", BOUNDS)
def test_counts(pipelines, name, precision):
    log = count(pipelines[precision], BY_NAME[name])
    found = log.counts()
    assert found["launches"] > 100  # it did run on the device
    for column, bound in zip(COLUMNS, BOUNDS[name, precision], strict=True):
        assert found[column] <= bound, f"{column} of {name!r}:\n{log.places(column)}"
