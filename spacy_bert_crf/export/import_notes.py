"""A trained model as read from files, and what of it does not come into the pipeline unchanged."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..annotation.tag_rows import TagRows
from ..encoder.hf import LONGEST

BERT4TORCH = "weights of bert4torch"
#: Tensors of pretraining and of pooling, without influence on the hidden states of tokens.
UNUSED = re.compile(r"(^|\.)(pooler\.|cls\.(predictions|seq_relationship)\.|.*position_ids$)")
#: Settings of a pipeline that an export does not hold, so that they get their defaults.
_NOT_EXPORTED = "overlap, overwrite, threshold and the correction by calibrate"


@dataclass
class Source:
    """A trained model as read.

    kind: what it is, for messages.
    weights: the file.
    tensors: under the names of a best_model.pt; those of the CRF may be missing.
    config: the Hugging Face config as read.
    info: the content of best_model.json; empty for foreign models.
    folder: where tokenizer and config are.
    has_types: whether the file has token types; bert4torch's example has none.
    """

    kind: str
    weights: Path
    tensors: dict[str, Tensor]
    config: dict[str, Any]
    info: dict[str, Any]
    folder: Path
    has_types: bool = True


def import_notes(source: Source, pipe: Any, tags: TagRows) -> list[str]:
    """A line for each thing that was left out, changed or added.

    pipe: the component that was made.
    tags: where its tags are in the source.
    """
    notes = []
    unused = sorted(name for name in source.tensors if UNUSED.search(name))
    if unused:
        notes.append(
            f"left out {len(unused)} tensors that no token's tag depends on: "
            f"{', '.join(unused[:4])}{' …' if len(unused) > 4 else ''}"
        )
    dtypes = {str(t.dtype)[6:] for t in source.tensors.values() if t.is_floating_point()}
    if others := sorted(dtypes - {"float32"}):
        notes.append(f"weights in {', '.join(others)} became float32")
    if source.info:
        notes.append(f"settings that an export does not hold have their defaults: {_NOT_EXPORTED}")
        longest = source.info.get("max_length")
        if type(longest) is int and not 8 <= longest <= LONGEST:
            notes.append(
                f"max_length {longest} was changed: windows have from 8 to {LONGEST:,} wordpieces"
            )
        return notes
    if source.kind == BERT4TORCH:
        if not source.has_types:
            notes.append("bert4torch's model has no token types: they are zeros")
        notes.append(
            "its CRF ran over [CLS] and [SEP]: the scores of steps from and to O take the place "
            "of its start and end scores"
        )
    else:
        notes.append("the source has no CRF: all scores of transitions are 0")
    if tags.never:
        notes.append("scheme IO became BIO: neighbouring entities of one label are one")
    missing = [tag for tag, row in zip(tags.tag_set.tags, tags.rows, strict=True) if row < 0]
    if missing:
        notes.append(f"the source has no tag {', '.join(missing)}: they never come out")
    if pipe.constraints:
        notes.append(
            "decoding keeps to the tag scheme, which the source's own may break: "
            "--no-constraints decodes as the source does"
        )
    elif source.kind != BERT4TORCH:
        notes.append(
            "decoding takes the best tag of each token, as the source does: --constraints keeps "
            "to the tag scheme"
        )
    return notes
