"""BERT and its relatives with random weights, and plans of texts for them."""

import numpy as np
import torch
from transformers import (
    BertConfig,
    BertModel,
    ElectraConfig,
    ElectraModel,
    ErnieConfig,
    ErnieModel,
    RobertaConfig,
    RobertaModel,
)  # fmt: skip

from spacy_bert_crf.encoder.passes import plan_batches, run

SIZES = {
    "vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 130,
}  # fmt: skip
MODELS = {
    "bert": lambda: BertModel(BertConfig(**SIZES)),
    "bert with relu": lambda: BertModel(BertConfig(**SIZES, hidden_act="relu")),
    "electra": lambda: ElectraModel(ElectraConfig(**SIZES, embedding_size=16)),
    "ernie": lambda: ErnieModel(ErnieConfig(**SIZES)),
    "roberta": lambda: RobertaModel(RobertaConfig(**SIZES, pad_token_id=1)),
}
#: Lengths of the texts in wordpieces: more than a window, one, none, and some of the same length.
LENGTHS = (5, 9, 40, 300, 1, 0, 7, 5)


def plan_of(model, lengths=LENGTHS, per_token=1, limit=200, ids=None):
    """Texts of these lengths, whose tokens have one wordpiece each, or two of every three."""
    rng = np.random.default_rng(0)
    pieces = [rng.integers(5, 100, n) if ids is None else np.array(ids[:n]) for n in lengths]
    firsts = [np.arange(0, max(len(own) - per_token + 1, 0), 2 * per_token - 1) for own in pieces]
    ranges = [np.stack([first, first + per_token], 1) for first in firsts]
    pad = model.config.pad_token_id
    return plan_batches(
        pieces, ranges, [[]] * len(pieces), prefix=[2], suffix=[3], pad_id=pad, size=100,
        overlap=20, limit=limit,
    )  # fmt: skip


def expected(model, plan, project=None):
    with torch.inference_mode():
        return run(model, plan, torch.device("cpu"), project)
