"""What says which entities a text has: pipelines, files of annotation, dictionaries of names.

`spec` reads how a source is named and set up, `source` is what all sources have in common, and
`open_sources` opens them. A source is asked for its opinion of a few texts at a time.
"""

from collections.abc import Sequence
from typing import Optional

from ....annotation.coverage.label_map import LabelMap
from ....errors import BertCrfError
from .dictionary import DictionarySource
from .file import FileSource
from .pipeline import PipelineSource
from .source import Source, Text
from .spec import DICTIONARY, PIPELINE, Spec, parse_source, read_sources, with_distinct_names

__all__ = ["Source", "Spec", "Text", "open_sources", "parse_source", "read_sources"]


def open_sources(specs: Sequence[Spec], label_map: Optional[LabelMap] = None) -> list[Source]:
    """Open sources. Pipelines are loaded last, so that mistakes in files are found first.

    specs: the sources. Of those with the same name, the later ones get a number.
    label_map: for sources without a label map of their own; None for none.
    RETURNS: the sources, in the same order.
    Raises BertCrfError if a file or pipeline can't be used, or if a map renames a label that is
        not there.
    """
    specs = with_distinct_names(specs)
    opened: dict[int, Source] = {}
    for i in sorted(range(len(specs)), key=lambda i: specs[i].kind == PIPELINE):
        opened[i] = _open(specs[i])
    sources = [opened[i] for i in range(len(specs))]
    general = [source for source in sources if label_map and not source.spec.label_map]
    if label_map and all(source.labels is not None for source in general):
        has = {label for source in general for label in source.labels or ()}
        if unknown := sorted(set(label_map.names) - has):
            raise BertCrfError(
                f"--map renames {', '.join(unknown)}, and the labels of the sources are "
                f"{', '.join(sorted(has)) or 'none'}: correct --map."
            )
    for source in sources:
        if label_map and not source.spec.label_map:
            source.spec = source.spec.with_map(label_map, source.labels)
        else:
            source.spec.check_map(source.labels)
    return sources


def _open(spec: Spec) -> Source:
    if spec.kind == PIPELINE:
        return PipelineSource.open(spec)
    return DictionarySource.open(spec) if spec.kind == DICTIONARY else FileSource(spec)
