"""Toy pipelines that are served."""

import pytest

from support.toys import train_toy

pytest.importorskip("fastapi", reason="the extra [serve] is not installed")


@pytest.fixture(scope="session")
def unsure(encoder_path):
    """A toy that is trained too little to be certain of anything."""
    return train_toy(encoder_path, 16)


@pytest.fixture(scope="session")
def unsure_path(unsure, tmp_path_factory):
    """Folder of the pipeline `unsure`."""
    path = tmp_path_factory.mktemp("unsure") / "pipeline"
    unsure.to_disk(path)
    return path
