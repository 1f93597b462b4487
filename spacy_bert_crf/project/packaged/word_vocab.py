"""A vocabulary of words and their parts, for the packaged encoder in languages other than Chinese.

The source splits texts by a unigram model over 250,000 pieces of a hundred languages. BERT's
tokenizer takes the longest piece instead. The vocabulary has the source's pieces of one script, and
common Latin ones, with their case.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from ...encoder.checkpoint_files import AGAIN
from ...errors import BertCrfError
from .e5_file import WORD_START, E5File
from .old_checkpoint import FIRST_PIECES

#: Numbers of pieces at the start of a word and inside of one: in the language's script, and in
#: Latin beside another script.
WORDS, INNER = 30_000, 10_000
LATIN_WORDS, LATIN_INNER = 10_000, 5_000
#: Scripts whose letters are in every vocabulary, as single characters.
COMMON = ("LATIN", "GREEK", "CYRILLIC")

_MASK = "<mask>"
_DIGITS = re.compile("[0-9]{1,4}")


def first_rows(file: E5File) -> tuple[dict[str, int], dict[str, list[int]]]:
    """The ids of the source's pieces, and FIRST_PIECES with the row of each in its embedding.

    Raises BertCrfError for a source without a mask.
    """
    ids = {piece: number for number, piece in enumerate(file.pieces)}
    if _MASK not in ids:
        raise BertCrfError(f"{file.path} has no piece {_MASK}. {AGAIN}, or use another model.")
    special = dict(zip(FIRST_PIECES[-4:], (file.unk, file.bos, file.eos, ids[_MASK]), strict=True))
    special["[PAD]"] = file.pad
    vocab = {piece: [special.get(piece, file.unk)] for piece in FIRST_PIECES}
    return ids, vocab


def make_word_vocab(file: E5File, script: str) -> dict[str, list[int]]:
    """Return the vocabulary in the order of ids, each entry with its row of the source's embedding.

    Words of a script are those whose letters all belong to it. They are in the order of the source:
    by falling unigram score.

    file: the source.
    script: first word of the Unicode names of the script's letters, such as `LATIN` or `ARABIC`.
    Raises BertCrfError for a source without a mask.
    """
    ids, vocab = first_rows(file)
    for char, row in sorted(_characters(ids, (script, *COMMON)).items()):
        vocab[char] = [row]
        if unicodedata.category(char)[0] in "LMNS":
            vocab[f"##{char}"] = [row]
    counts: Counter[tuple[str, bool]] = Counter()
    limits = {("LATIN", True): LATIN_WORDS, ("LATIN", False): LATIN_INNER}
    limits |= {(script, True): WORDS, (script, False): INNER}
    limits |= {("DIGIT", True): WORDS, ("DIGIT", False): INNER}
    for piece, row in ids.items():
        word = piece.removeprefix(WORD_START)
        kind = (_script(word) if len(word) > 1 else "", word != piece)
        entry = word if kind[1] else f"##{word}"
        if counts[kind] < limits.get(kind, 0) and entry not in vocab:
            vocab[entry] = [row]
            counts[kind] += 1
            if kind == ("DIGIT", False):  # Most numbers stand in the source without the mark.
                vocab.setdefault(word, [row])
    return vocab


def _characters(ids: dict[str, int], scripts: Sequence[str]) -> dict[str, int]:
    """The row of each single character: letters of some scripts, and all other visible signs.

    Of two pieces of a character, the one without the mark of a word start counts.
    """
    found: dict[str, int] = {}
    for piece, row in ids.items():
        char = piece.removeprefix(WORD_START)
        if len(char) != 1 or char == WORD_START or unicodedata.category(char)[0] in "CZ":
            continue
        name = unicodedata.name(char, "").partition(" ")[0]
        if char.isalpha() and name not in scripts:
            continue
        if char not in found or piece == char:
            found[char] = row
    return found


def _script(word: str) -> str:
    """The script of a word, `DIGIT` for a number, and empty for mixed ones and other signs."""
    if _DIGITS.fullmatch(word):
        return "DIGIT"
    found = ""
    for char in word:
        if unicodedata.category(char)[0] not in "LM":
            return ""
        name = unicodedata.name(char, "").partition(" ")[0]
        if name == "COMBINING" or name == found:
            continue
        if found:
            return ""
        found = name
    return found
