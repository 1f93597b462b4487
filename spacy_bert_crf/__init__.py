"""Named entities in spaCy by BERT and a linear-chain CRF.

spaCy finds the factory `bert_crf` and the registered functions through entry points, so nothing
needs to be imported, and importing this package costs nothing but a look at the versions of what
it stands on.
"""

from ._provenance import check_versions
from .errors import BertCrfError

check_versions()

__all__ = ["BertCrfError", "__version__"]
__version__ = "0.1.0"
