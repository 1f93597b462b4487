"""What all benchmarks share."""

import sys
from pathlib import Path

from benchmarks.harness.common import command_line


def test_a_command_is_written_without_folders_of_the_machine(monkeypatch):
    here = Path.cwd() / "corpus" / "a.spacy"
    words = ["--part", "a=/x/y/train,/x/y/dev", "--set", "a.b=2e-4", "--encoder", "/x/enc", here]
    monkeypatch.setattr(sys, "argv", ["p", *map(str, words)])
    written = command_line()
    assert written.endswith("--part a=train,dev --set a.b=2e-4 --encoder enc corpus/a.spacy")
