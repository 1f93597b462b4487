"""Whether the install lines of docs/gpu.md fit the pinned versions, by dry runs of pip's resolver.

    python -m reliability.supply.gpu

Nothing is installed. pip reads packages for their metadata, up to a gigabyte in the first run.
The line that must not work is tried too: the CuPy of spaCy's own extra needs an older numpy.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from packaging.version import Version

from reliability.common import ROOT, Result, parser_for

#: What docs/gpu.md says to install, by the CUDA of torch's build.
LINES = {"CUDA 12": "cupy-cuda12x[ctk]>=14", "CUDA 13": "cupy-cuda13x[ctk]>=14"}
#: What it says not to install.
REFUSED = "spacy[cuda12x]"
#: pip's word for requirements that no set of versions fulfils.
IMPOSSIBLE = "ResolutionImpossible"


def pins(text: str) -> list[str]:
    """The pinned versions of a requirements file, without comments and this package itself."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("-e")]


def resolve(requirement: str, pinned: list[str]) -> tuple[dict[str, str], str]:
    """What pip would install beside what is here. RETURNS: versions by name, and pip's errors."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        done = subprocess.run(
            [
                sys.executable, "-m", "pip", "install", "--dry-run", "-q",
                "--disable-pip-version-check", "--report", str(report), *pinned, requirement,
            ],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            return {}, done.stderr
        return versions_of(json.loads(report.read_text(encoding="utf8"))), ""


def versions_of(report: dict[str, Any]) -> dict[str, str]:
    """Versions by name of the packages in a report of pip."""
    found = (each["metadata"] for each in report["install"])
    return {each["name"].lower(): each["version"] for each in found}


def judge(found: dict[str, str], error: str) -> str:
    """What is wrong with a line that must work; empty if nothing is."""
    if error:
        return error.strip().splitlines()[-1]
    if "numpy" in found and Version(found["numpy"]) < Version("2"):
        return f"it installs numpy {found['numpy']}"
    if not any(name.startswith("cupy") for name in found):
        return "it installs no CuPy: is one installed here already?"
    return ""


def main() -> int:
    parser_for(__doc__).parse_args()
    pinned = pins((ROOT / "requirements.txt").read_text(encoding="utf8"))
    result, command = Result("gpu"), "python -m reliability.supply.gpu"
    for cuda, line in LINES.items():
        found, error = resolve(line, pinned)
        names = ("cupy-cuda12x", "cupy-cuda13x", "cuda-toolkit")
        note = ", ".join(f"{name} {found[name]}" for name in names if name in found)
        wrong = judge(found, error)
        result.add(
            f"pip resolves {line} ({cuda})", tries=1, bad=bool(wrong), command=command,
            note=wrong or note,
        )  # fmt: skip
    _, error = resolve(REFUSED, pinned)
    result.add(
        f"pip refuses {REFUSED} with numpy 2", tries=1, bad=IMPOSSIBLE not in error,
        command=command, note="",
    )  # fmt: skip
    result.write()
    return result.status()


if __name__ == "__main__":
    sys.exit(main())
