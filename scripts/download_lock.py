"""What was got from where at first: sizes and hashes of downloads, checked ever after.

A lock file is a JSON object: address → {"sha256": ..., "size": ...}. It is written when a download
from an address has passed its checks for the first time.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from spacy_bert_crf._files import write_text
from spacy_bert_crf.errors import BertCrfError

_CHUNK = 1 << 20


def check_recorded(lock: Path, url: str, file: Path) -> None:
    """Raise BertCrfError if `file` is another one than was first got from the address."""
    entry = read_lock(lock).get(url)
    if entry is None:
        return
    size, digest = file.stat().st_size, file_sha256(file)
    if (size, digest) != (entry["size"], entry["sha256"]):
        raise BertCrfError(
            f"{file} is not the file that was first got from {url} and is recorded in {lock}: it "
            f"has {size:,} bytes and sha256 {digest}, there it says {entry['size']:,} bytes and "
            f"{entry['sha256']}. If the new one is right, delete the entry there."
        )


def record(lock: Path, url: str, file: Path) -> None:
    """Write the size and the hash of what was got from the address; an entry that is there stays.

    Raises BertCrfError if the lock file can't be read or written.
    """
    entries = read_lock(lock)
    if url not in entries:
        entries[url] = {"sha256": file_sha256(file), "size": file.stat().st_size}
        write_text(lock, json.dumps(entries, indent=2, sort_keys=True) + "\n")


def read_lock(lock: Path) -> dict[str, dict[str, Any]]:
    """The entries of a lock file, none if it is not there. Raises BertCrfError if it is damaged."""
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


def file_sha256(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(file, "rb") as handle:
        while data := handle.read(_CHUNK):
            digest.update(data)
    return digest.hexdigest()
