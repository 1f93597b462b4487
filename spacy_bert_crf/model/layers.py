"""The thinc seam: list of Doc to token vectors to emissions, decoding and likelihood.

Converts inputs, outputs and gradients between thinc's arrays and torch's tensors.
"""

from collections.abc import Callable
from typing import Any, Optional, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from spacy.tokens import Doc
from thinc.api import Model, get_current_ops
from thinc.types import Floats2d
from thinc.util import torch2xp, xp2torch
from torch import Tensor

from ..encoder.passes import IntArray, padded_batches
from .shims import EncoderShim, HeadShim, TorchShim

#: Most steps of one CRF batch, padding included: bounds its memory.
CRF_BATCH_STEPS = 262_144

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
    joined = join_rows(emissions, crf.transitions.device)
    begins = np.cumsum(lengths, dtype=np.int64) - np.array(lengths, dtype=np.int64)
    groups = padded_batches([lengths[i] for i in filled], CRF_BATCH_STEPS)
    decoded = []
    with torch.inference_mode():
        for group in groups:
            members = [filled[i] for i in group]
            rows, mask = padded_rows([lengths[i] for i in members], begins[members])
            padded = joined[to_device(rows, joined.device)]
            tags, _ = crf.viterbi(padded, to_device(mask, joined.device))
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
    n_docs: Optional[int] = None,
    open_weights: Optional[list[float]] = None,
) -> tuple[float, list[Floats2d]]:
    """Negative log-likelihood, mean over the docs with known tokens, and its gradient.

    allowed: the tags that each token may have, [tokens, K] for each doc.
    n_docs: divide the sum by this instead, since these docs are a part of a batch.
    constrain: leave illegal transitions out of the sums.
    open_weights: see `LinearChainCRF.forward`. [K]
    accumulate: add the gradient of the CRF's parameters to what they have.
    RETURNS: the loss, and the gradient of the emissions, [tokens, K] for each doc.
    """
    crf = head_of(model).module.crf
    lengths = [len(rows) for rows in emissions]
    joined = join_rows(emissions, crf.transitions.device)
    grad = torch.zeros_like(joined)
    members = taught(allowed)
    if not members:
        return 0.0, _split(grad, lengths)
    n_docs = len(members) if n_docs is None else n_docs
    begins = np.cumsum(lengths, dtype=np.int64) - np.array(lengths, dtype=np.int64)
    total = torch.zeros((), device=joined.device)
    params = list(crf.parameters())
    weights = None if open_weights is None else joined.new_tensor(open_weights)
    for group in padded_batches([lengths[i] for i in members], CRF_BATCH_STEPS):
        at = [members[i] for i in group]
        rows, mask = padded_rows([lengths[i] for i in at], begins[at])
        sets = np.ones((*mask.shape, crf.n_tags), dtype=bool)
        for row, i in enumerate(at):
            sets[row, : lengths[i]] = allowed[i]
        index = to_device(rows, joined.device)
        padded = joined[index].requires_grad_()
        on = to_device(mask, joined.device)
        allowed_sets = to_device(sets, joined.device)
        loss = crf(padded, allowed_sets, on, constrain, weights).sum() / n_docs
        d_padded, *d_params = torch.autograd.grad(loss, [padded, *params])
        # Padding rows carry a gradient of 0, and point at row 0 of their doc.
        grad.index_add_(0, index.flatten(), d_padded.flatten(0, 1))
        total += loss.detach()
        if accumulate:
            for param, d_param in zip(params, d_params, strict=True):
                param.grad = d_param if param.grad is None else param.grad + d_param
    return float(total), _split(grad, lengths)


def taught(allowed: list[NDArray[np.bool_]]) -> list[int]:
    """Which docs have a known token."""
    return [i for i, sets in enumerate(allowed) if sets.size and not sets.all()]


def update_parts(model: Model, docs: list[Doc], members: list[int]) -> list[list[int]]:
    """Which docs of a batch go through the model together in an update: of like length.

    The gradients of all parts are summed, so that a batch needs the memory of its largest part
    only. One part of all docs where the encoder is shared: it hands out its vectors for a whole
    batch.
    members: the docs that teach something (see `taught`); others are left out.
    """
    own = own_encoder_of(model)
    if own is None:
        return [list(range(len(docs)))]
    # Tokens stand for wordpieces, of which there are about as many.
    lengths = [len(docs[i]) + 2 for i in members]
    parts = padded_batches(lengths, own.pass_size(is_train=True))
    return [sorted(members[i] for i in part) for part in parts]


def padded_rows(lengths: list[int], begins: IntArray) -> tuple[IntArray, NDArray[np.bool_]]:
    """Rows of padded sequences in a joined array, and their mask. [B, T] each"""
    steps = np.arange(max(lengths))[None, :]
    mask = steps < np.array(lengths)[:, None]
    return np.where(mask, begins[:, None] + steps, begins[:, None]), mask


def to_device(array: NDArray[Any], device: torch.device) -> Tensor:
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
        grad = join_rows(d_vectors, vectors.device) * model.attrs["grad_factor"]
        backprop_torch(grad)
        return []

    return _split(vectors.detach(), lengths), backprop


def _head_forward(
    model: Model, vectors: list[Floats2d], is_train: bool
) -> tuple[list[Floats2d], Callable[[list[Floats2d]], list[Floats2d]]]:
    head = shim_of(model, HeadShim).module
    lengths = [len(rows) for rows in vectors]
    joined = join_rows(vectors, head.classifier.weight.device)
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
        emissions.backward(join_rows(d_emissions, emissions.device))
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


def join_rows(arrays: list[Floats2d], device: torch.device) -> Tensor:
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
