"""The layers of the model in thinc: list of Doc to token vectors to emissions.

Inputs, outputs and gradients are thinc's arrays outside, and torch's tensors inside.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Optional, TypeVar, Union, cast

import torch
from spacy.tokens import Doc
from thinc.api import Model
from thinc.types import Floats2d
from torch import Tensor

from ..crf.linear_chain import LinearChainCRF
from ..encoder.passes import DENSE, padded_batches
from ..errors import BertCrfError
from .crf_batches import Emissions
from .gradients.adversarial import learn_twice
from .shared.listener import EncoderListener
from .shared.rows import join_rows, split_rows
from .shims import EncoderShim, HeadShim, TorchShim

#: Largest number of tokens of a batch of docs in prediction.
_LOOKAHEAD_TOKENS = 100_000

S = TypeVar("S", bound=TorchShim)
#: A prediction that has begun.
B = TypeVar("B")
#: What is legal at the start [K], at the end [K], and from one tag to another [K, K].
Legal = tuple[list[bool], list[bool], list[list[bool]]]
#: Emissions of the docs of a part of a batch, and which docs: to the loss and the gradient.
Likelihood = Callable[[list[Floats2d], list[int]], tuple[Tensor, list[Floats2d]]]


def encoder_layer(shim: EncoderShim, grad_factor: float) -> Model:
    """Own encoder as a tok2vec layer: list of Doc to list of [tokens, width].

    The encoder is loaded when the layer is initialised. A saved layer holds its encoder.

    shim: holds the encoder.
    grad_factor: factor on the gradient that reaches the encoder.
    """
    attrs = {"dropout_rate": 0.0, "grad_factor": grad_factor}
    return Model(
        "bert_crf_encoder", _encoder_forward, init=_encoder_init, dims={"nO": None},
        shims=[shim], attrs=attrs,
    )  # fmt: skip


def bert_crf_layer(tok2vec: Model) -> Model:
    """Encoder and head: list of Doc to list of emissions [tokens, K]."""
    # Token vectors to emissions: list of [tokens, width] to list of [tokens, K].
    attrs = {"dropout_rate": 0.0}
    head: Model = Model("bert_crf_head", _head_forward, shims=[HeadShim(None)], attrs=attrs)
    return Model(
        "bert_crf",
        _bert_crf_forward,
        init=_bert_crf_init,
        layers=[tok2vec, head],
        refs={"tok2vec": tok2vec, "head": head},
    )


def copy_of(model: Model) -> Model:
    """A copy of a `bert_crf_layer` with weights of its own."""
    copied: Model = model.copy()
    for name, layer in zip(("tok2vec", "head"), copied.layers, strict=True):
        copied.set_ref(name, layer)  # thinc copies none
    return copied


def shim_of(model: Model, kind: type[S]) -> S:
    """The shim of a layer. Raises TypeError if it has none of this kind."""
    for shim in model.shims:
        if isinstance(shim, kind):
            return shim
    raise TypeError(f"layer {model.name!r} holds no {kind.__name__}")


def head_of(model: Model) -> HeadShim:
    """The head of a `bert_crf_layer`."""
    return shim_of(model.get_ref("head"), HeadShim)


def crf_of(model: Model) -> LinearChainCRF:
    """The CRF of a `bert_crf_layer`. Raises BertCrfError if there is none yet."""
    crf: LinearChainCRF = head_of(model).module.crf
    return crf


def own_encoder_of(model: Model) -> Optional[EncoderShim]:
    """The own encoder of a `bert_crf_layer`; None for a shared one or one of another kind."""
    shims = model.get_ref("tok2vec").shims
    return next((shim for shim in shims if isinstance(shim, EncoderShim)), None)


def encoder_of(model: Model) -> Optional[EncoderShim]:
    """The encoder that a `bert_crf_layer` has of its own, or shares with other components.

    None for an encoder of another library, and for a listener without an encoder before it.
    """
    tok2vec = model.get_ref("tok2vec")
    return tok2vec.encoder if isinstance(tok2vec, EncoderListener) else own_encoder_of(model)


def build_head(model: Model, n_tags: int) -> None:
    """Make the head of a `bert_crf_layer`, or make room in it for more tags.

    model: an initialised layer, so that the width of its token vectors is known.
    n_tags: number of tags of the head.
    Raises BertCrfError if the width is not known.
    """
    width = model.get_ref("tok2vec").maybe_get_dim("nO")
    if width is None:
        raise BertCrfError(
            "the width of its token vectors is not known: is the encoder that it listens to in "
            "the pipeline, before it, and initialised?"
        )
    encoder = encoder_of(model)
    # Another thread may have another default.
    device = encoder.device if encoder is not None and encoder.is_built else None
    head_of(model).build(width, n_tags, device)


def set_quantize(model: Model, value: str) -> None:
    """Predict in 8-bit integers ("int8") or in float32 ("").

    Raises BertCrfError for "int8" where the encoder is shared.
    """
    own = own_encoder_of(model)
    if own is not None:
        own.quantize = value
    elif value:
        raise BertCrfError(
            f"quantize = {value!r} needs an encoder of the component's own "
            "(spacy_bert_crf.Encoder.v1); this one shares an encoder. A shared encoder of the "
            "component bert_crf_encoder has a setting quantize there."
        )


def set_legal(model: Model, n_tags: int, legal: Optional[Legal]) -> None:
    """Give the CRF the constraints of a tag scheme, if there is a CRF yet.

    n_tags: number of tags of the scheme.
    legal: start, end and transitions; None makes all legal.
    Raises BertCrfError if the CRF has another number of tags.
    """
    head = head_of(model)
    if not head.is_built:
        return
    crf = head.module.crf
    if crf.n_tags != n_tags:
        raise BertCrfError(
            f"the weights have {crf.n_tags} tags, its labels under its scheme have {n_tags}. The "
            "scheme of a trained component can't be changed, and its files belong together: load "
            "the folder as it was saved, with its own scheme."
        )
    crf.set_legal(*(legal or ()))


def doc_batches(stream: Iterable[Doc], batch_size: int) -> Iterator[list[Doc]]:
    """Batches of at most `batch_size` docs and _LOOKAHEAD_TOKENS tokens, or of one longer doc."""
    batch: list[Doc] = []
    n_tokens = 0
    for doc in stream:
        if batch and (len(batch) >= batch_size or n_tokens + len(doc) > _LOOKAHEAD_TOKENS):
            yield batch
            batch, n_tokens = [], 0
        batch.append(doc)
        n_tokens += len(doc)
    if batch:
        yield batch


def in_flight(
    model: Model,
    batches: Iterable[list[Doc]],
    begin: Callable[[list[Doc]], B],
    end: Callable[[list[Doc], Optional[B]], None],
) -> Iterator[tuple[list[Doc], Optional[Exception]]]:
    """Batches in order, each begun and finished. On CUDA the next is begun before one is finished.

    So the GPU works on one batch while the host plans the next and writes the entities of the last.

    model: a `bert_crf_layer`.
    batches: the docs of each batch.
    begin: begins a batch. It is used on CUDA only.
    end: ends a batch that `begin` began, or does all of it where it is given None.
    RETURNS: the docs of each batch, and what went wrong with it.
    """
    is_ahead = head_of(model).is_built and head_of(model).device.type == "cuda"
    begun: deque[tuple[list[Doc], Union[B, Exception, None]]] = deque()

    def end_first() -> tuple[list[Doc], Optional[Exception]]:
        docs, state = begun.popleft()
        if isinstance(state, Exception):
            return docs, state
        try:
            end(docs, state)
        except Exception as err:
            return docs, err
        return docs, None

    for batch in batches:
        try:
            begun.append((batch, begin(batch) if is_ahead else None))
        except Exception as err:
            begun.append((batch, err))
        if len(begun) > is_ahead:
            yield end_first()
    while begun:
        yield end_first()


def predict_emissions(model: Model, docs: list[Doc]) -> Emissions:
    """Emissions of docs by a `bert_crf_layer`, as one tensor.

    An own encoder applies the classifier to each of its passes, so that the token vectors of a
    long text are never held together.
    """
    own, classifier = own_encoder_of(model), head_of(model).module.classifier
    if not any(len(doc) for doc in docs):
        return Emissions(classifier.weight.new_zeros(0, len(classifier.bias)), [0] * len(docs))
    if own is None:
        tok2vec, head = model.layers
        return Emissions.of(head.predict(tok2vec.predict(docs)), classifier.weight.device)
    rows = own.predict_vectors(docs, (classifier.weight, classifier.bias))
    return Emissions(rows, [len(doc) for doc in docs])


def update_parts(model: Model, docs: list[Doc], members: list[int]) -> list[list[int]]:
    """Parts of a batch that go through the model together in an update: docs of similar length.

    The gradients of all parts are summed, so that a batch needs the memory of its largest part.
    A shared encoder hands out its vectors for a whole batch, so there all docs are one part.

    model: a `bert_crf_layer`.
    docs: the batch.
    members: the docs that train the model (see `trainable`). An own encoder skips the others.
    """
    own = own_encoder_of(model)
    if own is None:
        return [list(range(len(docs)))]
    # Tokens stand for wordpieces, of which there are about as many.
    lengths = [len(docs[i]) + 2 for i in members]
    parts = padded_batches(lengths, own.pass_size(is_train=True), dense=DENSE)
    return [sorted(members[i] for i in part) for part in parts]


def learn(
    model: Model, docs: list[Doc], members: list[int], likelihood: Likelihood
) -> list[Tensor]:
    """Add the gradients of a batch to those of the parameters.

    An own encoder with the setting `adversarial` learns from each batch twice; see `learn_twice`.

    model: a `bert_crf_layer`.
    docs: the batch.
    members: see `update_parts`.
    likelihood: the loss of a part of the batch.
    RETURNS: the loss of each part, without that of the second time.
    """
    parts = update_parts(model, docs, members)

    def learn_once() -> list[Tensor]:
        losses = []
        for part in parts:
            emissions, backprop = model.begin_update([docs[i] for i in part])
            loss, gradient = likelihood(emissions, part)
            backprop(gradient)
            losses.append(loss)
        return losses

    own = own_encoder_of(model)
    eps = own.cfg.get("adversarial", 0.0) if own is not None else 0.0
    if own is None or not eps:
        return learn_once()
    return learn_twice(own.module.get_input_embeddings().weight, eps, learn_once)


def begin_encoder(
    model: Model, docs: list[Doc], bounded: bool = False
) -> tuple[list[Floats2d], Callable[[list[Floats2d]], list[Doc]]]:
    """Token vectors of docs in an update, [tokens, width] each, and their backpropagation.

    model: an `encoder_layer`.
    docs: the docs.
    bounded: see `EncoderShim.update_vectors`.
    """
    shim = shim_of(model, EncoderShim)
    vectors, backprop_torch = shim.update_vectors(docs, model.attrs["dropout_rate"], bounded)

    def backprop(d_vectors: list[Floats2d]) -> list[Doc]:
        # Gradients of 0 would not do: the optimizer's weight decay would still move the encoder.
        if factor := model.attrs["grad_factor"]:
            backprop_torch(join_rows(d_vectors, vectors.device) * factor)
        return []

    return split_rows(vectors.detach(), [len(doc) for doc in docs]), backprop


def _encoder_init(model: Model, X: Any = None, Y: Any = None) -> None:
    shim = shim_of(model, EncoderShim)
    if not shim.is_built:
        shim.load()
    model.set_dim("nO", shim.module.config.hidden_size)


def _encoder_forward(
    model: Model, docs: list[Doc], is_train: bool
) -> tuple[list[Floats2d], Callable[[list[Floats2d]], list[Doc]]]:
    if is_train:
        return begin_encoder(model, docs)
    vectors = shim_of(model, EncoderShim).predict_vectors(docs)
    return split_rows(vectors, [len(doc) for doc in docs]), _no_backprop


def _head_forward(
    model: Model, vectors: list[Floats2d], is_train: bool
) -> tuple[list[Floats2d], Callable[[list[Floats2d]], list[Floats2d]]]:
    head = shim_of(model, HeadShim).module
    lengths = [len(rows) for rows in vectors]
    joined = join_rows(vectors, head.classifier.weight.device)
    if not is_train:
        with torch.inference_mode():
            return split_rows(head(joined), lengths), _no_backprop
    joined = joined.detach().requires_grad_()
    head.dropout.p = model.attrs["dropout_rate"]
    head.train()
    try:
        emissions = head(joined)
    finally:
        head.eval()

    def backprop(d_emissions: list[Floats2d]) -> list[Floats2d]:
        emissions.backward(join_rows(d_emissions, emissions.device))
        return split_rows(cast(Tensor, joined.grad), lengths)

    return split_rows(emissions.detach(), lengths), backprop


def _bert_crf_forward(
    model: Model, docs: list[Doc], is_train: bool
) -> tuple[list[Floats2d], Callable[[list[Floats2d]], Any]]:
    if not is_train:
        return predict_emissions(model, docs).split(), _no_backprop
    tok2vec, head = model.layers
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
