"""Generated texts of Chinese with words of Latin letters and digits, and what must stay whole."""

import random
import re

from spacy_bert_crf.annotation.word_runs import WORD

WORDS = [
    "CEO", "LeBron", "James", "COVID-19", "F-16", "U.S.A", "3.14", "1,000", "google.com", "O'Neill",
    "iPhone", "ＣＥＯ", "２０１９", "Café", "don't", "A", "7", "10km", "NBA", "1998",
]  # fmt: skip
PIECES = [*"张三李四在北京的阿里巴巴开会。，", *WORDS, " ", "-", ".", "和"]


def mixed_texts(number, seed=0):
    """Texts of 1 to 16 pieces."""
    choose = random.Random(seed)
    return ["".join(choose.choices(PIECES, k=choose.randint(1, 16))) for _ in range(number)]


def cut_words(doc, spans):
    """The words that a border of spans (start, end, …), in tokens, lies inside."""
    offsets = {doc[i : i + 1].start_char for s in spans for i in s[:2] if 0 < i < len(doc)}
    words = [match.span() for match in re.finditer(WORD, doc.text)]
    return [doc.text[a:b] for a, b in words if any(a < offset < b for offset in offsets)]
