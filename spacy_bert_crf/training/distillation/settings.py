"""The settings of a distillation, which stand in the section [distillation] of a config."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ...encoder.smaller.layers import EVEN, FIRST
from ...errors import BertCrfError

#: The section of a config that holds the settings.
SECTION = "distillation"


@dataclass(frozen=True)
class Distillation:
    """The settings of a distillation.

    layers: number of encoder layers of the student, chosen from the teacher's.
    which_layers: "even" for evenly chosen layers, the last one included; "first" for the first.
    inner_width: number of inner channels of the student's feed-forward networks, those of the
        teacher's that add most to the output in some training texts. 0 for all.
    gold_weight: weight of the negative log-likelihood of gold, where there is gold.
    teacher_weight: weight of the cross-entropy to the teacher. 0 trains on gold only.
    temperature: the scores of teacher and student are divided by it in the cross-entropy. Above 1,
        the student learns more of what the teacher finds unlikely.
    texts: file of further texts to learn from, without gold. "" for none. See `read_texts`.
    teacher_quantize: "int8" lets the teacher read in 8-bit integers, on a CPU. It is faster, and
        what it says is a little less exact. "" for float32.
    cache_mb: megabytes of memory for what the teacher says. The rest is computed with each batch.

    Raises BertCrfError for a value out of range.
    """

    layers: int = 4
    which_layers: str = EVEN
    inner_width: int = 0
    gold_weight: float = 0.5
    teacher_weight: float = 0.5
    temperature: float = 1.0
    texts: str = ""
    teacher_quantize: str = ""
    cache_mb: int = 2048

    def __post_init__(self) -> None:
        for name, kind, fits, needed in _RANGES:
            value = getattr(self, name)
            is_kind = isinstance(value, kind) and not isinstance(value, bool)
            if not is_kind or not fits(value):
                raise BertCrfError(f"[{SECTION}] {name} is {value!r}: it must be {needed}.")
        if not self.gold_weight and not self.teacher_weight:
            raise BertCrfError(
                f"[{SECTION}] gold_weight and teacher_weight are both 0, so that nothing would be "
                "learned: set one of them above 0."
            )

    @classmethod
    def of(cls, section: Mapping[str, Any], changes: Mapping[str, Any]) -> "Distillation":
        """The settings of a config's section, and changes that take precedence.

        Raises BertCrfError for a name that is no setting.
        """
        known = {field.name for field in fields(cls)}
        values = {key: value for key, value in section.items() if key not in _FOUND}
        values |= changes
        if unknown := sorted(set(values) - known):
            raise BertCrfError(
                f"[{SECTION}] has no setting {unknown[0]!r}: use {', '.join(sorted(known))}."
            )
        return cls(**values)

    def section(self, teacher: str, digest: str) -> dict[str, Any]:
        """The section of a config: the settings, and which teacher it was.

        teacher: folder of the teacher's pipeline.
        digest: SHA-256 of its component's files.
        """
        return {**asdict(self), "teacher": teacher, "teacher_sha256": digest}


#: Entries that the command writes itself.
_FOUND = ("teacher", "teacher_sha256")


def _weight(value: float) -> bool:
    return 0 <= value < math.inf


_RANGES: tuple[tuple[str, Any, Any, str], ...] = (
    ("layers", int, lambda value: value >= 1, "a whole number, 1 or more"),
    ("which_layers", str, lambda value: value in (EVEN, FIRST), '"even" or "first"'),
    ("inner_width", int, lambda value: value >= 0, "a whole number, 0 or more"),
    ("gold_weight", (int, float), _weight, "a number, 0 or more"),
    ("teacher_weight", (int, float), _weight, "a number, 0 or more"),
    ("temperature", (int, float), lambda value: 0 < value < math.inf, "a number above 0"),
    ("texts", str, lambda value: True, "the name of a file, or empty"),
    ("teacher_quantize", str, lambda value: value in ("", "int8"), 'empty, or "int8"'),
    ("cache_mb", int, lambda value: value >= 0, "a whole number, 0 or more"),
)
