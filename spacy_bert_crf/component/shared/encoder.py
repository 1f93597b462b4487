"""The pipeline component `bert_crf_encoder`, and its factory."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

from spacy.language import Language
from spacy.pipeline import Pipe
from spacy.pipeline.tok2vec import Tok2Vec
from spacy.tokens import Doc
from spacy.training import Example, validate_examples
from spacy.vocab import Vocab
from thinc.api import Model, Optimizer, set_dropout_rate
from thinc.types import Floats2d

from ..._host import in_plain_torch
from ...errors import BertCrfError
from ...model import layers
from ...model.shared.listener import EncoderListener, SharedBatch
from ...model.shims import EncoderShim
from ...model.weights_file import weights_beside
from ..settings import damaged_component, encoder_config, named


@in_plain_torch
class SharedEncoder(Tok2Vec):
    """An encoder for several components, whose models listen to it.

    It is spaCy's Tok2Vec with an encoder of this package. A prediction writes the token vectors to
    `doc.tensor`. In an update, each listener gets the vectors and gives a gradient.

    vocab: vocabulary of the pipeline.
    model: the encoder, `spacy_bert_crf.Encoder.v1`.
    name: name of the component in the pipeline.
    quantize: "int8" to predict in 8-bit integers on a CPU, "" for float32.
    """

    def __init__(
        self, vocab: Vocab, model: Model, name: str = "bert_crf_encoder", *, quantize: str = ""
    ) -> None:
        """Raises BertCrfError for another model, or a setting that it can't have."""
        super().__init__(vocab, model, name)
        self._batch: Optional[SharedBatch] = None
        with named(name):
            if not any(isinstance(shim, EncoderShim) for shim in model.shims):
                raise BertCrfError(
                    f"its model is {model.name!r}: use the architecture spacy_bert_crf.Encoder.v1."
                )
            if self.encoder.cfg["adversarial"]:
                raise BertCrfError(
                    "adversarial = 0 is needed where an encoder is shared, since an update of all "
                    "components would have to run twice."
                )
            self.encoder.quantize = quantize

    @property
    def encoder(self) -> EncoderShim:
        """The encoder."""
        return layers.shim_of(self.model, EncoderShim)

    @property
    def quantize(self) -> str:
        """ "int8" to predict in 8-bit integers on a CPU, "" for float32. May be changed."""
        return self.encoder.quantize

    @quantize.setter
    def quantize(self, value: str) -> None:
        with named(self.name):
            self.encoder.quantize = value

    def find_listeners(self, component: Any) -> None:
        """Let the listeners in a component's model listen to this encoder, if they name it.

        component: any component after this one.
        """
        model = getattr(component, "model", None)
        for layer in model.walk() if isinstance(model, Model) else ():
            if not isinstance(layer, EncoderListener):
                continue
            if layer.upstream_name in ("*", self.name) and layer.connect(self.encoder):
                self.add_listener(layer, component.name)

    def predict(self, docs: Iterable[Doc]) -> list[Floats2d]:
        """Token vectors of docs, [tokens, width] each. The docs are not changed."""
        vectors: list[Floats2d] = self.model.predict(list(docs))
        return vectors

    def set_annotations(self, docs: Iterable[Doc], vectors: Sequence[Floats2d]) -> None:
        """Write token vectors to `doc.tensor`.

        docs: the docs that `predict` read.
        vectors: the result of `predict`.
        """
        for doc, rows in zip(docs, vectors, strict=True):
            doc.tensor = rows

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Annotate a stream of docs in order; see `doc_batches` for how many are read ahead."""
        error_handler = self.get_error_handler()
        for docs in layers.doc_batches(stream, batch_size):
            try:
                self.set_annotations(docs, self.predict(docs))
            except Exception as err:
                error_handler(self.name, self, docs, err)
            else:
                yield from docs

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Optional[Language] = None,
    ) -> None:
        """Load the encoder.

        get_examples: not used.
        nlp: not used.
        Raises BertCrfError if the encoder can't be loaded.
        """
        self.model.initialize()
        for listener in self.listeners:
            listener.connect(self.encoder)

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optional[Optimizer] = None,
        losses: Optional[dict[str, float]] = None,
    ) -> dict[str, float]:
        """Read a batch, and hand its vectors to the listeners.

        Listeners give their gradients when their components are updated. The last one starts
        backpropagation. The encoder has no loss of its own.

        examples: the batch.
        drop: dropout rate, from 0 to 1.
        sgd: not used. The encoder steps in `finish_update`.
        losses: dictionary to which 0 is added under the component's name.
        RETURNS: `losses`, or a new dictionary.
        """
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        examples = list(examples)
        validate_examples(examples, "SharedEncoder.update")
        self._finish_batch()
        docs = [example.predicted for example in examples]
        # A listener takes the last encoder before it that has its width and name.
        listeners = [each for each in self.listeners if each.encoder is self.encoder]
        if listeners and any(len(doc) for doc in docs):
            set_dropout_rate(self.model, drop)
            parts = layers.begin_encoder(self.model, docs, bounded=True)
            self._batch = SharedBatch(docs, *parts, self.encoder.device, len(listeners))
            for listener in listeners:
                listener.receive(self._batch)
        return losses

    def finish_update(self, sgd: Optimizer) -> None:
        """Step the encoder's parameters with the optimizer `sgd`, if they have gradients."""
        self._finish_batch()
        self.model.finish_update(sgd)

    def from_bytes(self, bytes_data: bytes, *, exclude: Iterable[str] = ()) -> "SharedEncoder":
        """Load from a bytestring."""
        super().from_bytes(bytes_data, exclude=exclude)
        return self

    def to_disk(self, path: Any, *, exclude: Iterable[str] = ()) -> None:
        """Save to a folder: the weights as a safetensors file, the rest beside it."""
        with weights_beside(Path(path)):
            super().to_disk(path, exclude=exclude)

    def from_disk(self, path: Any, *, exclude: Iterable[str] = ()) -> "SharedEncoder":
        """Load from a folder. Raises BertCrfError, naming the file, if one is damaged."""
        with damaged_component(self.name, Path(path)), weights_beside(Path(path)):
            super().from_disk(path, exclude=exclude)
        return self

    def _finish_batch(self) -> None:
        """Give the encoder the gradients of a batch of which a listener had none.

        A component that is disabled gives none, for example.
        """
        if self._batch is not None:
            self._batch.finish()


def make_bert_crf_encoder(nlp: Language, name: str, model: Model, quantize: str) -> Pipe:
    """Create the component; see SharedEncoder."""
    return SharedEncoder(nlp.vocab, model, name, quantize=quantize)


Language.factory(
    "bert_crf_encoder",
    assigns=["doc.tensor"],
    default_config={"model": encoder_config(), "quantize": ""},
    func=make_bert_crf_encoder,
)
