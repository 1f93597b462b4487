"""Gold entities whose borders lie inside a wordpiece or a word: they are counted and named."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Optional

import numpy as np

from ..annotation.gold import Gold, LostEntity, MarkedText, named_entities
from ..encoder.texts.wordpieces import Pieces, tokenize
from ..model.shims import EncoderShim
from .settings import Settings

#: Texts that are tokenized at once.
_BATCH = 512


def warn_inner_borders(
    component: str, encoder: Optional[EncoderShim], texts: Sequence[MarkedText]
) -> None:
    """Warn once of gold entities that begin or end inside a wordpiece.

    The tokens on both sides of such a border read one vector of the encoder. Their tags can differ
    by the transitions of the CRF only.

    component: its name, for the message.
    encoder: the component's encoder, loaded. With None nothing is checked.
    texts: the training texts with their gold entities.
    """
    if encoder is None:
        return
    found = list(inner_borders(encoder.loaded.tokenizer, texts))
    if found:
        total = sum(len(entities) for _, entities in texts)
        warnings.warn(
            f"[{component}] {len(found)} of {total} gold entities begin or end inside a wordpiece "
            f"of the encoder, so that these borders can't be learned: {named_entities(found)}. The "
            "tokens on both sides get the same vector. Take an encoder that reads single "
            "characters there, or move the borders.",
            stacklevel=4,
        )


def warn_cut_words(
    component: str, cut: Sequence[LostEntity], golds: Sequence[Gold], settings: Settings
) -> None:
    """Warn of gold entities that begin or end inside a word of Latin letters or digits.

    component: its name, for the message.
    cut: these entities.
    golds: the gold of all docs.
    settings: the component's settings.
    """
    if not cut:
        return
    total = sum(len(gold.spans) for gold in golds)
    training = "The likelihood of their documents counts all paths. "
    warnings.warn(
        f"[{component}] {len(cut)} of {total} gold entities begin or end inside a word of Latin "
        f"letters or digits: {named_entities(cut)}. With whole_words = true they are never "
        f"predicted. {training if settings.constrain_training else ''}Move the borders, or set "
        "whole_words = false.",
        stacklevel=4,
    )


def inner_borders(tokenizer: object, texts: Sequence[MarkedText]) -> Iterator[LostEntity]:
    """The gold entities of which at least one border lies inside a wordpiece.

    tokenizer: a fast tokenizer of transformers.
    texts: see `warn_inner_borders`.
    """
    for at in range(0, len(texts), _BATCH):
        batch = texts[at : at + _BATCH]
        all_pieces = tokenize(tokenizer, [text for text, _ in batch])
        for (text, entities), pieces in zip(batch, all_pieces, strict=True):
            for start, end, label in entities:
                if _is_inside(text, pieces, start) or _is_inside(text, pieces, end):
                    yield LostEntity.in_text(text, start, end, label)


def _is_inside(text: str, pieces: Pieces, border: int) -> bool:
    """Whether a wordpiece has visible characters on both sides of a border."""
    over = np.flatnonzero((pieces.starts < border) & (border < pieces.ends))
    return any(
        text[pieces.starts[i] : border].strip() and text[border : pieces.ends[i]].strip()
        for i in over
    )
