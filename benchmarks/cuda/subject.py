"""The pipeline that is measured, its texts, and the precisions of its products."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Example
from transformers import BertConfig, BertModel

from spacy_bert_crf._transformers import bert_tokenizer
from spacy_bert_crf.model.layers import head_of, own_encoder_of

LABELS = ("PER", "LOC", "ORG")
#: The Chinese characters of the first Unicode block, about as many as in bert-base-chinese.
CHARACTERS = [chr(code) for code in range(0x4E00, 0x9FA6)]
OTHERS = list("，。、：；！？（）“”0123456789abcdefghijklmnopqrstuvwxyz")
#: Shapes of an encoder with random weights: layers, width, heads, inner width, characters.
BASE, SMALL = (12, 768, 12, 3072, len(CHARACTERS)), (2, 32, 2, 64, 300)
#: Name of a precision: mixed_precision, torch's precision of float32 products, forced dtype.
PRECISIONS: dict[str, tuple[Any, str, torch.dtype | None]] = {
    "float32": (False, "highest", None),
    "TF32": (False, "high", None),
    "bfloat16": ("auto", "high", None),
    "float16": (True, "high", torch.float16),
}


@dataclass
class Subject:
    """A pipeline on one device, with its component and its own encoder."""

    nlp: Language
    pipe: Any
    own: Any

    @classmethod
    def load(cls, folder: Path) -> "Subject":
        """Load a pipeline to thinc's current device. Raises ValueError for a shared encoder."""
        nlp = spacy.load(folder)
        name = next((n for n in nlp.pipe_names if nlp.get_pipe_meta(n).factory == "bert_crf"), "")
        if not name:
            raise ValueError(f"{folder} has no bert_crf component: name another --pipeline.")
        pipe: Any = nlp.get_pipe(name)
        own = own_encoder_of(pipe.model)
        if own is None:
            raise ValueError(f"{folder}: its encoder is shared. One of its own is needed here.")
        return cls(nlp, pipe, own)

    @contextmanager
    def precision(self, name: str) -> Iterator[None]:
        """Within the block, products have a precision of PRECISIONS.

        float16 is forced. The package itself takes it only where a GPU lacks bfloat16.
        """
        mixed, products, forced = PRECISIONS[name]
        before = self.own.cfg["mixed_precision"], torch.get_float32_matmul_precision()
        self.own.cfg["mixed_precision"] = mixed
        torch.set_float32_matmul_precision(products)
        if forced is not None:
            self.own.autocast = lambda is_train=True: forced
        try:
            yield
        finally:
            self.own.cfg["mixed_precision"] = before[0]
            torch.set_float32_matmul_precision(before[1])
            self.own.__dict__.pop("autocast", None)
            self.own.fast.clear()

    @contextmanager
    def pass_size(self, pieces: int) -> Iterator[None]:
        """Within the block, an encoder pass has so many wordpieces; 0 for the default."""
        before = self.own.cfg["batch_pieces"]
        self.own.cfg["batch_pieces"] = pieces
        try:
            yield
        finally:
            self.own.cfg["batch_pieces"] = before

    @contextmanager
    def planned(self, docs: list[Doc]) -> Iterator[Any]:
        """Within the block, the encoder's plan of these docs is made already."""
        plan = self.own.plan(docs)
        self.own.plan = lambda docs, is_train=False: plan
        try:
            yield plan
        finally:
            del self.own.plan

    def docs(self, texts: list[str]) -> list[Doc]:
        """Docs that only the tokenizer has seen."""
        return [self.nlp.make_doc(text) for text in texts]

    def examples(self, gold: list[Doc]) -> list[Example]:
        """Examples of annotated docs."""
        return [Example(self.nlp.make_doc(doc.text), doc) for doc in gold]


def random_pipeline(folder: Path, is_small: bool, seed: int = 0) -> Path:
    """Write a pipeline with random weights. RETURNS: its folder, below `folder`.

    is_small: SMALL instead of BASE.
    """
    layers, width, heads, inner, n_chars = SMALL if is_small else BASE
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *CHARACTERS[:n_chars], *OTHERS]
    encoder = folder / "encoder"
    encoder.mkdir()
    (encoder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf8")
    tokenizer = bert_tokenizer(encoder / "vocab.txt", model_max_length=512)
    tokenizer.save_pretrained(encoder)
    spacy.util.fix_random_seed(seed)
    config = BertConfig(
        vocab_size=len(pieces), hidden_size=width, num_hidden_layers=layers,
        num_attention_heads=heads, intermediate_size=inner,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(encoder)
    nlp = spacy.blank("zh")
    nlp.add_pipe("bert_crf", config={"model": {"tok2vec": {"name": str(encoder)}}})
    gold = random_docs(nlp, 64, n_chars, seed)
    nlp.initialize(lambda: [Example(nlp.make_doc(doc.text), doc) for doc in gold])
    with torch.no_grad():  # emissions as far apart as a trained head's
        head = head_of(nlp.get_pipe("bert_crf").model).module
        for weights in head.parameters():
            weights.normal_(std=0.1)
        # With this bias of the tag outside of entities, there are one or two in a text.
        head.classifier.bias[0] = 0.18 * width**0.5
    nlp.to_disk(folder / "pipeline")
    return folder / "pipeline"


def random_docs(nlp: Language, n: int, n_chars: int, seed: int = 0) -> list[Doc]:
    """Texts as long as the People's Daily's sentences, with some entities of 2 or 3 characters.

    Lengths are log-normal, with a median of 38 characters and a mean of about 46.
    """
    draw = random.Random(seed)
    out = []
    for _ in range(n):
        length = min(500, max(6, int(draw.lognormvariate(3.64, 0.6))))
        text = "".join(
            draw.choice(CHARACTERS[:n_chars] if draw.random() < 0.9 else OTHERS)
            for _ in range(length)
        )
        doc = nlp.make_doc(text)
        starts = range(draw.randrange(3), len(doc) - 3, 12)
        spans = [Span(doc, i, i + draw.choice((2, 3)), draw.choice(LABELS)) for i in starts]
        # Letters and digits join to wordpieces, which borders should not divide.
        doc.ents = [span for span in spans if not set(span.text) & set(OTHERS)]
        out.append(doc)
    return out


def read_gold(nlp: Language, data: Path | None, n: int, is_small: bool) -> list[Doc]:
    """Annotated docs of a .spacy file, or random ones where there is none."""
    if data is None:
        return random_docs(nlp, n, (SMALL if is_small else BASE)[-1], seed=1)
    docs = DocBin().from_disk(data).get_docs(nlp.vocab)
    return [doc for doc in docs if len(doc)][:n]
