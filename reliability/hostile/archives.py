"""Read hostile and damaged files. Each must give an error that names the file, and run no code.

python -m reliability.hostile.archives
"""

import gzip
import io
import os
import pickle
import resource
import shutil
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from reliability import toys
from reliability.common import Result, parser_for

MEMBERS = ["example.dev"]


class Bomb:
    """Makes the file `mark` when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


def torch_zip(tmp: Path, data: bytes, kind: int = zipfile.ZIP_STORED) -> bytes:
    """A torch file with `data` as its data.pkl."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
    return out.getvalue()


def pickles(tmp: Path) -> Iterator[tuple[str, str, bytes]]:
    """Pickle bombs in all formats of torch, and files that unpack to many times their size."""
    bomb = pickle.dumps({"a": Bomb(tmp / "ran")}, protocol=2)
    yield "pickle bomb in torch's zip format", "a.bin", torch_zip(tmp, bomb)
    yield "pickle bomb in the old format", "b.bin", bomb
    yield "pickle bomb called best_model.pt", "best_model.pt", torch_zip(tmp, bomb)
    huge = torch_zip(tmp, bytes(100 << 20), zipfile.ZIP_DEFLATED)
    yield "zip that unpacks to 1,000 times its size", "c.bin", huge
    head = b'{"a":{"dtype":"F32","shape":[999999999,999],"data_offsets":[0,8]}}'
    fake = len(head).to_bytes(8, "little") + head + bytes(8)
    yield "safetensors that claim a large tensor", "d.safetensors", fake


def tars(tmp: Path) -> Iterator[tuple[str, str, bytes]]:
    """Archives with members that must not be unpacked."""

    def tar(*infos: tuple[tarfile.TarInfo, bytes], **settings: Any) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", **settings) as archive:
            for info, data in infos:
                archive.addfile(info, io.BytesIO(data))
        return gzip.compress(out.getvalue(), 1)

    def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        info.size = 1 if kind == tarfile.REGTYPE else 0
        return info

    yield "tar with a path upwards", "up.tar.gz", tar((member("../../example.dev"), b"x"))
    yield "tar with an absolute path", "root.tar.gz", tar((member("/tmp/example.dev"), b"x"))
    link = member("example.dev", tarfile.SYMTYPE, "/etc/passwd")
    yield "tar with a symbolic link", "link.tar.gz", tar((link, b""))
    hard = member("example.dev", tarfile.LNKTYPE, "../secret")
    yield "tar with a hard link", "hard.tar.gz", tar((hard, b""))
    device = member("example.dev", tarfile.CHRTYPE)
    yield "tar with a device", "device.tar.gz", tar((device, b""))
    sparse = member("example.dev")
    sparse.size = 512
    sparse.pax_headers = {
        "GNU.sparse.major": "0", "GNU.sparse.minor": "1",
        "GNU.sparse.size": str(10 * 10**9), "GNU.sparse.map": "0,512",
    }  # fmt: skip
    data = tar((sparse, bytes(512)), format=tarfile.PAX_FORMAT)
    yield "tar with a sparse member of 10 GB", "sparse.tar.gz", data
    yield "gzip that unpacks to 10 GB", "bomb.tar.gz", _zeros(10 * 10**9)
    many = [(member(f"f{number}"), b"x") for number in range(20_000)]
    yield "tar of 20,000 files", "many.tar.gz", tar(*many)


def _zeros(size: int) -> bytes:
    """gzip of `size` zeros: one compressed piece, repeated."""
    piece = gzip.compress(bytes(100 * 10**6), 9)
    return piece * (size // (100 * 10**6))


def docbins(tmp: Path) -> Iterator[tuple[str, str, bytes]]:
    """Files that are not valid DocBins."""
    import spacy
    import srsly
    from spacy.tokens import DocBin

    good = DocBin(docs=toys.docs(spacy.blank("zh"), 5)).to_bytes()
    parts = srsly.msgpack_loads(zlib.decompress(good))
    yield "DocBin cut short", "cut.spacy", good[: len(good) // 2]
    yield "DocBin of zero bytes", "empty.spacy", b""
    yield "DocBin that is a pickle", "p.spacy", zlib.compress(pickle.dumps(Bomb(tmp / "ran")))
    yield "DocBin that unpacks to 1,000 times its size", "b.spacy", zlib.compress(bytes(100 << 20))
    for key, value in (("lengths", b"\xff" * 4), ("strings", []), ("tokens", b""), ("flags", [])):
        changed = zlib.compress(srsly.msgpack_dumps({**parts, key: value}))
        yield f"DocBin with other {key}", f"{key}.spacy", changed


def damages(data: bytes) -> dict[str, bytes]:
    """Damaged copies of a file, by the kind of damage."""
    flipped = bytearray(data)
    for at in range(len(data) // 3, len(data), max(len(data) // 40, 1)):
        flipped[at] ^= 0x55
    return {
        "cut short": data[: len(data) // 2],
        "empty": b"",
        "of other bytes": bytes(flipped),
        "of zeros": bytes(len(data)),
    }


def named(read: Callable[[Path], Any], path: Path, *names: str) -> str:
    """Read a bad file; return what is wrong with the error, or an empty string."""
    from spacy_bert_crf.errors import BertCrfError

    try:
        read(path)
    except BertCrfError as err:
        text = str(err)
        return "" if any(n in text for n in (path.name, *names)) else f"not named: {text}"
    except BaseException as err:
        return f"{type(err).__name__}: {err}"
    return "accepted"


def hostile(tmp: Path) -> Iterator[tuple[str, str]]:
    """Yield each hostile file, and what was wrong when it was read."""
    from scripts.download_checks import extract_tar
    from spacy_bert_crf.annotation.docbin import check_docbin
    from spacy_bert_crf.encoder.checkpoint_files import read_tensors

    out = tmp / "out"
    for makers, read in (
        (pickles, read_tensors),
        (tars, lambda path: extract_tar(path, out, MEMBERS)),
        (docbins, check_docbin),
    ):
        for what, name, data in makers(tmp):
            (tmp / name).write_bytes(data)
            wrong = named(read, tmp / name)
            (tmp / name).unlink()
            if (tmp / "ran").exists():
                wrong = "code ran"
            elif out.exists() and any(out.iterdir()):
                wrong = f"written: {list(out.iterdir())}"
            yield what, wrong


def damaged_folders(tmp: Path) -> Iterator[tuple[str, str]]:
    """Yield each damage of each file of a pipeline and of an export, and what was wrong."""
    import spacy

    from spacy_bert_crf.component.pipelines import load_pipeline
    from spacy_bert_crf.export.folder import export_pipeline
    from spacy_bert_crf.export.import_model import import_model

    pipeline, export = tmp / "pipeline", tmp / "export"
    shutil.copytree(toys.pipeline(), pipeline)
    export_pipeline(spacy.load(pipeline), export)

    def load_export(path: Path) -> None:
        import_model(export, tmp / "imported")

    files = {
        pipeline: ["config.cfg", "meta.json", "vocab/strings.json", "bert_crf/cfg"],
        export: ["best_model.pt", "best_model.json", "config.json", "tokenizer.json"],
    }
    files[pipeline] += ["bert_crf/model", "bert_crf/encoder.safetensors"]
    for folder, names in files.items():
        for name in names:
            file = folder / name
            data = file.read_bytes()
            for how, bad in damages(data).items():
                if bad == data:
                    continue
                file.write_bytes(bad)
                read = load_export if folder == export else lambda path: load_pipeline(pipeline)
                # A tokenizer consists of several files, so the error names their folder.
                also = [str(export)] if name == "tokenizer.json" else []
                yield f"{folder.name}/{name} {how}", named(read, file, *also)
            file.write_bytes(data)


def _peak() -> float:
    """The peak of the memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main() -> int:
    parser_for(__doc__).parse_args()
    result = Result("archives")
    before = _peak()
    with tempfile.TemporaryDirectory() as name:
        tmp = Path(name)
        for title, cases in (("hostile files", hostile), ("damaged folders", damaged_folders)):
            done = list(cases(tmp))
            bad = [f"{what}: {wrong}" for what, wrong in done if wrong]
            for line in bad:
                print("  BAD", line)
            result.add(
                title,
                tries=len(done),
                bad=len(bad),
                command="python -m reliability.hostile.archives",
                note=f"peak of memory +{_peak() - before:.0f} MB since the start",
                cases=[what for what, _ in done],
                what_was_bad=bad,
            )
    result.write()
    return result.status()


if __name__ == "__main__":
    sys.exit(main())
