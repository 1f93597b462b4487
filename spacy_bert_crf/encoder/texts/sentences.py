"""Where the sentences of a text end, for texts whose docs do not say so.

One regular expression, for Chinese, Japanese and European languages, so that a reader of an export
needs nothing else. Where it is in doubt, it does not end a sentence: a border too many takes
context from the encoder, a border too few costs little.
"""

import re

import numpy as np
from numpy.typing import NDArray

_CLOSING = "”’」』】〉》）)\\]\"'»›"
_OPENING = "“‘„‚「『【〈《（(\\[\"'«‹¿¡"
#: First letters of a sentence after a full stop: no lower case letter of Latin, Greek or Cyrillic.
_FIRST = "A-Z0-9À-ÖØ-ÞΑ-ΩЀ-Я\u0100-\u017f\u0590-\u06ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"
#: Words that a full stop shortens, by length: a lookbehind has one width.
_SHORTENED = (
    "Mr Dr St Jr Sr Lt Mt No Nr Bd Hr Co vs pp cf ca al Sa",
    "Mrs Gen Col Sen Rep Rev Hon Inc Ltd Fig Vol Jan Feb Mar Apr Jun Jul Aug Sep Oct Nov Dec "
    "etc usw bzw evt ggf Abs Art Mme Sra Mgr Str Tel",
    "Prof Capt Corp Dept Univ Sept Mlle Bros bspw inkl",
)
#: Between two sentences of a line: what closes the first, white space, and what opens the next.
_NEXT = (
    rf"[{_CLOSING}“]*(?:[ \u00a0\u202f]»)?"
    rf"(?=[^\S\n\r\u2028\u2029]+[{_OPENING}]*[ \u00a0\u202f]?[{_FIRST}])"
)
_NOT_SHORTENED = "".join(rf"(?<!\b(?:{'|'.join(words.split())})\.)" for words in _SHORTENED)

#: Each match ends where a sentence ends.
# One set of characters comes first, by which `re` skips all the others.
SENTENCE_END = (
    r"[。！？｡؟۔।॥!?.．…\n\r\u2028\u2029]"
    r"(?:(?<=[\n\r\u2028\u2029])"
    # Marks that always end a sentence. Inside of quotation marks, the sentence around them may go
    # on: “好！”他说。「そうだ。」と言った。
    rf"|(?<=[。！？｡؟۔।॥])[。！？｡!?…]*(?:(?![。！？｡!?…{_CLOSING}])"
    rf"|[{_CLOSING}]+(?![{_CLOSING}，、；：,;:。！？とっ]|[^。！？!?，,\s]{{0,6}}[说說道问問喊答叫]))"
    # ! and ? also stand in names and addresses.
    rf"|(?<=[!?])[!?…]*[{_CLOSING}]*(?=\s|\Z|[\u3040-\u9fff\uac00-\ud7a3“‘「『《（])"
    # No letter or digit follows, which would make it a decimal point, and no number precedes.
    r"|(?<=[^\d０-９\s]．)(?![0-9A-Za-z０-９Ａ-Ｚａ-ｚ．])"
    # A full stop ends a sentence if the next word can begin one, and if it shortens no word, is
    # behind no single letter and makes no ordinal number.
    r"|(?<=[^\s.]\.)(?<!\b[^\W\d_]\.)(?<!\b\d\.)(?<!\b\d\d\.)" + _NOT_SHORTENED + _NEXT +
    r"|(?<=[.…])[.…]+" + _NEXT + ")"
)  # fmt: skip
_SENTENCE_END = re.compile(SENTENCE_END)


def sentence_ends(text: str) -> NDArray[np.int64]:
    """Character offsets after the sentences of a text, as SENTENCE_END finds them. [ends]

    Texts that are joined by line breaks give the ends of each.
    """
    ends = (match.end() for match in _SENTENCE_END.finditer(text))
    return np.fromiter(ends, np.int64)
