"""The output: formats of a shard's file. Each file holds the data and its metadata.

To add a format, write a module with a `SINK`, and add it here.
"""

from ...errors import BertCrfError
from . import docbin, jsonl, parquet
from .sink import Sink

#: Formats by their names on the command line.
SINKS: dict[str, Sink] = {
    "parquet": parquet.SINK,
    "jsonl": jsonl.SINK,
    "spacy": docbin.SINK,
}


def find_sink(name: str) -> Sink:
    """The format with this name. Raises BertCrfError for an unknown one."""
    if name not in SINKS:
        raise BertCrfError(f"the output format {name!r} is not known: use {', '.join(SINKS)}.")
    return SINKS[name]


__all__ = ["SINKS", "Sink", "find_sink"]
