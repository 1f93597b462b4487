"""ONNX in float32, float16, dynamic int8 and static int8."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...encoder.cpu.smoothing import MIN_SNR, Range, left_in_float, need_layers
from ...errors import BertCrfError
from ..calibration_inputs import FOLDER as CALIBRATION
from ..calibration_inputs import LIST_FILE, read_calibration
from .format import HALF_PRECISION, ROUNDED_SCORES, Format, Options, float_layers_list
from .onnx_graphs import (
    DECODE,
    EMISSIONS,
    INPUTS,
    WEIGHTS,
    need_onnx,
    open_onnx,
    scratch_folder,
    sort_nodes,
    write_decode,
    write_emissions,
)
from .quiet import quiet

if TYPE_CHECKING:
    from ..trained import Trained

#: Arrays by the name of the graph's input.
Inputs = dict[str, NDArray[Any]]


def _write(folder: Path, trained: "Trained", options: Options) -> dict[str, str]:
    """emissions.onnx and decode.onnx with dynamic batch and length."""
    write_emissions(folder / EMISSIONS, trained, trained.emission_model("eager"))
    write_decode(folder, trained)
    return {}


def _write_half(folder: Path, trained: "Trained", options: Options) -> dict[str, str]:
    """The same with an encoder in float16. bfloat16 does not run in onnxruntime on a CPU."""
    model = trained.emission_model("eager", torch.float16)
    write_emissions(folder / EMISSIONS, trained, model)
    write_decode(folder, trained)
    return {}


def _write_dynamic(folder: Path, trained: "Trained", options: Options) -> dict[str, str]:
    """The two graphs with linear layers in int8, whose inputs are quantised when they are known."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with scratch_folder(folder) as scratch, quiet():
        plain = scratch / EMISSIONS
        write_emissions(plain, trained, trained.smoothed_model("eager"))
        probes = [
            dict(zip(INPUTS, (ids.numpy(), mask.numpy(), np.zeros_like(ids.numpy())), strict=True))
            for ids, mask in trained.probes()
        ]
        ratios = rounding_ratios(plain, scratch / "probe.onnx", probes)
        done = need_layers([name for name, ratio in ratios.items() if ratio >= MIN_SNR])
        quantize_dynamic(
            str(plain),
            str(folder / EMISSIONS),
            per_channel=True,
            reduce_range=options.any_cpu,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=done,
            extra_options={"MatMulConstBOnly": True},
        )
    sort_nodes(folder / EMISSIONS)
    write_decode(folder, trained)
    return {"bits": options.bits, "left": float_layers_list(left_in_float(ratios))}


def _write_static(folder: Path, trained: "Trained", options: Options) -> dict[str, str]:
    """The two graphs with linear layers in int8, whose input ranges come from the calibration."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    assert options.calibration is not None  # see _need_calibration
    inputs = read_calibration(options.calibration)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, inputs: Iterable[Inputs]) -> None:
            self.left = iter(inputs)

        def get_next(self) -> Any:
            return next(self.left, None)

    with scratch_folder(folder) as scratch, quiet():
        plain = scratch / EMISSIONS
        write_emissions(plain, trained, trained.smoothed_model("eager"))
        ratios = rounding_ratios(plain, scratch / "probe.onnx", inputs)
        done = need_layers([name for name, ratio in ratios.items() if ratio >= MIN_SNR])
        quantize_static(
            str(plain),
            str(folder / EMISSIONS),
            Reader(graph_inputs(plain, inputs)),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=options.any_cpu,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=done,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "MatMulConstBOnly": True,
                # The products stay in float32: the calibration has no range to round them by.
                "OpTypesToExcludeOutputQuantization": ["MatMul"],
            },
        )
    sort_nodes(folder / EMISSIONS)
    write_decode(folder, trained)
    count = len((options.calibration / LIST_FILE).read_text(encoding="utf8").split())
    return {
        "inputs": f"{count} inputs in ../{CALIBRATION}",
        "quantised": str(len(done)),
        "bits": options.bits,
        "left": float_layers_list(left_in_float(ratios)),
    }


def graph_inputs(path: Path, inputs: Sequence[Inputs]) -> list[Inputs]:
    """Of each batch, the arrays that a graph takes.

    A traced encoder drops an input that it does not use: there may be no `token_type_ids`.

    path: the graph.
    inputs: the arrays of each batch.
    """
    import onnx

    taken = {value.name for value in onnx.load(str(path)).graph.input}
    return [{name: each[name] for name in each if name in taken} for each in inputs]


def _linear_layers(path: Path) -> dict[str, str]:
    """The encoder's products with weights: name of the node, and name of its input.

    The classifier is left out: it takes next to no time.
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


def rounding_ratios(path: Path, probe: Path, inputs: Sequence[Inputs]) -> dict[str, float]:
    """Signal-to-noise ratio of rounding the input of each linear layer to 8 bits, in dB.

    path: graph of the emissions.
    probe: file to write, for a graph whose outputs are those inputs too.
    inputs: arrays to run it on.
    """
    import onnx
    import onnxruntime

    layers = _linear_layers(path)
    if not layers:
        return {}  # a session without names of outputs would give all of them
    model = onnx.load(str(path))
    names = sorted(set(layers.values()))
    for name in names:
        model.graph.output.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        )
    onnx.save(model, str(probe))
    session = onnxruntime.InferenceSession(str(probe), providers=["CPUExecutionProvider"])
    seen = {name: Range() for name in names}
    for arrays in graph_inputs(path, inputs):
        for name, values in zip(names, session.run(names, arrays), strict=True):
            seen[name].add(values)
    return {layer: seen[name].ratio() for layer, name in layers.items()}


def _need_onnx(has_calibration: bool) -> None:
    need_onnx()


def _need_calibration(has_calibration: bool) -> None:
    need_onnx()
    if not has_calibration:
        raise BertCrfError(
            "the format onnx-int8-static needs real inputs: give --calibration 100 and "
            "--calibration-data with the DocBin of the training corpus."
        )


FORMAT = Format(
    name="onnx",
    emissions=EMISSIONS,
    decode=DECODE,
    write=_write,
    open=open_onnx,
    weights=WEIGHTS,
    reader="onnx.py",
    check=_need_onnx,
)
FLOAT16 = replace(
    FORMAT, name="onnx-fp16", exact=False, write=_write_half, **HALF_PRECISION[torch.float16]
)
DYNAMIC_INT8 = replace(
    FORMAT, name="onnx-int8", exact=False, tolerance=0, lacks=ROUNDED_SCORES, write=_write_dynamic
)
STATIC_INT8 = replace(
    DYNAMIC_INT8, name="onnx-int8-static", write=_write_static, check=_need_calibration
)
