"""Coverage-guided fuzzing of the pure Python readers by atheris (pip install atheris).

    python -m reliability.hostile.fuzz --engine atheris --cases 100000

Needs neither spaCy nor torch. The readers are the same as in readers.py: columns, tags,
config.json, vocab.txt and the lock file. It ends with the exception of the first bad case.
"""

import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

NAMES = ("columns", "tags", "config.json", "vocab.txt", "lock file")


def run(cases: int, seed: int) -> int:
    """Fuzz each reader in a child process, since atheris ends the process it runs in."""
    import atheris

    with atheris.instrument_imports(include=["spacy_bert_crf"]):
        pass
    from reliability.common import Result
    from reliability.hostile import readers
    from spacy_bert_crf.errors import BertCrfError

    read = {
        "columns": readers.read_columns,
        "tags": readers.read_tags,
        "config.json": readers.read_config,
        "vocab.txt": readers.read_vocab,
        "lock file": readers.read_lock,
    }
    result = Result("fuzz-guided")
    each = cases // len(NAMES)
    for name in NAMES:
        began = time.monotonic()
        pid = os.fork()
        if not pid:
            with tempfile.TemporaryDirectory() as tmp:
                path = Path(tmp) / "input"

                def one(data: bytes, name: str = name, path: Path = path) -> None:
                    path.write_bytes(data)
                    with contextlib.suppress(BertCrfError):
                        read[name](path, data)

                _fuzz(atheris, one, each, seed)
        status = os.waitpid(pid, 0)[1]
        result.add(
            f"coverage-guided input to {name}",
            tries=each,
            bad=int(status != 0),
            command="python -m reliability.hostile.fuzz --engine atheris",
            note=f"{time.monotonic() - began:.0f} s",
        )
    result.write()
    return result.status()


def _fuzz(atheris: Any, one: Any, cases: int, seed: int) -> None:
    words = [sys.argv[0], f"-runs={cases}", f"-seed={seed}", "-timeout=1", "-rss_limit_mb=1024"]
    atheris.Setup([*words, "-max_len=2000", "-print_final_stats=0", "-verbosity=0"], one)
    atheris.Fuzz()
