"""The image of the server: its file is linted, and what it copies is there."""

import re
import shutil
import subprocess

import pytest

from support.paths import ROOT

DOCKERFILE = ROOT / "Dockerfile"


def test_the_dockerfile_is_linted():
    if shutil.which("hadolint") is None:
        pytest.skip("hadolint is not installed (requirements-dev.txt)")
    done = subprocess.run(["hadolint", str(DOCKERFILE)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_is_copied_is_in_the_context():
    lines = re.findall(r"^COPY (.+) \S+$", DOCKERFILE.read_text(encoding="utf8"), re.M)
    copied = {name for line in lines for name in line.split()}
    kept = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text("utf8"), re.M))
    assert copied == kept and len(copied) == 6
    assert all((ROOT / name).exists() for name in copied)
