"""A pipeline of two components that share an encoder."""

import warnings

import pytest

from support.sharing import train_two


@pytest.fixture(scope="package")
def two_path(encoder_path, tmp_path_factory):
    """Folder of a pipeline whose two components find the entities of TEXTS."""
    path = tmp_path_factory.mktemp("two") / "pipeline"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train_two(encoder_path).to_disk(path)
    return path


@pytest.fixture(autouse=True)
def _quiet():
    """Each component warns that it does not have the labels of the other one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
