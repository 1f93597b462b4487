"""A recogniser for Microsoft Presidio whose scores are the exact probabilities of the CRF.

Needs the extra [presidio]. Presidio's own recogniser for spaCy gives each entity the same score.
Source of the interface: presidio-analyzer 2.2 (https://github.com/microsoft/presidio).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

import spacy
from presidio_analyzer import (
    AnalysisExplanation,
    AnalyzerEngine,
    EntityRecognizer,
    RecognizerRegistry,
    RecognizerResult,
)
from presidio_analyzer.nlp_engine import SpacyNlpEngine
from spacy.language import Language

from .finder import Finder

#: Presidio's names of common labels.
ENTITIES = {
    "PER": "PERSON",
    "LOC": "LOCATION",
    "GPE": "LOCATION",
    "FAC": "LOCATION",
    "ORG": "ORGANIZATION",
}


class BertCrfRecognizer(EntityRecognizer):
    """Entities of a pipeline, each with its exact probability as the score.

    pipeline: a trained pipeline, or its folder.
    entities: Presidio's names of the labels. Labels without one keep their own name. Without a
        value, ENTITIES.
    component: which bert_crf, if there are several.
    supported_language: language of the texts. Without a value, that of the pipeline.
    further: as in EntityRecognizer, such as `name`, `context` and `score_thresholds`.
    Raises BertCrfError if the pipeline can't be loaded, or has no trained bert_crf.
    """

    def __init__(
        self,
        pipeline: Union[str, Path, Language],
        entities: Optional[Mapping[str, str]] = None,
        component: str = "",
        supported_language: str = "",
        **further: Any,
    ) -> None:
        self.finder = Finder(pipeline, component)
        names = ENTITIES if entities is None else entities
        self.names = {label: names.get(label, label) for label in self.finder.labels}
        super().__init__(
            supported_entities=sorted(set(self.names.values())),
            supported_language=supported_language or self.finder.nlp.lang,
            **{"name": "BertCrfRecognizer", **further},
        )

    def load(self) -> None:
        """Nothing is left to load."""

    def analyze(
        self, text: str, entities: Sequence[str], nlp_artifacts: Any = None
    ) -> list[RecognizerResult]:
        """The entities of a text.

        text: the text.
        entities: Presidio's names of the entities that are wanted; none for all.
        nlp_artifacts: not used.
        """
        (found,) = self.finder.find([text])
        results = []
        for start, end, label, probability in found.entities:
            name = self.names.get(label, label)
            if entities and name not in entities:
                continue
            explanation = AnalysisExplanation(
                recognizer=self.name,
                original_score=probability,
                textual_explanation=f"{label} with the probability {probability} by BERT and CRF",
            )
            metadata = {
                RecognizerResult.RECOGNIZER_NAME_KEY: self.name,
                RecognizerResult.RECOGNIZER_IDENTIFIER_KEY: self.id,
            }
            results.append(RecognizerResult(name, start, end, probability, explanation, metadata))
        return results


class TokenizerEngine(SpacyNlpEngine):
    """Presidio's NLP engine with a tokenizer only, so that no second model is loaded.

    lang: a language of spaCy.
    """

    def __init__(self, lang: str) -> None:
        super().__init__(models=[{"lang_code": lang, "model_name": f"blank:{lang}"}])
        self.nlp = {lang: spacy.blank(lang)}

    def load(self) -> None:
        """Nothing is left to load."""


def make_analyzer(recognizer: BertCrfRecognizer, *others: EntityRecognizer) -> AnalyzerEngine:
    """An analyzer of Presidio with this recogniser, and with further ones.

    recognizer: the recogniser.
    others: further recognisers of the same language, such as those for phone numbers.
    """
    lang = recognizer.supported_language
    registry = RecognizerRegistry([recognizer, *others], supported_languages=[lang])
    return AnalyzerEngine(
        registry=registry, nlp_engine=TokenizerEngine(lang), supported_languages=[lang]
    )
