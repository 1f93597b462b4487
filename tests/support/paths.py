"""Where the checkout and the real corpora are."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: The folder of real corpora, beside the checkout unless the variable names another.
SHARED = Path(os.environ.get("SPACY_BERT_CRF_SHARED", ROOT.parent / "shared"))
CONFIG = ROOT / "configs" / "bert_crf.cfg"
