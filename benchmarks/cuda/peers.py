"""Other ways to run the same encoder over the same texts on the same card."""

import warnings
from typing import Any

import spacy
import torch
from thinc.api import require_cpu
from transformers import (
    AutoModel,
    AutoModelForTokenClassification,
    AutoTokenizer,
    pipeline,
)

from benchmarks.cuda.material import Material
from benchmarks.cuda.measure import timed
from benchmarks.peers.spacy_configs import NER, TRANSFORMER


def peers(material: Material, gpu: int, n_texts: int) -> dict[str, Any]:
    """Characters a second of each peer, in bfloat16 on a GPU where it can."""
    texts = material.texts[:n_texts]
    n = sum(map(len, texts))
    device = torch.device("cpu" if gpu < 0 else f"cuda:{gpu}")
    dtype = torch.float32 if gpu < 0 else torch.bfloat16
    folder = str(material.encoder)
    rows: dict[str, Any] = {}
    model = AutoModel.from_pretrained(folder, add_pooling_layer=False, torch_dtype=dtype)
    model = model.eval().to(device)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ordered = sorted(texts, key=len, reverse=True)
    batches = [
        tokenizer(ordered[i : i + 128], return_tensors="pt", padding=True).to(device)
        for i in range(0, len(ordered), 128)
    ]

    @torch.inference_mode()
    def bare() -> None:
        for batch in batches:
            model(**batch)

    rows["bare encoder, ids made before, by length"] = n / timed(bare, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tagger = AutoModelForTokenClassification.from_pretrained(
            folder, num_labels=7, torch_dtype=dtype
        )
        classify = pipeline(
            "token-classification", model=tagger, tokenizer=tokenizer, device=device
        )
        rows["transformers.pipeline, batch_size=64"] = n / timed(
            lambda: classify(texts, batch_size=64), 1
        )
    require_cpu() if gpu < 0 else spacy.require_gpu(gpu)
    nlp = spacy.blank("zh", config={"nlp": {"tokenizer": {"segmenter": "char"}}})
    nlp.add_pipe(
        "transformer",
        config={"model": {**TRANSFORMER, "name": folder, "mixed_precision": gpu >= 0}},
    )
    ner = nlp.add_pipe("ner", config={"model": NER})
    for label in ("LOC", "ORG", "PER"):
        ner.add_label(label)  # type: ignore[attr-defined]
    nlp.initialize()
    rows["spaCy transformer + ner"] = n / timed(lambda: list(nlp.pipe(texts, batch_size=512)), 2)
    return rows
