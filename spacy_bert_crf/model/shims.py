"""Torch modules as thinc shims: hand parameters to the optimizer, save and load.

They differ from thinc's PyTorchShim in three ways. A module stays in evaluation mode except for
the forward pass of an update, so that threads can share it in prediction. Parameters and gradients
reach the optimizer as tensors. A shim builds its module itself from what was saved.
"""

import copy
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import FunctionType
from typing import Any, Optional, cast

import safetensors.torch
import srsly
import torch
from spacy.tokens import Doc
from spacy.util import registry
from thinc.api import Optimizer
from thinc.shims.shim import Shim
from thinc.util import torch2xp, xp2torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .._devices import default_device
from ..crf.tag_head import TagHead
from ..encoder import hf as enc
from ..encoder.cpu.bert import CpuBert
from ..encoder.cpu.run import run_cpu
from ..encoder.cuda.bert import CudaBert
from ..encoder.cuda.run import run_cuda
from ..encoder.fast_copy import FastCopy
from ..encoder.passes import Plan, plan_docs, run, set_dropout
from ..encoder.precision import kept_pieces, pass_size, products_dtype
from ..errors import BertCrfError
from .encoder_rates import crf_scale, held_scale
from .gradients.frozen import freeze_lowest
from .gradients.scaling import GradScaler
from .optimizer import GroupedAdamW
from .shared.bounded import Bounded
from .weights_file import CHECKSUMS, XXH3, PendingWeights, beside, write_weights

# OpenMP's threads do not survive a fork. A child process that used them would wait for ever.
# nlp.pipe(n_process=...) forks. Several processes are best with one thread each.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


class TorchShim(Shim):
    """A torch module inside a thinc layer. Subclasses define its saved form."""

    _model: Optional[nn.Module]

    @property
    def module(self) -> Any:
        """The torch module. Raises BertCrfError before there is one."""
        if self._model is None:
            raise BertCrfError(
                "the component has no weights yet: call nlp.initialize(), or load a trained "
                "pipeline with spacy.load()."
            )
        return self._model

    @property
    def is_built(self) -> bool:
        """Whether there is a module yet."""
        return self._model is not None

    @property
    def device(self) -> torch.device:
        """Where the module's parameters are."""
        return cast(torch.device, next(self.module.parameters()).device)

    def finish_update(self, optimizer: Optimizer) -> None:
        """Hand the parameters that have a gradient to the optimizer, and clear the gradients."""
        if self._model is None:
            return
        is_grouped = isinstance(optimizer, GroupedAdamW)
        held = 1.0 if is_grouped else self._held_scale(optimizer)
        for name, param in self._model.named_parameters():
            if param.grad is None:
                continue
            key = (self.id, name)
            if is_grouped:
                optimizer.collect(key, param.data, param.grad)
            else:
                weights, grad = torch2xp(param.data), torch2xp(param.grad)
                # `Language.rehearse` hands over a function, which keeps them for the optimizer.
                scale = held * crf_scale(name, optimizer.learn_rate)
                more = {} if isinstance(optimizer, FunctionType) else {"lr_scale": scale}
                stepped = optimizer(key, weights, grad, **more)[0]
                # Into the tensor that is there: a new one for each update was never freed.
                param.data.copy_(xp2torch(stepped, device=param.device))
            param.grad = None

    def _held_scale(self, optimizer: Optimizer) -> float:
        """Factor on the one rate of an optimizer that is not made for encoders."""
        return 1.0

    @contextmanager
    def use_params(self, params: dict[tuple[int, str], Any]) -> Iterator[None]:
        """thinc's protocol: run on other parameters (averages), and take the own ones back."""
        held: list[tuple[nn.Parameter, Tensor]] = []
        for name, param in self._model.named_parameters() if self._model is not None else ():
            value = params.get((self.id, name))
            if value is not None and value.shape == param.shape:
                held.append((param, param.data))
                if not isinstance(value, Tensor):
                    value = xp2torch(value, device=param.device)
                param.data = value
        try:
            yield
        finally:
            for param, data in held:
                param.data = data

    def to_device(self, device_type: str, device_id: int) -> None:
        """thinc's protocol: move to "cpu" or to a "gpu" by number.

        `Model.to_gpu` makes its GPU the current one, and hands over the number 0 for every GPU.
        """
        if self._model is not None:
            number = 0 if device_type == "cpu" else device_id or torch.cuda.current_device()
            self._model.to("cpu" if device_type == "cpu" else f"cuda:{number}")

    def copy(self) -> "TorchShim":
        """A copy with weights and an identity of its own."""
        new = copy.deepcopy(self)
        with Shim.global_id_lock:
            Shim.global_id += 1
            new.id = Shim.global_id
        return new

    def to_bytes(self) -> bytes:
        saved = None if self._model is None else self._pack()
        if saved is not None:
            saved["crc32"] = _checksum(saved)
        return cast(bytes, srsly.msgpack_dumps(saved))

    def from_bytes(self, data: bytes) -> "TorchShim":
        saved = srsly.msgpack_loads(data)
        if saved is not None:
            # Pipelines of the first version have none.
            if saved.pop("crc32", None) not in (None, _checksum(saved)):
                raise BertCrfError("its bytes are not those that were saved (checksum).")
            self._unpack(saved)
            self.module.to(default_device()).eval()
        return self

    def _pack(self) -> dict[str, Any]:
        raise NotImplementedError

    def _unpack(self, saved: dict[str, Any]) -> None:
        raise NotImplementedError


class EncoderShim(TorchShim):
    """Holds a Hugging Face encoder and its tokenizer.

    config: max_length, overlap, context, batch_pieces, mixed_precision, grad_scaler_config,
        adversarial, frozen_layers; and under "source" the arguments of `load_encoder`.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(None, config)
        self._tokenizer: Any = None
        self._quantize = ""
        self.fast = FastCopy()
        self.grad_scaler = GradScaler(config.get("grad_scaler_config", {}))
        #: Most input ids of a pass, and whether texts of different length can share one.
        self.longest, self._padding = 0, True
        self._context = "sentences"  # where the setting is "auto"

    @property
    def loaded(self) -> enc.LoadedEncoder:
        """The encoder and its tokenizer."""
        return enc.LoadedEncoder(self.module, self._tokenizer)

    @property
    def quantize(self) -> str:
        """ "" to predict in float32, "int8" to predict in 8-bit integers (see int8_encoder)."""
        return self._quantize

    @quantize.setter
    def quantize(self, value: str) -> None:
        if value not in ("", "int8"):
            raise BertCrfError(f'quantize = {value!r} is not known: use "" or "int8".')
        self._quantize = value
        self.fast.clear()

    @property
    def context(self) -> str:
        """What a pass sees: "sentences" or "fit"."""
        configured: str = self.cfg["context"]
        return self._context if configured == "auto" else configured

    def load(self) -> None:
        """Load the encoder from where the config says, to the device of the current thinc ops."""
        source = dict(self.cfg["source"])
        if source["name"] == enc.PACKAGED and not Path(enc.PACKAGED).exists():
            packaged = registry.misc.get("spacy_bert_crf.packaged_encoder.v1")
            source["name"] = str(packaged(source.get("allow_download", False)))
        self.adopt(enc.load_encoder(**source))
        wanted = self.cfg["max_length"]
        if self.longest < wanted:
            enc.logger.info(
                "note: max_length %d is more than the encoder takes: windows have %d wordpieces",
                wanted, self.longest,
            )  # fmt: skip

    def adopt(self, loaded: enc.LoadedEncoder) -> None:
        """Take over an encoder that is loaded already."""
        self.fast.clear()
        self._model, self._tokenizer = loaded
        self.longest = enc.longest_input(loaded, self.cfg["max_length"])
        self._padding = enc.takes_padding(loaded.model)
        freeze_lowest(self.module, self.cfg.get("frozen_layers", 0))
        self.module.to(default_device()).eval()

    def plan(self, docs: list[Doc], is_train: bool = False) -> Plan:
        """The encoder passes of some docs, and the rows that each of their tokens reads."""
        return plan_docs(
            self._tokenizer,
            docs,
            longest=self.longest,
            overlap=self.cfg["overlap"],
            context=self.context,
            limit=self.pass_size(is_train),
            padding=self._padding,
        )

    def pass_size(self, is_train: bool = False) -> int:
        """Largest number of wordpieces of an encoder pass, padding included."""
        if self.cfg["batch_pieces"]:
            return int(self.cfg["batch_pieces"])
        return pass_size(self.module.config, self.device, self.autocast(is_train), is_train)

    def autocast(self, is_train: bool = True) -> Optional[torch.dtype]:
        """dtype of mixed precision, None for float32; see `products_dtype`."""
        return products_dtype(self.cfg["mixed_precision"], self.device, is_train)

    @torch.inference_mode()
    def predict_vectors(
        self, docs: list[Doc], project: Optional[tuple[Tensor, Tensor]] = None
    ) -> Tensor:
        """See `encoder.run`. Safe from several threads. On CUDA the host does not wait for it."""
        dtype = None if self._quantize else self.autocast(is_train=False)
        fast = self.fast.get(self.loaded, dtype, self.longest if self._quantize else 0)
        plan = self.plan(docs)
        if not plan.batches:
            fast = self.module
        elif isinstance(fast, CpuBert):
            return run_cpu(fast, plan, self.pass_size(), project)
        elif isinstance(fast, CudaBert):
            return run_cuda(fast, plan, self.pass_size(), project)
        return run(fast, plan, self.device, project, dtype)

    def update_vectors(
        self, docs: list[Doc], dropout: float, bounded: bool = False
    ) -> tuple[Tensor, Callable[[Tensor], None]]:
        """Vectors of all tokens, and the function that takes their gradient. [N, width]

        docs: the docs.
        dropout: dropout rate, from 0 to 1.
        bounded: keep the activations of `kept_pieces` wordpieces at most. Those of further passes
            are computed again in backpropagation (Chen et al. 2016, "Training Deep Nets with
            Sublinear Memory Cost").
        """
        plan, dtype = self.plan(docs, is_train=True), self.autocast()
        forward = None
        if bounded:
            kept = self.cfg["batch_pieces"] or kept_pieces(self.pass_size(True), self.device)
            forward = Bounded(self.module, kept, lambda: self._attention_for(dtype))
        self.fast.clear()  # the weights are about to change
        set_dropout(self.module, dropout)
        self.module.train()
        try:
            with self._attention_for(dtype):
                vectors = run(self.module, plan, self.device, autocast=dtype, forward=forward)
        finally:
            self.module.eval()

        def backprop(grad: Tensor) -> None:
            if not vectors.requires_grad:  # no wordpiece in the whole batch
                return
            torch.autograd.backward([vectors], [self.grad_scaler.scale(grad, dtype)])

        return vectors, backprop

    def _held_scale(self, optimizer: Optimizer) -> float:
        return held_scale(self.module.named_parameters(), optimizer.learn_rate)

    def finish_update(self, optimizer: Optimizer) -> None:
        """See TorchShim. Without gradients, the scale of float16 stays as it is, too."""
        params = list(self.module.parameters())
        if all(param.grad is None for param in params):
            return
        self.grad_scaler.unscale(params)
        super().finish_update(optimizer)
        self.grad_scaler.update()

    @contextmanager
    def use_params(self, params: dict[tuple[int, str], Any]) -> Iterator[None]:
        self.fast.clear()
        try:
            with super().use_params(params):
                yield
        finally:
            self.fast.clear()

    def to_device(self, device_type: str, device_id: int) -> None:
        self.fast.clear()
        super().to_device(device_type, device_id)

    def _attention_for(self, dtype: Optional[torch.dtype]) -> AbstractContextManager[Any]:
        """How an update computes attention.

        On a CPU in bfloat16, backpropagation through torch's fused kernel takes ten times as long
        as through plain products.
        """
        if dtype is None or self.device.type != "cpu":
            return nullcontext()
        return cast(AbstractContextManager[Any], sdpa_kernel(SDPBackend.MATH))

    def _pack(self) -> dict[str, Any]:
        packed = {**enc.pack(self.loaded), "context": self.context}
        weights, file = enc.weights_of(self.loaded), beside()
        if file is None:
            return {**packed, "weights": safetensors.torch.save(weights)}
        return {**packed, XXH3: write_weights(file, weights)}

    def _unpack(self, saved: dict[str, Any]) -> None:
        # Pipelines from before the setting were trained with whole texts.
        self._context = saved.pop("context", "fit")
        if "weights" in saved:
            self.adopt(enc.unpack(saved, safetensors.torch.load(saved["weights"])))
            return
        file = beside()
        if file is None:
            raise BertCrfError("its weights are in a file beside it: load the component's folder.")
        kind = next((key for key in CHECKSUMS if key in saved), None)
        if kind is None:
            raise BertCrfError("it holds no checksum of the weights.")
        pending = PendingWeights(file, kind)
        self.adopt(enc.unpack(saved, pending.tensors))
        pending.check(saved[kind])


class HeadShim(TorchShim):
    """Holds a TagHead."""

    def build(self, width: int, n_tags: int, device: Optional[torch.device] = None) -> None:
        """Make a new head of this size, or room for more tags in the present one.

        width: width of the token vectors.
        n_tags: number of tags.
        device: device of a new head, None for the default. The present one stays where it is.
        """
        if self._model is None or self.module.classifier.in_features != width:
            self._model = TagHead(width, n_tags).to(device or default_device())
        elif self.module.crf.n_tags != n_tags:
            self.module.extend(n_tags)
        self.module.eval()

    def _pack(self) -> dict[str, Any]:
        classifier = self.module.classifier
        weights = {k: v.cpu().contiguous() for k, v in self.module.state_dict().items()}
        return {
            "width": classifier.in_features,
            "n_tags": classifier.out_features,
            "weights": safetensors.torch.save(weights),
        }

    def _unpack(self, saved: dict[str, Any]) -> None:
        weights = safetensors.torch.load(saved["weights"])
        n_tags, width = weights["classifier.weight"].shape
        if (width, n_tags) != (saved["width"], saved["n_tags"]):
            raise BertCrfError("the weights of its head have another size than was saved.")
        self._model = TagHead(width, n_tags)
        self._model.load_state_dict(weights)


def _checksum(saved: dict[str, Any]) -> int:
    """CRC-32 of what a shim saves: a flipped bit in a weight would show nowhere else."""
    rest = {key: value for key, value in saved.items() if key not in ("weights", "crc32")}
    weights = zlib.crc32(saved.get("weights", b""))
    return zlib.crc32(cast(bytes, srsly.msgpack_dumps(rest)), weights)
