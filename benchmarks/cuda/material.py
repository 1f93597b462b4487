"""Pipelines and texts for the benchmark: those of a trained pipeline, or random ones."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import spacy
import torch
from spacy.language import Language
from spacy.tokens import DocBin
from spacy.training import Example
from thinc.api import require_cpu
from transformers import BertConfig, BertModel, BertTokenizerFast

#: Sizes of bert-base, and of an encoder for a test.
BASE = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072,
}  # fmt: skip
TINY = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
}  # fmt: skip
_CHARACTERS = [chr(code) for code in range(0x4E00, 0x4E00 + 20_000)]
_OTHERS = "，。、“”！？0123456789abcdefghijklmnopqrstuvwxyz"
_LABELS = ("LOC", "ORG", "PER")


class Material(NamedTuple):
    """What is measured.

    pipeline: folder of a pipeline, float32.
    texts: the texts.
    encoder: folder of its encoder, for the peers.
    about: the encoder and the texts, in words.
    """

    pipeline: Path
    texts: list[str]
    encoder: Path
    about: str


def random_material(work: Path, n_texts: int, sizes: dict[str, int], seed: int = 0) -> Material:
    """A pipeline with random weights, and texts of random characters.

    Lengths are those of news sentences: 46 characters on average. What is found means nothing.
    Times do not depend on the weights.

    work: an empty folder.
    n_texts: number of texts.
    sizes: BASE or TINY.
    """
    rng = random.Random(seed)
    encoder = work / "encoder"
    encoder.mkdir()
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_CHARACTERS, *_OTHERS]
    (encoder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf8")
    torch.manual_seed(seed)
    BertModel(BertConfig(vocab_size=len(pieces), **sizes)).save_pretrained(encoder)
    BertTokenizerFast(vocab_file=str(encoder / "vocab.txt")).save_pretrained(encoder)
    texts = [_text(rng) for _ in range(n_texts)]
    require_cpu()
    nlp = blank(encoder, mixed_precision=False)
    examples = make_examples(nlp, texts[:64], rng)
    nlp.initialize(lambda: examples)
    nlp.to_disk(work / "pipeline")
    about = f"bert of width {sizes['hidden_size']}, {sizes['num_hidden_layers']} layers, random"
    return Material(work / "pipeline", texts, encoder, about)


def trained_material(work: Path, pipeline: Path, data: Path, n_texts: int) -> Material:
    """A trained pipeline, and the texts of a DocBin."""
    require_cpu()
    nlp = spacy.load(pipeline)
    texts = [doc.text for doc in DocBin().from_disk(data).get_docs(nlp.vocab)][:n_texts]
    from spacy_bert_crf.component.pipelines import find_component
    from spacy_bert_crf.model.layers import own_encoder_of

    own = own_encoder_of(find_component(nlp).model)
    if own is None:
        raise ValueError(f"{pipeline} shares its encoder: name a pipeline with an own one.")
    own.module.save_pretrained(work / "encoder")
    own.loaded.tokenizer.save_pretrained(work / "encoder")
    return Material(pipeline, texts, work / "encoder", f"{pipeline.name}, {data.name}")


def blank(encoder: Path, **settings: Any) -> Language:
    """A pipeline to train, one token a character."""
    nlp = spacy.blank("zh", config={"nlp": {"tokenizer": {"segmenter": "char"}}})
    architecture = {"@architectures": "spacy_bert_crf.Encoder.v1", "name": str(encoder)}
    nlp.add_pipe("bert_crf", config={"model": {"tok2vec": {**architecture, **settings}}})
    return nlp


def make_examples(nlp: Language, texts: Sequence[str], rng: random.Random) -> list[Example]:
    """Examples with an entity of two characters at the start of each text."""
    made = []
    for text in texts:
        doc = nlp.make_doc(text)
        doc.ents = [doc.char_span(0, 2, label=rng.choice(_LABELS))]
        made.append(Example(nlp.make_doc(text), doc))
    return made


def _text(rng: random.Random) -> str:
    length = max(5, int(rng.lognormvariate(3.65, 0.6)))
    return "".join(
        rng.choice(_CHARACTERS) if rng.random() < 0.93 else rng.choice(_OTHERS)
        for _ in range(length)
    )
