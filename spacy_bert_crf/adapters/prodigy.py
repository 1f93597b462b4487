"""Recipe `bert-crf.correct` for Prodigy: correct predictions, each with its exact probability.

Prodigy has a licence of its own, and finds this recipe once the package is installed:

    prodigy bert-crf.correct news training/mine/model-best texts.jsonl --label PER,LOC

Source of the interface: Prodigy's documentation of custom recipes (https://prodi.gy/docs).
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Optional

import prodigy
from prodigy.components.stream import get_stream
from prodigy.util import set_hashes

from ..evaluation.selection.tasks import prodigy_parts
from .finder import Finder

#: Tasks that are predicted together.
_BATCH = 16


def predicted_tasks(
    stream: Iterable[dict[str, Any]], finder: Finder, labels: tuple[str, ...] = ()
) -> Iterator[dict[str, Any]]:
    """Tasks with tokens, with the entities that were found, and with what is uncertain.

    stream: tasks with a `text`.
    finder: finds the entities.
    labels: other labels are left out; none for all.
    Raises BertCrfError for a text that the pipeline does not take.
    """
    tasks = iter(stream)
    while batch := list(islice(tasks, _BATCH)):
        texts = [task["text"] for task in batch]
        for task, found in zip(batch, finder.find(texts), strict=True):
            parts = prodigy_parts(task["text"], found, labels)
            parts["meta"] = {**task.get("meta", {}), **parts["meta"]}
            yield set_hashes({**task, **parts}, overwrite=True)


@prodigy.recipe(
    "bert-crf.correct",
    dataset=("Dataset to save annotations to", "positional", None, str),
    pipeline=("Folder of a trained pipeline with bert_crf", "positional", None, str),
    source=("Texts: a path that Prodigy reads, or - for standard input", "positional", None, str),
    label=("Labels, separated by commas. Without it, all of the pipeline", "option", "l", str),
    component=("Which bert_crf, if there are several", "option", "c", str),
    uncertain=("Less probable entities are listed as uncertain", "option", "u", float),
)
def correct(
    dataset: str,
    pipeline: str,
    source: str,
    label: Optional[str] = None,
    component: str = "",
    uncertain: float = 0.8,
) -> dict[str, Any]:
    """Correct the entities of a pipeline. Their probabilities and doubts are shown."""
    finder = Finder(pipeline, component, uncertain)
    chosen = tuple(name.strip() for name in label.split(",")) if label else ()
    stream = get_stream(source, rehash=True, dedup=True, input_key="text")
    stream.apply(predicted_tasks, stream=stream, finder=finder, labels=chosen)
    return {
        "view_id": "ner_manual",
        "dataset": dataset,
        "stream": stream,
        "config": {
            "lang": finder.nlp.lang,
            "labels": list(chosen or finder.labels),
            "exclude_by": "input",
            "auto_count_stream": True,
        },
    }
