"""The trainable pipeline component `bert_crf`."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Optional

import numpy as np
import srsly
from numpy.typing import NDArray
from spacy.language import Language
from spacy.pipeline import TrainablePipe
from spacy.tokens import Doc, Span
from spacy.training import Example, validate_examples
from spacy.vocab import Vocab
from thinc.api import Config, Model, Optimizer, set_dropout_rate
from thinc.types import Floats2d
from torch import Tensor

from . import layers
from .alignment import LostEntity, allowed_tags, lost_report, read_gold
from .encoder import LoadedEncoder
from .errors import BertCrfError
from .optim import GroupedAdamW
from .tags import TagSet
from .weights_file import NAME as WEIGHTS_FILE
from .weights_file import WeightsFileError, weights_beside

#: Most tokens that `pipe` holds back to sort docs of like length together.
_LOOKAHEAD_TOKENS = 100_000

DEFAULT_CONFIG = """
[bert_crf]
scheme = "BIO"
constraints = true
constrain_training = false
overwrite = false
quantize = ""

[bert_crf.scorer]
@scorers = "spacy.ner_scorer.v1"

[bert_crf.model]
@architectures = "spacy_bert_crf.BertCrf.v1"

[bert_crf.model.tok2vec]
@architectures = "spacy_bert_crf.Encoder.v1"
name = "bert-base-chinese"
tokenizer_config = {"use_fast": true}
transformer_config = {}
grad_factor = 1.0
mixed_precision = false
grad_scaler_config = {}
max_length = 512
overlap = 128
long_texts = "windows"
batch_pieces = 0
allow_download = false
get_spans = null
pooling = null
"""


@Language.factory(
    "bert_crf",
    assigns=["doc.ents", "token.ent_iob", "token.ent_type"],
    default_config=Config().from_str(DEFAULT_CONFIG)["bert_crf"],
    default_score_weights={"ents_f": 1.0, "ents_p": 0.0, "ents_r": 0.0, "ents_per_type": None},
)
def make_bert_crf(
    nlp: Language,
    name: str,
    model: Model,
    scheme: str,
    constraints: bool,
    constrain_training: bool,
    overwrite: bool,
    quantize: str,
    scorer: Optional[Callable[..., Any]],
) -> "BertCrf":
    """Create the component; see BertCrf for the settings."""
    return BertCrf(
        nlp.vocab,
        model,
        name,
        scheme=scheme,
        constraints=constraints,
        constrain_training=constrain_training,
        overwrite=overwrite,
        quantize=quantize,
        scorer=scorer,
    )


class BertCrf(TrainablePipe):
    """Named entities by an encoder, a linear classifier and a linear-chain CRF.

    One step of the CRF is one token. Predicted entities go to `doc.ents`.

    scheme: BIO, BIOES, BMES or BILUO.
    constraints: leave transitions that the scheme forbids out of decoding.
    constrain_training: leave them out of the likelihood as well.
    overwrite: replace entities that are on the doc. Otherwise they stay, and predicted ones that
        overlap them are dropped.
    quantize: "int8" to predict with the own encoder's linear layers in 8-bit integers, on a CPU.
        What is trained and saved stays float32. "" for float32.
    """

    def __init__(
        self,
        vocab: Vocab,
        model: Model,
        name: str = "bert_crf",
        *,
        scheme: str = "BIO",
        constraints: bool = True,
        constrain_training: bool = False,
        overwrite: bool = False,
        quantize: str = "",
        scorer: Optional[Callable[..., Any]] = None,
    ) -> None:
        self.vocab = vocab
        self.model = model
        self.name = name
        self.scorer = scorer
        self.cfg: dict[str, Any] = {"labels": []}
        self.scheme = TagSet((), scheme).scheme  # refuses an unknown one now
        self.constraints = constraints
        self.constrain_training = constrain_training
        self.overwrite = overwrite
        self.quantize = quantize
        self._told_lost = False
        self._told_labels: set[str] = set()

    @property
    def labels(self) -> tuple[str, ...]:
        """Entity types in the order of their tags."""
        return tuple(self.cfg["labels"])

    @property
    def quantize(self) -> str:
        """See the setting. May be set at any time."""
        own = layers.own_encoder_of(self.model)
        return "" if own is None else own.quantize

    @quantize.setter
    def quantize(self, value: str) -> None:
        own = layers.own_encoder_of(self.model)
        if own is not None:
            own.quantize = value
        elif value:
            raise BertCrfError(
                f"[{self.name}] quantize = {value!r} needs an encoder of the component's own "
                "(spacy_bert_crf.Encoder.v1); this one shares a transformer."
            )

    @property
    def label_data(self) -> list[str]:
        """What `spacy init labels` writes and `initialize` takes."""
        return list(self.cfg["labels"])

    @property
    def tag_set(self) -> TagSet:
        """The tags in id order."""
        return TagSet(self.labels, self.scheme)

    def add_label(self, label: str) -> int:
        """Add an entity type. On an initialised component its tags come after the present ones,
        whose weights stay, and are untrained. RETURNS: 1 if it is new, 0 otherwise.

        Raises BertCrfError for an empty label.
        """
        if label in self.labels:
            return 0
        TagSet((*self.labels, label), self.scheme)
        self.cfg["labels"].append(label)
        self.vocab.strings.add(label)
        head = layers.head_of(self.model)
        if head.is_built:
            head.build(head.module.classifier.in_features, len(self.tag_set.tags))
            self._apply_tags()
        return 1

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Optional[Language] = None,
        labels: Optional[list[str]] = None,
    ) -> None:
        """Learn the labels, load the encoder and make the head.

        get_examples: gives the training examples; all are read once, to find labels and to
            report entities that can't be placed in the pipeline's tokens.
        labels: entity types in the order of their tags; otherwise those of the examples, sorted.
        Raises BertCrfError if there are no labels or the encoder can't be loaded.
        """
        found: set[str] = set()
        lost: list[LostEntity] = []
        total = 0
        sample: list[Doc] = []
        for example in get_examples():
            gold = read_gold(example)
            found.update(label for _, _, label in gold.spans)
            found.update(entity.label for entity in gold.lost)
            lost += gold.lost
            total += len(gold.spans) + len(gold.lost)
            if len(sample) < 10:
                sample.append(example.predicted)
        if lost:
            warnings.warn(f"[{self.name}] {lost_report(lost, total)}", stacklevel=2)
            self._told_lost = True
        head = layers.head_of(self.model)
        if labels is not None:
            wanted = list(labels)
        elif head.is_built:
            wanted = [*self.labels, *sorted(found - set(self.labels))]
        else:
            wanted = sorted(found | set(self.labels))
        if not wanted:
            raise BertCrfError(
                f"[{self.name}] no entity labels: the training examples have no entities. Give "
                "labels in [initialize.components], or check the corpus (doc.ents must be set)."
            )
        if head.is_built and wanted[: len(self.labels)] != list(self.labels):
            raise BertCrfError(
                f"[{self.name}] is trained for labels {list(self.labels)} and can be extended, "
                f"not changed to {wanted}."
            )
        TagSet(tuple(wanted), self.scheme)
        self.cfg["labels"] = wanted
        for label in wanted:
            self.vocab.strings.add(label)
        self.model.initialize(X=sample)
        width = self.model.get_ref("tok2vec").maybe_get_dim("nO")
        if width is None:
            raise BertCrfError(
                f"[{self.name}] the width of its token vectors is not known: is the transformer "
                "that it listens to in the pipeline, before it?"
            )
        head.build(width, len(self.tag_set.tags))
        self._apply_tags()

    def adopt(self, encoder: LoadedEncoder, labels: list[str], head: dict[str, Tensor]) -> None:
        """Take over trained weights, instead of `initialize`, for an own encoder.

        labels: entity types in the order of their tags. head: the state of a TagHead.
        Raises BertCrfError if the component has no own encoder, RuntimeError if weights do not
        fit the labels.
        """
        own = layers.own_encoder_of(self.model)
        if own is None:
            raise BertCrfError(f"[{self.name}] shares an encoder and can't take over another.")
        TagSet(tuple(labels), self.scheme)
        self.cfg["labels"] = list(labels)
        for label in labels:
            self.vocab.strings.add(label)
        own.adopt(encoder)
        self.model.initialize()
        shim = layers.head_of(self.model)
        shim.build(self.model.get_ref("tok2vec").get_dim("nO"), len(self.tag_set.tags))
        shim.module.load_state_dict(head)
        self._apply_tags()

    def predict(self, docs: Iterable[Doc]) -> list[NDArray[np.int64]]:
        """Best tag ids of each doc, [tokens] each."""
        docs = list(docs)
        if not any(len(doc) for doc in docs):
            return [np.zeros(0, dtype=np.int64) for _ in docs]
        return layers.decode(self.model, self.model.predict(docs))

    def set_annotations(self, docs: Iterable[Doc], scores: list[NDArray[np.int64]]) -> None:
        """Write entities of tag ids to the docs; every doc counts as annotated afterwards."""
        tags = self.tag_set
        for doc, tag_ids in zip(docs, scores, strict=True):
            spans = []
            for start, end, label in tags.decode(tag_ids.tolist()) if tag_ids.any() else ():
                while start < end and doc[start].is_space:
                    start += 1
                while start < end and doc[end - 1].is_space:
                    end -= 1
                if start < end:
                    spans.append(Span(doc, start, end, label=label))
            self._set_ents(doc, spans)

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Annotate a stream of docs, in order, looking ahead at most `batch_size` of them."""
        error_handler = self.get_error_handler()
        for docs in _bounded(stream, batch_size):
            try:
                self.set_annotations(docs, self.predict(docs))
            except Exception as err:
                error_handler(self.name, self, docs, err)
            else:
                yield from docs

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optional[Optimizer] = None,
        losses: Optional[dict[str, float]] = None,
    ) -> dict[str, float]:
        """Learn from a batch. The loss is the negative log-likelihood, mean over the docs.

        Examples without any known token teach nothing, but stay in the batch, since a shared
        encoder hands out its vectors for exactly these docs.
        """
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        examples = list(examples)
        validate_examples(examples, "BertCrf.update")
        if not any(len(example.predicted) for example in examples):
            return losses
        set_dropout_rate(self.model, drop)
        allowed = self._allowed(examples)
        n_docs = len(layers.taught(allowed))
        docs = [example.predicted for example in examples]
        for part in layers.update_parts(self.model, docs):
            emissions, backprop = self.model.begin_update([docs[i] for i in part])
            loss, gradient = layers.likelihood(
                self.model,
                emissions,
                [allowed[i] for i in part],
                constrain=self.constrain_training,
                accumulate=True,
                n_docs=n_docs,
            )
            backprop(gradient)
            losses[self.name] += loss
        if sgd not in (None, False):
            self.finish_update(sgd)
        return losses

    def get_loss(
        self, examples: Iterable[Example], scores: list[Floats2d]
    ) -> tuple[float, list[Floats2d]]:
        """Loss of emissions and its gradient; the CRF's own parameters are left alone."""
        return layers.likelihood(
            self.model,
            scores,
            self._allowed(list(examples)),
            constrain=self.constrain_training,
            accumulate=False,
        )

    def finish_update(self, sgd: Optimizer) -> None:
        """Step the component's parameters."""
        self.model.finish_update(sgd)
        if isinstance(sgd, GroupedAdamW):
            sgd.end_component()

    def create_optimizer(self) -> Optimizer:
        """The optimizer that suits the component."""
        from .optim import create_adamw

        return create_adamw()

    def from_bytes(self, bytes_data: bytes, *, exclude: Iterable[str] = ()) -> "BertCrf":
        """Load from a bytestring."""
        super().from_bytes(bytes_data, exclude=exclude)
        self._apply_tags()
        return self

    def to_disk(self, path: Any, *, exclude: Iterable[str] = ()) -> None:
        """Save to a folder: an own encoder's weights as a safetensors file, the rest beside it."""
        with weights_beside(Path(path)):
            super().to_disk(path, exclude=exclude)

    def from_disk(self, path: Any, *, exclude: Iterable[str] = ()) -> "BertCrf":
        """Load from a folder. Raises BertCrfError, naming the file, if one is damaged."""
        at = Path(path)
        try:
            with weights_beside(at):
                super().from_disk(path, exclude=exclude)
            TagSet(self.labels, self.scheme)
        except Exception as err:  # what a damaged file raises depends on where it is damaged
            where = at / "cfg" if _is_damaged_json(at / "cfg") else at / "model"
            if isinstance(err, WeightsFileError):
                where = at / WEIGHTS_FILE
            reason = (str(err).strip() or type(err).__name__).splitlines()[0]
            raise BertCrfError(f"[{self.name}] {where} is damaged: {reason}") from err
        self._apply_tags()
        return self

    def _apply_tags(self) -> None:
        """Give the CRF the constraints of the tag scheme."""
        head = layers.head_of(self.model)
        if not head.is_built:
            return
        tags, crf = self.tag_set, head.module.crf
        if crf.n_tags != len(tags.tags):
            raise BertCrfError(
                f"[{self.name}] the weights have {crf.n_tags} tags, labels {list(self.labels)} "
                f"under {self.scheme} have {len(tags.tags)}: the scheme of a trained component "
                "can't be changed, and its files belong together."
            )
        if self.constraints:
            crf.set_legal(tags.legal_start(), tags.legal_end(), tags.legal_transitions())
        else:
            crf.set_legal()

    def _allowed(self, examples: list[Example]) -> list[NDArray[np.bool_]]:
        """The tags that each token may have by the gold. [tokens, K] for each example"""
        tags = self.tag_set
        golds = [read_gold(example) for example in examples]
        lost = [entity for gold in golds for entity in gold.lost]
        if lost and not self._told_lost:
            self._told_lost = True
            total = sum(len(gold.spans) + len(gold.lost) for gold in golds)
            warnings.warn(
                f"[{self.name}] of this batch {lost_report(lost, total)} (Said once.)",
                stacklevel=3,
            )
        other = {label for gold in golds for _, _, label in gold.spans} - set(self.labels)
        if other - self._told_labels:
            self._told_labels |= other
            warnings.warn(
                f"[{self.name}] gold entities of labels {sorted(other)} count as outside: the "
                f"component has {list(self.labels)}. (Said once for each label.)",
                stacklevel=3,
            )
        return [allowed_tags(gold, tags) for gold in golds]

    def _set_ents(self, doc: Doc, spans: list[Span]) -> None:
        blocked: list[Span] = []
        if not self.overwrite and len(doc):
            iob, types = doc.to_array(["ENT_IOB", "ENT_TYPE"]).T
            taken = (iob == 1) | (iob == 3)
            if taken.any():
                blocked = [doc[int(i) : int(i) + 1] for i in np.flatnonzero(taken & (types == 0))]
                free = [span for span in spans if not taken[span.start : span.end].any()]
                spans = [*doc.ents, *free]
        doc.set_ents(spans, blocked=blocked, default="outside")


def _is_damaged_json(path: Path) -> bool:
    """Whether a component's `cfg` can't be what was written: labels, a list of strings."""
    try:
        labels = srsly.read_json(path)["labels"]
    except Exception:
        return True
    return not isinstance(labels, list) or not all(isinstance(label, str) for label in labels)


def _bounded(stream: Iterable[Doc], batch_size: int) -> Iterator[list[Doc]]:
    """Batches of at most `batch_size` docs and _LOOKAHEAD_TOKENS tokens (or one doc)."""
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
