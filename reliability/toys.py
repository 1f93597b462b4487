"""A toy encoder, a toy corpus and a toy pipeline, made in seconds and always the same."""

from pathlib import Path
from random import Random
from typing import Any

from reliability.common import ROOT, WORK

_PEOPLE = ["王小明", "李伟", "张三", "李四", "赵敏", "陈静", "刘洋"]
_PLACES = ["北京", "上海", "广州", "河北省", "南京", "保定市"]
_NAMES = {"PER": _PEOPLE, "LOC": _PLACES, "ORG": ["清华大学", "新华社", "中国银行", "教育局"]}
_FRAMES = ["{PER}昨天在{LOC}参观了{ORG}。", "{ORG}记者{PER}报道。", "{LOC}下了一场大雪。"]
_FRAMES += [
    "{PER}和{PER}都喜欢{LOC}。",
    "天气很好，大家都很高兴。",
    "{ORG}在{LOC}开会，{PER}说iphone很贵。",
]


def sentences(count: int, seed: int = 0) -> list[tuple[str, list[tuple[int, int, str]]]]:
    """Texts and their entities (start, end, label) in characters."""
    rng = Random(seed)
    out = []
    for _ in range(count):
        text, spans = "", []
        for part in rng.choice(_FRAMES).replace("{", "\0{").replace("}", "}\0").split("\0"):
            if part[:1] == "{":
                name = rng.choice(_NAMES[part[1:-1]])
                spans.append((len(text), len(text) + len(name), part[1:-1]))
                part = name
            text += part
        out.append((text, spans))
    return out


def docs(nlp: Any, count: int, seed: int = 0) -> list[Any]:
    """Annotated docs."""
    out = []
    for text, spans in sentences(count, seed):
        doc = nlp.make_doc(text)
        doc.ents = [doc.char_span(start, end, label) for start, end, label in spans]
        out.append(doc)
    return out


def encoder(folder: Path) -> Path:
    """A converted encoder of 2 layers and width 32."""
    from scripts.toy_encoder import make_encoder
    from spacy_bert_crf.encoder.checkpoint import convert_checkpoint

    if not (folder / "encoder").is_dir():
        texts = [text for text, _ in sentences(200)]
        make_encoder(folder / "made", texts, layers=2, width=32, heads=2, feed_forward=64)
        convert_checkpoint(folder / "made", folder / "encoder")
    return folder / "encoder"


def training_files(folder: Path, epochs: int, examples: int = 800, count: bool = True) -> None:
    """train.spacy, dev.spacy, an encoder and train.cfg in a folder.

    count: count the updates, see count_steps.py.
    """
    import spacy
    from spacy.tokens import DocBin
    from spacy.util import load_config

    nlp = spacy.blank("zh")
    folder.mkdir(parents=True, exist_ok=True)
    for name, size, seed in (("train", examples, 1), ("dev", 60, 2)):
        DocBin(docs=docs(nlp, size, seed)).to_disk(folder / f"{name}.spacy")
    overrides = {
        "paths.train": str(folder / "train.spacy"),
        "paths.dev": str(folder / "dev.spacy"),
        "components.bert_crf.model.tok2vec.name": str(encoder(folder)),
        "training.batcher.size": 8,
        "training.optimizer.encoder_lr": 1e-3,
        "training.max_epochs": epochs,
    }
    config = load_config(ROOT / "configs" / "bert_crf.cfg", overrides=overrides, interpolate=False)
    if count:
        config["training"]["before_update"] = {"@callbacks": "reliability.count_steps.v1"}
    config.to_disk(folder / "train.cfg")


def pipeline() -> Path:
    """Folder of a trained toy pipeline; made once."""
    import spacy
    from spacy.training import Example

    from spacy_bert_crf.model.optimizer import create_adamw

    path = WORK / "toy" / "pipeline"
    if (path / "meta.json").is_file():
        return path
    spacy.util.fix_random_seed(0)
    nlp = spacy.blank("zh")
    tok2vec = {"name": str(encoder(WORK / "toy"))}
    nlp.add_pipe("bert_crf", config={"model": {"tok2vec": tok2vec}})
    examples = [Example(nlp.make_doc(doc.text), doc) for doc in docs(nlp, 64)]
    nlp.initialize(lambda: examples)
    optimizer = create_adamw(encoder_lr=3e-3, head_lr=2e-2, crf_lr=2e-2, warmup=0)
    for _ in range(40):
        nlp.update(examples, sgd=optimizer)
    from spacy_bert_crf._files import atomic_folder

    with atomic_folder(path) as folder:
        nlp.to_disk(folder)
    return path
