"""Which layers an encoder has, and which of them learn."""

import copy
import json
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..errors import BertCrfError, first_line
from .hf import LoadedEncoder, pack, unpack, weights_of

#: Which layers a smaller encoder has.
EVEN, FIRST = "even", "first"
#: Settings of a config that list a value for each layer.
_BY_LAYER = ("attention_window", "layer_types")


def count_layers(encoder: LoadedEncoder) -> int:
    """The number of layers of an encoder."""
    return int(encoder.model.config.num_hidden_layers)


def chosen_layers(layers: int, of: int, which: str = EVEN) -> list[int]:
    """Indices of some of the layers.

    layers: number of layers to choose.
    of: number of layers there are.
    which: "even" for evenly chosen ones, the last one included. The layer i of n, counted from 1,
        is the layer i * of / n, rounded down. It is the uniform strategy of TinyBERT (Jiao et al.
        2020). "first" for the first ones, without those at the top (Sajjad et al. 2023).
    Raises BertCrfError for fewer than one layer, or more than there are.
    """
    if not 1 <= layers <= of:
        raise BertCrfError(f"{layers} layers requested, the encoder has {of}: use 1 to {of}.")
    if which == FIRST:
        return list(range(layers))
    return [(i + 1) * of // layers - 1 for i in range(layers)]


def with_layers(encoder: LoadedEncoder, layers: Sequence[int]) -> LoadedEncoder:
    """An encoder with some of the layers of another, on the CPU. All other weights are the same.

    Where all layers share their weights, as in ALBERT, only their number counts.

    encoder: the other encoder. It shares no memory with the result.
    layers: indices of the layers, in their order.
    Raises BertCrfError if the layers of this kind of encoder can't be chosen.
    """
    packed, weights, config = pack(encoder), weights_of(encoder), encoder.model.config
    if list(layers) != list(range(count_layers(encoder))):
        if getattr(config, "num_hidden_groups", 0) != 1:
            weights = _renumbered(weights, f"{_name_of_layers(encoder.model)}.", layers)
        packed["config"] = _config(json.loads(packed["config"]), encoder.model, layers)
    try:
        # Tensors of the CPU are still those of the other encoder.
        return unpack(packed, {key: value.clone() for key, value in weights.items()})
    except BertCrfError as err:
        raise _refused(encoder.model, first_line(err)) from err


def freeze_lowest(model: Any, n_layers: int) -> None:
    """Let the lowest layers and the embeddings of an encoder not learn.

    They get no gradient, so that backpropagation ends above them and the optimizer leaves them
    out. The lower layers of a pretrained encoder need fine-tuning least (Lee, Tang & Lin 2019,
    "What would Elsa do? Freezing layers during transformer fine-tuning").

    model: the encoder.
    n_layers: number of layers that do not learn; 0 lets all layers and the embeddings learn.
    Raises BertCrfError if it has no more layers than that, or its layers can't be told apart.
    """
    frozen: set[str] = set()
    if n_layers:
        total = model.config.num_hidden_layers
        if n_layers >= total:
            raise BertCrfError(
                f"frozen_layers = {n_layers}, and the encoder has {total} layers: use less than "
                f"{total}, or grad_factor = 0 so that none learns."
            )
        prefix = _name_of_layers(model)
        stems = [f"{prefix}.{i}." for i in range(n_layers)]
        inputs = {id(param) for param in model.get_input_embeddings().parameters()}
        frozen = {
            name
            for name, param in model.named_parameters()
            if id(param) in inputs or name.startswith(("embeddings.", *stems))
        }
    for name, param in model.named_parameters():
        param.requires_grad_(name not in frozen)


def _name_of_layers(model: Any) -> str:
    """The name of the list of a model's layers. Raises BertCrfError if there is not just one."""
    n_layers = model.config.num_hidden_layers
    found: list[str] = []
    for name, module in model.named_modules():
        is_inside = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, nn.ModuleList) and len(module) == n_layers and not is_inside:
            found.append(name)
    if len(found) != 1:
        raise _refused(model, f"it has {len(found)} lists of {n_layers} layers")
    return found[0]


def _config(raw: dict[str, Any], model: Any, layers: Sequence[int]) -> str:
    """The config of the smaller encoder, as JSON."""
    config = model.config
    changed = copy.deepcopy(config)
    n_layers = config.num_hidden_layers
    try:
        changed.num_hidden_layers = len(layers)
    except NotImplementedError as err:  # Funnel has blocks.
        raise _refused(model, first_line(err)) from err
    own = changed.to_dict()
    for key in raw:
        value = raw[key]
        if key in _BY_LAYER and isinstance(value, list) and len(value) == n_layers:
            raw[key] = [value[i] for i in layers]
        elif own.get(key) != getattr(config, key, own.get(key)):
            raw[key] = own[key]  # The number of layers has another name in some configs.
    return json.dumps(raw, sort_keys=True)


def _renumbered(
    weights: dict[str, Tensor], prefix: str, layers: Sequence[int]
) -> dict[str, Tensor]:
    """The weights of the chosen layers under their new numbers, and all others.

    A weight that the layer in this place did not have is left out: ModernBERT's first layer lacks
    the norm that all others have.
    """
    out = {}
    for key, value in weights.items():
        if not key.startswith(prefix):
            out[key] = value
            continue
        number, _, rest = key.removeprefix(prefix).partition(".")
        if int(number) in layers:
            new = f"{prefix}{layers.index(int(number))}.{rest}"
            if new in weights:
                out[new] = value
    return out


def _refused(model: Any, reason: str) -> BertCrfError:
    kind, n_layers = model.config.model_type, model.config.num_hidden_layers
    return BertCrfError(
        f"the layers of a {kind} model can't be chosen ({reason}): keep all {n_layers} layers, or "
        "use an encoder of another kind."
    )
