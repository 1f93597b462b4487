"""What the benchmarks share: environments of their own, data, tables."""

import json
import os
import platform
import subprocess
import sys
import venv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc, DocBin

HERE = Path(__file__).resolve().parent

Entities = set[tuple[int, int, str]]


class Failed(Exception):
    """A step that the benchmark needs did not work; the message is for people."""


def python_of(env: Path) -> Path:
    """The Python of a virtual environment."""
    return env / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make_env(env: Path, requirements: str, whose: str, log: Path) -> Path:
    """A virtual environment with what a requirements file of this folder says.

    An environment that is there is taken as it is. log: what pip says.
    RETURNS: its Python. Raises Failed.
    """
    python = python_of(env)
    if not python.exists():
        say(f"making the environment of {whose}")
        venv.create(env, with_pip=True)
        command = [str(python), "-m", "pip", "install", "-q", "-r", str(HERE / requirements)]
        call_there(command, "pip", log)
    return python


def call_there(command: list[str], what: str, log: Path) -> None:
    """Run a command of another environment; its output goes to `log`. Raises Failed."""
    with log.open("wb") as handle:
        done = subprocess.run(command, stdout=handle, stderr=subprocess.STDOUT, env=other_environ())
    if done.returncode:
        last = log.read_text(encoding="utf8", errors="replace").strip().splitlines()[-15:]
        raise Failed(f"{what} failed in the other environment:\n" + "\n".join(last))


def other_environ() -> dict[str, str]:
    """Environment variables for another environment: it must not see the packages of this one."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}


def spacy_command(*args: str) -> None:
    """Run a command of the package as a user does. Raises Failed with what it says."""
    say(f"spacy bert-crf {args[0]}")
    command = [sys.executable, "-m", "spacy", "bert-crf", *args]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"spacy bert-crf {args[0]} failed: {(done.stdout + done.stderr).strip()}")


def read_docs(path: Path, nlp: Language, limit: int) -> list[Doc]:
    """Docs of a DocBin that have text."""
    docs = [doc for doc in DocBin().from_disk(path).get_docs(nlp.vocab) if len(doc)]
    return docs[:limit] if limit else docs


def entities_of(doc: Doc) -> Entities:
    """The entities of a doc by characters."""
    return {(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents}


def f_score(found: Iterable[Entities | None], gold: Iterable[Doc]) -> float:
    """Entity F of all texts together."""
    true = n_found = n_gold = 0
    for entities, doc in zip(found, gold, strict=True):
        wanted = entities_of(doc)
        true += len(wanted & (entities or set()))
        n_found += len(entities or ())
        n_gold += len(wanted)
    return 2 * true / max(1, n_found + n_gold)


def machine() -> str:
    """Processor, cores and memory, in words."""
    name = platform.machine()
    memory = ""
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines()
        models = [line.partition(":")[2].strip() for line in lines if "model name" in line]
        name = models[0] if models else name
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        memory = f", {size:.0f} GiB memory"
    return f"{name}, {os.cpu_count()} cores{memory}, {platform.system()}"


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Lines of a markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]


def words(found: dict[str, str]) -> str:
    """Versions in words."""
    return ", ".join(f"{name} {version}" for name, version in found.items())


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf8")


def say(what: str) -> None:
    """A line on what is going on."""
    print(what, file=sys.stderr, flush=True)
