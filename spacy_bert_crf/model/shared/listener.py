"""A layer that takes its token vectors from the encoder of another component.

The protocol is that of spaCy's Tok2VecListener, with three differences. The encoder reads docs
that have no vectors, where spaCy's listener gives zeros. The docs of an update are compared one by
one. In a loop around `nlp.update`, the encoder steps in the update that gave its gradient.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Optional, cast

import torch
from spacy.tokens import Doc
from thinc.api import Model, Optimizer
from thinc.shims.shim import Shim
from thinc.types import Floats2d
from torch import Tensor

from ..._host import plain_torch
from ...errors import BertCrfError
from .rows import join_rows, split_rows

if TYPE_CHECKING:
    from ..shims import EncoderShim

Backprop = Callable[[list[Floats2d]], Any]


class SharedBatch:
    """Token vectors of the docs of an update, and the gradients that come back.

    The encoder runs backwards once, for the sum of the gradients of all listeners.

    docs: the docs of the update.
    vectors: the vectors of each. [tokens, width]
    backprop: takes the gradient of the vectors.
    device: where the encoder is.
    n_listeners: number of listeners that will give a gradient.
    """

    def __init__(
        self,
        docs: list[Doc],
        vectors: list[Floats2d],
        backprop: Backprop,
        device: torch.device,
        n_listeners: int,
    ) -> None:
        self._docs, self._vectors = docs, vectors
        self._backprop: Optional[Backprop] = backprop
        self._device, self._missing = device, n_listeners
        self._gradient: Optional[Tensor] = None

    def vectors(self, docs: list[Doc]) -> list[Floats2d]:
        """The vectors of each doc. [tokens, width] each

        docs: the docs of a listener's component.
        Raises BertCrfError if they are not those that the encoder read, in their order.
        """
        pairs = zip(self._docs, docs, strict=False)
        if len(docs) != len(self._docs) or not all(_same(a, b) for a, b in pairs):
            raise BertCrfError(
                "the docs of this update are not those that the shared encoder read, in their "
                "order: update all components of the pipeline together, by nlp.update."
            )
        return self._vectors

    def add(self, d_vectors: list[Floats2d]) -> list[Doc]:
        """Take the gradient of a listener. The last one starts backpropagation.

        d_vectors: gradient of the vectors of each doc. [tokens, width] each
        """
        rows = join_rows(d_vectors, self._device)
        self._gradient = rows if self._gradient is None else self._gradient + rows
        self._missing -= 1
        if not self._missing:
            self.finish()
        return []

    def finish(self) -> None:
        """Run the encoder backwards for the gradients that came. Without any, nothing is done."""
        if self._gradient is None or self._backprop is None:
            return
        gradient = split_rows(self._gradient, [len(doc) for doc in self._docs])
        backprop, self._backprop, self._gradient = self._backprop, None, None
        self._docs, self._vectors = [], []
        with plain_torch():
            backprop(gradient)


class EncoderListener(Model):
    """A layer from list of Doc to list of [tokens, width], see `create_encoder_listener`.

    upstream_name: name of the component with the encoder, "*" for any.
    """

    def __init__(self, upstream_name: str) -> None:
        super().__init__(
            "bert_crf_encoder_listener", _forward, dims={"nO": None}, shims=[_Upstream(None)]
        )
        self.upstream_name = upstream_name
        self._batch: Optional[SharedBatch] = None

    @property
    def encoder(self) -> Optional["EncoderShim"]:
        """The encoder that it listens to; None if there is none in the pipeline."""
        return cast(_Upstream, self.shims[0]).encoder

    def connect(self, encoder: "EncoderShim") -> bool:
        """Listen to an encoder, instead of to another one.

        RETURNS: False if the listener was trained with vectors of another width.
        """
        width = encoder.module.config.hidden_size if encoder.is_built else None
        own = self.maybe_get_dim("nO")
        if None not in (own, width) and own != width:
            return False
        if width is not None:
            self.set_dim("nO", width)
        cast(_Upstream, self.shims[0]).encoder = encoder
        return True

    def receive(self, batch: SharedBatch) -> None:
        """Take the batch of the next update."""
        self._batch = batch

    def take(self) -> Optional[SharedBatch]:
        """The batch of this update, once; None if the encoder is not updated."""
        batch, self._batch = self._batch, None
        return batch

    def read(self, docs: list[Doc]) -> list[Floats2d]:
        """The vectors on the docs. Where one has none, the encoder reads all docs.

        docs: the docs. They are not changed.
        Raises BertCrfError if there is no encoder.
        """
        width = self.maybe_get_dim("nO")
        if all(doc.tensor.shape == (len(doc), width) for doc in docs if len(doc)):
            empty = self.ops.alloc2f(0, width or 0)
            return [cast(Floats2d, doc.tensor) if len(doc) else empty for doc in docs]
        if self.encoder is None:
            raise BertCrfError(
                f"a listener to the component {self.upstream_name!r} found no vectors on the docs: "
                "put a component `bert_crf_encoder` before it into the pipeline."
            )
        with plain_torch():
            rows = self.encoder.predict_vectors(docs)
        return split_rows(rows, [len(doc) for doc in docs])


class _Upstream(Shim):
    """Lets the encoder step with the component of a listener. It holds no parameters itself.

    `nlp.update` with an optimizer lets each component step before the next one is updated. The
    encoder has no gradient at its own turn. The last listener's component has a turn after it.
    """

    encoder: Optional["EncoderShim"] = None

    def finish_update(self, optimizer: Optimizer) -> None:
        if self.encoder is not None:
            self.encoder.finish_update(optimizer)

    def copy(self) -> "_Upstream":
        return _Upstream(None)

    def to_device(self, device_type: str, device_id: int) -> None:
        """The encoder is moved with its own component."""

    def to_bytes(self) -> bytes:
        return b""

    def from_bytes(self, data: bytes) -> "_Upstream":
        return self


def _same(a: Doc, b: Doc) -> bool:
    return a is b or [token.orth for token in a] == [token.orth for token in b]


def _forward(
    model: EncoderListener, docs: list[Doc], is_train: bool
) -> tuple[list[Floats2d], Backprop]:
    batch = model.take() if is_train else None
    if batch is None:
        return model.read(docs), _no_backprop
    return batch.vectors(docs), batch.add


def _no_backprop(d_vectors: list[Floats2d]) -> list[Doc]:
    return []
