"""Learning rates that follow from the kind of a parameter, and from the size of its encoder."""

import logging
import math
import warnings
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from typing import NamedTuple, Optional

from torch import Tensor

from .parameter_groups import group_of, layer_of

#: A learning rate above it usually destroys what a deep encoder knows.
HIGH_RATE = 1e-3
#: Share of the suggested rate for one that stays. That is the mean of a rate that falls to 0.
CONSTANT_SHARE = 0.5
#: Learning rate of the CRF by default.
CRF_RATE = 1e-2

#: Learning rates that were chosen. The commands print them.
logger = logging.getLogger("spacy_bert_crf.model")


def suggested_encoder_lr(hidden_size: int, layer_decay: float = 0.85) -> float:
    """A learning rate for fine-tuning a BERT of this width.

    With a layer decay of 0.85 or less it is 5e-4 at a width of 384, 8e-5 at 768, and log-linear
    between and beyond, at most 1e-3. Both were measured. Without layer decay it is 0.6 of that,
    and linear in between.

    hidden_size: width of the encoder.
    layer_decay: factor on the rate from each layer to the layer below; 1 for none.
    """
    slope = math.log(5e-4 / 8e-5) / math.log(768 / 384)
    rate = min(1e-3, 5e-4 * (384 / hidden_size) ** slope)
    share = 1 - 0.4 * max(0.0, layer_decay - 0.85) / 0.15
    return float(f"{rate * share:.2g}")


class EncoderSize(NamedTuple):
    """Size of an encoder."""

    #: Width of its hidden states.
    width: int
    #: Number of its layers; 0 if the names of its parameters do not tell.
    layers: int

    @property
    def is_deep(self) -> bool:
        """Whether a learning rate above `HIGH_RATE` usually destroys what it knows."""
        return self.layers >= 4 or self.width >= 256


def encoder_size(shapes: Mapping[str, tuple[int, ...]]) -> EncoderSize:
    """Size of an encoder by the shapes of its parameters.

    The width is the most common size of biases and normalisation weights. Where there are none, it
    is the smallest dimension of the matrices.

    shapes: the shape of each parameter by its name; at least one.
    """
    vectors = Counter(shape[0] for shape in shapes.values() if len(shape) == 1)
    smallest = min((min(shape) for shape in shapes.values() if len(shape) > 1), default=1)
    width = max(vectors, key=lambda size: (vectors[size], -size)) if vectors else smallest
    return EncoderSize(width, 1 + max(map(layer_of, shapes)))


def held_scale(parameters: Iterable[tuple[str, Tensor]], learn_rate: float) -> float:
    """Factor that holds a deep encoder's rate where an optimizer has one rate for all.

    spaCy's default optimizer is Adam at 0.001 for every parameter. That destroys a deep encoder.

    parameters: those of the encoder by their names.
    learn_rate: the optimizer's rate.
    RETURNS: factor from the optimizer's rate to half of the rate by the encoder's width, since it
        does not fall to 0 as a schedule of AdamW.v1 does. It is 1 for a rate
        below `HIGH_RATE`, which was chosen for an encoder, and for a small encoder.
    Warns where it is not 1. Python shows that once.
    """
    if learn_rate < HIGH_RATE:
        return 1.0
    size = encoder_size({name: tuple(weight.shape) for name, weight in parameters})
    rate = CONSTANT_SHARE * suggested_encoder_lr(size.width, layer_decay=1.0)
    if not size.is_deep or rate >= learn_rate:
        return 1.0
    warnings.warn(
        f"the optimizer has a learning rate of {learn_rate:g} for all parameters, which destroys "
        f"an encoder of width {size.width}: the encoder trains at {rate:g}. The optimizer "
        "spacy_bert_crf.AdamW.v1 has rates for each part. Make a config with it by "
        "`python -m spacy bert-crf init-config`.",
        stacklevel=3,
    )
    return rate / learn_rate


def crf_scale(name: str, learn_rate: float) -> float:
    """Factor for the CRF's parameters where an optimizer has one rate for all.

    Transitions start near 0 and grow to several nats, so the CRF needs ten times the rate of the
    classifier, as in the defaults of `create_adamw`. It gets no more than the default there.

    name: name of the parameter.
    learn_rate: the optimizer's rate.
    RETURNS: 10 for the CRF at a rate of 0.001 or less, down to 1 at `CRF_RATE`; 1 for the others.
    """
    if group_of(name) != "crf" or learn_rate <= 0:
        return 1.0
    return min(10.0, max(1.0, CRF_RATE / learn_rate))


def encoder_rates(
    parameters: Iterable[tuple[tuple[int, str], Tensor]],
    *,
    known: Container[int],
    encoder_lr: Optional[float],
    layer_decay: float,
    is_constant: bool = False,
) -> dict[int, float]:
    """Peak learning rates of encoders. A rate that is chosen here is logged.

    parameters: those of layers and shims, each under (id of its owner, name).
    known: owners that are left out.
    encoder_lr: the rate of all; None for a rate by the width of each.
    layer_decay: as for `suggested_encoder_lr`.
    is_constant: whether the rate stays at its peak, and does not fall to 0.
    RETURNS: the rate of each owner that has parameters of an encoder.
    Warns of a rate that is too high for a deep encoder.
    """
    encoders: dict[int, dict[str, tuple[int, ...]]] = {}
    for (owner, name), weight in parameters:
        if owner not in known and group_of(name) == "encoder":
            encoders.setdefault(owner, {})[name] = tuple(weight.shape)
    rates = {}
    for owner, shapes in encoders.items():
        size = encoder_size(shapes)
        suggested = suggested_encoder_lr(size.width, layer_decay)
        suggested *= CONSTANT_SHARE if is_constant else 1
        about = f"width {size.width}" + (f", {size.layers} layers" if size.layers else "")
        rates[owner] = suggested if encoder_lr is None else encoder_lr
        if encoder_lr is None:
            logger.info("learning rate of the encoder (%s): %g, by its width", about, suggested)
        elif encoder_lr > HIGH_RATE and size.is_deep:
            warnings.warn(
                f"encoder_lr = {encoder_lr:g} usually destroys an encoder of this size ({about}): "
                f"use 0 for a rate by its width, here {suggested:g}.",
                stacklevel=3,
            )
    return rates
