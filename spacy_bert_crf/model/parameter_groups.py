"""Which group, layer and weight decay a parameter has in the optimizer, by its name."""

import re

#: Groups with learning rates of their own.
GROUPS = ("encoder", "head", "crf")
#: How Hugging Face encoders number their layers in names of parameters.
_LAYER = re.compile(r"(?:^|\.)(?:layer|layers|h|block)\.(\d+)\.")


def group_of(name: str) -> str:
    """The group of a parameter, one of GROUPS.

    The head has `classifier.*`, the CRF has `crf.*`. Other names with a dot belong to a torch
    encoder. Names without a dot are parameters of thinc layers, which go with the head.
    """
    if name.startswith("crf."):
        return "crf"
    return "head" if name.startswith("classifier.") or "." not in name else "encoder"


def layer_of(name: str) -> int:
    """Number of the encoder layer of a parameter; -1 for embeddings and all else without one."""
    found = _LAYER.search(name)
    return int(found[1]) if found else -1


def decays(name: str) -> bool:
    """Whether weight decay applies: not to biases, normalisation layers and the CRF."""
    leaf = name.rsplit(".", 1)[-1]
    owner = name.lower().rsplit(".", 2)[-2] if "." in name else ""
    return not (leaf in ("bias", "b", "G") or "norm" in owner or name.startswith("crf."))
