"""The model of bert4torch's CRF example, its way from texts to ids and from tags to entities.

Imports neither spaCy nor spacy_bert_crf. Import it before bert4torch itself.
"""

import importlib.util
import json
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any


def stub_torchvision() -> bool:
    """Put empty modules in the place of torchvision if it is missing; RETURNS whether it was.

    bert4torch imports it on the way to its image models, of which nothing is used here.
    """
    if importlib.util.find_spec("torchvision") is not None:
        return False
    parent = None
    for name in ("torchvision", "transforms", "v2", "functional"):
        full = f"{parent.__name__}.{name}" if parent else name
        module = ModuleType(full)
        module.__spec__ = ModuleSpec(full, None, is_package=True)
        module.__path__ = []
        sys.modules[full] = module
        if parent is not None:
            setattr(parent, name, module)
        parent = module
    return True


STUBBED = stub_torchvision()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from bert4torch.layers import CRF  # noqa: E402
from bert4torch.models import BaseModel, build_transformer_model  # noqa: E402
from torch import Tensor, nn  # noqa: E402


class Model(BaseModel):
    """The model of bert4torch's CRF example: its layers, their names and its methods.

    folder: holds bert4torch_config.json. checkpoint_path: see build_transformer_model.
    n_tags: tags, `O` first.
    """

    def __init__(self, folder: Path, checkpoint_path: str | None, n_tags: int) -> None:
        super().__init__()
        self.bert = build_transformer_model(
            config_path=str(folder), checkpoint_path=checkpoint_path, segment_vocab_size=0
        )
        config = json.loads((folder / "bert4torch_config.json").read_text(encoding="utf8"))
        self.fc = nn.Linear(config["hidden_size"], n_tags)
        self.crf = CRF(n_tags)

    def forward(self, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Emissions [B, T, K] and mask [B, T]."""
        emissions = self.fc(self.bert([token_ids]))
        return emissions, token_ids.gt(0).long()

    def predict(self, token_ids: Tensor) -> Tensor:
        """Tags of all wordpieces, the special ones included, as the example decodes. [B, T]"""
        self.eval()
        with torch.no_grad():
            emissions, mask = self.forward(token_ids.to(self.fc.weight.device))
            return self.crf.decode(emissions, mask)


def check_loaded(model: Model, path: str) -> None:
    """Raises ValueError unless the encoder has the checkpoint's weights.

    bert4torch only prints names that it doesn't find, and goes on with random ones.
    """
    stored = torch.load(path, map_location="cpu", weights_only=True)
    last = len(model.bert.encoderLayer) - 1
    pairs = {
        "bert.embeddings.word_embeddings.weight": model.bert.embeddings.word_embeddings.weight,
        f"bert.encoder.layer.{last}.output.LayerNorm.bias": (
            model.bert.encoderLayer[last].ffnLayerNorm.bias
        ),
        f"bert.encoder.layer.{last}.attention.self.query.weight": (
            model.bert.encoderLayer[last].multiHeadAttention.q.weight
        ),
    }
    for name, tensor in pairs.items():
        if not torch.equal(stored[name], tensor.detach()):
            raise ValueError(f"bert4torch did not load {name}.")


#: Prefixes of the first, the inner and the last wordpiece of an entity, and of one that is alone.
BIO = ("B", "I", "I", "B")


def labelled(
    tokenizer: Any,
    text: str,
    spans: Sequence[Any],
    ids: dict[str, int],
    max_length: int,
    spelling: Sequence[str] = BIO,
) -> tuple[list[int], np.ndarray]:
    """Ids and tags of a text, special tokens included and tagged O, as in the example.

    spelling: as BIO above, of another scheme.
    """
    tokens = tokenizer.tokenize(text, maxlen=max_length)
    mapping = tokenizer.rematch(text, tokens)
    first = {places[0]: i for i, places in enumerate(mapping) if places}
    last = {places[-1]: i for i, places in enumerate(mapping) if places}
    labels = np.zeros(len(tokens), dtype=np.int64)
    begins, inside, ends, alone = spelling
    for start, end, label in spans:
        if start in first and end - 1 in last:
            begin, stop = first[start], last[end - 1] + 1
            labels[begin:stop] = ids[f"{inside}-{label}"]
            labels[stop - 1] = ids[f"{ends}-{label}"]
            labels[begin] = ids[f"{alone if stop == begin + 1 else begins}-{label}"]
    return tokenizer.tokens_to_ids(tokens), labels


def read_entities(
    tokenizer: Any, text: str, tokens: list[str], path: list[int], tags: list[str]
) -> list[tuple[int, int, str]] | None:
    """Entities by characters, read as the example reads tags: an I- without its B- is dropped."""
    try:
        mapping = tokenizer.rematch(text, tokens)
    except ValueError:  # a wordpiece that is not in the text
        return None
    out: list[tuple[int, int, str]] = []
    is_open = False
    for places, tag_id in zip(mapping, path, strict=True):
        prefix, _, label = tags[tag_id].partition("-")
        if not places:
            is_open = False
        elif prefix == "B":
            out.append((places[0], places[-1] + 1, label))
            is_open = True
        elif prefix == "I" and is_open and label == out[-1][2]:
            out[-1] = (out[-1][0], places[-1] + 1, label)
        else:
            is_open = False
    return out
