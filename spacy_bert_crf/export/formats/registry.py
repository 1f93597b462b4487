"""The further formats of an export: their names, and how each folder is written and checked."""

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import torch

from ...errors import BertCrfError
from ..calibration_inputs import FOLDER as CALIBRATION
from ..calibration_inputs import LIST_FILE
from ..folder import WEIGHTS, config_dict, write_format_files, write_readme
from ..open import open_export
from ..trained import Trained
from . import bert4torch
from .huggingface import write_huggingface
from .onnx import need_onnx, write_onnx, write_onnx_int8, write_onnx_static
from .torchscript import write_torch_int8, write_torchscript

#: Most that an emission of a float32 format may differ from ours.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Options:
    """What formats are told.

    shape: batch and length of fixed-shape graphs. calibration: folder of inputs for static
    quantisation. any_cpu: int8 weights of 7 bits, for CPUs without VNNI.
    """

    shape: Optional[tuple[int, int]] = None
    calibration: Optional[Path] = None
    any_cpu: bool = False


@dataclass(frozen=True)
class Written:
    """One format as written: its name, and values for its README."""

    name: str
    values: dict[str, str] = field(default_factory=dict)


def check_formats(names: Iterable[str], options: Options, has_calibration: bool) -> None:
    """Raise BertCrfError for a format that is not known or can't be written."""
    for name in names:
        if name not in FORMATS:
            raise BertCrfError(f"unknown format {name!r}: use one of {', '.join(FORMATS)}.")
        if name.startswith("onnx"):
            need_onnx()
        if name == "onnx-int8-static" and not has_calibration:
            raise BertCrfError(
                "the format onnx-int8-static needs real inputs: give --calibration 100 and "
                "--calibration-data with the DocBin of the training corpus."
            )
    if options.shape is not None and "torchscript" not in names and not has_calibration:
        raise BertCrfError("--shape is for --to torchscript and --calibration: give one of them.")


def write_format(name: str, folder: Path, trained: Trained, options: Options) -> Written:
    """Write one format into `folder`, run it, and compare it with the component's own emissions.

    Raises BertCrfError if the format can't represent the component, or the result is not equal.
    """
    folder.mkdir()
    write_format_files(folder, trained, name)
    values = FORMATS[name](folder, trained, options)
    write_readme(folder, trained, name, values)
    if "int8" not in name:
        _check_equal(name, folder, trained)
    return Written(name, values)


def weights_bytes(trained: Trained) -> bytes:
    """best_model.pt. To a buffer: the bytes of torch.save depend on the file name it is given."""
    buffer = io.BytesIO()
    torch.save(trained.tensors(), buffer)
    return buffer.getvalue()


def _check_equal(name: str, folder: Path, trained: Trained) -> None:
    """Run what was written on two texts of unlike length."""
    vocab = trained.config.vocab_size
    length = min(24, int(trained.info["max_length"]))
    ids = torch.randint(0, vocab, (2, length), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, length // 2 :] = 0
    with torch.inference_mode():
        want = trained.emission_model("eager")(ids, mask, torch.zeros_like(ids))
    export = open_export(folder)
    got = torch.from_numpy(export.open_emissions()(ids.numpy(), mask.numpy()))
    on = mask.bool()
    largest = float((got[on] - want[on]).abs().max())
    if not largest <= TOLERANCE * max(1.0, float(want[on].abs().max())):
        raise _not_kept(name, f"its emissions differ by up to {largest:.2g}")
    if export.decode_file is None:
        return
    # Each wordpiece but the special ones is a token.
    pieces = torch.stack([torch.arange(1, length - 1), torch.arange(2, length)], dim=1)
    pieces = pieces.repeat(2, 1, 1)
    pieces[1, length // 2 - 2 :] = 0
    with torch.inference_mode():
        tags = trained.decoder()(want, pieces)
    found = export.open_decode()(ids.numpy(), mask.numpy(), pieces.numpy())
    if not torch.equal(torch.as_tensor(found), tags):
        raise _not_kept(name, f"{export.decode_file.name} gives other tags")


def _not_kept(name: str, why: str) -> BertCrfError:
    return BertCrfError(
        f"the format {name} does not keep this model: {why}. Nothing was written; please report "
        "it with the versions in use."
    )


def _bert4torch(folder: Path, trained: Trained, options: Options) -> dict[str, str]:
    buffer = io.BytesIO()
    torch.save(bert4torch.to_bert4torch(trained), buffer)
    (folder / WEIGHTS).write_bytes(buffer.getvalue())
    text = bert4torch.config_text(config_dict(trained))
    (folder / bert4torch.CONFIG_FILE).write_text(text, encoding="utf8")
    return {}


def _huggingface(folder: Path, trained: Trained, options: Options) -> dict[str, str]:
    write_huggingface(folder, trained)
    return {}


def _torchscript(folder: Path, trained: Trained, options: Options) -> dict[str, str]:
    write_torchscript(folder, trained, options.shape)
    if options.shape is None:
        return {"fixed": "None was asked for (`--shape 1x256` adds one)."}
    batch, length = options.shape
    return {
        "fixed": f"`emissions_{batch}x{length}.pt` takes int64 `[{batch}, {length}]` three times "
        f"and gives float32 `[{batch}, {length}, {len(trained.tag_set.tags)}]`. Its graph reads "
        "no shape and has no control flow: what compilers for a fixed shape take."
    }


def _torch_int8(folder: Path, trained: Trained, options: Options) -> dict[str, str]:
    left = write_torch_int8(folder, trained, options.any_cpu)
    return {"bits": _bits(options), "left": _listed(left)}


def _onnx(folder: Path, trained: Trained, options: Options) -> dict[str, str]:
    write_onnx(folder, trained)
    return {}


def _onnx_int8(folder: Path, trained: Trained, options: Options) -> dict[str, str]:
    left = write_onnx_int8(folder, trained, options.any_cpu)
    return {"bits": _bits(options), "left": _listed(left)}


def _onnx_static(folder: Path, trained: Trained, options: Options) -> dict[str, str]:
    assert options.calibration is not None  # check_formats
    done, left = write_onnx_static(folder, trained, options.calibration, options.any_cpu)
    count = len((options.calibration / LIST_FILE).read_text(encoding="utf8").split())
    return {
        "inputs": f"{count} inputs in ../{CALIBRATION}",
        "quantised": str(len(done)),
        "bits": _bits(options),
        "left": _listed(left),
    }


def _listed(left: list[str]) -> str:
    return "\n".join(f"- {line}" for line in [*left, "the classifier"])


def _bits(options: Options) -> str:
    if options.any_cpu:
        return "Weights have 7 bits (`--any-cpu`), so that no product overflows on any CPU."
    return (
        "Weights have 8 bits: for CPUs with VNNI (x86 since about 2019). On older ones products "
        "may overflow without a word; export with `--any-cpu` for these."
    )


FORMATS: dict[str, Callable[[Path, Trained, Options], dict[str, str]]] = {
    "bert4torch": _bert4torch,
    "huggingface": _huggingface,
    "torchscript": _torchscript,
    "onnx": _onnx,
    "torch-int8": _torch_int8,
    "onnx-int8": _onnx_int8,
    "onnx-int8-static": _onnx_static,
}
