"""Find the files of the input, and group them into parts."""

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import xxhash

from ...errors import BertCrfError, first_line

#: Formats by the suffix of a file name, before that of a compression.
FORMATS = {
    ".txt": "txt",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".spacy": "spacy",
}
#: Compressions by suffix, as pyarrow names them.
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
#: Formats whose rows have no named fields.
_WITHOUT_FIELDS = ("txt",)
#: Files are grouped until a part has this size. In bytes
PART_SIZE = 16 * 2**20


class SourceFile(NamedTuple):
    """A file of the input.

    address: how fsspec opens it.
    name: its name relative to the folder that all files have in common.
    size: in bytes.
    modified: time of the last change in seconds since 1970; infinite if unknown.
    format: one of `FORMATS`.
    compression: one of `COMPRESSIONS`, or "".
    """

    address: str
    name: str
    size: int
    modified: float
    format: str
    compression: str


class Part(NamedTuple):
    """Consecutive files that are cut into shards together.

    number: its place in the input.
    files: its files.
    """

    number: int
    files: tuple[SourceFile, ...]

    @property
    def size(self) -> int:
        """Sum of the sizes of its files. In bytes"""
        return sum(file.size for file in self.files)

    @property
    def digest(self) -> str:
        """Digest of the names and sizes of its files."""
        known = [f"{file.name}\0{file.size}" for file in self.files]
        return str(xxhash.xxh3_128_hexdigest("\n".join(known).encode("utf8", "surrogateescape")))


def find_files(sources: Sequence[str]) -> list[SourceFile]:
    """The files of the input, sorted by address.

    sources: files, folders, globs, or addresses such as s3://bucket/folder. Files in folders are
        found by their suffix; others, and hidden ones, are left out.
    Raises BertCrfError for a source that is missing, has no file of a known format, or can't be
    opened.
    """
    found: dict[str, SourceFile] = {}
    for source in sources:
        files = list(_files_of(source))
        if not files:
            raise BertCrfError(
                f"{source} has no file of a known format ({', '.join(FORMATS)}, also with "
                f"{' or '.join(COMPRESSIONS)}): name other files."
            )
        found.update((file.address, file) for file in files)
    common = _common_folder(list(found))
    return [file._replace(name=at[len(common) :]) for at, file in sorted(found.items())]


def check_fields(files: Iterable[SourceFile], needed: Sequence[str]) -> None:
    """Check that the files can have fields.

    needed: names of the fields that the command line names, beside that of the text.
    Raises BertCrfError for a file without fields.
    """
    for file in files if needed else ():
        if file.format in _WITHOUT_FIELDS:
            raise BertCrfError(
                f"{file.name} has lines without fields, so no field {needed[0]!r}: leave "
                "--id-field and --keep out, or use JSON lines."
            )


def make_parts(files: Iterable[SourceFile]) -> list[Part]:
    """Group consecutive files into parts of at least PART_SIZE bytes; the last may be smaller."""
    groups: list[list[SourceFile]] = []
    size = PART_SIZE
    for file in files:
        if size >= PART_SIZE:
            groups.append([])
            size = 0
        groups[-1].append(file)
        size += file.size
    return [Part(number, tuple(group)) for number, group in enumerate(groups)]


def file_system(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it.

    Raises BertCrfError for an unknown protocol, or if its package is not installed.
    """
    import fsspec

    try:
        return fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as err:
        raise BertCrfError(f"can't open {address}: {first_line(err)}") from err


def _files_of(source: str) -> Iterator[SourceFile]:
    fs, path = file_system(source)
    try:
        if fs.isdir(path):
            listed = fs.find(path, detail=True)
            inside = {name[len(path) :].strip("/"): info for name, info in listed.items()}
            kept = [info for name, info in inside.items() if not _is_hidden(name)]
        elif fs.exists(path):
            kept = [fs.info(path)]
            if _format_of(path) == ("", ""):
                raise BertCrfError(
                    f"{source} has no known suffix ({', '.join(FORMATS)}, also with "
                    f"{' or '.join(COMPRESSIONS)}): rename it."
                )
        else:
            listed = fs.glob(path, detail=True)
            kept = [info for info in listed.values() if info["type"] == "file"]
            if not kept:
                raise BertCrfError(f"there is no {source}: name files, a folder or a glob.")
    except OSError as err:
        raise BertCrfError(f"can't read {source}: {first_line(err)}") from err
    for info in kept:
        kind, compression = _format_of(info["name"])
        if kind:
            address = fs.unstrip_protocol(info["name"]) if _is_remote(fs) else info["name"]
            modified = info.get("mtime", info.get("LastModified", float("inf")))
            modified = modified.timestamp() if hasattr(modified, "timestamp") else float(modified)
            yield SourceFile(address, "", int(info["size"] or 0), modified, kind, compression)


def _is_remote(fs: Any) -> bool:
    return "file" not in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def _is_hidden(name: str) -> bool:
    return any(step.startswith((".", "_")) for step in name.split("/"))


def _format_of(name: str) -> tuple[str, str]:
    """Format and compression by the suffixes of a file name, "" and "" if unknown."""
    stem, suffix = posixpath.splitext(name.lower())
    compression = COMPRESSIONS.get(suffix, "")
    if compression:
        suffix = posixpath.splitext(stem)[1]
    kind = FORMATS.get(suffix, "")
    return kind, compression if kind else ""


def _common_folder(addresses: Sequence[str]) -> str:
    """What the addresses have in common, up to a slash."""
    shared = posixpath.commonprefix([address.replace("\\", "/") for address in addresses])
    return shared[: shared.rfind("/") + 1]
