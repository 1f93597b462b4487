"""A smaller encoder made of some of the layers of another one."""

import copy
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..._transformers import model_from_config
from ...errors import BertCrfError, first_line
from ..hf import LoadedEncoder, pack, unpack, weights_of

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
    packed, weights = pack(encoder), weights_of(encoder)
    if list(layers) != list(range(count_layers(encoder))):
        if name := name_of_layers(encoder.model):
            weights = _renumbered(weights, f"{name}.", layers)
        raw = config_of_layers(json.loads(packed["config"]), encoder.model, layers)
        packed["config"] = json.dumps(raw, sort_keys=True)
    try:
        # Tensors of the CPU are still those of the other encoder.
        return unpack(packed, {key: value.clone() for key, value in weights.items()})
    except BertCrfError as err:
        raise _refused(encoder.model, first_line(err)) from err


def first_layers(
    raw: dict[str, Any], config: Any, layers: int, src: Path
) -> tuple[dict[str, Any], Callable[[str], bool]]:
    """What a checkpoint's config.json says of its first layers, and which tensors are beyond them.

    raw: the content of config.json.
    config: the transformers config of it.
    layers: number of layers to keep.
    src: the folder of the checkpoint, for messages.
    RETURNS: the config.json of the first layers, and whether a name is that of a tensor beyond.
    Raises BertCrfError if it has fewer layers, or if layers of this kind of model can't be chosen.
    """
    if not 0 < layers <= config.num_hidden_layers:
        raise BertCrfError(
            f"{layers} layers requested, {src} has {config.num_hidden_layers}: use 1 to "
            f"{config.num_hidden_layers}, or 0."
        )
    with torch.device("meta"):
        model = model_from_config(config)
    found = re.compile(rf"(?:^|\.){re.escape(name_of_layers(model))}\.(\d+)\.")

    def is_beyond(name: str) -> bool:
        number = found.search(name)
        return number is not None and int(number[1]) >= layers

    return config_of_layers(raw, model, range(layers)), is_beyond


def name_of_layers(model: Any) -> str:
    """The name of the list of a model's layers; "" if all layers share their weights (ALBERT).

    model: a transformers model.
    Raises BertCrfError if there is not just one such list.
    """
    if getattr(model.config, "num_hidden_groups", 0) == 1:
        return ""
    n_layers = model.config.num_hidden_layers
    found: list[str] = []
    for name, module in model.named_modules():
        is_inside = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, nn.ModuleList) and len(module) == n_layers and not is_inside:
            found.append(name)
    if len(found) != 1:
        raise _refused(model, f"it has {len(found)} lists of {n_layers} layers")
    return found[0]


def config_of_layers(raw: dict[str, Any], model: Any, layers: Sequence[int]) -> dict[str, Any]:
    """The config of a smaller encoder.

    raw: the content of config.json of the model.
    model: a transformers model, which stays as it is.
    layers: indices of the layers that the smaller one has.
    Raises BertCrfError if the layers of this kind of encoder can't be chosen.
    """
    before = model.config.to_dict()
    changed = copy.deepcopy(model.config)
    n_layers = model.config.num_hidden_layers
    try:
        changed.num_hidden_layers = len(layers)
    except NotImplementedError as err:  # Funnel has blocks.
        raise _refused(model, first_line(err)) from err
    # The number of layers has another name in some configs.
    other = {key: value for key, value in changed.to_dict().items() if value != before.get(key)}
    out = {**raw, **other}
    for key in _BY_LAYER:
        values = raw.get(key)
        if isinstance(values, list) and len(values) == n_layers:
            out[key] = [values[i] for i in layers]
    return out


def _renumbered(
    weights: dict[str, Tensor], prefix: str, layers: Sequence[int]
) -> dict[str, Tensor]:
    """The weights of the chosen layers under their new numbers, and all others.

    A weight that the layer in this place did not have is left out: ModernBERT's first layer lacks
    the norm that all others have. One that only the layer in this place has is kept: T5's first
    layer has the relative positions of all.
    """
    out = {}
    for key, value in weights.items():
        number, _, rest = key.removeprefix(prefix).partition(".")
        if not key.startswith(prefix):
            out[key] = value
        elif int(number) < len(layers):
            out[key] = weights.get(f"{prefix}{layers[int(number)]}.{rest}", value)
    return out


def _refused(model: Any, reason: str) -> BertCrfError:
    kind, n_layers = model.config.model_type, model.config.num_hidden_layers
    return BertCrfError(
        f"the layers of a {kind} model can't be chosen ({reason}): keep all {n_layers} layers, or "
        "use an encoder of another kind."
    )
