"""What says which entities a text has: pipelines, files of annotation, dictionaries of names.

`spec` reads how a source is named and set up, `source` is what all sources have in common, and
`open_source` opens one. A source is asked for its opinion of a few texts at a time.
"""

from .dictionary import DictionarySource
from .file import FileSource
from .pipeline import PipelineSource
from .source import Source, Text
from .spec import DICTIONARY, PIPELINE, Spec, parse_source, read_sources

__all__ = ["Source", "Spec", "Text", "open_source", "parse_source", "read_sources"]


def open_source(spec: Spec) -> Source:
    """Open a source. Raises BertCrfError if its file or pipeline can't be used."""
    if spec.kind == PIPELINE:
        return PipelineSource.open(spec)
    return DictionarySource.open(spec) if spec.kind == DICTIONARY else FileSource(spec)
