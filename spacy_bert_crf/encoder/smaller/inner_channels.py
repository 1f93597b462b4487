"""A smaller encoder whose feed-forward networks have fewer inner channels.

A layer's feed-forward network computes each inner channel by itself, and its output is a sum over
them. So some can be left out, and the width of the encoder stays. Hou et al. (2020), "DynaBERT",
make BERT narrower by the importance of its channels, and let it learn from the wider one.
"""

import json
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..._host import plain_torch
from ...errors import BertCrfError, first_line
from ..hf import LoadedEncoder, longest_input, pack, unpack, weights_of
from .layers import name_of_layers

#: Where BERT-like layers and DistilBERT's have the two linear layers, and the config their width.
_PLACES = (
    ("intermediate.dense", "output.dense", "intermediate_size"),
    ("ffn.lin1", "ffn.lin2", "hidden_dim"),
)


def inner_width_of(encoder: LoadedEncoder) -> int:
    """The smallest number of inner channels that a layer's network has.

    Raises BertCrfError if the networks are not known.
    """
    return min(outer.in_features for _, _, outer in _networks(encoder.model))


def check_inner_width(encoder: LoadedEncoder, width: int) -> None:
    """Raise BertCrfError unless the encoder's feed-forward networks can have this inner width.

    width: number of inner channels. 0 for all.
    """
    if not width:
        return
    most = inner_width_of(encoder)
    if not 1 <= width <= most:
        raise BertCrfError(
            f"{width:,} inner channels requested, the encoder has {most:,}: use 1 to {most:,}, or "
            "0 for all."
        )


@plain_torch()
def with_inner_width(encoder: LoadedEncoder, width: int, texts: Iterable[str]) -> LoadedEncoder:
    """An encoder whose feed-forward networks have fewer inner channels, on the CPU.

    A layer keeps the channels that add most to its output in the texts, by the mean of their
    squared activation times the squared norm of their weights in the outer layer. All other weights
    are the same, and so is the order of the channels.

    encoder: the other encoder, on the CPU.
    width: number of inner channels of each layer. 0 for all.
    texts: some texts of the kind that it is for. Of a long one, only the first window is read.
    RETURNS: the narrower encoder, which shares no memory with the other one; the other one itself
        if it has this width.
    Raises BertCrfError for a width that is not possible, an encoder whose networks are not known,
    and if there is no text.
    """
    if not width:
        return encoder
    check_inner_width(encoder, width)
    networks = _networks(encoder.model)
    if all(outer.in_features == width for _, _, outer in networks):
        return encoder
    energies = _energies(encoder, [outer for _, _, outer in networks], texts)
    packed, weights = pack(encoder), weights_of(encoder)
    key = ""
    for (name, place, outer), energy in zip(networks, energies, strict=True):
        inner_name, outer_name, key = _PLACES[place]
        # shape: (inner width)
        importance = energy * outer.weight.detach().square().sum(0)
        # shape: (width)
        kept = importance.argsort(descending=True)[:width].sort().values
        for end in ("weight", "bias"):
            whole = f"{name}.{inner_name}.{end}"
            if whole in weights:
                weights[whole] = weights[whole][kept]
        whole = f"{name}.{outer_name}.weight"
        weights[whole] = weights[whole][:, kept].contiguous()
    config = json.loads(packed["config"])
    packed["config"] = json.dumps({**config, key: width}, sort_keys=True)
    try:
        return unpack(packed, {name: value.clone() for name, value in weights.items()})
    except BertCrfError as err:
        raise _refused(encoder.model, first_line(err)) from err


def _networks(model: Any) -> list[tuple[str, int, nn.Linear]]:
    """Name, place (an index of _PLACES) and outer linear layer of each layer's network.

    Raises BertCrfError if a layer has none that is known.
    """
    layers = name_of_layers(model)
    if not layers:
        raise _refused(model, "all layers share one")
    found = []
    for number, layer in enumerate(model.get_submodule(layers)):
        for place, (inner_name, outer_name, key) in enumerate(_PLACES):
            inner, outer = _part(layer, inner_name), _part(layer, outer_name)
            is_pair = isinstance(inner, nn.Linear) and isinstance(outer, nn.Linear)
            if is_pair and inner.out_features == outer.in_features == getattr(
                model.config, key, None
            ):
                found.append((f"{layers}.{number}", place, outer))
                break
        else:
            raise _refused(model, f"layer {number + 1} has other parts than BERT's")
    return found


def _part(module: nn.Module, name: str) -> Any:
    """A submodule. None if it is not there."""
    try:
        return module.get_submodule(name)
    except AttributeError:
        return None


@torch.inference_mode()
def _energies(
    encoder: LoadedEncoder, outers: list[nn.Linear], texts: Iterable[str]
) -> list[Tensor]:
    """The mean square of each inner channel's activation. [inner width] each

    outers: the layers that read the activations.
    Raises BertCrfError if there is no text.
    """
    sums = [torch.zeros(outer.in_features, dtype=torch.float64) for outer in outers]
    count = 0

    def watch(place: int) -> Any:
        def see(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            # shape: (pieces, inner width)
            rows = inputs[0].reshape(-1, inputs[0].shape[-1])
            sums[place] += rows.double().square().sum(0)

        return see

    hooks = [outer.register_forward_pre_hook(watch(i)) for i, outer in enumerate(outers)]
    longest = longest_input(encoder, 0)
    try:
        for text in texts:
            # One text a pass, so that there is no padding.
            ids = encoder.tokenizer(
                text, truncation=True, max_length=longest, return_tensors="pt"
            )["input_ids"]  # fmt: skip
            if ids.shape[1]:
                encoder.model(input_ids=ids, attention_mask=torch.ones_like(ids))
                count += ids.shape[1]
    finally:
        for hook in hooks:
            hook.remove()
    if not count:
        raise BertCrfError(
            "there is no text by which to choose the inner channels: give a training corpus, or "
            "texts by --text, or leave inner_width 0."
        )
    return [total.float() / count for total in sums]


def _refused(model: Any, reason: str) -> BertCrfError:
    return BertCrfError(
        f"the feed-forward networks of a {model.config.model_type} model can't be made narrower "
        f"({reason}): leave inner_width 0, or use an encoder of another kind."
    )
