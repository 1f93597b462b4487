"""The trainable pipeline component `bert_crf`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Optional, Union, cast

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import Model, Optimizer
from torch import Tensor

from .._host import in_plain_torch
from ..annotation.coverage.scored import only_covered
from ..annotation.gold import GoldReader, choose_labels, count_tags
from ..annotation.schemes import TagSet, tag_set_of
from ..crf.linear_chain import LinearChainCRF
from ..encoder.hf import LoadedEncoder
from ..encoder.passes import IntArray
from ..errors import BertCrfError
from ..model import layers
from ..model.optimizer import GroupedAdamW, create_adamw
from ..model.weights_file import weights_beside
from . import borders, doc_entities, reading
from .decoding.batch_loss import Lessons
from .decoding.chains import Begun, Chains
from .decoding.dictionary import DICTIONARY, Dictionary
from .decoding.learning import Learning
from .reading import Alternative, Reading, Spans
from .score_map import ScoreMap
from .settings import Settings, damaged_component, has_settings, merge_kept, named


@in_plain_torch
@has_settings
class BertCrf(Learning):
    """Named entities by an encoder, a linear classifier and a linear-chain CRF.

    One step of the CRF is one token. Predicted entities go to `doc.ents`.
    `doc._.<name>_labels`, a list of some of the component's labels, restricts those of a doc.

    vocab: vocabulary of the pipeline.
    model: list of Doc to list of emissions [tokens, K], see `spacy_bert_crf.BertCrf.v1`.
    name: name of the component in the pipeline.
    scorer: function of `Language.evaluate`, None for no scores.
    settings: each of `Settings`, also as an attribute. `cfg` keeps threshold and temperature.
    """

    def __init__(
        self,
        vocab: Vocab,
        model: Model,
        name: str = "bert_crf",
        *,
        scorer: Optional[Callable[..., Any]] = None,
        **settings: Any,
    ) -> None:
        """Raises BertCrfError for a setting out of range, TypeError for one that is unknown."""
        self.vocab, self.model, self.name, self.scorer = vocab, model, name, scorer
        with named(name):
            self.settings = Settings(**settings)
        self.cfg: dict[str, Any] = {"labels": []}
        merge_kept(self.cfg, self.settings)
        self.quantize = self.settings.quantize
        self._golds, self._warned_impossible = GoldReader(name), False
        self._dictionary: Optional[Dictionary] = None
        #: What a teacher says of a batch; set while a student is trained. It is not saved.
        self.teacher: Optional[Callable[[list[Example]], Lessons]] = None
        doc_entities.register_labels(name)
        self.register_extensions()

    @property
    def labels(self) -> tuple[str, ...]:
        """Entity types in the order of their tags."""
        return tuple(self.cfg["labels"])

    @property
    def label_data(self) -> list[str]:
        """The labels as `spacy init labels` writes them and `initialize` takes them."""
        return list(self.cfg["labels"])

    @property
    def tag_set(self) -> TagSet:
        """The tags in id order."""
        return tag_set_of(tuple(self.cfg["labels"]), self.settings.scheme)

    @property
    def crf(self) -> LinearChainCRF:
        """The CRF in torch. Raises BertCrfError before the component is initialised."""
        return layers.crf_of(self.model)

    @property
    def chains(self) -> Chains:
        """The CRF with the settings of decoding. Raises BertCrfError as `crf` does."""
        own = self.settings
        return Chains(self.crf, self.tag_set, own.constraints, own.whole_words)

    @property
    def quantize(self) -> str:
        """See Settings. May be changed, except where the encoder is shared."""
        encoder = layers.encoder_of(self.model)
        return "" if encoder is None else encoder.quantize

    @quantize.setter
    def quantize(self, value: str) -> None:
        with named(self.name):
            layers.set_quantize(self.model, value)

    @property
    def score_map(self) -> ScoreMap:
        """The correction of the probabilities of entities that `calibrate` fitted, or none.

        Raises BertCrfError if the cfg holds a damaged one.
        """
        with named(self.name):
            return ScoreMap.from_cfg(self.cfg)

    @property
    def dictionary(self) -> Optional[Dictionary]:
        """Names that take part in decoding. May be set; saved with the component in its cfg.

        Setting it raises BertCrfError for labels that the component does not have.
        """
        return self._dictionary

    @dictionary.setter
    def dictionary(self, value: Optional[Dictionary]) -> None:
        if other := sorted(set(value.labels if value else ()) - set(self.labels)):
            raise BertCrfError(
                f"[{self.name}] the dictionary has labels that the component does not have: "
                f"{', '.join(other)}. It has {', '.join(self.labels)}."
            )
        self._dictionary = value
        self.cfg.pop(DICTIONARY, None)
        if value is not None:
            self.cfg[DICTIONARY] = value.to_cfg()

    def predict(self, docs: Iterable[Doc]) -> Union[list[IntArray], list[Reading]]:
        """Decode docs without changing them.

        docs: as they come from the components before this one.
        RETURNS: best tag ids of each doc [tokens], or Readings if a setting needs probabilities.
        """
        return self._decode(self._begin(list(docs)))

    def set_annotations(
        self, docs: Iterable[Doc], scores: Sequence[Union[IntArray, Reading]]
    ) -> None:
        """Write entities to docs. Every doc counts as annotated afterwards.

        docs: the docs that `predict` decoded.
        scores: the result of `predict`.
        """
        self.register_extensions()  # the component may have been unpickled
        if scores and not isinstance(scores[0], Reading):
            tags = cast(Sequence[IntArray], scores)
            doc_entities.set_tags(list(docs), tags, self.tag_set, self.settings.overwrite)
            return
        for doc, found in zip(docs, cast(Sequence[Reading], scores), strict=True):
            doc_entities.set_reading(doc, found, self.name, self.settings, self.threshold)

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Annotate a stream of docs in order.

        stream: the docs. At most `batch_size` of them are read ahead, on CUDA twice as many.
        batch_size: largest number of docs that are decoded together.
        """
        error_handler = self.get_error_handler()

        def end(docs: list[Doc], begun: Optional[Begun]) -> None:
            scores = self.predict(docs) if begun is None else self._decode(begun)
            self.set_annotations(docs, scores)

        batches = layers.doc_batches(stream, batch_size)
        for docs, err in layers.in_flight(self.model, batches, self._begin, end):
            if err is None:
                yield from docs
            else:
                error_handler(self.name, self, docs, err)

    def read(
        self,
        docs: Iterable[Doc],
        *,
        candidates: float = 0.0,
        requested: Sequence[Spans] = (),
        expected: bool = False,
    ) -> list[Reading]:
        """Probabilities of each doc, whatever the settings. The docs are not changed.

        docs: as for `predict`. Their entities are not trimmed of white space.
        candidates: smallest probability of entities beyond those of the best path; 0 for none.
        requested: entities (start, end, label) of each doc to compute the probability of, or empty.
        expected: whether the expected numbers of entities and of wrong tokens are computed.
        Raises BertCrfError for labels that the component does not have.
        """
        with named(self.name):
            reading.check_labels(requested, self.labels)
            candidates = Settings(candidates=candidates).candidates  # checked
        return self._read(self._begin(list(docs)), candidates, requested, expected)

    def nbest(self, docs: Iterable[Doc], k: int) -> list[list[Alternative]]:
        """The k best tag paths of each doc, the most probable first. The docs are not changed.

        Entities are those that would be written to the doc. Paths are legal and keep to the
        entities on the doc, as in decoding. All differ as tags. With `constraints` they also
        differ as entities, except for white space that is trimmed.

        docs: as for `predict`.
        k: number of paths of a doc, which may have fewer.
        Raises BertCrfError for k below 1.
        """
        if k < 1:
            raise BertCrfError(f"the number of best paths must be at least 1, not {k}.")
        begun = self._begin(docs := list(docs))
        paths = self.chains.best_paths(begun.emissions.wait(), k, begun.allowed, self.temperature)
        tag_set, overwrite = self.tag_set, self.settings.overwrite
        return [
            doc_entities.alternatives(doc, found, tag_set, overwrite)
            for doc, found in zip(docs, paths, strict=True)
        ]

    def add_label(self, label: str) -> int:
        """Add an entity type.

        label: the type. Its tags come after the present ones, whose weights stay.
        RETURNS: 1 if it is new, 0 otherwise.
        Raises BertCrfError for an empty label.
        """
        if label in self.labels:
            return 0
        TagSet((*self.labels, label), self.settings.scheme)
        self._set_labels([*self.labels, label])
        head = layers.head_of(self.model)
        if head.is_built:
            self._untrained = (*self._untrained, label)
            per_label = len(self.tag_set.tags) // len(self.labels)
            head.module.extend(len(self.tag_set.tags), per_label)
            self._apply_tags()
        return 1

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Optional[Language] = None,
        labels: Optional[list[str]] = None,
    ) -> None:
        """Learn the labels, report entities that can't be aligned, load the encoder, make the head.

        get_examples: returns the training examples. All are read once.
        nlp: not used.
        labels: entity types in the order of their tags; otherwise those of the examples, sorted.
        Raises BertCrfError if there are no labels or the encoder can't be loaded.
        """
        golds, sample, texts, cut = self._golds.read_corpus(get_examples())
        trained = self.labels if layers.head_of(self.model).is_built else None
        with named(self.name):
            self._set_labels(choose_labels(labels, self.labels, golds, trained))
        self._build_head(sample)
        borders.warn_inner_borders(self.name, layers.encoder_of(self.model), texts)
        borders.warn_cut_words(self.name, cut if self.chains.keeps else [], golds, self.settings)
        if trained is None and self.settings.transitions_from_counts:
            self.crf.set_scores(*count_tags(golds, self.tag_set).scores())
        self._apply_tags()

    def adopt(self, encoder: LoadedEncoder, labels: list[str], head: dict[str, Tensor]) -> None:
        """Take over trained weights instead of `initialize`, with an own encoder.

        encoder: the encoder and its tokenizer.
        labels: entity types in the order of their tags.
        head: the state of a TagHead.
        Raises BertCrfError without an own encoder, RuntimeError for weights that do not fit.
        """
        own = layers.own_encoder_of(self.model)
        if own is None:
            raise BertCrfError(f"[{self.name}] shares an encoder: use spacy_bert_crf.Encoder.v1.")
        self._set_labels(labels)
        own.adopt(encoder)
        self._build_head(None)
        layers.head_of(self.model).module.load_state_dict(head)
        self._apply_tags()

    def score(self, examples: Iterable[Example], **kwargs: Any) -> dict[str, Any]:
        """The scores of the scorer, of the labels that each reference covers."""
        scores: dict[str, Any] = super().score(only_covered(examples), **kwargs)
        return scores

    def finish_update(self, sgd: Optimizer) -> None:
        """Step the component's parameters with the optimizer `sgd`."""
        self.model.finish_update(sgd)
        if isinstance(sgd, GroupedAdamW):
            sgd.end_component()

    def create_optimizer(self) -> Optimizer:
        """The optimizer that suits the component."""
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
        with damaged_component(self.name, Path(path)), weights_beside(Path(path)):
            super().from_disk(path, exclude=exclude)
            TagSet(self.labels, self.settings.scheme)
        self._apply_tags()
        return self

    def register_extensions(self) -> None:
        """Make the extensions of Doc and Span that the settings need, if there are none."""
        if self.settings.scores:
            doc_entities.register_scores(self.name, self.settings.score_extension)

    def _begin(self, docs: list[Doc]) -> Begun:
        """Begin a prediction. On CUDA the host does not wait for it."""
        keep = self.settings.constrain_to_ents and not self.settings.overwrite
        emissions = layers.predict_emissions(self.model, docs).to_crf()
        return Begun(emissions, self.chains.allowed(docs, self.name, keep, self.dictionary))

    def _decode(self, begun: Begun) -> Union[list[IntArray], list[Reading]]:
        """End a prediction, see `predict`."""
        if self.settings.scores or self.settings.candidates or self.cfg.get("threshold"):
            return reading.corrected(self._read(begun, self.settings.candidates), self.score_map)
        tags, impossible = self.chains.decode(begun.emissions.wait(), begun.allowed)
        self._warn_impossible(impossible)
        return tags

    def _read(
        self,
        begun: Begun,
        candidates: float,
        requested: Sequence[Spans] = (),
        expected: bool = False,
    ) -> list[Reading]:
        """End a prediction, see `read`."""
        readings = self.chains.read(
            begun.emissions.wait(), begun.allowed, temperature=self.temperature,
            min_probability=candidates, requested=requested, expected=expected,
        )  # fmt: skip
        self._warn_impossible(sum(not each.within_allowed for each in readings))
        return readings

    def _set_labels(self, labels: Sequence[str]) -> None:
        TagSet(tuple(labels), self.settings.scheme)  # raises for labels that can't be
        self.cfg["labels"] = list(labels)
        for label in labels:
            self.vocab.strings.add(label)

    def _build_head(self, sample: Optional[list[Doc]]) -> None:
        self.model.initialize(X=sample)
        with named(self.name):
            layers.build_head(self.model, len(self.tag_set.tags))

    def _apply_tags(self) -> None:
        """Settle the kept settings, and give the CRF the constraints of the tag scheme."""
        merge_kept(self.cfg, self.settings)
        _ = self.score_map  # raises for a damaged one
        with named(self.name):
            self._dictionary = Dictionary.from_cfg(self.cfg)
        tags = self.tag_set
        legal = tags.legal() if self.settings.constraints else None
        with named(self.name):
            layers.set_legal(self.model, len(tags.tags), legal)

    def _warn_impossible(self, count: int) -> None:
        if count and not self._warned_impossible:
            self._warned_impossible = True
            reading.warn_impossible(self.name, count)
