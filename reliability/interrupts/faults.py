"""Full disks, unwritable folders, read-only files, signals, in every command that writes.

    python -m reliability.interrupts.faults

Each command first runs well; then again over what it wrote, with a fault. Good: it ends with
another status than 0 and one message without a traceback, the old output is as it was, and no
temporary file is left. (What a training has replaced before the fault is whole: it loads.)

- full disk: RLIMIT_FSIZE, so that writes fail beyond 100 bytes of a file, wherever they go.
- unwritable: the folder's mode; as root without the capability to write everywhere.
- read-only: the old files' modes.
- signals: sent from inside the write, after the last byte and before the rename.
"""

import contextlib
import ctypes
import hashlib
import os
import resource
import runpy
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from reliability import toys
from reliability.common import ROOT, WORK, Result, parser_for
from reliability.hostile import servers

FOLDER = WORK / "faults"
FAULTS = ("full disk", "unwritable", "read-only", "SIGINT", "SIGTERM")


def bert_crf(*words: Any) -> Callable[[], Any]:
    """A command of ours."""

    def run() -> None:
        from spacy_bert_crf.cli import cli

        cli([str(word) for word in words], standalone_mode=True)

    return run


def multiply(dst: Path) -> Callable[[], Any]:
    def run() -> None:
        sys.argv = ["multiply_corpus", str(ROOT / "assets" / "quickstart"), str(dst)]
        sys.argv += ["--copies", "1"]
        runpy.run_module("scripts.multiply_corpus", run_name="__main__")

    return run


def download(url: str, dst: Path) -> Callable[[], Any]:
    def run() -> None:
        from scripts.downloads import download
        from spacy_bert_crf._signals import exit_status, terminable
        from spacy_bert_crf.errors import BertCrfError

        try:
            with terminable():
                dst.unlink(missing_ok=True)
                download(url, dst, check=servers.check_body, lock=dst.with_name("lock.json"))
        except (BertCrfError, OSError) as err:
            print(err)
            sys.exit(1)
        except KeyboardInterrupt as err:
            print("interrupted")
            sys.exit(exit_status(err))

    return run


def commands(out: Path, url: str) -> dict[str, tuple[Path, Callable[[], Any]]]:
    """For each command, what it writes and how to run it."""
    pipeline, dev, export = toys.pipeline(), FOLDER / "dev.spacy", FOLDER / "export"
    made, columns, cfg = FOLDER / "made", FOLDER / "dev.txt", FOLDER / "train.cfg"
    words: dict[str, tuple[Path, Callable[[], Any]]] = {
        "convert-checkpoint": (out / "enc", bert_crf("convert-checkpoint", made, out / "enc")),
        "convert-corpus": (out / "c.spacy", bert_crf("convert-corpus", columns, out / "c.spacy")),
        "convert-corpus back": (out / "c.txt", bert_crf("convert-corpus", dev, out / "c.txt")),
        "bootstrap": (
            out / "s.spacy",
            bert_crf("bootstrap", dev, out / "s.spacy", "-s", f"pipeline:{pipeline}"),
        ),
        "evaluate": (out / "m.json", bert_crf("evaluate", pipeline, dev, "-o", out / "m.json")),
        "export": (
            out / "export", bert_crf("export", pipeline, out / "export", "--to", "huggingface")
        ),
        "import-model": (out / "imported", bert_crf("import-model", export, out / "imported")),
        "compare-exports": (
            out / "t.json",
            bert_crf("compare-exports", pipeline, dev, export, "-o", out / "t", "--limit", 2),
        ),
        "select": (
            out / "tasks.jsonl",
            bert_crf("select", pipeline, dev, "-n", 3, "-o", out / "tasks.jsonl"),
        ),
        "card": (
            out / "card",
            bert_crf("card", pipeline, "--data", dev, "-o", out / "card" / "README.md"),
        ),
        "push": (
            out / "hub",
            bert_crf("push", pipeline, "me/toy", "--no-wheel", "--dry-run", out / "hub"),
        ),
        "train": (out / "train", bert_crf("train", cfg, out / "train", "--save-minutes", 0)),
        "multiply_corpus.py": (out / "corpus", multiply(out / "corpus")),
        "download": (out / "f.bin", download(url, out / "f.bin")),
    }  # fmt: skip
    return words


def drop_capabilities() -> None:
    """Give up the rights of root, so that file modes apply."""
    if os.geteuid():
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), "capset")


def digest(path: Path) -> str:
    """SHA-256 of a file or of all files below a folder; times in them are left out."""
    total = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            total.update(str(file.relative_to(path.parent)).encode() + file.read_bytes())
    return total.hexdigest()


@contextlib.contextmanager
def modes(path: Path, fault: str) -> Iterator[None]:
    """Take the right to write from the old output, or from the folders it would be written in."""
    below = [path, *path.rglob("*")] if path.is_dir() else [path]
    chosen = {"read-only": below, "unwritable": [path.parent, *(p for p in below if p.is_dir())]}
    changed = {p: p.stat().st_mode for p in chosen.get(fault, []) if p.exists()}
    for file, mode in changed.items():
        file.chmod(mode & ~0o222)
    try:
        yield
    finally:
        for file, mode in changed.items():
            if file.exists():
                file.chmod(mode)


def run_child(run: Callable[[], Any], fault: str) -> tuple[int, str]:
    """Run a command in a child process with a fault. RETURNS its status and its output."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        code = 99
        try:
            os.close(reading)
            os.dup2(writing, 1)
            os.dup2(writing, 2)
            sys.stdout = os.fdopen(1, "w", buffering=1)
            sys.stderr = os.fdopen(2, "w", buffering=1)
            inject(fault)
            run()
            code = 0
        except SystemExit as err:
            code = err.code if isinstance(err.code, int) else int(err.code is not None)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, encoding="utf8", errors="replace") as handle:
        said = handle.read()
    status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status), said


def inject(fault: str) -> None:
    from spacy_bert_crf import _files as files

    signal.signal(signal.SIGINT, signal.default_int_handler)
    if fault == "full disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    elif fault in ("unwritable", "read-only"):
        drop_capabilities()
    elif fault:
        files._sync = lambda file: os.kill(os.getpid(), getattr(signal, fault))
        os.fsync = lambda handle: os.kill(os.getpid(), getattr(signal, fault))


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.rglob("*") if p.name.endswith((".tmp", ".old"))]


def try_fault(name: str, path: Path, run: Callable[[], Any], fault: str, out: Path) -> str:
    """Try one fault. RETURNS what was wrong, or an empty text."""
    old = digest(path) if path.exists() else ""
    with modes(path, fault):
        code, said = run_child(run, fault)
    if code == 0:
        return f"exit status 0: {said[-300:]}"
    if "Traceback" in said or not said.strip():
        return f"unclear: {said[-600:]}"
    if left := leftovers(out):
        return f"left behind: {left}"
    if name == "train":
        from spacy_bert_crf.component.pipelines import load_pipeline

        load_pipeline(path / "model-best")
        load_pipeline(path / "model-last")
    elif name != "download" and digest(path) != old:
        return "the old output is another one"
    elif name == "download" and path.exists() and path.read_bytes() != servers.BODY:
        return "half a file under the final name"
    return ""


def main() -> int:
    parser = parser_for(__doc__)
    parser.add_argument("--only", action="append", default=[], help="this command only")
    args = parser.parse_args()
    import spacy
    import torch

    from spacy_bert_crf.cli import cli
    from spacy_bert_crf.export.folder import export_pipeline

    torch.set_num_threads(1)
    os.environ["NO_PROXY"] = "127.0.0.1"
    shutil.rmtree(FOLDER, ignore_errors=True)
    out = FOLDER / "out"
    out.mkdir(parents=True)
    toys.training_files(FOLDER, epochs=2, examples=120, count=False)
    export_pipeline(spacy.load(toys.pipeline()), FOLDER / "export")
    words = ["convert-corpus", str(FOLDER / "dev.spacy"), str(FOLDER / "dev.txt")]
    cli(words, standalone_mode=False)
    server = servers.Server(servers.GOOD)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/f"
    result = Result("faults")
    for name, (path, run) in commands(out, url).items():
        if args.only and name not in args.only:
            continue
        bad = []
        code, said = run_child(run, "")
        if code or not path.exists():
            bad.append(f"without a fault: status {code}, {said[-600:]}")
        for fault in () if bad else FAULTS:
            if name == "download" and fault == "read-only":
                continue  # it replaces nothing
            if wrong := try_fault(name, path, run, fault, out):
                bad.append(f"{fault}: {wrong}")
            if name in ("train", "download"):
                run_child(run, "")
        for line in bad:
            print("  BAD", name, line, flush=True)
        result.add(
            f"{name}: {', '.join(FAULTS)}",
            tries=len(FAULTS) - (name == "download"),
            bad=len(bad),
            command=f"python -m reliability.interrupts.faults --only '{name}'",
            what_was_bad=bad,
        )
        result.write()
    server.shutdown()
    return result.status()


if __name__ == "__main__":
    sys.exit(main())
