"""The lock file of downloads: size and hash of each file, recorded at its first download.

A lock file is a JSON object: address → {"sha256": ..., "size": ...}.
"""

import json
import re
from pathlib import Path
from typing import Any

import pooch

from spacy_bert_crf._files import write_text
from spacy_bert_crf.errors import BertCrfError


def check_recorded(lock: Path, url: str, file: Path) -> None:
    """Raise BertCrfError if `file` differs from the one that is recorded for the address."""
    entry = read_lock(lock).get(url)
    if entry is None:
        return
    digest = pooch.file_hash(str(file))
    if digest != entry["sha256"]:
        raise BertCrfError(
            f"{file} is not the file that is recorded in {lock} for {url}: its sha256 is {digest}, "
            f"recorded is {entry['sha256']}. If the new file is right, delete the entry there."
        )


def record(lock: Path, url: str, file: Path) -> None:
    """Record size and hash of a file for its address. An entry that exists stays as it is.

    Raises BertCrfError if the lock file can't be read or written.
    """
    entries = read_lock(lock)
    if url not in entries:
        entries[url] = {"sha256": pooch.file_hash(str(file)), "size": file.stat().st_size}
        write_text(lock, json.dumps(entries, indent=2, sort_keys=True) + "\n")


def read_lock(lock: Path) -> dict[str, dict[str, Any]]:
    """Read the entries of a lock file; there are none if it doesn't exist.

    Raises BertCrfError if it is damaged.
    """
    if not lock.exists():
        return {}
    try:
        entries = json.loads(lock.read_text(encoding="utf8"))
        for url, entry in entries.items():
            if not re.fullmatch(r"[0-9a-f]{64}", entry["sha256"]) or type(entry["size"]) is not int:
                raise ValueError(f"the entry of {url}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise BertCrfError(
            f"{lock} is damaged ({err}): delete it, if you trust what will be downloaded."
        ) from err
    return dict(entries)
