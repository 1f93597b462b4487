"""Reads a dictionary of names from a file."""

from pathlib import Path

import srsly

from ...annotation.formats.text import read_text
from ...errors import BertCrfError
from .dictionary import SOFT, Dictionary, Name


def read_dictionary(path: Path, mode: str = SOFT) -> Dictionary:
    """The dictionary of a file.

    path: JSON lines (.jsonl) with "text", "label" and perhaps "mode" in each, or a name, a
        label and perhaps a mode on each line, with tabs between them.
    mode: mode of names without one.
    Raises BertCrfError, with file and line, for a file that can't be read.
    """
    path, names = Path(path), []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            names.append(_parsed(line, path.suffix == ".jsonl", mode))
            Dictionary((names[-1],))
        except (ValueError, KeyError, TypeError, AttributeError) as err:
            raise BertCrfError(
                f"{path}:{number}: this is no name with a label: {line[:60]!r} ({err}). Write "
                'NAME, tab, LABEL, or {"text": NAME, "label": LABEL}.'
            ) from err
    return Dictionary(tuple(dict.fromkeys(names)))


def _parsed(line: str, is_json: bool, mode: str) -> Name:
    """The entry of a line. Raises ValueError, KeyError or TypeError for another."""
    if is_json:
        record = srsly.json_loads(line)
        return Name(record["text"].strip(), record["label"].strip(), record.get("mode", mode))
    parts = [part.strip() for part in line.split("\t")]
    if len(parts) not in (2, 3):
        raise ValueError(f"{len(parts)} columns")
    return Name(parts[0], parts[1], parts[2] if len(parts) > 2 else mode)
