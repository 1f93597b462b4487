"""Toy pipelines that are exported, and the formats they are exported to."""

from pathlib import Path
from typing import Any, NamedTuple

from spacy_bert_crf.encoder.texts.sentences import sentence_ends
from support.toys import ENGLISH, TEXTS

#: Toys for exports: language, texts, updates and settings. Those without updates get random scores,
#: which break the scheme where nothing forbids it.
EXPORTED = {
    "zh": ("zh", TEXTS, 40, {}),
    "english": ("en", ENGLISH, 30, {}),
    "bioes": ("zh", TEXTS, 0, {"scheme": "BIOES"}),
    "free": ("zh", TEXTS, 0, {"constraints": False}),
}
FLOAT_FORMATS = ["bert4torch", "huggingface", "torchscript", "onnx"]
INT8_FORMATS = ["torch-int8", "onnx-int8", "onnx-int8-static"]
HALF_FORMATS = ["torchscript-fp16", "torchscript-bf16", "onnx-fp16"]
ROUNDED_FORMATS = INT8_FORMATS + HALF_FORMATS
#: Texts of Chinese toys that fit one window: wordpieces of several characters, white space, none.
ZH_TEXTS = [text + other for text, _ in TEXTS for other, _ in TEXTS[::3]]
ZH_TEXTS += ["张", "张三", " 张三\u3000在  北京\n\n南京 ", "1998年 iphone", "\u200b张三😀", " \n"]
#: Words in several pieces, unknown words, and none at all.
EN_TEXTS = [text for text, _ in ENGLISH]
EN_TEXTS += ["Annabel visited Parisian Zed", "a ♥♥ city", "x", "Bob saw Zoe near Yorktown ."]


def several_sentences(text):
    """Whether a text has more than one sentence."""
    return any(end < len(text.rstrip()) for end in sentence_ends(text).tolist())


class Toy(NamedTuple):
    """An exported toy: its pipeline, that pipeline's folder, the export, texts to try."""

    nlp: Any
    path: Path
    out: Path
    texts: list
