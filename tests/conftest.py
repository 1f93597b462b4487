"""A toy BERT and toy pipelines, built without network."""

import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import spacy
import torch
from hypothesis import settings as hypothesis_settings
from spacy.training import Example
from transformers import BertConfig, BertModel, BertTokenizerFast

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A busy machine must not fail a property that holds.
hypothesis_settings.register_profile("project", deadline=None)
hypothesis_settings.load_profile("project")
warnings.filterwarnings("ignore", message=".*W095.*")

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


@pytest.fixture(scope="session")
def encoder_path(tmp_path_factory) -> Path:
    """A converted encoder folder: 2 layers, width 16."""
    path = tmp_path_factory.mktemp("encoder")
    (path / "vocab.txt").write_text("\n".join(vocabulary()) + "\n", encoding="utf8")
    tokenizer = BertTokenizerFast(
        vocab_file=str(path / "vocab.txt"), do_lower_case=True, model_max_length=512
    )
    tokenizer.save_pretrained(path)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, initializer_range=0.3,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(path)
    return path


def make_examples(nlp, data=TEXTS):
    examples = []
    for text, spans in data:
        doc = nlp.make_doc(text)
        doc.ents = [doc.char_span(a, b, label) for a, b, label in spans]
        examples.append(Example(nlp.make_doc(text), doc))
    return examples


def own_config(encoder_path, **settings):
    return {"model": {"tok2vec": {"name": str(encoder_path), **settings}}}


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


@pytest.fixture
def trained(encoder_path):
    """A pipeline of blank zh and bert_crf that has overfitted TEXTS."""
    return train_toy(encoder_path)


@pytest.fixture(scope="session")
def trained_path(encoder_path, tmp_path_factory) -> Path:
    """Folder of a trained toy pipeline."""
    path = tmp_path_factory.mktemp("trained") / "pipeline"
    train_toy(encoder_path).to_disk(path)
    return path


def train_toy(encoder_path, updates=40, **component):
    spacy.util.fix_random_seed(0)
    nlp = spacy.blank("zh")
    nlp.add_pipe("bert_crf", config={**own_config(encoder_path), **component})
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    from spacy_bert_crf.model.optimizer import create_adamw

    optimizer = create_adamw(encoder_lr=5e-3, head_lr=2e-2, crf_lr=2e-2, warmup=0)
    for _ in range(updates):
        nlp.update(examples, sgd=optimizer)
    return nlp


@pytest.fixture
def shared_data():
    """The folder of real corpora beside the checkout, where there is one."""
    path = Path(os.environ.get("SPACY_BERT_CRF_SHARED", Path(__file__).parents[2] / "shared"))
    if not path.is_dir():
        pytest.skip("no folder of real corpora (SPACY_BERT_CRF_SHARED)")
    return path


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
#: Texts of Chinese toys that fit one window: wordpieces of several characters, white space, none.
ZH_TEXTS = [text + other for text, _ in TEXTS for other, _ in TEXTS[::3]]
ZH_TEXTS += ["张", "张三", " 张三\u3000在  北京\n\n南京 ", "1998年 iphone", "\u200b张三😀", " \n"]
#: Words in several pieces, unknown words, and none at all.
EN_TEXTS = [text for text, _ in ENGLISH]
EN_TEXTS += ["Annabel visited Parisian Zed", "a ♥♥ city", "x", "Bob saw Zoe near Yorktown ."]


class Toy(NamedTuple):
    """An exported toy: its pipeline, that pipeline's folder, the export, texts to try."""

    nlp: Any
    path: Path
    out: Path
    texts: list


@pytest.fixture(scope="session")
def toys(encoder_path, tmp_path_factory) -> dict:
    """Toys by name, exported to all float32 formats, the plain one to all there are."""
    pytest.importorskip("onnxruntime")
    from spacy_bert_crf.export import FORMATS, export_pipeline
    from spacy_bert_crf.model.layers import head_of
    from spacy_bert_crf.model.optimizer import create_adamw

    out = {}
    for name, (lang, data, updates, settings) in EXPORTED.items():
        spacy.util.fix_random_seed(0)
        nlp = spacy.blank(lang)
        nlp.add_pipe("bert_crf", config={**own_config(encoder_path), **settings})
        examples = make_examples(nlp, data)
        nlp.initialize(lambda examples=examples: examples)
        optimizer = create_adamw(encoder_lr=5e-3, head_lr=2e-2, crf_lr=2e-2, warmup=0)
        for _ in range(updates):
            nlp.update(examples, sgd=optimizer)
        if not updates:
            with torch.no_grad():
                for parameter in head_of(nlp.get_pipe("bert_crf").model).module.parameters():
                    parameter.normal_()
        folder = tmp_path_factory.mktemp(f"toy-{name}")
        nlp.to_disk(folder / "pipeline")
        more = {"formats": FLOAT_FORMATS, "shape": (1, 32)}
        if name == "zh":
            texts = [text for text, _ in TEXTS]
            more |= {"formats": list(FORMATS), "calibration": 5, "calibration_texts": texts}
        export_pipeline(nlp, folder / "out", **more)
        texts = EN_TEXTS if lang == "en" else ZH_TEXTS
        if not updates:  # characters with the same emissions side by side make paths of one score
            texts = [text for text in texts if "1998" not in text]
        out[name] = Toy(nlp, folder / "pipeline", folder / "out", texts)
    return out


def characters(doc):
    """Entities by character offsets."""
    return [(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents]


def cli(*words, code=0):
    """Run a command in this process; what a person sees of it."""
    from typer.testing import CliRunner

    from spacy_bert_crf.cli import cli as app

    done = CliRunner().invoke(app, [str(word) for word in words])
    text = done.output
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, text
    return text
