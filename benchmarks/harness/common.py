"""What the benchmarks share: the command line, environments of their own, and data."""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import venv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc, DocBin

from spacy_bert_crf._files import write_text
from spacy_bert_crf.errors import BertCrfError

ROOT = Path(__file__).resolve().parents[2]
#: Programs and requirements of the other software.
PEERS = ROOT / "benchmarks" / "peers"
#: Programs that draw, run where matplotlib is installed.
HARNESS = ROOT / "benchmarks" / "harness"

Entities = set[tuple[int, int, str]]


class Failed(Exception):
    """A step of the benchmark failed. The message says which, for people."""


def program() -> str:
    """The benchmark that runs, as it is started: `python -m benchmarks.NAME`."""
    spec = sys.modules["__main__"].__spec__
    name = spec.name.removesuffix(".__main__") if spec else "benchmarks"
    return f"python -m {name}"


def parser_for(description: str) -> argparse.ArgumentParser:
    """A command line that shows a module's docstring as it stands."""
    return argparse.ArgumentParser(
        program(), description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def command_line() -> str:
    """The command that runs, without the folders of this machine."""
    return f"{program()} {shlex.join(map(_without_folders, sys.argv[1:]))}"


def _without_folders(word: str) -> str:
    name, equals, value = word.rpartition("=")
    return name + equals + ",".join(map(_without_folder, value.split(",")))


def _without_folder(value: str) -> str:
    path = Path(value)
    if not path.is_absolute():
        return value
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path.name)


def stem_of(output: Path) -> Path:
    """--output without its ending: .md and .json are added to it."""
    return output.parent / output.name.removesuffix(".md").removesuffix(".json")


def named(value: str) -> tuple[str, Path]:
    """A name and a path of `NAME=PATH`, or of `PATH`, whose last part is the name."""
    name, _, path = value.rpartition("=")
    return name or Path(path).name, Path(path)


def end_at_sigterm() -> None:
    """Make SIGTERM exit as usual, so that temporary files and workers are removed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def python_of(env: Path) -> Path:
    """The Python of a virtual environment."""
    return env / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make_env(env: Path, requirements: str, whose: str, log: Path) -> Path:
    """A virtual environment with what a requirements file of the peers' folder lists.

    An environment that exists is taken as it is. log: gets the output of pip.
    RETURNS: its Python. Raises Failed.
    """
    python = python_of(env)
    if not python.exists():
        say(f"making the environment of {whose}")
        venv.create(env, with_pip=True)
        command = [str(python), "-m", "pip", "install", "-q", "-r", str(PEERS / requirements)]
        call_there(command, "pip", log)
    return python


def call_there(command: list[str], what: str, log: Path) -> None:
    """Run a command of another environment; its output goes to `log`. Raises Failed."""
    with log.open("wb") as handle:
        done = subprocess.run(command, stdout=handle, stderr=subprocess.STDOUT, env=other_environ())
    if done.returncode:
        last = log.read_text(encoding="utf8", errors="replace").strip().splitlines()[-15:]
        raise Failed(f"{what} failed in the other environment:\n" + "\n".join(last))


def peer_versions(python: Path, names: Iterable[str]) -> dict[str, str]:
    """Versions of these packages in another environment. python: of that environment."""
    command = [str(python), "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = {row["name"].lower(): row["version"] for row in json.loads(done.stdout)}
    return {name: found.get(name, "not installed") for name in names}


def other_environ() -> dict[str, str]:
    """Variables for another environment, without those that lead to packages of this one."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}


def spacy_command(*args: str) -> None:
    """Run a command of the package as a user does. Raises Failed with its output."""
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


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf8")


def write_results(stem: str, result: Any, text: str) -> None:
    """Write STEM.json and STEM.md, each whole or not at all.

    result: the figures, for JSON.
    text: the same for people, in markdown.
    """
    write_text(f"{stem}.json", json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    write_text(f"{stem}.md", text)


def status_of(run: Callable[[], None], stem: Path) -> int:
    """Run a benchmark that writes STEM.md, and print that page. RETURNS: the exit code."""
    try:
        run()
    except (Failed, BertCrfError) as err:
        say(f"✘ {err}")
        return 1
    print(Path(f"{stem}.md").read_text(encoding="utf8"))
    return 0


def say(what: str) -> None:
    """Print a line on the progress to stderr."""
    print(what, file=sys.stderr, flush=True)
