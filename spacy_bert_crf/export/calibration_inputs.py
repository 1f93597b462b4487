"""Real inputs for static quantisation, as files that any toolchain reads."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..encoder.passes import special_ids
from ..encoder.texts.wordpieces import tokenize
from ..errors import BertCrfError

if TYPE_CHECKING:
    from .trained import Trained

LIST_FILE = "files.txt"
FOLDER = "calibration"


def write_calibration(
    folder: Path, trained: "Trained", texts: Sequence[str], count: int, shape: tuple[int, int]
) -> list[Path]:
    """Write files input_NNNN.npz, and files.txt with their names.

    Each file holds int32 `input_0` (ids), `input_1` (attention mask) and `input_2` (token types).
    Texts are a random sample with a fixed seed, cut to the length and padded.

    folder: a new folder.
    trained: the component, whose tokenizer is used.
    texts: where the sample is taken from; texts of white space are left out.
    count: number of files.
    shape: batch and length of each file.
    RETURNS: the paths of the files.
    Raises BertCrfError if there are too few texts.
    """
    batch, length = shape
    texts = [text for text in texts if text.strip()]
    if count < 1 or count * batch > len(texts):
        raise BertCrfError(
            f"{count} calibration inputs of {batch} texts each need {count * batch} texts, the "
            f"data has {len(texts)}: choose a number from 1 to {len(texts) // batch}."
        )
    chosen = random.Random(0).sample(range(len(texts)), count * batch)
    tokenizer = trained.encoder.tokenizer
    prefix, suffix, pad = special_ids(tokenizer)
    room = length - len(prefix) - len(suffix)
    pieces = tokenize(tokenizer, [texts[i] for i in chosen])
    batches = []
    for number in range(count):
        ids = np.full((batch, length), pad, dtype=np.int32)
        mask = np.zeros((batch, length), dtype=np.int32)
        for row in range(batch):
            text = [*prefix, *pieces[number * batch + row].ids[:room].tolist(), *suffix]
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        batches.append([ids, mask, np.zeros_like(ids)])
    return save_calibration(folder, batches)


def save_calibration(folder: Path, batches: Sequence[Sequence[NDArray[Any]]]) -> list[Path]:
    """Write the ids, masks and token types of each batch as `write_calibration` says."""
    folder.mkdir(parents=True)
    paths = []
    for number, arrays in enumerate(batches):
        path = folder / f"input_{number:04d}.npz"
        named = {f"input_{i}": array.astype(np.int32) for i, array in enumerate(arrays)}
        np.savez(path, **named)  # type: ignore[arg-type, unused-ignore]
        paths.append(path)
    (folder / LIST_FILE).write_text("".join(f"{p.name}\n" for p in paths), encoding="utf8")
    return paths


def read_calibration(folder: Path) -> list[dict[str, NDArray[Any]]]:
    """The inputs in a folder that write_calibration made, by name of the graph's input, int64.

    Padding that all texts of a file share is cut off. No result depends on its activations, which
    would only widen the ranges.
    """
    out = []
    for name in (folder / LIST_FILE).read_text(encoding="utf8").split():
        with np.load(folder / name, allow_pickle=False) as data:
            arrays = [data[f"input_{i}"].astype(np.int64) for i in range(3)]
        used = int(arrays[1].any(axis=0).nonzero()[0][-1]) + 1
        names = ("input_ids", "attention_mask", "token_type_ids")
        out.append({n: a[:, :used] for n, a in zip(names, arrays, strict=True)})
    return out
