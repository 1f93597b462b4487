"""ONNX in float32, dynamic int8 and static int8."""

import copy
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...encoder.cpu.smoothing import MIN_SNR, Range, left_in_float
from ...errors import BertCrfError
from ..calibration_inputs import read_calibration
from ..graphs import EmissionModel, example_inputs
from .quiet import quiet
from .torchscript import TRACED, example_pieces

if TYPE_CHECKING:
    from ..trained import Trained

#: The opset of the graphs: of 2022, so that runtimes have it.
OPSET = 17
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


def write_onnx_int8(folder: Path, trained: "Trained", any_cpu: bool) -> list[str]:
    """The two graphs with the encoder's linear layers in int8, inputs quantised as they come.

    any_cpu: weights of 7 bits, so that no product overflows on a CPU without VNNI.
    RETURNS: lines on the layers that were left in float.
    """
    need_onnx()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _scratch(folder) as scratch, quiet():
        plain = scratch / EMISSIONS
        _write_emissions(plain, trained.smoothed_model("eager"))
        probes = [
            dict(zip(_INPUTS, (ids.numpy(), mask.numpy(), np.zeros_like(ids.numpy())), strict=True))
            for ids, mask in trained.probes()
        ]
        ratios = _rounding_ratios(plain, scratch / "probe.onnx", probes)
        quantize_dynamic(
            str(plain),
            str(folder / EMISSIONS),
            per_channel=True,
            reduce_range=any_cpu,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=[name for name, ratio in ratios.items() if ratio >= MIN_SNR],
            extra_options={"MatMulConstBOnly": True},
        )
    _write_decode(folder, trained)
    return left_in_float(ratios)


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
        done = [name for name, ratio in ratios.items() if ratio >= MIN_SNR]
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
    return done, left_in_float(ratios)


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
    """For each linear layer, how its input stands above the error of rounding it, in dB."""
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
    seen = {name: Range() for name in names}
    for given in inputs:
        # Only what onnxruntime needs: a traced encoder may have dropped an input.
        wanted = {value.name for value in session.get_inputs()}
        given = {name: array for name, array in given.items() if name in wanted}
        for name, values in zip(names, session.run(names, given), strict=True):
            seen[name].add(values)
    return {layer: seen[name].ratio() for layer, name in layers.items()}


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
