"""Other software on the same device, encoder weights and texts, each in its fastest precision.

Each peer is a function that prepares and RETURNS the job to time, which goes through all texts.
"""

import copy
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import spacy
import torch
from spacy.tokens import Doc
from spacy.training import Example
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertConfig,
    TokenClassificationPipeline,
)

from benchmarks.harness.common import PEERS, say, write_json

from .measure import Device
from .prediction import BATCH
from .subject import Subject

Job = Callable[[], Any]
#: Input ids of a batch of the bare encoder, padding included.
BUDGET = 16_384


@dataclass
class Work:
    """What a peer gets. folder: the encoder as transformers saves it. gold: docs of the texts."""

    device: Device
    subject: Subject
    folder: Path
    gold: list[Doc]

    @property
    def texts(self) -> list[str]:
        return [doc.text for doc in self.gold]

    @property
    def dtype(self) -> torch.dtype:
        """bfloat16 on a GPU that has it, float16 on another, float32 on the CPU."""
        if self.device.gpu < 0:
            return torch.float32
        is_supported = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if is_supported else torch.float16


def bare_encoder(work: Work) -> Job:
    """transformers' encoder alone with 16-bit weights: padded ids, sorted by length, prepared."""
    model = copy.deepcopy(work.subject.own.module).to(work.dtype).eval()
    tokenizer = AutoTokenizer.from_pretrained(work.folder)
    ids = tokenizer(work.texts, truncation=True, max_length=512)["input_ids"]
    batches = list(_padded(sorted(ids, key=len, reverse=True), work.device.torch))

    @torch.inference_mode()
    def run() -> None:
        for rows, mask in batches:
            model(input_ids=rows, attention_mask=mask)

    return run


def _padded(ids: list[list[int]], device: torch.device) -> Iterator[tuple[Any, Any]]:
    """Batches of at most BUDGET ids and their masks. ids: longest first. [B, T] each"""
    while ids:
        size = max(1, BUDGET // len(ids[0]))
        part, ids = ids[:size], ids[size:]
        rows = torch.zeros((len(part), len(part[0])), dtype=torch.long)
        mask = torch.zeros_like(rows)
        for i, row in enumerate(part):
            rows[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), 1
        yield rows.to(device), mask.to(device)


def hugging_face(work: Work) -> Job:
    """transformers' token-classification pipeline, texts to entities, in batches of 64."""
    pipe, own = work.subject.pipe, work.subject.own
    config = copy.deepcopy(own.module.config)
    config.id2label = dict(enumerate(pipe.tag_set.tags))
    config.label2id = {tag: i for i, tag in config.id2label.items()}
    model = AutoModelForTokenClassification.from_config(config)
    weights = own.module.state_dict()
    getattr(model, model.base_model_prefix).load_state_dict(weights, strict=False)
    head = pipe.model.get_ref("head").shims[0].module
    if isinstance(getattr(model, "classifier", None), torch.nn.Linear):
        model.classifier.load_state_dict(head.classifier.state_dict())
    nlp = TokenClassificationPipeline(
        model=model.to(work.dtype).eval(), tokenizer=AutoTokenizer.from_pretrained(work.folder),
        device=work.device.torch, aggregation_strategy="simple",
    )  # fmt: skip
    return lambda: nlp(work.texts, batch_size=64)


def spacy_ner(work: Work) -> Job:
    """spaCy's transformer (spacy-transformers, mixed precision on a GPU) and ner."""
    sys.path.insert(0, str(PEERS))
    from spacy_pipeline import NER, TRANSFORMER

    nlp = spacy.blank(work.subject.nlp.lang)
    model = {**TRANSFORMER, "name": str(work.folder), "mixed_precision": work.device.gpu >= 0}
    nlp.add_pipe("transformer", config={"model": model})
    nlp.add_pipe("ner", config={"model": NER})
    examples = []
    for doc in work.gold[:32]:
        made = nlp.make_doc(doc.text)
        spans = (made.char_span(e.start_char, e.end_char, e.label_) for e in doc.ents)
        made.ents = [span for span in spans if span is not None]
        examples.append(Example(nlp.make_doc(doc.text), made))
    nlp.initialize(lambda: examples)
    return lambda: list(nlp.pipe(work.texts, batch_size=BATCH))


def bert4torch(work: Work) -> Job:
    """bert4torch's CRF example in float32 or TF32: batches of 64 texts, read to entities."""
    sys.path.insert(0, str(PEERS))
    from bert4torch_model import Model, read_entities  # isort: skip
    from bert4torch.tokenizers import Tokenizer

    tags = work.subject.pipe.tag_set.tags
    model = Model(work.folder, None, len(tags)).to(work.device.torch).eval()
    tokenizer = Tokenizer(str(work.folder / "vocab.txt"), do_lower_case=True)

    def run() -> None:
        texts = work.texts
        mixed = torch.autocast("cuda", work.dtype) if work.device.gpu >= 0 else nullcontext()
        for i in range(0, len(texts), 64):
            part = texts[i : i + 64]
            tokens = [tokenizer.tokenize(text, maxlen=512) for text in part]
            ids = [tokenizer.tokens_to_ids(each) for each in tokens]
            longest = max(4, *map(len, ids))
            rows = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
            with mixed:
                best = model.predict(rows.to(work.device.torch)).tolist()
            for text, each, path in zip(part, tokens, best, strict=True):
                read_entities(tokenizer, text, each, path[: len(each)], tags)

    return run


PEERS_BY_NAME: dict[str, Callable[[Work], Job]] = {
    "transformers, bare encoder": bare_encoder,
    "transformers, token-classification pipeline": hugging_face,
    "spaCy, transformer + ner": spacy_ner,
    "bert4torch, CRF example": bert4torch,
}


def save_encoder(subject: Subject, folder: Path) -> Path:
    """The encoder as transformers saves it, with what bert4torch reads. RETURNS: its folder."""
    folder.mkdir()
    subject.own.module.save_pretrained(folder)
    subject.own.loaded.tokenizer.save_pretrained(folder)
    config = subject.own.module.config
    if isinstance(config, BertConfig):
        write_json(folder / "bert4torch_config.json", {**config.to_dict(), "model": "bert"})
    return folder


def speeds(device: Device, subject: Subject, folder: Path, gold: list[Doc]) -> dict[str, Any]:
    """Characters a second of each peer; what is not installed or fails is named.

    folder: an empty folder's path, for the encoder.
    """
    work = Work(device, subject, save_encoder(subject, folder), gold)
    n_chars = sum(map(len, work.texts))
    out: dict[str, Any] = {"texts": len(gold), "characters": n_chars, "rows": {}}
    for name, prepare in PEERS_BY_NAME.items():
        if device.is_over:
            break
        package = name.partition(",")[0].lower()
        if importlib.util.find_spec(package) is None:
            out["rows"][name] = {"not_available": "not installed"}
            continue
        try:
            seconds = device.median(prepare(work), 3, 4.0)
            out["rows"][name] = {"characters_per_second": n_chars / seconds}
        except Exception as err:  # a peer's fault must not end the run
            out["rows"][name] = {"not_available": f"{type(err).__name__}: {err}"[:200]}
            say(f"  {name}: {type(err).__name__}: {err}")
    return out
