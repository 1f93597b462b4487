"""brat's folders of .txt and .ann files, and the TSV of WebAnno and INCEpTION."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..._files import atomic_folder
from ...errors import BertCrfError
from .text import LOST, SKIPPED, AnnotatedText, Options, Problem, RawSpan, RawText, read_text

_ENTITY = re.compile(r"(T[^\t]*)\t(\S+) (\d{1,18}) (\d{1,18})\t(.*)", re.DOTALL)
_PIECES = re.compile(r"(T[^\t]*)\t(\S+) \d+ \d+(;\d+ \d+)+\t(.*)", re.DOTALL)
#: A value of a WebAnno cell, and the number of its annotation.
_VALUE = re.compile(r"(.*?)(?:\[(\d+)\])?", re.DOTALL)


def read_brat(path: Path, options: Options) -> tuple[list[RawText], dict[str, str]]:
    """The documents of a folder: each .txt file with the .ann file of its name, or one of the two.

    Raises BertCrfError if the folder has no .ann file.
    """
    if path.is_dir():
        names = sorted({each.with_suffix("") for each in path.rglob("*.ann") if each.is_file()})
        unread = [each for each in path.rglob("*.txt") if each.with_suffix("") not in set(names)]
    else:
        names, unread = [path.with_suffix("")], []
    if not names:
        raise BertCrfError(f"{path}: the folder has no .ann file: choose a folder of brat.")
    raws, others = [], Counter[str]()
    for number, name in enumerate(names, 1):
        text_path, spans_path = (name.with_name(name.name + end) for end in (".txt", ".ann"))
        raw = RawText("", [], str(spans_path), number, document=name.name)
        raws.append(raw)
        try:
            raw.text = read_text(text_path)
            lines = read_text(spans_path).split("\n")
        except BertCrfError as err:
            raw.problems.append(Problem(number, str(err), SKIPPED, raw.place))
            continue
        _parse_ann(raw, lines, others)
    for name in sorted(unread):
        place = str(name)
        raws.append(RawText("", [], place, 0))
        problem = Problem(0, "no .ann file of this name: not annotated", SKIPPED, place, noted=True)
        raws[-1].problems.append(problem)
    details = {}
    if others:
        details["not read"] = f"{sum(others.values()):,} relations, events and notes"
    return raws, details


def _parse_ann(raw: RawText, lines: Sequence[str], others: Counter[str]) -> None:
    for number, line in enumerate(lines, 1):
        line = line.removesuffix("\r")
        if not line.strip():
            continue
        if line[0] != "T":
            others[line[0]] += 1
            continue
        place = f"{raw.place}:{number}"
        if match := _ENTITY.fullmatch(line):
            _, label, start, end, surface = match.groups()
            raw.spans.append(RawSpan(int(start), int(end), label, surface))
        elif match := _PIECES.fullmatch(line):
            message = f"entity {match[1]} ({match[2]}) is discontinuous: {match[4]!r}"
            raw.problems.append(Problem(number, message, LOST, place, noted=True))
        else:
            message = f"no entity as `T1<TAB>LABEL START END<TAB>text`: {line[:60]!r}"
            raw.problems.append(Problem(number, message, LOST, place))


def write_brat(path: Path, texts: Sequence[AnnotatedText], options: Options) -> None:
    """Write a folder with a .txt and an .ann file of each text.

    Raises BertCrfError for a text that brat can't hold, see `check_brat`.
    """
    with atomic_folder(path) as folder:
        for number, item in enumerate(texts, 1):
            check_brat(item, options)
            lines = []
            for index, (start, end, label) in enumerate(item.entities, 1):
                surface = re.sub(r"[\r\n]", " ", item.text[start:end])
                lines.append(f"T{index}\t{label} {start} {end}\t{surface}\n")
            name = f"{number:05}"
            # A byte order mark keeps a text that begins with one.
            mark = "\ufeff" if item.text.startswith("\ufeff") else ""
            (folder / f"{name}.txt").write_bytes((mark + item.text).encode("utf8"))
            (folder / f"{name}.ann").write_bytes("".join(lines).encode("utf8"))


def check_brat(item: AnnotatedText, options: Options) -> None:
    """Raise BertCrfError if brat can't hold a text."""
    if item.limits:
        raise BertCrfError(f"{item.limits}, and brat has no mark for it")
    for entity in item.entities:
        if re.search(r"\s", entity.label):
            raise BertCrfError(f"the label {entity.label!r} holds whitespace")


def read_webanno(path: Path, options: Options) -> tuple[list[RawText], dict[str, str]]:
    """The sentences of WebAnno TSV 3. The named-entity layer is read, else the first one.

    Raises BertCrfError if the file has no layer of spans.
    """
    lines = read_text(path).split("\n")
    column, layer = _find_layer(path, lines)
    raws: list[RawText] = []
    block: list[tuple[int, str]] = []
    for number, line in enumerate([*lines, ""], 1):
        line = line.removesuffix("\r")
        if line:
            block.append((number, line))
            continue
        if any(each.startswith("#Text=") or each[0].isdecimal() for _, each in block):
            raws.append(_webanno_sentence(path, block, column))
        block = []
    if not raws:
        raise BertCrfError(f"{path}: file has no sentences: export it again as WebAnno TSV 3.")
    return raws, {"layer": layer}


def _find_layer(path: Path, lines: Sequence[str]) -> tuple[int, str]:
    """The column of the values of named entities, and the name of their layer."""
    found: list[tuple[int, str, str]] = []
    column = 3
    for line in lines[:200]:
        if line.startswith(("#T_SP=", "#T_RL=", "#T_CH=")):
            layer, *features = line.rstrip("\r").partition("=")[2].split("|")
            if line.startswith("#T_SP="):
                found.extend((column + i, layer, name) for i, name in enumerate(features))
            column += len(features) + (1 if line.startswith("#T_RL=") else 0)
    if not found:
        raise BertCrfError(f"{path}: the file has no layer of spans (#T_SP=): export one with it.")
    chosen = [each for each in found if "NamedEntity" in each[1]] or found
    values = [each for each in chosen if each[2] == "value"] or chosen
    return values[0][0], values[0][1].rpartition(".")[2]


def _webanno_sentence(path: Path, block: Sequence[tuple[int, str]], column: int) -> RawText:
    first = block[0][0]
    texts = [line[6:] for _, line in block if line.startswith("#Text=")]
    raw = RawText(_unescape("\n".join(texts)), [], f"{path}:{first}", first, exact=True)
    raw.words = []
    spans: dict[tuple[str, str], list[int]] = {}
    at = 0
    for number, line in block:
        cells = line.split("\t")
        if line.startswith("#") or len(cells) < 3 or "." in cells[0]:
            continue  # A comment, or a part of a token.
        token = _unescape(cells[2])
        start = raw.text.find(token, at)
        if start < 0 or not token:
            message = f"the token {token!r} is not in the sentence's text"
            raw.problems.append(Problem(number, message, SKIPPED, f"{path}:{number}"))
            break
        at = start + len(token)
        raw.words.append((start, at))
        for index, value in enumerate(_values(cells[column] if len(cells) > column else "_")):
            label, ident = value
            key = (label, ident or f"{number}.{index}")
            spans.setdefault(key, [start, at])[1] = at
    raw.spans = [RawSpan(start, end, label) for (label, _), (start, end) in spans.items()]
    return raw


def _values(cell: str) -> list[tuple[str, str]]:
    """(label, number of the annotation or "") of each annotation of a token."""
    out = []
    for part in re.split(r"(?<!\\)\|", cell):
        match = _VALUE.fullmatch(part)
        if match and match[1].strip() and match[1] not in ("_", "*"):
            out.append((_unescape(match[1]), match[2] or ""))
    return out


def _unescape(text: str) -> str:
    names = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "b": "\b"}
    return re.sub(r"\\(.)", lambda m: names.get(m[1], m[1]), text, flags=re.DOTALL)
