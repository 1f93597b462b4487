"""AdamW with parameter groups as a thinc optimizer.

Fine-tuning needs more than thinc's own optimizers have. The encoder, the head and the CRF have
learning rates of their own. Under Adam, scaling their gradients would have no effect. Biases,
normalisation layers and transitions have no weight decay. Gradients are clipped by their norm over
all parameters. One fused step updates all of them.

Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization".
"""

import math
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, Optional, cast

import numpy as np
import torch
from spacy.util import registry
from thinc.api import Optimizer
from torch import Tensor
from torch.optim.adamw import adamw

from .._devices import as_tensor
from ..errors import BertCrfError
from .encoder_rates import CRF_RATE, encoder_rates
from .gradients.clipping import Clipper
from .parameter_groups import decays, group_of, layer_of

Key = tuple[int, str]

#: Share of the peak rate below which averages follow the weights more closely.
_AVERAGE_UNTIL = 0.3
#: Updates of warmup where the number of updates is not known.
_BLIND_WARMUP = 20


@registry.optimizers("spacy_bert_crf.AdamW.v1")
def create_adamw(
    encoder_lr: float = 0.0,
    head_lr: float = 1e-3,
    crf_lr: float = CRF_RATE,
    weight_decay: float = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    grad_clip: float = 1.0,
    warmup: float = 0.1,
    decay: Literal["linear", "constant"] = "linear",
    total_steps: int = 0,
    averaging: float = 0.0,
    layer_decay: float = 1.0,
) -> Optimizer:
    """AdamW whose parameter groups have learning rates of their own.

    encoder_lr: peak learning rate of an encoder's parameters. 0 chooses it by the encoder's width
        (`suggested_encoder_lr`), and half of that if the rate does not fall to 0.
        An encoder that must not learn has `grad_factor = 0`.
    head_lr: peak learning rate of the classifier, and of other components' parameters outside an
        encoder.
    crf_lr: peak learning rate of the CRF's parameters. See `group_of` for the three groups.
    weight_decay: decoupled; not on biases, normalisation layers and CRF transitions.
    beta1: Adam's decay of the first moment.
    beta2: Adam's decay of the second moment.
    eps: Adam's term against division by 0.
    grad_clip: largest norm of the gradient over all parameters; 0 for none.
    warmup: the rates rise linearly over this share of `total_steps` (below 1), or over this number
        of updates (1 and more). The first rate is above 0.
    decay: "linear" towards 0 at `total_steps`, or "constant".
    total_steps: updates of the whole training. With 0 the training command computes it from
        max_steps and max_epochs. In a loop of your own, 0 keeps the rates at their peak after a
        warmup of 20 updates.
    averaging: decay of an exponential moving average of the weights (Polyak & Juditsky 1992);
        0 for none. Pipelines are evaluated and saved with the average, as with thinc's
        `use_averages`. It follows more closely where the rates are below 0.3 of their peak.
        It needs memory for one copy of the weights.
    layer_decay: factor on the encoder's rate from each layer to the layer below, so that lower
        layers change less (Howard & Ruder 2018, "discriminative fine-tuning"). Embeddings count
        as one more layer. 1 for one rate.
    Raises BertCrfError for a setting out of range.
    """
    return GroupedAdamW(
        rates={"encoder": encoder_lr, "head": head_lr, "crf": crf_lr},
        **{"beta1": beta1, "beta2": beta2, "eps": eps},
        weight_decay=weight_decay,
        grad_clip=grad_clip,
        warmup=warmup,
        decay=decay,
        total_steps=total_steps,
        averaging=averaging,
        layer_decay=layer_decay,
    )


class _Pending(NamedTuple):
    weight: Tensor
    grad: Tensor
    group: str
    decay: float
    average: bool
    lr_scale: float


class GroupedAdamW(Optimizer):
    """See `create_adamw`. Collects the parameters that components hand in, and steps all at once.

    spaCy's training loops call `step_schedules` after each update. Then all parameters are clipped
    and stepped together. A loop of your own around `nlp.update(examples, sgd=optimizer)` does not
    call it. There each component of this package ends its own update (`end_component`), and the
    schedule advances when a parameter comes for the second time.
    """

    __slots__ = (
        "rates", "weight_decay", "warmup", "decay", "total_steps", "averaging",
        "layer_decay", "state", "encoder_rates", "_by_width",
        "n_updates", "clipper", "_pending", "_stepped", "_loop_steps",
    )  # fmt: skip

    def __init__(
        self,
        *,
        rates: dict[str, float],
        weight_decay: float,
        beta1: float,
        beta2: float,
        eps: float,
        grad_clip: float,
        warmup: float,
        decay: str,
        total_steps: int,
        averaging: float = 0.0,
        layer_decay: float = 1.0,
    ) -> None:
        settings = {**rates, "weight_decay": weight_decay, "grad_clip": grad_clip}
        settings |= {"warmup": warmup, "total_steps": total_steps}
        for name, value in settings.items():
            if not (value >= 0 and math.isfinite(value)):
                raise BertCrfError(f"optimizer setting {name} = {value}: it must be 0 or more.")
        if not 0 <= averaging < 1:
            raise BertCrfError(
                f"optimizer setting averaging = {averaging}: it must be 0 or more, and below 1."
            )
        if decay not in ("linear", "constant"):
            raise BertCrfError(f"optimizer setting decay = {decay!r}: use linear or constant.")
        if not 0 < layer_decay <= 1:
            raise BertCrfError(
                f"optimizer setting layer_decay = {layer_decay}: it must be above 0, at most 1."
            )
        super().__init__(
            rates["encoder"], beta1=beta1, beta2=beta2, eps=eps, grad_clip=grad_clip,
            L2=weight_decay, use_averages=averaging > 0,
        )  # fmt: skip
        self.rates = dict(rates)
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.decay = decay
        self.total_steps = total_steps
        self.averaging = averaging
        self.layer_decay = layer_decay
        #: First and second moment and number of steps of each parameter.
        self.state: dict[Key, tuple[Tensor, Tensor, Tensor]] = {}
        #: Peak rate of each encoder that was met, by the id of its layer or shim.
        self.encoder_rates: dict[int, float] = {}
        self._by_width = not rates["encoder"]
        self.n_updates = 0
        #: Clips the gradients of an update. It knows their last norm, and the steps left out.
        self.clipper = Clipper()
        self._pending: dict[Key, _Pending] = {}
        self._stepped: set[Key] = set()
        self._loop_steps = False
        self._set_learn_rate()

    def __call__(
        self, key: Key, weights: Any, gradient: Any, *, lr_scale: float = 1.0
    ) -> tuple[Any, Any]:
        """thinc's protocol, for parameters of layers that do not know this class.

        The gradient is copied and cleared now, as thinc's own optimizers do. The step is made
        later, in place, on the device of the arrays.
        """
        if gradient.size:
            if type(weights).__module__ == "numpy" and not weights.flags.writeable:
                weights = np.array(weights)
            grad = as_tensor(gradient).clone()
            gradient *= 0
            self.collect(key, as_tensor(weights), grad, average=False, lr_scale=lr_scale)
        return weights, gradient

    def collect(
        self,
        key: Key,
        weight: Tensor,
        grad: Tensor,
        *,
        average: bool = True,
        lr_scale: float = 1.0,
    ) -> None:
        """Take a parameter and its gradient for the next step. Both are kept, not copied.

        key: id of the layer or shim, and name of the parameter.
        weight: the parameter.
        grad: its gradient.
        average: whether it takes part in `averaging`; its owner must then know `use_params`.
        lr_scale: factor on its learning rate.
        """
        if key in self._pending:  # a loop that stopped calling step_schedules
            self._loop_steps = False
            self._step()
        if key in self._stepped:
            self._advance()
        decay = self.weight_decay if decays(key[1]) else 0.0
        kept = (weight.detach(), grad.detach())
        self._pending[key] = _Pending(*kept, group_of(key[1]), decay, average, lr_scale)

    def meet(self, parameters: Iterable[tuple[Key, Tensor]]) -> None:
        """Choose the rates of new encoders; see `encoder_rates`. A first step does it too."""
        self.encoder_rates |= encoder_rates(
            parameters,
            known=self.encoder_rates,
            encoder_lr=None if self._by_width else self.rates["encoder"],
            layer_decay=self.layer_decay,
            is_constant=self.decay == "constant" or not self.total_steps,
        )
        self._set_learn_rate()

    def end_component(self) -> None:
        """End the update of one component. Steps now, unless the loop calls `step_schedules`."""
        if not self._loop_steps:
            self._step()

    def step_schedules(self) -> None:
        """End an update: step all parameters, and go on to the next learning rate."""
        self._loop_steps = True
        self._step()
        self._advance()

    def factor(self, update: int) -> float:
        """Learning rate of update 0, 1, … as a share of the peak."""
        total = self.total_steps
        warmup = self.warmup if self.warmup >= 1 else self.warmup * total
        if self.warmup and self.warmup < 1 and not total:
            warmup = _BLIND_WARMUP
        rise = (update + 1) / (warmup + 1)
        if rise < 1:
            return rise
        if self.decay == "constant" or not total:
            return 1.0
        # Above 0 to the last update. After it the rate stays as it was there.
        return max(total - update, 1) / max(total - warmup, 1)

    def state_dict(self, names: dict[int, str]) -> dict[str, Any]:
        """The state of the optimizer for `load_state_dict`, as tensors and plain values.

        names: a stable name for each layer or shim id (ids are counters of the process).
        """
        tensors: dict[str, Tensor] = {}
        for (owner, name), state in self.state.items():
            if owner in names:
                for part, tensor in zip(("exp_avg", "exp_avg_sq", "step"), state, strict=True):
                    tensors[f"{names[owner]}|{name}|{part}"] = tensor
        for (owner, name), tensor in (self.averages or {}).items():
            if owner in names:
                tensors[f"{names[owner]}|{name}|average"] = tensor
        counters = {"n_updates": self.n_updates, "total_steps": self.total_steps}
        counters |= {"skipped": self.clipper.skipped, "loop_steps": self._loop_steps}
        return {"tensors": tensors, "counters": counters | {"by_width": self._by_width}}

    def load_state_dict(self, data: dict[str, Any], ids: dict[str, int]) -> None:
        """Restore the state that `state_dict` returned.

        data: the result of `state_dict`.
        ids: the id of each of its names in this process.
        Raises BertCrfError if the pipeline lacks a layer of the state.
        """
        parts: dict[Key, dict[str, Tensor]] = {}
        for key, tensor in data["tensors"].items():
            owner, name, part = key.rsplit("|", 2)
            if owner not in ids:
                raise BertCrfError(
                    f"the saved optimizer state has layer {owner!r}, which the pipeline lacks: use "
                    "the pipeline it was saved with, or start anew."
                )
            parts.setdefault((ids[owner], name), {})[part] = tensor
        self.state = {k: (p["exp_avg"], p["exp_avg_sq"], p["step"]) for k, p in parts.items()}
        if self.averages is not None:
            self.averages.clear()
            self.averages.update({k: p["average"] for k, p in parts.items() if "average" in p})
        self.n_updates = data["counters"]["n_updates"]
        # In states of the first version an encoder_lr of 0 trained no encoder.
        self._by_width &= data["counters"].get("by_width", False)
        self.total_steps = data["counters"]["total_steps"]
        self.clipper = Clipper(data["counters"]["skipped"])
        self._loop_steps = data["counters"]["loop_steps"]
        self._pending, self._stepped = {}, set()
        self._set_learn_rate()

    def _advance(self) -> None:
        self.n_updates += 1
        self._stepped = set()
        self._set_learn_rate()

    def _set_learn_rate(self) -> None:
        # A slot of the base class, which mypy does not see.
        peak = self.rates["encoder"] or max(self.encoder_rates.values(), default=0.0)
        setattr(self, "learn_rate", peak * self.factor(self.n_updates))  # noqa: B010

    @torch.inference_mode(False)
    @torch.no_grad()
    def _step(self) -> None:
        pending, self._pending = self._pending, {}
        self._stepped |= pending.keys()
        if not pending:
            return
        grads = [entry.grad for entry in pending.values()]
        clipped = self.clipper.clip(grads, self.grad_clip, self.n_updates)
        if not clipped.is_step:
            return
        encoders = {key[0] for key, entry in pending.items() if entry.group == "encoder"}
        if not encoders <= self.encoder_rates.keys():
            self.meet((key, entry.weight) for key, entry in pending.items())
        factor = self.factor(self.n_updates)
        groups: dict[tuple[Any, ...], list[Key]] = {}
        depths = self._depths(pending) if self.layer_decay < 1 else {}
        for key, entry in pending.items():
            rate = self.rates[entry.group] * entry.lr_scale
            if entry.group == "encoder":
                rate = (self.rates["encoder"] or self.encoder_rates[key[0]]) * entry.lr_scale
                if depths:
                    rate *= self.layer_decay ** (depths[key[0]] - layer_of(key[1]))
            kind = (rate * factor, entry.decay, entry.weight.device, entry.weight.dtype)
            groups.setdefault(kind, []).append(key)
        for (rate, decay, _, _), keys in groups.items():
            self._adamw(keys, pending, rate, decay, clipped.found_inf)
        if self.averaging:
            self._average(pending)

    def _depths(self, pending: Iterable[Key]) -> dict[int, int]:
        """The number of the last layer of each encoder."""
        depths: dict[int, int] = {}
        for owner, name in pending:
            depths[owner] = max(depths.get(owner, -1), layer_of(name))
        return depths

    def _average(self, pending: dict[Key, _Pending]) -> None:
        """Move the averages towards the weights; all the way where the rates are close to 0."""
        averages = cast(dict[Key, Tensor], self.averages)
        slow = min(1.0, self.factor(self.n_updates) / _AVERAGE_UNTIL)
        share = min(1.0, (1 - self.averaging) / slow)
        old: dict[torch.device, tuple[list[Tensor], list[Tensor]]] = {}
        for key, entry in pending.items():
            average = averages.get(key)
            if not entry.average:
                continue
            if average is None or average.shape != entry.weight.shape:
                averages[key] = entry.weight.clone()
            else:
                pair = old.setdefault(average.device, ([], []))
                pair[0].append(average)
                pair[1].append(entry.weight)
        for mine, theirs in old.values():
            torch._foreach_lerp_(mine, theirs, share)

    def _adamw(
        self,
        keys: Iterable[Key],
        pending: dict[Key, _Pending],
        lr: float,
        decay: float,
        found_inf: Optional[Tensor],
    ) -> None:
        weights, grads, states = [], [], []
        for key in keys:
            weight = pending[key].weight
            state = self.state.get(key)
            if state is None or state[0].shape != weight.shape:
                step = torch.zeros((), dtype=torch.float32, device=weight.device)
                state = (torch.zeros_like(weight), torch.zeros_like(weight), step)
                self.state[key] = state
            elif state[0].device != weight.device:
                state = (state[0].to(weight.device), *(s.to(weight.device) for s in state[1:]))  # type: ignore[assignment]
                self.state[key] = state
            weights.append(weight)
            grads.append(pending[key].grad)
            states.append(state)
        adamw(
            weights, grads, [s[0] for s in states], [s[1] for s in states], [],
            [s[2] for s in states],
            fused=True, amsgrad=False, beta1=self.b1, beta2=self.b2, lr=lr,
            weight_decay=decay, eps=self.eps, maximize=False, found_inf=found_inf,
        )  # fmt: skip
