"""The sections of the benchmark. Each returns its figures."""

import random
from typing import Any

import numpy as np
import spacy
import torch
from spacy.language import Language
from thinc.api import require_cpu

from benchmarks.cuda.material import Material, blank, make_examples
from benchmarks.cuda.measure import kernels, memory, timed, waits
from spacy_bert_crf.component.pipelines import find_component
from spacy_bert_crf.crf.linear_chain import LinearChainCRF
from spacy_bert_crf.model.layers import own_encoder_of, predict_emissions
from spacy_bert_crf.model.optimizer import create_adamw

#: Name: (mixed_precision, precision of float32 products, whether bfloat16 is hidden).
PRECISIONS = {
    "float32": (False, "highest", False),
    "TF32": (False, "high", False),
    "bfloat16": ("auto", "high", False),
    "float16": (True, "high", True),
}


def load(material: Material, gpu: int, precision: str) -> Language:
    """The pipeline on a GPU, or on the CPU for -1."""
    mixed, products, _ = PRECISIONS[precision]
    torch.set_float32_matmul_precision(products)
    require_cpu() if gpu < 0 else spacy.require_gpu(gpu)
    nlp = spacy.load(material.pipeline)
    own_encoder_of(find_component(nlp).model).cfg["mixed_precision"] = mixed  # type: ignore[union-attr]
    return nlp


def without_bfloat16(precision: str) -> Any:
    """Within, torch says that the GPU has no bfloat16, where float16 is measured."""
    from contextlib import nullcontext
    from unittest.mock import patch

    if not PRECISIONS[precision][2]:
        return nullcontext()
    return patch.object(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)


def equality(material: Material, gpu: int, precision: str, n: int) -> dict[str, Any]:
    """Emissions and entities against float32 on the CPU."""
    texts = material.texts[:n]
    exact, found = load(material, -1, "float32"), load(material, gpu, precision)
    rows, entities = [], []
    for nlp in (exact, found):
        docs = [nlp.make_doc(text) for text in texts]
        emissions = predict_emissions(find_component(nlp).model, docs).rows
        rows.append(emissions.cpu().numpy())
        entities.append([[(e.start, e.end, e.label_) for e in doc.ents] for doc in nlp.pipe(texts)])
    return {
        "texts": len(texts),
        "same_entities": sum(a == b for a, b in zip(*entities, strict=True)),
        "largest_difference": float(np.abs(rows[0] - rows[1]).max()),
        "largest_emission": float(np.abs(rows[0]).max()),
    }


def prediction(material: Material, gpu: int, precision: str, passes: list[int]) -> dict[str, Any]:
    """Speed of the encoder and of `nlp.pipe`, in characters a second."""
    nlp = load(material, gpu, precision)
    pipe = find_component(nlp)
    own = own_encoder_of(pipe.model)
    assert own is not None
    texts, n = material.texts, sum(map(len, material.texts))
    docs = [nlp.make_doc(text) for text in texts]
    few = docs[:256]
    row: dict[str, Any] = {
        "waits_of_256_texts": waits(lambda: pipe.predict(few)),
        "of_256_texts": kernels(lambda: pipe.predict(few)),
        "default_pass": own.pass_size(),
        "encoder": {},
        "pipe": {},
    }
    for limit in (0, *passes):
        own.cfg["batch_pieces"] = limit
        row["encoder"][limit] = n / timed(lambda: own.predict_vectors(docs), 3)
        row["pipe"][limit] = n / timed(lambda: list(nlp.pipe(texts, batch_size=512)), 3)
    own.cfg["batch_pieces"] = 0
    row["pipe_large_batches"] = n / timed(lambda: list(nlp.pipe(texts, batch_size=2048)), 3)
    row["one_text_ms"] = 1e3 * timed(lambda: nlp(texts[0]), 20)
    row["memory_gib"] = memory(lambda: list(nlp.pipe(texts, batch_size=512)))
    pipe.settings.scores = True
    pipe.register_extensions()
    row["pipe_with_scores"] = n / timed(lambda: list(nlp.pipe(texts, batch_size=512)), 3)
    return row


def training(material: Material, gpu: int, precision: str, sizes: list[int]) -> dict[str, Any]:
    """Updates of several sizes."""
    mixed, products, _ = PRECISIONS[precision]
    torch.set_float32_matmul_precision(products)
    require_cpu() if gpu < 0 else spacy.require_gpu(gpu)
    nlp = blank(material.encoder, mixed_precision=mixed)
    examples = make_examples(nlp, material.texts[: max(sizes)], random.Random(0))
    nlp.initialize(lambda: examples[:16])
    # Rates of nearly 0: the weights stay as they are.
    optimizer = create_adamw(encoder_lr=1e-9, head_lr=1e-9, crf_lr=1e-9, layer_decay=0.85)
    rows = {}
    for size in sizes:
        batch = examples[:size]

        def update(batch: list[Any] = batch) -> None:
            nlp.update(batch, sgd=optimizer, drop=0.1)

        seconds = timed(update, 5)
        rows[size] = {
            "ms": 1e3 * seconds,
            "tokens_a_second": sum(len(example.predicted) for example in batch) / seconds,
            "waits": waits(update),
            "memory_gib": memory(update),
            **kernels(update),
        }
    return rows


def crf(gpu: int, shapes: list[tuple[int, int, int]]) -> dict[str, Any]:
    """Viterbi, and likelihood with gradient, on the CPU and on the GPU, in milliseconds."""
    rows: dict[str, Any] = {}
    for device in ("cpu", *([f"cuda:{gpu}"] if gpu >= 0 else [])):
        for shape in shapes:
            n, steps, k = shape
            torch.manual_seed(0)
            model = LinearChainCRF(k).to(device)
            emissions = torch.randn(shape, device=device, requires_grad=True)
            mask = torch.ones((n, steps), dtype=torch.bool, device=device)
            allowed = torch.zeros(shape, dtype=torch.bool, device=device)
            allowed[:, :, 0] = True
            partial = torch.zeros(0, dtype=torch.int64, device=device)
            rows.setdefault(f"{n} x {steps}, {k} tags", {})[device] = {
                "viterbi": 1e3 * timed(lambda m=model, e=emissions, on=mask: m.viterbi(e, on), 9),  # type: ignore[misc]
                "likelihood": 1e3
                * timed(
                    lambda m=model, e=emissions, on=mask, a=allowed, p=partial: (  # type: ignore[misc]
                        m(e, a, on, partial=p).sum().backward()
                    ),
                    9,
                ),
            }
    return rows
