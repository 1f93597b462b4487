"""The environment of Python processes that shall have the pretend device."""

import os
from pathlib import Path
from typing import Optional

#: "1" for a GPU with bfloat16, "fp16" for one without it.
VARIABLE = "SPACY_BERT_CRF_PRETEND_CUDA"
SITE = Path(__file__).with_name("site")
ROOT = Path(__file__).resolve().parents[3]


def environment(bf16: bool = True, base: Optional[dict[str, str]] = None) -> dict[str, str]:
    """Variables for a process, and those that it starts: each installs the device as it begins.

    bf16: whether the GPU computes in bfloat16. base: other variables; those of this process.
    """
    out = dict(os.environ if base is None else base)
    path = [str(SITE), str(ROOT), *out.get("PYTHONPATH", "").split(os.pathsep)]
    out["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(part for part in path if part))
    out[VARIABLE] = "1" if bf16 else "fp16"
    return out
