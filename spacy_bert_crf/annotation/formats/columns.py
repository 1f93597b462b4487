"""Column files: a token and its tag a line, a blank line between sentences; in and out.

Lines are split at LF only, and columns at spaces and tabs only. U+3000, U+2028, U+0085 and similar
characters belong to the corpus, but str.split, str.strip and str.splitlines would remove them.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Optional

from ..._files import write_text
from ...errors import BertCrfError, quote
from ..schemes import has_space
from ..tags import (
    IOB1,
    Row,
    detect_scheme,
    find_style,
    is_iob1,
    is_tag,
    make_tag_set,
    parse_tag,
    read_spans,
)
from .text import (
    BOM,
    MENDED,
    SKIPPED,
    AnnotatedText,
    Options,
    Problem,
    RawSpan,
    RawText,
    choose_join,
    is_unspaced,
    read_text,
    text_rows,
)

#: Lines from which the layout is found.
_SAMPLE = 20_000
#: Share of tokens of one character from which a file counts as one of characters.
_CHARACTERS = 0.7
#: Labels of syntactic chunks, which CoNLL-2003 has in a column of its own.
_CHUNKS = {"NP", "VP", "PP", "ADVP", "ADJP", "SBAR", "PRT", "CONJP", "INTJ", "LST", "UCP", "PC"}
_CHARACTER_ROW = re.compile(r".[ \t][^ \t]+", re.DOTALL)
_DOCSTART = "-DOCSTART-"


@dataclass(frozen=True)
class Layout:
    """How the lines of a column file are to be read.

    count: number of columns.
    split: "single" (one space or tab), "tab" or "runs" (of spaces and tabs).
    token: column of the token.
    tag: column of the tag.
    style: spelling of the tags, see tags.STYLES.
    join: the text between two tokens.
    characters: whether each token must be one character.
    """

    count: int = 2
    split: str = "single"
    token: int = 0
    tag: int = 1
    style: str = "B-PER"
    join: str = ""
    characters: bool = True

    def fields(self, line: str) -> list[str]:
        """The columns of a line."""
        if self.count == 2 and self.split != "runs":
            return _two(line, first=self.tag == 0)
        return _SPLITS[self.split](line)


@dataclass
class Columns:
    """The sentences of a column file, and the name of the document of each."""

    layout: Layout
    sentences: list[list[Row]] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    comments: int = 0


def read(path: Path, options: Options) -> tuple[list[RawText], dict[str, str]]:
    """The sentences of a column file as texts. Raises BertCrfError as `read_columns` does."""
    table = read_columns(path, options.columns, options.join)
    layout = table.layout
    scheme = find_scheme(path, table.sentences, options.scheme)
    raws = [
        tagged_text(path, rows, document, scheme, layout)
        for rows, document in zip(table.sentences, table.documents, strict=True)
    ]
    tokens = "characters" if layout.characters else "words"
    details = {
        "tag scheme": scheme,
        "columns": f"{layout.count}, the token in {layout.token}, the tag in {layout.tag}",
        "tokens": tokens if layout.join or layout.characters else "words, not spaced",
    }
    if layout.style != "B-PER":
        details["spelling of tags"] = layout.style
    if table.comments:
        details["comments"] = f"{table.comments:,}"
    return raws, details


def find_scheme(path: Path, sentences: Sequence[Sequence[Row]], scheme: str) -> str:
    """The scheme of a file's tags. Raises BertCrfError that names the file if they have none.

    scheme: the scheme, or `auto`.
    """
    if scheme != "auto":
        return scheme
    try:
        found = detect_scheme(sentences)
    except BertCrfError as err:
        raise BertCrfError(f"{path}: {err}") from None
    return IOB1 if found == "bio" and is_iob1(sentences) else found


def tagged_text(
    path: Path, rows: Sequence[Row], document: str, scheme: str, layout: Layout
) -> RawText:
    """The text of a sentence of tokens and tags.

    document: the name of its document.
    scheme: a key of SCHEME_NAMES, or IOB1.
    layout: says how the tokens are joined.
    """
    spans, problems = read_spans(rows, scheme)
    join = layout.join
    starts = [0, *accumulate(len(row.token) + len(join) for row in rows)]
    words = [(start, start + len(row.token)) for start, row in zip(starts, rows, strict=False)]
    return RawText(
        join.join(row.token for row in rows),
        [RawSpan(starts[s.start], starts[s.end] - len(join), s.label) for s in spans],
        f"{path}:{rows[0].line}",
        rows[0].line,
        document=document,
        words=None if layout.characters else words,
        lines=[row.line for row in rows],
        exact=True,
        problems=[
            Problem(line, message, MENDED if repairable else SKIPPED, f"{path}:{line}")
            for line, message, repairable in sorted(problems)
        ],
    )


def read_columns(path: Path, columns: str = "", join: Optional[str] = None) -> Columns:
    """The sentences of a column file, which one or more blank lines separate.

    columns: the columns of token and tag as "0,3"; "" finds them.
    join: the text between two tokens, "" or " ". With "", each token must be one character. None
        finds it.
    Raises BertCrfError if the file can't be read, is not UTF-8 or has no sentences, or if
    `columns` is wrong.
    """
    lines = [line.removesuffix("\r") for line in read_text(path).split("\n")]
    sample = [line for line in lines[:_SAMPLE] if line.strip(" \t\r") and not _is_mark(line)]
    if not any(line.strip(" \t\r") for line in lines):
        raise BertCrfError(f"{path}: file has no sentences: choose a file with tokens and tags.")
    table = Columns(find_layout(sample, columns, join))
    document, documents = "", 0
    rows: list[Row] = []

    def finish() -> None:
        nonlocal rows
        if rows:
            table.sentences.append(rows)
            table.documents.append(document)
            rows = []

    for number, line in enumerate(lines, 1):
        if not line.strip(" \t\r"):
            finish()
        elif line.startswith(_DOCSTART) and _is_mark(line):
            finish()
            documents += 1
            document = f"{path.name}#{documents}"
        elif is_comment(line, table.layout):
            table.comments += 1
        else:
            rows.append(_parse_line(number, line, table.layout))
    finish()
    if not table.sentences:
        raise BertCrfError(f"{path}: file has no sentences: choose a file with tokens and tags.")
    return table


def find_layout(lines: Sequence[str], columns: str = "", join: Optional[str] = None) -> Layout:
    """The layout of most of these lines; see `read_columns`."""
    plain = [line for line in lines if not line.startswith("#")] or list(lines)
    best: tuple[float, int, str] = (0, 2, "single")
    for name, split in (("single", _single), ("tab", _SPLITS["tab"]), ("runs", _SPLITS["runs"])):
        counts = Counter(len(split(line)) for line in plain)
        counts.pop(1, None)
        if counts:
            count, times = max(counts.items(), key=lambda item: (item[1], -item[0]))
            if times > best[0] and best[0] < 0.5 * len(plain):
                best = (times, count, name)
    layout = Layout(count=best[1], split=best[2])
    fields = [f for line in plain if len(f := layout.fields(line)) == layout.count]
    if columns:
        token, tag = _numbers(columns, layout.count)
    else:
        token, tag = _find_columns(fields, layout.count)
    layout = replace(layout, token=token, tag=tag)
    fields = [f for line in plain if len(f := layout.fields(line)) == layout.count]
    layout = replace(layout, style=find_style(f[tag] for f in fields))
    if join is not None:
        return replace(layout, join=join, characters=not join)
    tokens = [f[token] for f in fields]
    if sum(len(each) == 1 for each in tokens) >= _CHARACTERS * len(tokens):
        return layout
    return replace(layout, join="" if is_unspaced("".join(tokens)) else " ", characters=False)


def tag_share(lines: Sequence[str], layout: Layout) -> float:
    """The share of these lines that have the layout's columns, and a tag in the right one."""
    fitting = [f for line in lines if len(f := layout.fields(line)) == layout.count]
    return sum(is_tag(f[layout.tag]) for f in fitting) / max(len(lines), 1)


def is_comment(line: str, layout: Layout) -> bool:
    """Whether a line begins with # and has no tag where the others have one."""
    if not line.startswith("#"):
        return False
    fields = layout.fields(line)
    return len(fields) != layout.count or not is_tag(fields[layout.tag])


def _is_mark(line: str) -> bool:
    return line.startswith(_DOCSTART) and (len(line) == len(_DOCSTART) or line[10] in " \t")


def _two(line: str, first: bool) -> list[str]:
    """The two columns of a line. The tag is before the first separator, or after the last one."""
    if first:
        match = re.search(r"[ \t]", line)
        cut = match.start() if match else -1
    else:
        cut = max(line.rfind(" "), line.rfind("\t"))
    return [line] if cut < 0 else [line[:cut], line[cut + 1 :]]


def _single(line: str) -> list[str]:
    if _CHARACTER_ROW.fullmatch(line):
        return [line[0], line[2:]]
    return re.split(r"[ \t]", line)


_SPLITS: dict[str, Callable[[str], list[str]]] = {
    "single": _single,
    "tab": lambda line: line.split("\t"),
    "runs": lambda line: re.split(r"[ \t]+", line.strip(" \t")),
}


def _find_columns(fields: Sequence[Sequence[str]], count: int) -> tuple[int, int]:
    """The columns of token and tag. The last column is the tag if none holds tags."""
    shares = []
    for column in range(count):
        shares.append(sum(is_tag(f[column]) for f in fields) / max(len(fields), 1))
    tag = count - 1
    if count == 2:
        if shares[0] >= 0.9 and shares[1] < 0.5:
            return 1, 0
        return 0, 1
    likely = [c for c in range(count) if shares[c] >= 0.9]
    likely = likely or [c for c in range(count) if shares[c] >= 0.5]
    entities = [c for c in likely if not _is_chunks(f[c] for f in fields)] or likely
    if entities:
        tag = max(entities, key=lambda c: (sum(f[c] != "O" for f in fields), c))
    others = [c for c in range(count) if c != tag]
    numbered = sum(f[others[0]].isdecimal() for f in fields) >= 0.95 * max(len(fields), 1)
    return others[1 if numbered else 0], tag


def _is_chunks(tags: Iterable[str]) -> bool:
    labels = [tag[2:] for tag in tags if tag != "O"]
    return bool(labels) and sum(label in _CHUNKS for label in labels) >= 0.9 * len(labels)


def _numbers(columns: str, count: int) -> tuple[int, int]:
    match = re.fullmatch(r"\s*(-?\d{1,3})\s*,\s*(-?\d{1,3})\s*", columns)
    if not match:
        raise BertCrfError(
            f"--columns can't be {columns!r}: give the columns of token and tag as 0,3; the first "
            "column is 0."
        )
    found = [
        int(number) % count if -count <= int(number) < count else -1 for number in match.groups()
    ]
    if -1 in found or found[0] == found[1]:
        raise BertCrfError(
            f"--columns can't be {columns!r}: the file has {count} columns, from 0 to {count - 1}."
        )
    return found[0], found[1]


def _parse_line(number: int, line: str, layout: Layout) -> Row:
    """The row of a line that is not blank."""
    fields = layout.fields(line)
    if len(fields) == layout.count:
        token, tag = fields[layout.token], fields[layout.tag]
        prefix, label, wrong = parse_tag(tag, layout.style)
        if tag:
            wrong = "; ".join(filter(None, (_token_problem(token, layout), wrong)))
    else:
        token, prefix, label = line, "", ""
        wrong = f"{len(fields)} columns instead of {layout.count}"
        if layout.count == 2:
            wrong = "no tag"
    return Row(number, token, prefix, label, wrong and f"{wrong}: {quote(line)}")


def _token_problem(token: str, layout: Layout) -> str:
    if not token:
        return "there is no token before the tag"
    if layout.characters and len(token) == 1:
        return "a carriage return is no character" if token == "\r" else ""
    separators = token.count(" ") + token.count("\t")
    if separators and layout.count == 2:
        return f"{separators + 2} columns instead of 2 (one space or tab separates them)"
    if layout.characters:
        return f"{len(token)} characters in the character column"
    return "whitespace in the word" if has_space(token) else ""


def write(path: Path, texts: Sequence[AnnotatedText], options: Options) -> None:
    """Write texts as two columns, the token and its tag.

    options: its `scheme`, and its `join`; None decides by the script.
    Raises BertCrfError for a text that columns can't hold, see `text_rows`.
    """
    scheme = options.scheme
    join = choose_join(texts) if options.join is None else options.join
    lines: list[str] = []
    for item in texts:
        try:
            units, spans = text_rows(item, join)
        except BertCrfError as err:
            raise BertCrfError(f"{item.place}: {err}") from None
        tag_set = make_tag_set((span.label for span in spans), scheme)
        tags = (tag_set.tags[i] for i in tag_set.encode(spans, len(units)))
        lines.extend(f"{unit} {tag}" for unit, tag in zip(units, tags, strict=True))
        lines.append("")
    text = "\n".join([*lines, ""])
    # If the corpus begins with U+FEFF, a reader would take it for the byte order mark.
    write_text(path, BOM + text if text.startswith(BOM) else text)


def check_columns(item: AnnotatedText, options: Options) -> None:
    """Raise BertCrfError if columns can't hold a text."""
    text_rows(item, options.join or "")
