"""A repository in the layout of ModelScope, as a folder.

ModelScope reads `configuration.json`, and metadata of its own at the top of README.md. Source:
https://modelscope.cn/docs/models/model-card. Nothing is uploaded: its git or its own client does
that.
"""

import json
from pathlib import Path
from typing import Any

from ..._files import write_text
from ..._provenance import META
from ..package.card import Place
from .card import CARD
from .card_data import card_data
from .layout import Layout, Source, files_of, write_repository

TASK = "named-entity-recognition"
#: The line of code that imports the download of a repository, for the card.
DOWNLOAD = "from modelscope import snapshot_download"
#: Names of licences there, where they differ from the hub's.
_LICENSES = {"apache-2.0": "Apache License 2.0", "mit": "MIT License"}


def write_modelscope(folder: Path, source: Source, repo_id: str) -> Layout:
    """Write a repository for ModelScope.

    folder: an empty folder.
    source: what to write.
    repo_id: owner and name of the repository.
    RETURNS: what was written.
    Raises BertCrfError as `write_repository` does.
    """
    from huggingface_hub.utils import yaml_dump

    place = Place(folder=repo_id.split("/")[-1], repo=repo_id, download=DOWNLOAD)
    layout = write_repository(folder, source, place)
    card = (folder / CARD).read_text(encoding="utf8")
    _, _, body = card.removeprefix("---\n").partition("\n---\n")
    front = yaml_dump(_front(layout.meta, source.metrics), sort_keys=False)
    write_text(folder / CARD, f"---\n{front}---\n{body}")
    configuration = {"framework": "pytorch", "task": TASK}
    write_text(folder / "configuration.json", json.dumps(configuration, indent=2) + "\n")
    return Layout(layout.meta, files_of(folder), layout.gaps)


def _front(meta: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
    """The metadata of the card. What is not known is left out."""
    hub = card_data(meta, metrics)
    license_ = _LICENSES.get(hub.license or "", hub.license)
    if hub.license == "other":
        license_ = meta["license"]
    encoders = (meta.get(META) or {}).get("encoders") or []
    values = {
        "tasks": [TASK],
        "domain": ["nlp"],
        "frameworks": ["pytorch"],
        "backbone": list(dict.fromkeys(one["model_type"] for one in encoders)),
        "metrics": list(hub.metrics or []),
        "license": license_,
        "language": hub.language,
        "base_model": [hub.base_model] if hub.base_model else [],
        "datasets": list(hub.datasets or []),
        "tags": hub.tags,
    }
    return {key: value for key, value in values.items() if value}
