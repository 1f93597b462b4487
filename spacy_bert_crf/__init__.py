"""Named entities in spaCy by BERT and a linear-chain CRF.

spaCy finds the factory `bert_crf` and the registered functions through entry points. No import of
this package is needed for that.

The names in `__all__`, the registered names and the commands are stable. Everything else is
private and may change. The names are loaded on first use (PEP 562). So importing the package loads
neither torch nor transformers. It only checks the versions of the packages that it needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._provenance import check_versions
from .errors import BertCrfError

if TYPE_CHECKING:
    from .annotation.convert import convert_corpus
    from .annotation.schemes import TagSet
    from .bulk.engines.spark import annotate_frame
    from .component.pipe import BertCrf
    from .component.reading import Alternative, Reading, ScoredSpan
    from .crf.linear_chain import LinearChainCRF
    from .encoder.checkpoint import convert_checkpoint
    from .evaluation.calibrate import calibrate
    from .evaluation.evaluate import evaluate
    from .evaluation.selection.select import select_texts
    from .evaluation.suspects import find_errors
    from .export.compare import compare_exports
    from .export.folder import export_pipeline
    from .export.import_model import import_model
    from .training.distillation.distill import distill
    from .training.loop import train

check_versions()

#: The only place of the version; setup.py reads it from here.
__version__ = "0.3.0"

#: The module of each name that is loaded on first use.
_HOMES = {
    "Alternative": "component.reading",
    "BertCrf": "component.pipe",
    "LinearChainCRF": "crf.linear_chain",
    "Reading": "component.reading",
    "ScoredSpan": "component.reading",
    "TagSet": "annotation.schemes",
    "annotate_frame": "bulk.engines.spark",
    "calibrate": "evaluation.calibrate",
    "compare_exports": "export.compare",
    "convert_checkpoint": "encoder.checkpoint",
    "convert_corpus": "annotation.convert",
    "distill": "training.distillation.distill",
    "evaluate": "evaluation.evaluate",
    "export_pipeline": "export.folder",
    "find_errors": "evaluation.suspects",
    "import_model": "export.import_model",
    "select_texts": "evaluation.selection.select",
    "train": "training.loop",
}

__all__ = [
    "Alternative",
    "BertCrf",
    "BertCrfError",
    "LinearChainCRF",
    "Reading",
    "ScoredSpan",
    "TagSet",
    "__version__",
    "annotate_frame",
    "calibrate",
    "compare_exports",
    "convert_checkpoint",
    "convert_corpus",
    "distill",
    "evaluate",
    "export_pipeline",
    "find_errors",
    "import_model",
    "select_texts",
    "train",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module, once.

    Raises AttributeError for any other name.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, for completion in editors and notebooks."""
    return sorted(__all__)
