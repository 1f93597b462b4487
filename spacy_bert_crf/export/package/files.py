"""The files of a pipeline to hand on: those of the pipeline itself, and what is said of it."""

import shutil
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import srsly
from spacy.language import Language
from thinc.api import Config

from ..._provenance import META
from .about import About


def write_pipeline(
    pipeline: Path, dst: Path, nlp: Language, meta: dict[str, Any], about: About
) -> None:
    """Write the files of a pipeline, its meta.json and the licences to a new folder.

    No state of a training is copied. Absolute paths in the config are cut to their last part, since
    they say nothing elsewhere. The size of the files goes to the meta.json.

    pipeline: folder of the pipeline. It is not changed.
    dst: the new folder.
    nlp: the pipeline, loaded.
    meta: its meta.json, as `complete_meta` returns it.
    about: what the maker says. Its `license_file` becomes LICENSE.
    """
    _copy(pipeline, dst, nlp)
    size = sum(path.stat().st_size for path in dst.rglob("*") if path.is_file())
    meta[META]["bytes"] = size
    srsly.write_json(dst / "meta.json", meta)
    (dst / "LICENSES_SOURCES").write_text(_licenses(meta), encoding="utf8", newline="\n")
    if about.license_file:
        shutil.copyfile(about.license_file, dst / "LICENSE")


def _copy(pipeline: Path, source: Path, nlp: Language) -> None:
    """Copy the files of the pipeline itself, and clean its config."""
    source.mkdir(exist_ok=True)
    for name in ("tokenizer", "vocab", *nlp.component_names):
        path = pipeline / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns(".*"))
        elif path.is_file():
            shutil.copyfile(path, source / name)
    config = Config().from_disk(pipeline / "config.cfg", interpolate=False)
    Config(_cut_paths(config)).to_disk(source / "config.cfg", interpolate=False)


def _cut_paths(value: Any) -> Any:
    """A copy of a value of a config in which absolute paths are cut to their last part."""
    if isinstance(value, dict):
        return {key: _cut_paths(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_cut_paths(inner) for inner in value]
    for kind in (PurePosixPath, PureWindowsPath) if isinstance(value, str) else ():
        path = kind(value)
        if path.is_absolute() and len(path.parts) > 2:
            return path.name
    return value


def _licenses(meta: dict[str, Any]) -> str:
    """Name, author and licence of each source, as text."""
    lines = ["This pipeline was made from:", ""]
    for source in meta["sources"]:
        lines.append(f"* {source['name']}")
        lines += [
            f"  {key}: {source[key]}" for key in ("url", "author", "license") if key in source
        ]
    return "\n".join(lines if meta["sources"] else ["The sources are not recorded."]) + "\n"
