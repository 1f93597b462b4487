"""The thinc seam: torch modules as thinc layers; converts inputs, outputs and gradients, and saves.

Unlike thinc's PyTorchWrapper, modules stay in evaluation mode but for the forward pass of an
update, so that threads that predict share a module safely; parameters and gradients go to the
optimizer as tensors; and a shim builds its module itself from what was saved.
"""

import copy
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Optional, TypeVar, cast

import numpy as np
import safetensors.torch
import srsly
import torch
from numpy.typing import NDArray
from spacy.tokens import Doc
from thinc.api import Model, Optimizer, PyTorchGradScaler, get_current_ops
from thinc.shims.shim import Shim
from thinc.types import Floats2d
from thinc.util import get_torch_default_device, torch2xp, xp2torch
from torch import Tensor, nn

from . import encoder as enc
from .errors import BertCrfError
from .head import TagHead
from .optim import GroupedAdamW
from .windows import IntArray, Plan, padded_batches, plan_batches, token_pieces

#: Most steps of one CRF batch, padding included: bounds its memory.
_CRF_BATCH_STEPS = 262_144

_SENTENCE_END = re.compile(r"[。！？!?…\n]+[”’」』）》)\]\"']*")

# OpenMP's threads do not survive a fork: a child (nlp.pipe with n_process) that used them would
# wait for ever. One thread a process is also what several processes want.
os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


class TorchShim(Shim):
    """A torch module inside a thinc layer. Subclasses say what is saved beside the weights."""

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
        for name, param in self._model.named_parameters():
            if param.grad is None:
                continue
            key = (self.id, name)
            if isinstance(optimizer, GroupedAdamW):
                optimizer.collect(key, param.data, param.grad)
            else:
                weights, grad = torch2xp(param.data), torch2xp(param.grad)
                param.data = xp2torch(optimizer(key, weights, grad)[0], device=param.device)
            param.grad = None

    @contextmanager
    def use_params(self, params: dict[tuple[int, str], Any]) -> Iterator[None]:
        """thinc's protocol: run on other parameters (averages), and take the own ones back."""
        held: list[tuple[nn.Parameter, Tensor]] = []
        for name, param in self._model.named_parameters() if self._model is not None else ():
            if (self.id, name) in params:
                held.append((param, param.data))
                param.data = params[self.id, name]
        try:
            yield
        finally:
            for param, data in held:
                param.data = data

    def to_device(self, device_type: str, device_id: int) -> None:
        """thinc's protocol: move to "cpu" or to a "gpu" by number."""
        if self._model is not None:
            self._model.to("cpu" if device_type == "cpu" else f"cuda:{device_id}")

    def copy(self) -> "TorchShim":
        """A copy with weights and an identity of its own."""
        new = copy.deepcopy(self)
        with Shim.global_id_lock:
            Shim.global_id += 1
            new.id = Shim.global_id
        return new

    def to_bytes(self) -> bytes:
        return cast(bytes, srsly.msgpack_dumps(None if self._model is None else self._pack()))

    def from_bytes(self, data: bytes) -> "TorchShim":
        saved = srsly.msgpack_loads(data)
        if saved is not None:
            self._unpack(saved)
            self.module.to(get_torch_default_device()).eval()
        return self

    def _pack(self) -> dict[str, Any]:
        raise NotImplementedError

    def _unpack(self, saved: dict[str, Any]) -> None:
        raise NotImplementedError


class HeadShim(TorchShim):
    """Holds a TagHead."""

    def build(self, width: int, n_tags: int) -> None:
        """A new head of this size, or the present one with room for more tags."""
        if self._model is None or self.module.classifier.in_features != width:
            self._model = TagHead(width, n_tags)
        elif self.module.crf.n_tags != n_tags:
            self.module.extend(n_tags)
        self.module.to(get_torch_default_device()).eval()

    def _pack(self) -> dict[str, Any]:
        classifier = self.module.classifier
        weights = {k: v.cpu().contiguous() for k, v in self.module.state_dict().items()}
        return {
            "width": classifier.in_features,
            "n_tags": classifier.out_features,
            "weights": safetensors.torch.save(weights),
        }

    def _unpack(self, saved: dict[str, Any]) -> None:
        self._model = TagHead(saved["width"], saved["n_tags"])
        self._model.load_state_dict(safetensors.torch.load(saved["weights"]))


class EncoderShim(TorchShim):
    """Holds a Hugging Face encoder and its tokenizer.

    config: max_length, overlap, long_texts, batch_pieces, mixed_precision, grad_scaler_config;
        and under "source" the arguments of `load_encoder`.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(None, config)
        self._tokenizer: Any = None
        self._scaler = PyTorchGradScaler(enabled=False)

    @property
    def loaded(self) -> enc.LoadedEncoder:
        """The encoder and its tokenizer."""
        return enc.LoadedEncoder(self.module, self._tokenizer)

    def load(self) -> None:
        """Load the encoder from where the config says, to the device of the current thinc ops."""
        self._model, self._tokenizer = enc.load_encoder(**self.cfg["source"])
        self.module.to(get_torch_default_device()).eval()

    def plan(self, docs: list[Doc]) -> Plan:
        """The encoder passes of some docs, and what each of their tokens reads."""
        pieces = enc.tokenize(self._tokenizer, [doc.text for doc in docs])
        prefix, suffix, pad = enc.special_ids(self._tokenizer)
        size = enc.longest_input(self.loaded, self.cfg["max_length"]) - len(prefix) - len(suffix)
        ranges, cuts = [], []
        for doc, text_pieces in zip(docs, pieces, strict=True):
            starts, lengths = doc.to_array(["IDX", "LENGTH"]).astype(np.int64).T
            ends = starts + lengths
            ranges.append(token_pieces(starts, ends, text_pieces.starts, text_pieces.ends))
            is_long = len(text_pieces.ids) > size and self.cfg["long_texts"] == "sentences"
            borders = sentence_starts(doc) if is_long else []
            cuts.append(np.searchsorted(text_pieces.starts, borders).tolist())
        return plan_batches(
            [p.ids for p in pieces],
            ranges,
            cuts,
            prefix=prefix,
            suffix=suffix,
            pad_id=pad,
            size=size,
            overlap=min(self.cfg["overlap"], size - 1),
            limit=self.cfg["batch_pieces"],
        )

    def autocast(self) -> Optional[torch.dtype]:
        """dtype of mixed precision: bfloat16 where the GPU has it, else float16."""
        if not self.cfg["mixed_precision"] or self.device.type != "cuda":
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16

    @torch.inference_mode()
    def predict_vectors(
        self, docs: list[Doc], project: Optional[tuple[Tensor, Tensor]] = None
    ) -> Tensor:
        """See `encoder.run`. Touches no state: safe from several threads."""
        return enc.run(self.module, self.plan(docs), self.device, project, self.autocast())

    def update_vectors(
        self, docs: list[Doc], dropout: float
    ) -> tuple[Tensor, Callable[[Tensor], None]]:
        """Vectors of all tokens [N, width], and a function that takes their gradient."""
        plan, dtype = self.plan(docs), self.autocast()
        enc.set_dropout(self.module, dropout)
        self.module.train()
        try:
            vectors = enc.run(self.module, plan, self.device, autocast=dtype)
        finally:
            self.module.eval()
        scaler = self._scaler_for(dtype)

        def backprop(grad: Tensor) -> None:
            if not vectors.requires_grad:  # no wordpiece in the whole batch
                return
            (scaled,) = scaler.scale([grad], inplace=False)
            torch.autograd.backward([vectors], [scaled])
            grads = [p.grad for p in self.module.parameters() if p.grad is not None]
            if scaler.unscale(grads):
                for param in self.module.parameters():
                    param.grad = None

        return vectors, backprop

    def finish_update(self, optimizer: Optimizer) -> None:
        super().finish_update(optimizer)
        self._scaler.update()

    def _scaler_for(self, dtype: Optional[torch.dtype]) -> PyTorchGradScaler:
        wanted = dtype is torch.float16  # bfloat16 has float32's range
        if wanted and not self._scaler._enabled:
            settings = {"enabled": True, **self.cfg.get("grad_scaler_config", {})}
            self._scaler = PyTorchGradScaler(**settings)
            self._scaler.to_(self.device)
        return self._scaler

    def _pack(self) -> dict[str, Any]:
        return enc.pack(self.loaded)

    def _unpack(self, saved: dict[str, Any]) -> None:
        self._model, self._tokenizer = enc.unpack(saved)


def sentence_starts(doc: Doc) -> list[int]:
    """Character offsets at which sentences of a doc start, but for the first.

    Those that are annotated; otherwise what follows 。！？…, a line break, and the quotes and
    brackets that close after them. (A full stop may belong to an abbreviation: not taken.)
    """
    if doc.has_annotation("SENT_START"):
        return [sent.start_char for sent in doc.sents][1:]
    return [match.end() for match in _SENTENCE_END.finditer(doc.text)]


S = TypeVar("S", bound=TorchShim)


def encoder_layer(shim: EncoderShim, grad_factor: float) -> Model:
    """Own encoder as a tok2vec layer: list of Doc to list of [tokens, width].

    The encoder is loaded when the layer is initialised; a saved layer brings its own.
    """
    attrs = {"dropout_rate": 0.0, "grad_factor": grad_factor}
    return Model(
        "bert_crf_encoder", _encoder_forward, init=_encoder_init, dims={"nO": None},
        shims=[shim], attrs=attrs,
    )  # fmt: skip


def head_layer() -> Model:
    """Token vectors to emissions: list of [tokens, width] to list of [tokens, K]."""
    return Model(
        "bert_crf_head", _head_forward, shims=[HeadShim(None)], attrs={"dropout_rate": 0.0}
    )


def bert_crf_layer(tok2vec: Model) -> Model:
    """Encoder and head: list of Doc to list of emissions [tokens, K]."""
    head = head_layer()
    return Model(
        "bert_crf",
        _bert_crf_forward,
        init=_bert_crf_init,
        layers=[tok2vec, head],
        refs={"tok2vec": tok2vec, "head": head},
    )


def shim_of(model: Model, kind: type[S]) -> S:
    """The shim of a layer. Raises TypeError if it has none of this kind."""
    for shim in model.shims:
        if isinstance(shim, kind):
            return shim
    raise TypeError(f"layer {model.name!r} holds no {kind.__name__}")


def head_of(model: Model) -> HeadShim:
    """The head of a `bert_crf_layer`."""
    return shim_of(model.get_ref("head"), HeadShim)


def own_encoder_of(model: Model) -> Optional[EncoderShim]:
    """The own encoder of a `bert_crf_layer`; None for a shared one or one of another kind."""
    for shim in model.get_ref("tok2vec").shims:
        if isinstance(shim, EncoderShim):
            return shim
    return None


def decode(model: Model, emissions: list[Floats2d]) -> list[IntArray]:
    """Best legal tag ids of each doc, [tokens] each. One device-to-host transfer."""
    crf = head_of(model).module.crf
    lengths = [len(rows) for rows in emissions]
    out = [np.zeros(length, dtype=np.int64) for length in lengths]
    filled = [i for i, length in enumerate(lengths) if length]
    if not filled:
        return out
    joined = _join(emissions, crf.transitions.device)
    begins = np.cumsum(lengths, dtype=np.int64) - np.array(lengths, dtype=np.int64)
    groups = padded_batches([lengths[i] for i in filled], _CRF_BATCH_STEPS)
    decoded = []
    with torch.inference_mode():
        for group in groups:
            members = [filled[i] for i in group]
            rows, mask = _padding([lengths[i] for i in members], begins[members])
            padded = joined[_index(rows, joined.device)]
            tags, _ = crf.viterbi(padded, _index(mask, joined.device))
            decoded.append(tags.flatten())
        flat = torch.cat(decoded).cpu().numpy()
    at = 0
    for group in groups:
        longest = lengths[filled[group[0]]]
        for row, i in enumerate(group):
            begin = at + row * longest
            out[filled[i]] = flat[begin : begin + lengths[filled[i]]]
        at += len(group) * longest
    return out


def likelihood(
    model: Model,
    emissions: list[Floats2d],
    allowed: list[NDArray[np.bool_]],
    *,
    constrain: bool,
    accumulate: bool,
) -> tuple[float, list[Floats2d]]:
    """Negative log-likelihood, mean over the docs with known tokens, and its gradient.

    allowed: the tags that each token may have, [tokens, K] for each doc.
    constrain: leave illegal transitions out of the sums.
    accumulate: add the gradient of the CRF's parameters to what they have.
    RETURNS: the loss, and the gradient of the emissions, [tokens, K] for each doc.
    """
    crf = head_of(model).module.crf
    lengths = [len(rows) for rows in emissions]
    joined = _join(emissions, crf.transitions.device)
    grad = torch.zeros_like(joined)
    members = [i for i, sets in enumerate(allowed) if sets.size and not sets.all()]
    if not members:
        return 0.0, _split(grad, lengths)
    begins = np.cumsum(lengths, dtype=np.int64) - np.array(lengths, dtype=np.int64)
    total = torch.zeros((), device=joined.device)
    params = list(crf.parameters())
    for group in padded_batches([lengths[i] for i in members], _CRF_BATCH_STEPS):
        at = [members[i] for i in group]
        rows, mask = _padding([lengths[i] for i in at], begins[at])
        sets = np.ones((*mask.shape, crf.n_tags), dtype=bool)
        for row, i in enumerate(at):
            sets[row, : lengths[i]] = allowed[i]
        index = _index(rows, joined.device)
        padded = joined[index].requires_grad_()
        on = _index(mask, joined.device)
        loss = crf(padded, _index(sets, joined.device), on, constrain).sum() / len(members)
        d_padded, *d_params = torch.autograd.grad(loss, [padded, *params])
        # Padding rows carry a gradient of 0, and point at row 0 of their doc.
        grad.index_add_(0, index.flatten(), d_padded.flatten(0, 1))
        total += loss.detach()
        if accumulate:
            for param, d_param in zip(params, d_params, strict=True):
                param.grad = d_param if param.grad is None else param.grad + d_param
    return float(total), _split(grad, lengths)


def _padding(lengths: list[int], begins: IntArray) -> tuple[IntArray, NDArray[np.bool_]]:
    """Rows of padded sequences in a joined array, and their mask. [B, T] each"""
    steps = np.arange(max(lengths))[None, :]
    mask = steps < np.array(lengths)[:, None]
    return np.where(mask, begins[:, None] + steps, begins[:, None]), mask


def _index(array: NDArray[Any], device: torch.device) -> Tensor:
    return torch.from_numpy(array).to(device, non_blocking=True)


def _encoder_init(model: Model, X: Any = None, Y: Any = None) -> None:
    shim = shim_of(model, EncoderShim)
    if not shim.is_built:
        shim.load()
    model.set_dim("nO", shim.module.config.hidden_size)


def _encoder_forward(
    model: Model, docs: list[Doc], is_train: bool
) -> tuple[list[Floats2d], Callable[[list[Floats2d]], list[Doc]]]:
    shim = shim_of(model, EncoderShim)
    lengths = [len(doc) for doc in docs]
    if not is_train:
        return _split(shim.predict_vectors(docs), lengths), _no_backprop
    vectors, backprop_torch = shim.update_vectors(docs, model.attrs["dropout_rate"])

    def backprop(d_vectors: list[Floats2d]) -> list[Doc]:
        grad = _join(d_vectors, vectors.device) * model.attrs["grad_factor"]
        backprop_torch(grad)
        return []

    return _split(vectors.detach(), lengths), backprop


def _head_forward(
    model: Model, vectors: list[Floats2d], is_train: bool
) -> tuple[list[Floats2d], Callable[[list[Floats2d]], list[Floats2d]]]:
    head = shim_of(model, HeadShim).module
    lengths = [len(rows) for rows in vectors]
    joined = _join(vectors, head.classifier.weight.device)
    if not is_train:
        with torch.inference_mode():
            return _split(head(joined), lengths), _no_backprop
    joined = joined.detach().requires_grad_()
    head.dropout.p = model.attrs["dropout_rate"]
    head.train()
    try:
        emissions = head(joined)
    finally:
        head.eval()

    def backprop(d_emissions: list[Floats2d]) -> list[Floats2d]:
        emissions.backward(_join(d_emissions, emissions.device))
        return _split(cast(Tensor, joined.grad), lengths)

    return _split(emissions.detach(), lengths), backprop


def _bert_crf_forward(
    model: Model, docs: list[Doc], is_train: bool
) -> tuple[list[Floats2d], Callable[[list[Floats2d]], Any]]:
    tok2vec, head = model.layers
    own = own_encoder_of(model)
    if not is_train and own is not None:
        classifier = head_of(model).module.classifier
        emissions = own.predict_vectors(docs, (classifier.weight, classifier.bias))
        return _split(emissions, [len(doc) for doc in docs]), _no_backprop
    vectors, backprop_encoder = tok2vec(docs, is_train)
    emissions_list, backprop_head = head(vectors, is_train)

    def backprop(d_emissions: list[Floats2d]) -> Any:
        return backprop_encoder(backprop_head(d_emissions))

    return emissions_list, backprop


def _bert_crf_init(model: Model, X: Any = None, Y: Any = None) -> None:
    """Initialise the encoder. The head is built by the component, which knows the tags."""
    model.get_ref("tok2vec").initialize(X=X)


def _no_backprop(d_output: Any) -> list[Any]:
    return []


def _join(arrays: list[Floats2d], device: torch.device) -> Tensor:
    """One tensor of a list of arrays. On the CPU and on one GPU no data crosses a device."""
    # spacy-transformers gives an empty doc a vector of shape (0, 0).
    arrays = [rows for rows in arrays if len(rows)] or arrays[:1]
    if len(arrays) == 1:
        return xp2torch(arrays[0], device=device)
    return xp2torch(get_current_ops().xp.concatenate(arrays), device=device)


def _split(rows: Tensor, lengths: list[int]) -> list[Floats2d]:
    array = cast(Floats2d, torch2xp(rows))
    ends = np.cumsum(lengths)
    return [array[end - length : end] for end, length in zip(ends, lengths, strict=True)]
