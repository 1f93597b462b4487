"""Find the entities of texts with their exact probabilities, for the adapters of this room."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Union

from spacy.language import Language

from ..component.pipelines import find_component, load_pipeline
from ..evaluation.selection.predicted import Predicted, predict


class Finder:
    """Finds entities in texts with the component bert_crf of a pipeline.

    Components after it, such as an entity ruler, are not run.

    pipeline: a trained pipeline, or its folder.
    component: which bert_crf, if there are several.
    uncertain: less probable entities are uncertain, from 0.5 to 1.
    Raises BertCrfError if the pipeline can't be loaded, or has no trained bert_crf.
    """

    def __init__(
        self, pipeline: Union[str, Path, Language], component: str = "", uncertain: float = 0.8
    ) -> None:
        self.nlp = pipeline if isinstance(pipeline, Language) else load_pipeline(Path(pipeline))
        self.pipe = find_component(self.nlp, component)
        self.uncertain = uncertain
        self._lock = Lock()

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the component."""
        return tuple(self.pipe.labels)

    def find(self, texts: Sequence[str]) -> list[Predicted]:
        """The entities of each text, in its order, without those below the pipeline's threshold.

        Threads take turns, since a pipeline is not for several at once.

        Raises BertCrfError for a text that the pipeline does not take.
        """
        least = self.pipe.threshold
        with self._lock:
            found = predict(self.nlp, self.pipe, list(texts), self.uncertain)
        return [
            replace(each, entities=tuple(e for e in each.entities if e.probability >= least))
            for each in found
        ]
