"""Named entities in spaCy by BERT and a linear-chain CRF.

spaCy finds the factory `bert_crf` and the registered functions through entry points, so nothing
needs to be imported, and importing this package costs nothing.
"""

from .errors import BertCrfError

__all__ = ["BertCrfError", "__version__"]
__version__ = "0.1.0"
