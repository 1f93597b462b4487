"""best_model.pt under the names of bert4torch's own CRF example, and back.

bert4torch (https://github.com/Tongjilibo/bert4torch), `task_sequence_labeling_ner_crf.py`:
`build_transformer_model(..., segment_vocab_size=0)`, `fc`, `crf`. Its model has no token-type
embedding and knows no constraints.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...crf.chain_weights import STATE_NAMES, ChainWeights
from ...encoder.checkpoint_files import read_tensors
from ...errors import BertCrfError
from ..graphs import FORBIDDEN
from .best_model import WEIGHTS, open_tensors, save_tensors, scores_in_weights
from .format import Format, Options, Run

if TYPE_CHECKING:
    from ..trained import Trained

CONFIG_FILE = "bert4torch_config.json"
#: The keys that bert4torch's BERT takes. Another key of a Hugging Face config, return_dict, would
#: break its example: the encoder would return a dictionary.
_CONFIG_KEYS = (
    "model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
    "intermediate_size", "hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob",
    "max_position_embeddings", "type_vocab_size", "layer_norm_eps", "pad_token_id",
    "id2label", "label2id",
)  # fmt: skip

#: Names of a layer's parts here, and in bert4torch.
_LAYER_NAMES = {
    "attention.self.query": "multiHeadAttention.q",
    "attention.self.key": "multiHeadAttention.k",
    "attention.self.value": "multiHeadAttention.v",
    "attention.output.dense": "multiHeadAttention.o",
    "attention.output.LayerNorm": "attnLayerNorm",
    "intermediate.dense": "feedForward.intermediateDense",
    "output.dense": "feedForward.outputDense",
    "output.LayerNorm": "ffnLayerNorm",
}
_NAMES = {
    "classifier.weight": "fc.weight",
    "classifier.bias": "fc.bias",
    **{f"crf.{name}": f"crf.{name}" for name in STATE_NAMES},
    "bert.embeddings.word_embeddings.weight": "bert.embeddings.word_embeddings.weight",
    "bert.embeddings.position_embeddings.weight": "bert.embeddings.position_embeddings.weight",
    "bert.embeddings.LayerNorm.weight": "bert.embeddings.layerNorm.weight",
    "bert.embeddings.LayerNorm.bias": "bert.embeddings.layerNorm.bias",
}
_TYPES = "bert.embeddings.token_type_embeddings.weight"
_THEIR_TYPES = "bert.embeddings.segment_embeddings.weight"


def _names(n_layers: int) -> dict[str, str]:
    """bert4torch's names of the tensors of a model, by their names in a best_model.pt."""
    layers = {
        f"bert.encoder.layer.{layer}.{ours}.{part}": f"bert.encoderLayer.{layer}.{theirs}.{part}"
        for layer in range(n_layers)
        for ours, theirs in _LAYER_NAMES.items()
        for part in ("weight", "bias")
    }
    return {**_NAMES, **layers}


def to_bert4torch(trained: "Trained") -> dict[str, Tensor]:
    """All tensors under bert4torch's names.

    Token-type row 0 is added into the position embeddings, which is exact but for rounding.
    Start, end and transition scores that the constraints forbid are FORBIDDEN.
    Raises BertCrfError if the encoder is no BERT with absolute positions.
    """
    config = trained.config
    positions = getattr(config, "position_embedding_type", "absolute")
    if config.model_type != "bert" or positions != "absolute":
        raise BertCrfError(
            f"the format bert4torch takes BERT with absolute positions, not {config.model_type} "
            f"with {positions} ones: choose another format."
        )
    out: dict[str, Tensor] = {}
    types = None
    names = _names(config.num_hidden_layers)
    for name, tensor in trained.tensors().items():
        if name == _TYPES:
            types = tensor[0]
        elif name in names:
            out[names[name]] = tensor
        else:
            raise BertCrfError(
                f"the format bert4torch has no place for the tensor {name.removeprefix('bert.')}: "
                "choose another format."
            )
    if types is not None:
        place = "bert.embeddings.position_embeddings.weight"
        out[place] = out[place] + types
    return out | ChainWeights.of(*trained.chain.masked(FORBIDDEN)).to_state()


def is_bert4torch(tensors: dict[str, Tensor]) -> bool:
    """Whether tensors have bert4torch's names."""
    return "fc.weight" in tensors and any(".multiHeadAttention." in name for name in tensors)


def from_bert4torch(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Tensors under the names of a best_model.pt.

    The token-type embedding is zeros where the file has none.

    tensors: under bert4torch's names.
    path: the file that holds them, for messages.
    Raises BertCrfError for a name that is not known.
    """
    # No file has more layers than tensors.
    ours = {theirs: own for own, theirs in _names(len(tensors)).items()} | {_THEIR_TYPES: _TYPES}
    out: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in tensors.items():
        # The encoder's tensors may be without the prefix.
        own = ours.get(name) or ours.get(f"bert.{name}")
        if own is None:
            unknown.append(name)
        else:
            out[own] = tensor
    if unknown:
        raise BertCrfError(
            f"{path} holds tensors that bert4torch's CRF example does not have: "
            f"{', '.join(unknown[:5])}. Save a model of that example."
        )
    words = out.get("bert.embeddings.word_embeddings.weight")
    if words is not None and words.dim() == 2:
        out.setdefault(_TYPES, torch.zeros(2, words.shape[1], dtype=torch.float32))
    return out


def with_scores(tensors: dict[str, Tensor], beside: ChainWeights) -> dict[str, Tensor]:
    """The tensors, with the scores of a CRF as they were trained.

    Scores in the weights win, as they are what was read. FORBIDDEN is none: it hides a score.

    tensors: under the names of a best_model.pt, with all scores of the CRF, or with none.
    beside: the scores in the file beside the weights.
    """
    scores = beside.to_state()
    if not scores.keys() & tensors.keys():
        return tensors | scores
    both = {name for name in scores.keys() & tensors if tensors[name].shape == scores[name].shape}
    return tensors | {
        name: torch.where(tensors[name] == FORBIDDEN, scores[name].to(tensors[name]), tensors[name])
        for name in both
    }


def config_text(config: dict[str, Any]) -> str:
    """bert4torch_config.json: keys of a Hugging Face config, and bert4torch's name of the model."""
    kept = {key: config[key] for key in _CONFIG_KEYS if key in config}
    return json.dumps({**kept, "model": "bert"}, indent=2, ensure_ascii=False) + "\n"


def without_special_tokens(chain: ChainWeights, outside: int) -> ChainWeights:
    """Scores for texts without [CLS] and [SEP], of a CRF that was trained over both.

    The tag of both is O. So a text begins with a transition from O and ends with one to O.

    chain: scores of the CRF.
    outside: id of O.
    """
    start, end = chain.transitions[outside].clone(), chain.transitions[:, outside].clone()
    return replace(chain, start=start, end=end)


def _write(folder: Path, trained: "Trained", options: Options) -> dict[str, str]:
    save_tensors(to_bert4torch(trained), folder / WEIGHTS)
    text = config_text(trained.hf_config())
    (folder / CONFIG_FILE).write_text(text, encoding="utf8")
    return {}


def _open(folder: Path, file: str) -> Run:
    return open_tensors(from_bert4torch(read_tensors(folder / file), folder / file), folder)


FORMAT = Format(
    name="bert4torch",
    emissions=WEIGHTS,
    write=_write,
    open=_open,
    reader="bert4torch.py",
    scores=lambda folder: scores_in_weights(folder, bias="fc.bias"),
    lacks="token types other than 0 are left out, scores that the scheme forbids are -1e4, and "
    "bert4torch decodes wordpieces of whole texts, and may cut words",
)
