"""Run the tests on the oldest and on the newest versions that setup.py allows; torch is fixed.

    python -m reliability.supply.versions    # installs all sets, runs all tests on each
    python -m reliability.supply.versions --install-only
    python -m reliability.supply.versions --sets oldest --tests tests/crf tests/annotation

Versions outside the ranges (UNSUPPORTED) must be named at import, with what to install.
Each set gets a virtual environment of its own under --venvs. Results of several calls add up.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from email import message_from_string
from functools import cache
from pathlib import Path

from packaging.requirements import Requirement

from reliability.common import ROOT, WORK, Result, parser_for

#: The extras of each set, and versions of its own.
_EXTRAS = ("onnx", "project", "parquet", "package", "dictionary", "annotate", "serve")
SETS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "oldest": (_EXTRAS, {}),
    "shared": ((*_EXTRAS, "shared"), {}),
    "transformers-4": (_EXTRAS, {"transformers": "==4.57.*"}),
    "newest": (_EXTRAS, {}),
}
#: The extra for the tests themselves. pip takes its newest versions.
TOOLS = "test"
#: Lines of pytest's summary about tests that did not run to their end.
_NOT_RUN = re.compile(r"SKIPPED|XFAIL")
#: Versions just outside the ranges.
UNSUPPORTED = (
    "numpy==1.26.4", "spacy==3.8.14", "spacy-transformers==1.3.9", "thinc==8.3.10",
    "transformers==4.47.1",
)  # fmt: skip


def requirements(names: tuple[str, ...], tools: bool = False) -> list[str]:
    """The requirements in setup.py with the extras `names`, or those of the extra TOOLS only."""
    extras = [TOOLS] if tools else names
    out = []
    for requirement in map(Requirement, _metadata()):
        needed = requirement.marker is None and not tools
        if needed or any(_is_of(requirement, extra) for extra in extras):
            requirement.marker = None
            out.append(str(requirement))
    return list(dict.fromkeys(out))


@cache
def _metadata() -> list[str]:
    """The Requires-Dist lines that setup.py gives."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", folder]
        subprocess.run(command, check=True, cwd=ROOT)
        (info,) = Path(folder).glob("*.egg-info/PKG-INFO")
        return message_from_string(info.read_text(encoding="utf8")).get_all("Requires-Dist") or []


def _is_of(requirement: Requirement, extra: str) -> bool:
    """Whether a requirement belongs to an extra."""
    marker = requirement.marker
    return marker is not None and marker.evaluate({"extra": extra})


def pins(which: str) -> list[str]:
    """Arguments of pip for a set: `oldest` pins each lower bound, the others leave it to pip."""
    extras, own = SETS[which]
    text = (ROOT / "requirements.txt").read_text(encoding="utf8")
    out = [line for line in text.splitlines() if line.startswith("torch==")]
    for requirement in map(Requirement, requirements(extras)):
        if requirement.name == "torch":
            continue
        if requirement.name in own:
            out.append(f"{requirement.name}{own[requirement.name]}")
            continue
        lowest = [bound.version for bound in requirement.specifier if bound.operator == ">="]
        pinned = f"{requirement.name}=={lowest[0]}" if lowest else str(requirement)
        out.append(pinned if which == "oldest" else str(requirement))
    return [*out, *requirements((), tools=True)]


def install(which: str, folder: Path) -> Path:
    """Make an environment with the set and this checkout; return its Python."""
    python = folder / which / "bin" / "python"
    if not python.exists():
        venv.create(folder / which, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, *pins(which)], check=True)
    subprocess.run([*pip, "--no-deps", "-e", str(ROOT)], check=True)
    subprocess.run([str(python), "-m", "pip", "check"], check=False)
    return python


def named_at_import(requirement: str, folder: Path) -> str:
    """Install a package without its dependencies, and import ours; what is wrong, or empty."""
    shutil.rmtree(folder, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    packages = [requirement, "packaging"]
    subprocess.run([*pip, "--no-deps", "--target", str(folder), *packages], check=True)
    # Our metadata holds the ranges.
    metadata = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(folder)]
    subprocess.run(metadata, check=True, cwd=ROOT)
    # -S below leaves out the packages of this environment.
    env = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import spacy_bert_crf"],
        check=False, capture_output=True, text=True, env=env, cwd=folder,
    )  # fmt: skip
    said = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
    print(f"{requirement}: {said}", flush=True)
    name, version = requirement.split("==")
    is_named = said.startswith("ImportError") and f"{name} {version} is installed" in said
    return "" if is_named and f'pip install "{name}>=' in said else f"{requirement}: {said}"


def installed(python: Path, which: str) -> dict[str, str]:
    """The versions of the requirements of a set in its environment."""
    names = [Requirement(line).name for line in requirements(SETS[which][0])]
    code = f"from importlib.metadata import version\nfor n in {names!r}: print(n, version(n))"
    out = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True)
    return dict(line.split() for line in out.stdout.splitlines())


def run_tests(python: Path, tests: list[str]) -> tuple[int, str, list[str]]:
    """Exit status of pytest, its last line, and why tests are skipped or expected to fail."""
    command = [str(python), "-m", "pytest", "-q", "-rsx", "-p", "no:cacheprovider"]
    command += ["-n", "2", "--dist", "loadfile", *tests]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, env=env)
    if done.returncode:
        print(done.stdout[-6000:], done.stderr[-2000:])
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]]
    return done.returncode, lines[-1], [line for line in lines if _NOT_RUN.match(line)]


def main() -> int:
    parser = parser_for(__doc__)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--tests", nargs="+", default=["tests"])
    parser.add_argument("--venvs", type=Path, default=ROOT / "reliability" / "work" / "venvs")
    parser.add_argument("--install-only", action="store_true")
    parser.add_argument("--no-install", action="store_true", help="the environments are there")
    args = parser.parse_args()
    result = Result("versions")
    for which in args.sets:
        python = args.venvs.resolve() / which / "bin" / "python"
        if not args.no_install:
            python = install(which, args.venvs.resolve())
        if args.install_only:
            print(which, installed(python, which))
            continue
        began = time.monotonic()
        code, last, skips = run_tests(python, args.tests)
        result.add(
            f"tests on the {which} versions: {', '.join(args.tests)}",
            tries=1,
            bad=int(code != 0),
            command=f"python -m reliability.supply.versions --sets {which}",
            note=last,
            skips=skips,
            versions=installed(python, which),
            seconds=round(time.monotonic() - began, 1),
        )
    if not (args.install_only or args.no_install):
        found = [named_at_import(r, WORK / "unsupported") for r in UNSUPPORTED]
        bad = [line for line in found if line]
        result.add(
            "versions outside of the ranges, named at import",
            tries=len(UNSUPPORTED),
            bad=len(bad),
            command="python -m reliability.supply.versions",
            note=", ".join(UNSUPPORTED),
            what_was_bad=bad,
        )
    result.write()
    return result.status()


if __name__ == "__main__":
    sys.exit(main())
