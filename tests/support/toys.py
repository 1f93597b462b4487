"""Texts, vocabulary and pipelines that are small enough to train within a test."""

from importlib.util import find_spec

import pytest
import spacy
import torch
from spacy.training import Example
from transformers import BertConfig, BertModel

from spacy_bert_crf._transformers import bert_tokenizer
from spacy_bert_crf.model.layers import head_of, own_encoder_of
from spacy_bert_crf.model.optimizer import create_adamw

TEXTS = [
    ("王小明昨天在北京参观了清华大学。", [(0, 3, "PER"), (6, 8, "LOC"), (11, 15, "ORG")]),
    ("新华社上海分社记者李伟报道。", [(0, 7, "ORG"), (9, 11, "PER")]),
    ("河北省保定市下了一场大雪。", [(0, 3, "LOC"), (3, 6, "LOC")]),
    ("1998年iphone还没有出现。", []),
    ("张三和李四都喜欢南京。", [(0, 2, "PER"), (3, 5, "PER"), (8, 10, "LOC")]),
    ("天气很好，大家都很高兴。", []),
    ("中国银行在广州开会。", [(0, 4, "ORG"), (5, 7, "LOC")]),
    ("他没有去过那里。", []),
]
WORDS = ["the", "in", "of", "a", "visited", "Paris", "London", "Anna", "Bob", "Smith", "near"]
WORDS += ["saw", "city", "and", "'s", ".", ","]
ENGLISH = [
    ("Anna Smith visited Paris .", [(0, 10, "PER"), (19, 24, "LOC")]),
    ("Bob saw the city of London .", [(0, 3, "PER"), (20, 26, "LOC")]),
    ("the city near Paris", [(14, 19, "LOC")]),
    ("a city", []),
]


def vocabulary():
    chars = sorted({c.lower() for text, _ in TEXTS for c in text} | set("，。！？、的一是不了人"))
    pieces = [c.lower() for c in chars] + ["iphone", "1998", "ip", "##hone"]
    pieces += [w.lower() for w in WORDS] + list("abcdefghijklmnopqrstuvwxyz0123456789-")
    pieces += [f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789"]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return list(dict.fromkeys(special + pieces))


def write_encoder(folder, layers=2, **config):
    """Write a toy BERT of width 16, as a converted encoder. RETURNS: the folder.

    folder: where it goes; it is made if need be.
    layers: number of layers.
    config: further settings of BertConfig.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary()) + "\n", encoding="utf8")
    tokenizer = bert_tokenizer(folder / "vocab.txt", do_lower_case=True, model_max_length=512)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    settings = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=layers,
        num_attention_heads=2, intermediate_size=32, **config,
    )  # fmt: skip
    BertModel(settings, add_pooling_layer=False).save_pretrained(folder)
    return folder


def make_examples(nlp, data=TEXTS):
    examples = []
    for text, spans in data:
        doc = nlp.make_doc(text)
        doc.ents = [doc.char_span(a, b, label) for a, b, label in spans]
        examples.append(Example(nlp.make_doc(text), doc))
    return examples


def own_config(encoder_path, **settings):
    """Settings of a component with its own encoder. It trains in float32, so equally on every CPU.

    settings: settings of the encoder.
    """
    tok2vec = {"name": str(encoder_path), "mixed_precision": False, **settings}
    return {"scheme": "BIO", "model": {"tok2vec": tok2vec}}


def need_shared():
    """Skip the test where spacy-transformers is missing. All shared transformers come from here."""
    if find_spec("spacy_transformers") is None:
        pytest.skip("spacy-transformers (the extra [shared]) is not installed")


def shared_config(upstream="*"):
    return {
        "model": {
            "@architectures": "spacy_bert_crf.BertCrf.v1",
            "tok2vec": {
                "@architectures": "spacy-transformers.TransformerListener.v1",
                "grad_factor": 1.0,
                "upstream": upstream,
                "pooling": {"@layers": "reduce_mean.v1"},
            },
        }
    }


def transformer_config(encoder_path):
    need_shared()
    return {
        "model": {
            "@architectures": "spacy-transformers.TransformerModel.v3",
            "name": str(encoder_path),
            "tokenizer_config": {"use_fast": True, "model_max_length": 512},
            "get_spans": {
                "@span_getters": "spacy-transformers.strided_spans.v1",
                "window": 128,
                "stride": 96,
            },
        }
    }


def entities(doc):
    return [(ent.start, ent.end, ent.label_) for ent in doc.ents]


def train_toy(encoder_path, updates=40, lang="zh", data=TEXTS, **component):
    """A blank pipeline with the component, initialised on `data` and trained for some updates."""
    spacy.util.fix_random_seed(0)
    nlp = spacy.blank(lang)
    nlp.add_pipe("bert_crf", config={**own_config(encoder_path), **component})
    examples = make_examples(nlp, data)
    nlp.initialize(lambda: examples)
    optimizer = create_adamw(encoder_lr=5e-3, head_lr=2e-2, crf_lr=2e-2, warmup=0)
    for _ in range(updates):
        nlp.update(examples, sgd=optimizer)
    return nlp


def load_pipeline(path, mixed_precision=False, **settings):
    """A saved pipeline, on the device in use.

    mixed_precision: of its encoder, whatever was saved. In float32 (False) a GPU equals a CPU.
    settings: settings of the component.
    """
    nlp = spacy.load(path, config={"components": {"bert_crf": settings}})
    own_encoder_of(nlp.get_pipe("bert_crf").model).cfg["mixed_precision"] = mixed_precision
    return nlp


def randomise_head(nlp, std=1.0):
    """Random weights for the classifier and the CRF, so that nothing is certain."""
    with torch.no_grad():
        for parameter in head_of(nlp.get_pipe("bert_crf").model).module.parameters():
            parameter.normal_(std=std)


def emissions(nlp, texts):
    """What the CRF gets for each text. [T, K] each"""
    return nlp.get_pipe("bert_crf").model.predict([nlp.make_doc(text) for text in texts])


def characters(doc):
    """Entities by character offsets."""
    return [(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents]


def shared_pipeline(encoder_path, lang="zh"):
    spacy.util.fix_random_seed(0)
    nlp = spacy.blank(lang)
    nlp.add_pipe("transformer", config=transformer_config(encoder_path))
    return nlp
