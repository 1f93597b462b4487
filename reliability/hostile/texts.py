"""Prediction on texts of every kind of character there is.

    python -m reliability.hostile.texts --texts 10000

Each text is predicted in a batch and alone. Bad: an exception, a doc.text that differs, an entity
that is no span of tokens, touches another one or begins or ends with white space; other entities
alone than in the batch, except where the two best paths score within 1e-4 of each other.
"""

import sys
import time
import unicodedata
from random import Random
from typing import Any

from reliability import toys
from reliability.common import Result, parser_for

#: A doc's two best paths may change places by rounding if they are as close as this.
TIE = 1e-4
_BATCH = 64


def by_category() -> dict[str, list[str]]:
    """All characters by Unicode category, without surrogates."""
    out: dict[str, list[str]] = {}
    for code in range(sys.maxunicode + 1):
        category = unicodedata.category(chr(code))
        if category != "Cs":
            out.setdefault(category, []).append(chr(code))
    return out


_SPECIAL = ["\u200d", "\u200b", "\u200f", "\u202e", "\u2066", "\ufeff", "\ufe0f", "\u0301", "\t"]
_SPECIAL += [
    "\r\n",
    "\n",
    "\x00",
    "\x7f",
    "\x85",
    "\u2028",
    "　",
    "  ",
    "👨‍👩‍👧‍👦",
    "🇨🇳",
    "e\u0301\u0323",
]
_SPECIAL += [
    "שלום",
    "مرحبا بالعالم",
    "İ",
    "ß",
    "ﬁ",
    "½",
    "Ⅷ",
    "１９９８",
    "ｉｐｈｏｎｅ",
    "𠀀",
    "㍿",
    "\U000e0041",
]
_WORDS = ["iphone", "1998年", "New York", "don't", "http://a.b/c?d=1", "a" * 120, "3.14", "C++"]


def make_text(rng: Random, categories: dict[str, list[str]]) -> str:
    """A text of some kind; 1 to 400 characters or so."""
    names = sorted(categories)
    kind = rng.randrange(6)
    count = rng.choice([1, 2, 5, 20, 60])
    if kind == 0:  # one category
        chosen = categories[rng.choice(names)]
        return "".join(rng.choice(chosen) for _ in range(count))
    if kind == 1:  # all categories
        return "".join(rng.choice(categories[rng.choice(names)]) for _ in range(count))
    plain = [text for text, _ in toys.sentences(3, rng.randrange(10**6))]
    if kind == 2:  # sentences with something in them
        text = "".join(plain)
        for _ in range(1 + rng.randrange(6)):
            at = rng.randrange(len(text) + 1)
            text = text[:at] + rng.choice(_SPECIAL) + text[at:]
        return text
    if kind == 3:  # Chinese and English
        parts = [rng.choice([*plain, *_WORDS, " "]) for _ in range(1 + rng.randrange(6))]
        return "".join(parts)
    if kind == 4:  # nothing but the special ones
        return "".join(rng.choice(_SPECIAL) for _ in range(count))
    text = list("".join(plain))  # combining marks everywhere
    marks = categories["Mn"] + categories["Me"]
    return "".join(c + rng.choice(marks) * rng.randrange(3) for c in text)


def entities(doc: Any) -> list[tuple[int, int, str]]:
    return [(ent.start, ent.end, ent.label_) for ent in doc.ents]


def wrong_entities(doc: Any) -> str:
    """What is wrong with a doc's entities; empty if nothing."""
    end = 0
    for ent in doc.ents:
        if not end <= ent.start < ent.end <= len(doc) or ent.label_ not in ("LOC", "ORG", "PER"):
            return f"{ent.start}:{ent.end} {ent.label_}"
        if doc[ent.start].is_space or doc[ent.end - 1].is_space:
            return f"white space at an end of {ent.text!r}"
        end = ent.end
    return ""


def is_tie(nlp: Any, batch: list[str], at: int) -> bool:
    """Whether a text's tag paths in its batch and alone score within TIE of each other."""
    import torch

    from spacy_bert_crf.model import layers

    pipe = nlp.get_pipe("bert_crf")
    crf = layers.head_of(pipe.model).module.crf
    docs = [nlp.make_doc(text) for text in batch]
    paths = [pipe.predict(docs)[at], pipe.predict([docs[at]])[0]]
    emissions = torch.as_tensor(pipe.model.predict([docs[at]])[0])[None].double()
    mask = torch.ones(emissions.shape[:2], dtype=torch.bool)
    with torch.inference_mode():
        scores = [float(crf.score(emissions, torch.tensor(path)[None], mask)) for path in paths]
    return abs(scores[0] - scores[1]) < TIE


def check(nlp: Any, texts: list[str]) -> list[str]:
    """What is wrong with predictions on these texts, in one batch and alone."""
    bad = []
    for begin in range(0, len(texts), _BATCH):
        batch = texts[begin : begin + _BATCH]
        for at, doc in enumerate(nlp.pipe(batch, batch_size=_BATCH)):
            text, alone = batch[at], nlp(batch[at])
            if doc.text != text or alone.text != text:
                bad.append(f"{text!r}: another doc.text")
            if wrong := wrong_entities(doc) or wrong_entities(alone):
                bad.append(f"{text!r}: {wrong}")
            if entities(doc) != entities(alone) and not is_tie(nlp, batch, at):
                bad.append(f"{text!r}: {entities(doc)} in a batch, {entities(alone)} alone")
    return bad


def main() -> int:
    parser = parser_for(__doc__)
    parser.add_argument("--texts", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--longest", type=int, default=200_000, help="characters of the long doc")
    args = parser.parse_args()
    import spacy

    nlp = spacy.load(toys.pipeline())
    categories = by_category()
    rng = Random(args.seed)
    result = Result("texts")
    began = time.monotonic()
    # One character of every category first, so that each occurs whatever the seed.
    texts = [rng.choice(chars) for chars in categories.values()]
    texts += [make_text(rng, categories) for _ in range(args.texts - len(texts))]
    bad = check(nlp, texts)
    seen = {unicodedata.category(char) for text in texts for char in text}
    for line in bad[:10]:
        print("  BAD", line)
    result.add(
        "generated texts, in a batch and alone",
        tries=len(texts),
        bad=len(bad),
        command=f"python -m reliability.hostile.texts --texts {args.texts} --seed {args.seed}",
        note=f"{len(seen)} of {len(categories)} Unicode categories without Cs, "
        f"{sum(map(len, texts)):,} characters, {time.monotonic() - began:.0f} s",
    )
    began = time.monotonic()
    text = "".join(t for t, _ in toys.sentences(args.longest // 10, 5))[: args.longest]
    ways = [list(nlp.pipe([])) == [], list(nlp.pipe([""]))[0].text == "", nlp("").ents == ()]
    doc = nlp(text)
    ways += [doc.text == text, not wrong_entities(doc), len(doc.ents) > args.longest // 50]
    ways.append(entities(next(nlp.pipe([text, "王"]))) == entities(doc))
    result.add(
        "empty batches, empty texts, and one long doc",
        tries=len(ways),
        bad=len(ways) - sum(ways),
        command="python -m reliability.hostile.texts",
        note=f"{len(text):,} characters, {len(doc.ents):,} entities, "
        f"{time.monotonic() - began:.0f} s",
    )
    result.write()
    return result.status()


if __name__ == "__main__":
    sys.exit(main())
