"""ONNX in float32, dynamic int8 and static int8."""

import copy
import math
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import BertCrfError
from .calibration import read_calibration
from .graphs import EmissionModel, example_inputs
from .quiet import quiet
from .torchscript import TRACED, example_pieces

if TYPE_CHECKING:
    from .gather import Trained

#: The opset of the graphs: of 2022, so that runtimes have it.
OPSET = 17
#: Least ratio, in dB, of the mean square of a layer's input to that of the error that rounding it
#: to 8 bits makes. Below it a few outliers stretch the range so far that the rest drowns: such a
#: layer stays in float32.
LEAST_SNR = 20.0
EMISSIONS, DECODE = "emissions.onnx", "decode.onnx"
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def need_onnx() -> None:
    """Raise BertCrfError if the optional packages are not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as err:
        raise BertCrfError(
            f"the ONNX formats need onnx and onnxruntime ({err}): "
            "pip install 'spacy-bert-crf[onnx]'"
        ) from err


def write_onnx(folder: Path, trained: "Trained") -> None:
    """emissions.onnx and decode.onnx with dynamic batch and length."""
    need_onnx()
    _write_emissions(folder / EMISSIONS, trained.emission_model("eager"))
    _write_decode(folder, trained)


def write_onnx_int8(folder: Path, trained: "Trained", any_cpu: bool) -> None:
    """The two graphs with the encoder's linear layers in int8, inputs quantised as they come.

    any_cpu: weights of 7 bits, so that no product overflows on a CPU without VNNI.
    """
    need_onnx()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _scratch(folder) as scratch, quiet():
        plain = scratch / EMISSIONS
        _write_emissions(plain, trained.smoothed_model("eager"))
        quantize_dynamic(
            str(plain),
            str(folder / EMISSIONS),
            per_channel=True,
            reduce_range=any_cpu,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=list(_linear_layers(plain)),
            extra_options={"MatMulConstBOnly": True},
        )
    _write_decode(folder, trained)


def write_onnx_static(
    folder: Path, trained: "Trained", calibration: Path, any_cpu: bool
) -> tuple[list[str], list[str]]:
    """The two graphs with weights and inputs of the linear layers in int8, the inputs' ranges
    taken from the files of `calibration` (see calibration.write_calibration).

    RETURNS: names of the layers that were quantised, and of those that were left in float with
    the reason.
    """
    need_onnx()
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    inputs = read_calibration(calibration)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(inputs)

        def get_next(self) -> Any:
            return next(self.left, None)

    with _scratch(folder) as scratch, quiet():
        plain = scratch / EMISSIONS
        _write_emissions(plain, trained.smoothed_model("eager"))
        ratios = _rounding_ratios(plain, scratch / "probe.onnx", inputs)
        done = [name for name, ratio in ratios.items() if ratio >= LEAST_SNR]
        quantize_static(
            str(plain),
            str(folder / EMISSIONS),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=any_cpu,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=done,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "MatMulConstBOnly": True,
                # The products themselves stay in float32: nothing says how they may be rounded.
                "OpTypesToExcludeOutputQuantization": ["MatMul"],
            },
        )
    _write_decode(folder, trained)
    left = [
        f"{name}: its input would keep {ratio:.1f} dB above the error of rounding (least: "
        f"{LEAST_SNR:.0f})"
        for name, ratio in ratios.items()
        if ratio < LEAST_SNR
    ]
    return done, [*left, "the classifier"]


def _write_emissions(path: Path, model: EmissionModel) -> None:
    axes = {name: {0: "batch", 1: "length"} for name in (*_INPUTS, "emissions")}
    inputs = example_inputs(*TRACED, model.encoder.config.vocab_size)
    _export(model, inputs, path, list(_INPUTS), "emissions", axes)


def _write_decode(folder: Path, trained: "Trained") -> None:
    """decode.onnx: the graph of emissions.onnx, whatever its arithmetic, and the decoder."""
    import onnx

    batch, length = TRACED
    inputs = (torch.randn(batch, length, len(trained.bias)), example_pieces())
    axes = {
        "pieces": {0: "batch", 1: "length"},
        "token_pieces": {0: "batch", 1: "tokens"},
        "tags": {0: "batch", 1: "tokens"},
    }
    with _scratch(folder) as scratch:
        tail = scratch / "tail.onnx"
        _export(trained.decoder(), inputs, tail, ["pieces", "token_pieces"], "tags", axes)
        first, second = onnx.load(str(folder / EMISSIONS)), onnx.load(str(tail))
    second.ir_version = first.ir_version
    # The first one gets the prefix: in subgraphs, as the loop has one, names would not follow.
    first = onnx.compose.add_prefix(first, "emissions", rename_inputs=False, rename_outputs=False)
    merged = onnx.compose.merge_models(first, second, io_map=[("emissions", "pieces")])
    onnx.save(merged, str(folder / DECODE))


def _linear_layers(path: Path) -> dict[str, str]:
    """The encoder's products with weights: name of the node, and of its input.

    Without the classifier, which costs next to nothing.
    """
    import onnx

    graph = onnx.load(str(path)).graph
    weights = {tensor.name for tensor in graph.initializer}
    return {
        node.name: node.input[0]
        for node in graph.node
        if node.op_type == "MatMul"
        and node.input[1] in weights
        and not node.name.startswith("/classifier")
    }


def _rounding_ratios(path: Path, probe: Path, inputs: Iterable[Any]) -> dict[str, float]:
    """For each linear layer, how its input would stand above the error of rounding it, in dB.

    Rounding to steps of (max - min) / 255 has a mean square error of a twelfth of a step's square.
    """
    import onnx
    import onnxruntime

    layers = _linear_layers(path)
    model = onnx.load(str(path))
    names = sorted(set(layers.values()))
    model = copy.deepcopy(model)
    for name in names:
        model.graph.output.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        )
    onnx.save(model, str(probe))
    session = onnxruntime.InferenceSession(str(probe), providers=["CPUExecutionProvider"])
    low, high = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    squares, counts = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0)
    for given in inputs:
        for name, values in zip(names, session.run(names, given), strict=True):
            low[name] = min(low[name], float(values.min()))
            high[name] = max(high[name], float(values.max()))
            squares[name] += float(np.square(values, dtype=np.float64).sum())
            counts[name] += values.size
    out = {}
    for layer, name in layers.items():
        error = ((high[name] - low[name]) / 255) ** 2 / 12
        signal = squares[name] / max(counts[name], 1)
        out[layer] = 10 * math.log10(signal / error) if signal and error else math.inf
    return out


@torch.no_grad()
def _export(
    module: torch.nn.Module,
    inputs: tuple[torch.Tensor, ...],
    path: Path,
    names: list[str],
    output: str,
    axes: dict[str, dict[int, str]],
) -> None:
    with quiet():
        torch.onnx.export(
            module,
            inputs,
            str(path),
            dynamo=False,  # the newer exporter unrolls the loop of the Viterbi
            opset_version=OPSET,
            input_names=names,
            output_names=[output],
            dynamic_axes=axes,
        )


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder for what is made on the way, beside what is written."""
    scratch = folder / "scratch"
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch)
