"""A project of the tests' own."""

import pytest

from support.projects import copy_project


@pytest.fixture
def project(tmp_path):
    """A copy of the checkout's project, without what its steps made."""
    return copy_project(tmp_path / "project")
