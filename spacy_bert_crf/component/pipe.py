"""The trainable pipeline component `bert_crf`."""

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Optional

import numpy as np
import srsly
from numpy.typing import NDArray
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example, validate_examples
from spacy.vocab import Vocab
from thinc.api import Config, Model, Optimizer, set_dropout_rate
from thinc.types import Floats2d
from torch import Tensor

from ..annotation.allowed import allowed_tags, open_weights
from ..annotation.gold import Gold, LostEntity, lost_report, read_gold
from ..annotation.schemes import TagSet
from ..annotation.tag_counts import TagCounts
from ..encoder.hf import LoadedEncoder
from ..errors import BertCrfError, first_line
from ..model import layers
from ..model.optimizer import GroupedAdamW
from ..model.weights_file import NAME as WEIGHTS_FILE
from ..model.weights_file import WeightsFileError, weights_beside
from .prediction import Predictor

DEFAULT_CONFIG = """
[bert_crf]
scheme = "BIO"
constraints = true
constrain_training = false
transitions_from_counts = true
annotated_share = 0.0
overwrite = false
quantize = ""
constrain_to_ents = true
scores = false
score_extension = "score"
candidates = 0.0
threshold = 0.0
temperature = 1.0

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
    transitions_from_counts: bool,
    annotated_share: float,
    overwrite: bool,
    quantize: str,
    constrain_to_ents: bool,
    scores: bool,
    score_extension: str,
    candidates: float,
    threshold: float,
    temperature: float,
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
        transitions_from_counts=transitions_from_counts,
        annotated_share=annotated_share,
        overwrite=overwrite,
        quantize=quantize,
        constrain_to_ents=constrain_to_ents,
        scores=scores,
        score_extension=score_extension,
        candidates=candidates,
        threshold=threshold,
        temperature=temperature,
        scorer=scorer,
    )


class BertCrf(Predictor):
    """Named entities by an encoder, a linear classifier and a linear-chain CRF.

    One step of the CRF is one token. Predicted entities go to `doc.ents`.

    scheme: BIO, BIOES, BMES or BILUO.
    constraints: leave transitions that the scheme forbids out of decoding.
    constrain_training: leave them out of the likelihood as well.
    transitions_from_counts: a new CRF starts from how often tags follow one another in the
        training examples, instead of from random scores.
    annotated_share: of docs that are annotated in part, about what share of the entities is
        annotated. Each further one among their unknown tokens then counts for one minus this.
        0 says nothing about it, near 1 takes what is unknown for outside.
    overwrite: replace entities that are on the doc. Otherwise they stay.
    quantize: "int8" to predict with the own encoder's linear layers in 8-bit integers, on a CPU.
        What is trained and saved stays float32. "" for float32.
    constrain_to_ents: where entities stay, decode the rest of the doc given them, exactly. (So
        does spaCy's `ner`.) Otherwise predict freely, and drop what overlaps them.
    scores: write entities with their probabilities to `doc.spans[name]`, attrs["scores"], and to
        `doc._.<name>_log_probability` and `doc._.<name>_entropy` what the CRF says of the doc.
    score_extension: with scores, `span._.<this>` is the probability of an entity, if no other
        extension has the name. "" for none.
    candidates: least probability of entities beyond the best ones that are written to
        `doc.spans["<name>_candidates"]`; 0 for none.
    threshold: entities that are less probable are left out of `doc.ents`.
    temperature: what emissions and transitions are divided by where probabilities are told. The
        best entities do not depend on it.

    threshold and temperature are kept in `cfg`, with the weights. The labels that a doc may have
    can be restricted by `doc._.<name>_labels`, a list of some of the component's.
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
        transitions_from_counts: bool = True,
        annotated_share: float = 0.0,
        overwrite: bool = False,
        quantize: str = "",
        constrain_to_ents: bool = True,
        scores: bool = False,
        score_extension: str = "score",
        candidates: float = 0.0,
        threshold: float = 0.0,
        temperature: float = 1.0,
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
        self.transitions_from_counts = transitions_from_counts
        if not 0 <= annotated_share < 1:
            raise BertCrfError(
                f"[{name}] annotated_share = {annotated_share!r} must be at least 0 and below 1."
            )
        self.annotated_share = annotated_share
        self.quantize = quantize
        self._init_prediction(
            overwrite=overwrite,
            constrain_to_ents=constrain_to_ents,
            scores=scores,
            score_extension=score_extension,
            candidates=candidates,
            threshold=threshold,
            temperature=temperature,
        )
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
        golds: list[Gold] = []
        lost: list[LostEntity] = []
        total = 0
        sample: list[Doc] = []
        for example in get_examples():
            gold = read_gold(example)
            golds.append(gold)
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
        is_new = not head.is_built
        head.build(width, len(self.tag_set.tags))
        if is_new and self.transitions_from_counts:
            counts = TagCounts(len(self.tag_set.tags))
            for gold in golds:
                counts.add(allowed_tags(gold, self.tag_set))
            head.module.crf.set_scores(*counts.scores())
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

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optional[Optimizer] = None,
        losses: Optional[dict[str, float]] = None,
    ) -> dict[str, float]:
        """Learn from a batch. The loss is the negative log-likelihood, mean over the docs.

        Examples without any known token teach nothing. An own encoder does not read them; they
        stay in the batch of a shared one, which hands out its vectors for exactly these docs.
        """
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        examples = list(examples)
        validate_examples(examples, "BertCrf.update")
        if not any(len(example.predicted) for example in examples):
            return losses
        set_dropout_rate(self.model, drop)
        allowed = self._allowed(examples)
        taught = layers.taught(allowed)
        docs = [example.predicted for example in examples]
        for part in layers.update_parts(self.model, docs, taught):
            emissions, backprop = self.model.begin_update([docs[i] for i in part])
            loss, gradient = layers.likelihood(
                self.model,
                emissions,
                [allowed[i] for i in part],
                constrain=self.constrain_training,
                accumulate=True,
                n_docs=len(taught),
                open_weights=open_weights(self.annotated_share, self.tag_set),
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
            open_weights=open_weights(self.annotated_share, self.tag_set),
        )

    def finish_update(self, sgd: Optimizer) -> None:
        """Step the component's parameters."""
        self.model.finish_update(sgd)
        if isinstance(sgd, GroupedAdamW):
            sgd.end_component()

    def create_optimizer(self) -> Optimizer:
        """The optimizer that suits the component."""
        from ..model.optimizer import create_adamw

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
            reason = first_line(err)
            raise BertCrfError(f"[{self.name}] {where} is damaged: {reason}") from err
        self._apply_tags()
        return self

    def _apply_tags(self) -> None:
        """Settle what the cfg holds, and give the CRF the constraints of the tag scheme."""
        self._settle_kept()
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


def _is_damaged_json(path: Path) -> bool:
    """Whether a component's `cfg` can't be what was written: labels, a list of strings."""
    try:
        labels = srsly.read_json(path)["labels"]
    except Exception:
        return True
    return not isinstance(labels, list) or not all(isinstance(label, str) for label in labels)
