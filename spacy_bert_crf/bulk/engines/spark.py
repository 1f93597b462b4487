"""Annotate a Spark DataFrame, by a function for `DataFrame.mapInPandas`.

Spark reads, writes and does failed tasks again; its own commit protocol decides what is written.
"""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

from ...errors import BertCrfError
from ..annotator import Annotator, prepare
from ..job import load

if TYPE_CHECKING:
    import pandas
    from pyspark.sql import DataFrame

_ENTITY = "start: int, end: int, label: string, text: string"
#: Names of the columns that are added.
ENTITIES, ERROR = "entities", "error"


def annotate_frame(
    frame: "DataFrame",
    pipeline: Union[str, Path],
    *,
    text_field: str = "text",
    keep: Optional[Sequence[str]] = None,
    scores: bool = False,
    int8: bool = False,
    code: Optional[Path] = None,
) -> "DataFrame":
    """Annotate the texts of a Spark DataFrame.

    Each Python worker of Spark loads the pipeline once. Texts of one Arrow batch are sorted by
    length, and equal ones are read once (spark.sql.execution.arrow.maxRecordsPerBatch).

    frame: the DataFrame.
    pipeline: folder of a pipeline that all executors see, or name of one that is installed there.
    text_field: column of the text.
    keep: columns that the result has; None for all.
    scores: entities have a probability. This needs a component bert_crf.
    int8: components bert_crf compute in 8-bit integers.
    code: Python file with registered functions of the pipeline.
    RETURNS: a DataFrame with the kept columns, `entities` and `error`. `entities` is a list of
        structs with start, end (characters), label, text and, with `scores`, probability. It is
        null where `error` says why the text could not be annotated.
    Raises BertCrfError if a column is missing, or is named as one that is added.
    """
    kept = list(frame.columns if keep is None else keep)
    for name in (text_field, *kept):
        if name not in frame.columns:
            raise BertCrfError(
                f"the DataFrame has no column {name!r}, only {', '.join(frame.columns)}."
            )
    for name in (ENTITIES, ERROR):
        if name in kept:
            raise BertCrfError(f"the DataFrame has a column {name!r}: rename it, or leave it out.")
    entity = _ENTITY + (", probability: float" if scores else "")
    types = {name: frame.schema[name].dataType.simpleString() for name in kept}
    columns = [f"`{name}` {kind}" for name, kind in types.items()]
    schema = ", ".join([*columns, f"{ENTITIES} array<struct<{entity}>>", f"{ERROR} string"])
    function = functools.partial(
        annotate_batches,
        pipeline=str(pipeline),
        text_field=text_field,
        keep=tuple(kept),
        scores=scores,
        int8=int8,
        code=code,
    )
    return frame.mapInPandas(function, schema)


def annotate_batches(
    batches: "Iterator[pandas.DataFrame]",
    pipeline: str,
    text_field: str = "text",
    keep: Sequence[str] = (),
    scores: bool = False,
    int8: bool = False,
    code: Optional[Path] = None,
) -> "Iterator[pandas.DataFrame]":
    """The function that `annotate_frame` gives to `mapInPandas`. Arguments as there.

    batches: frames of pandas with the texts.
    RETURNS: for each, a frame with the kept columns, `entities` and `error`.
    Raises BertCrfError if the pipeline can't be loaded.
    """
    import pandas

    annotator = _annotator(pipeline, scores, int8, code)
    for batch in batches:
        texts = batch[text_field].tolist()
        known = [index for index, text in enumerate(texts) if isinstance(text, str)]
        outcomes: dict[int, Any] = dict(
            zip(known, annotator.annotate([texts[index] for index in known]), strict=True)
        )
        entities: list[Any] = []
        errors: list[Optional[str]] = []
        for index in range(len(texts)):
            outcome = outcomes.get(index, "it has no text")
            is_error = isinstance(outcome, str)
            errors.append(outcome if is_error else None)
            entities.append(None if is_error else [_record(e, scores) for e in outcome.entities])
        made = {ENTITIES: entities, ERROR: errors}
        added = pandas.DataFrame(made, index=batch.index, dtype=object)
        yield pandas.concat([batch[list(keep)], added], axis=1)


def _record(entity: Any, scores: bool) -> dict[str, Any]:
    values: dict[str, Any] = entity._asdict()
    if not scores:
        del values["probability"]
    return values


@functools.lru_cache(maxsize=1)
def _annotator(pipeline: str, scores: bool, int8: bool, code: Optional[Path]) -> Annotator:
    """The pipeline in this process of Spark, loaded once."""
    import torch

    torch.set_num_threads(1)
    nlp = load(pipeline, code)
    prepare(nlp, scores=scores, int8=int8)
    return Annotator(nlp, scores=scores)
