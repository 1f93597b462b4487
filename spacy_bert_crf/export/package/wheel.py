"""Builds the wheel of a trained pipeline."""

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Optional

from packaging.version import Version
from spacy.language import Language

from ..._files import atomic_file
from ...component.meta.keys import package_name
from ...component.pipelines import load_pipeline
from ...errors import BertCrfError
from .about import About, check_about
from .card import model_card
from .files import write_pipeline
from .meta import complete_meta, gaps

#: The first setuptools that builds wheels without the package wheel.
_BUILDS_WHEELS = Version("70.1")
#: spaCy's setup.py has no place for these.
_SETUP_CFG = """[metadata]
long_description_content_type = text/markdown
classifiers =
    Programming Language :: Python :: 3
    Topic :: Scientific/Engineering :: Artificial Intelligence
    Topic :: Text Processing :: Linguistic
"""


@dataclass(frozen=True)
class Package:
    """A package that was built.

    wheel: its file.
    name: name of the package, for `spacy.load`.
    meta: its meta.json.
    card: its model card, in Markdown.
    gaps: what a reader of the package would miss, a line for each.
    """

    wheel: Path
    name: str
    meta: dict[str, Any]
    card: str
    gaps: list[str]


def package_pipeline(
    pipeline: Path,
    dst: Path,
    *,
    about: Optional[About] = None,
    metrics: Optional[dict[str, Any]] = None,
    nlp: Optional[Language] = None,
) -> Package:
    """Build an installable wheel of a trained pipeline, with complete meta.json and model card.

    The wheel has only the files of the pipeline: no state of a training. Absolute paths in its
    config are cut to their last part, since they say nothing elsewhere.

    pipeline: folder of the pipeline. It is not changed.
    dst: folder for the wheel. A wheel of the same name and version is replaced.
    about: what the maker of the pipeline says about it.
    metrics: the content of metrics.json, as `evaluate` writes it.
    nlp: the pipeline, if it is loaded already.
    RETURNS: the package.
    Raises BertCrfError if the package `build` is missing, the pipeline can't be loaded, a value of
    `about` does not suit a package, or the wheel can't be built.
    """
    about = about or About()
    check_about(about)
    _check_build()
    nlp = nlp or load_pipeline(pipeline)
    meta = complete_meta(nlp, about, metrics)
    with tempfile.TemporaryDirectory(prefix="spacy-package-") as tmp:
        source = Path(tmp) / "pipeline"
        write_pipeline(pipeline, source, nlp, meta, about)
        card = model_card(meta, metrics)
        (source / "README.md").write_text(card, encoding="utf8", newline="\n")
        built = _build(_make_package(source, Path(tmp) / "package"), Path(tmp) / "wheel")
        wheel = Path(dst) / built.name
        with atomic_file(wheel) as file:
            shutil.copyfile(built, file)
    return Package(wheel, package_name(meta), meta, card, gaps(meta))


def _check_build() -> None:
    try:
        metadata.version("build")  # a folder of this name in the working directory is no package
    except metadata.PackageNotFoundError as err:
        raise BertCrfError("a wheel needs the package build. Run: pip install build") from err


def _make_package(source: Path, dst: Path) -> Path:
    """Make the folder of a package with `spacy package`. RETURNS: the folder."""
    from spacy.cli.package import package

    dst.mkdir()
    try:
        package(source, dst, create_sdist=False, require_parent=True, silent=True)
    except SystemExit as err:
        raise BertCrfError(
            "spaCy makes no package of this pipeline. `python -m spacy package` says why."
        ) from err
    (folder,) = dst.iterdir()
    (folder / "setup.cfg").write_text(_SETUP_CFG, encoding="utf8")
    return folder


def _build(folder: Path, dst: Path) -> Path:
    """Build the wheel of a package with the package `build`. RETURNS: the wheel.

    An installed setuptools is used if it builds wheels. Otherwise pip gets one.
    """
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(dst), str(folder)]
    if find_spec("setuptools") and Version(metadata.version("setuptools")) >= _BUILDS_WHEELS:
        command.append("--no-isolation")
    done = subprocess.run(
        command,
        check=False,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf8",
        errors="replace",
    )
    wheels = list(dst.glob("*.whl"))
    if done.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    raise BertCrfError(
        f"the wheel can't be built ({lines[-1] if lines else 'build gave no reason'}). Check the "
        'disk and the network of pip, or run: pip install "setuptools>=70.1"'
    )
