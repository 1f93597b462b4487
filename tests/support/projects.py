"""The project of the checkout, run as people run it, on a copy."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Optional

import srsly

from .paths import ROOT

COPIED = ("project.yml", "configs", "scripts", "assets/quickstart")


def copy_project(folder: Path) -> Path:
    """Copy what the project needs, without what its steps made. RETURNS: the folder."""
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("corpus", "encoder"))
        else:
            shutil.copy(source, target)
    return folder


def small(project: Path, name: str) -> None:
    """Cut a profile down to seconds."""
    path = project / "configs" / "profiles" / f"{name}.yml"
    profile: Any = srsly.read_yaml(path)
    if "make" in profile["encoder"]:
        profile["encoder"]["make"] = {"layers": 2, "width": 16, "heads": 2, "feed_forward": 32}
        profile["corpus"]["copies"] = 1
    profile["training"]["max_epochs"] = 1
    srsly.write_yaml(path, profile)


def run(project: Path, *words: str, code: int = 0, env: Optional[dict[str, str]] = None) -> str:
    """Run workflows of a project. RETURNS: its output.

    code: the exit status that is expected.
    env: the environment variables; those of this process by default.
    """
    done = subprocess.run(
        [sys.executable, "-m", "spacy", "project", "run", *words],
        cwd=project, capture_output=True, text=True, env=env,
    )  # fmt: skip
    output = done.stdout + done.stderr
    assert done.returncode == code, output
    return output


def killed_at_first_state(
    project: Path, words: list[str], state: Path, env: Optional[dict[str, str]] = None
) -> None:
    """Run the project and kill all its processes as soon as the training has saved a state."""
    with subprocess.Popen(
        [sys.executable, "-m", "spacy", "project", "run", *words],
        cwd=project, start_new_session=True, env=env,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        while not state.exists() and process.poll() is None:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
