"""Installs the pretend CUDA device in each Python process with this folder on its path.

Python imports `sitecustomize` as it begins. See `tests.cuda.pretend.environment`.
"""

import os
import sys

if _wanted := os.environ.get("SPACY_BERT_CRF_PRETEND_CUDA"):
    from tests.cuda.pretend import install

    # pip, ruff and the like need no GPU, and would not find torch a second faster without it.
    if not any(name in sys.orig_argv for name in ("pip", "ensurepip")):
        install(bf16=_wanted != "fp16")
