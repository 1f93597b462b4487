"""Training for the backend of Label Studio, by the commands of this package."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import requests
import srsly
from spacy.util import load_config

from .._files import write_text
from ..errors import BertCrfError

#: Address of Label Studio, and the token of a user.
URL, TOKEN = "LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"
#: Every so many tasks, one is for dev.
DEV_EVERY = 5
#: Fewer annotated tasks are no corpus.
MIN_TASKS = 10


def read_project(data: Optional[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """All annotated tasks of the project of an event, from Label Studio's API.

    data: what Label Studio sent with the event.
    Raises BertCrfError if address or token are missing, or Label Studio does not answer.
    """
    project = ((data or {}).get("project") or {}).get("id")
    url, token = os.environ.get(URL, "").rstrip("/"), os.environ.get(TOKEN, "")
    if not (project and url and token):
        raise BertCrfError(f"training needs the id of a project, and {URL} and {TOKEN}: set them.")
    try:
        answer = requests.get(
            f"{url}/api/projects/{project}/export",
            params={"exportType": "JSON"},
            headers={"Authorization": _authorization(url, token)},
            timeout=300,
        )
        answer.raise_for_status()
        tasks: list[dict[str, Any]] = answer.json()
    except (requests.RequestException, ValueError, KeyError) as err:
        raise BertCrfError(f"{url} does not export project {project}: {err}") from err
    return tasks


def _authorization(url: str, token: str) -> str:
    """The header for a legacy token, or for a personal one, which is a JSON web token."""
    if token.count(".") != 2:
        return f"Token {token}"
    answer = requests.post(f"{url}/api/token/refresh", json={"refresh": token}, timeout=60)
    answer.raise_for_status()
    return f"Bearer {answer.json()['access']}"


def continue_training(
    pipeline: Path,
    tasks: list[dict[str, Any]],
    output: Path,
    *,
    labels: Mapping[str, str],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Train a pipeline further on annotated tasks, by `convert-corpus` and `train`.

    Every fifth task is for dev. The texts do not cover labels of the pipeline that the project
    lacks, so the pipeline keeps them.

    pipeline: folder of the trained pipeline, which stays as it is.
    tasks: tasks of Label Studio. Those without annotation are passed over.
    output: folder in which a folder with corpus and training is made.
    labels: the pipeline's label for each label in Label Studio. A new one is learned.
    settings: settings of the training, such as {"training.max_epochs": 5}.
    RETURNS: folder of the best new pipeline as `pipeline`, number of tasks, and the best score.
    Raises BertCrfError if there are too few tasks, or a command fails.
    """
    done = [task for task in tasks if task.get("annotations")]
    if len(done) < MIN_TASKS:
        raise BertCrfError(f"{len(done)} tasks are annotated: annotate {MIN_TASKS} or more.")
    folder = output / time.strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    config = load_config(pipeline / "config.cfg")
    back = ",".join(f"{theirs}={ours}" for theirs, ours in labels.items() if ours != theirs)
    covers = ",".join(dict.fromkeys(labels.values()))
    for name, part in (
        ("train", [task for i, task in enumerate(done) if i % DEV_EVERY]),
        ("dev", done[::DEV_EVERY]),
    ):
        source = folder / f"{name}.json"
        write_text(source, json.dumps(part, ensure_ascii=False))
        words = ["convert-corpus", str(source), str(folder / f"{name}.spacy")]
        words += ["--lang", config["nlp"]["lang"], "--on-error", "skip-sentence"]
        words += ["--covers", covers]
        _run(*words, *(["--map", back] if back else []))
    config["paths"] |= {"train": str(folder / "train.spacy"), "dev": str(folder / "dev.spacy")}
    source_of = {"source": pipeline.resolve().as_posix()}
    config["components"] = dict.fromkeys(config["nlp"]["pipeline"], source_of)
    config["initialize"]["components"] = {}
    config.to_disk(folder / "train.cfg")
    overrides = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    _run("train", str(folder / "train.cfg"), str(folder / "training"), *overrides)
    best = folder / "training" / "model-best"
    score = srsly.read_json(best / "meta.json")["performance"].get("ents_f")
    return {"pipeline": best.as_posix(), "tasks": len(done), "ents_f": score}


def _run(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "spacy", "bert-crf", *words], capture_output=True, text=True
    )
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise BertCrfError(f"`bert-crf {words[0]}` failed: {' '.join(last)}")
