"""A trained pipeline for the world outside spaCy.

`export_pipeline` writes best_model.pt and its companions (docs/best_model.md), and further
formats beside them (docs/export.md).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from spacy.language import Language

from .._files import atomic_folder
from ..errors import BertCrfError
from .calibration_inputs import FOLDER, write_calibration
from .folder import (
    SIDECAR,
    WEIGHTS,
    check_folder,
    keep_others,
    made_of_others,
    to_json,
    write_companions,
)
from .formats.registry import FORMATS, Options, check_formats, weights_bytes, write_format
from .trained import gather

__all__ = ["FORMATS", "export_pipeline"]

#: Texts and length of calibration inputs where no shape is given.
DEFAULT_SHAPE = (1, 256)


def export_pipeline(
    nlp: Language,
    dst: Path,
    *,
    component: str = "",
    metrics: Optional[dict[str, Any]] = None,
    formats: Sequence[str] = (),
    shape: Optional[tuple[int, int]] = None,
    calibration: int = 0,
    calibration_texts: Sequence[str] = (),
    any_cpu: bool = False,
) -> dict[str, Any]:
    """Write best_model.pt, best_model.json, config.json and tokenizer files into the folder `dst`,
    and further formats into folders of their own below it.

    component: name of the `bert_crf` component; needed only where there are several.
    metrics: figures to record in best_model.json.
    formats: names of further formats, of FORMATS.
    shape: batch and length, for a TorchScript graph of a fixed shape and for calibration inputs.
    calibration: number of calibration inputs to write, made of `calibration_texts`.
    any_cpu: int8 weights of 7 bits, so that no product overflows on a CPU without VNNI.
    RETURNS: what best_model.json says; under "stale" the formats that lie in `dst` and were made
        of other weights.
    Raises BertCrfError if there is no such component, it is untrained, a format can't represent
        it, or it can't be written. `dst` is then as it was.
    """
    check_formats(formats, Options(shape=shape), calibration > 0)
    trained = gather(nlp, component, metrics or {})
    longest = int(trained.info["max_length"])
    if shape is not None and not (shape[0] >= 1 and 8 <= shape[1] <= longest):
        raise BertCrfError(
            f"shape {shape[0]}x{shape[1]}: the batch must be at least 1, the length from 8 to "
            f"{longest}."
        )
    check_folder(dst)
    with atomic_folder(dst) as folder:
        (folder / WEIGHTS).write_bytes(weights_bytes(trained))
        (folder / SIDECAR).write_text(to_json(trained.info), encoding="utf8")
        write_companions(folder, trained)
        options = Options(shape=shape, any_cpu=any_cpu)
        if calibration:
            inputs = folder / FOLDER
            batch, length = shape or (DEFAULT_SHAPE[0], min(DEFAULT_SHAPE[1], longest))
            write_calibration(inputs, trained, calibration_texts, calibration, (batch, length))
            options = Options(shape=shape, calibration=inputs, any_cpu=any_cpu)
        for name in dict.fromkeys(formats):
            write_format(name, folder / name, trained, options)
        keep_others(dst, folder)
        stale = made_of_others(folder, trained)
    return {**trained.info, "stale": stale}
