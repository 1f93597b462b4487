"""ONNX in float32, dynamic int8 and static int8."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...encoder.cpu.smoothing import MIN_SNR, Range, left_in_float, need_layers
from ...errors import BertCrfError
from ..calibration_inputs import FOLDER as CALIBRATION
from ..calibration_inputs import LIST_FILE, read_calibration
from ..graphs import EmissionModel, check_other_shapes, example_inputs, recorded
from .format import ROUNDED_SCORES, Format, Options, Run, float_layers_list
from .quiet import quiet
from .torchscript import TRACED, example_pieces

if TYPE_CHECKING:
    from ..trained import Trained

#: Arrays by the name of the graph's input.
Inputs = dict[str, NDArray[Any]]

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


def _write(folder: Path, trained: "Trained", options: Options) -> dict[str, str]:
    """emissions.onnx and decode.onnx with dynamic batch and length."""
    _write_emissions(folder / EMISSIONS, trained, trained.emission_model("eager"))
    _write_decode(folder, trained)
    return {}


def _write_dynamic(folder: Path, trained: "Trained", options: Options) -> dict[str, str]:
    """The two graphs with linear layers in int8, whose inputs are quantised when they are known."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _scratch(folder) as scratch, quiet():
        plain = scratch / EMISSIONS
        _write_emissions(plain, trained, trained.smoothed_model("eager"))
        probes = [
            dict(zip(_INPUTS, (ids.numpy(), mask.numpy(), np.zeros_like(ids.numpy())), strict=True))
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
    _sort_nodes(folder / EMISSIONS)
    _write_decode(folder, trained)
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

    with _scratch(folder) as scratch, quiet():
        plain = scratch / EMISSIONS
        _write_emissions(plain, trained, trained.smoothed_model("eager"))
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
    _sort_nodes(folder / EMISSIONS)
    _write_decode(folder, trained)
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


def _write_emissions(path: Path, trained: "Trained", model: EmissionModel) -> None:
    axes = {name: {0: "batch", 1: "length"} for name in (*_INPUTS, "emissions")}
    inputs = example_inputs(*TRACED, model.encoder.config.vocab_size)
    with recorded(model.encoder):
        _export(model, inputs, path, list(_INPUTS), "emissions", axes)
        run = _open(path.parent, path.name)
    check_other_shapes(
        lambda *arrays: run(*(array.numpy() for array in arrays)),
        model, int(trained.info["max_length"]),
    )  # fmt: skip


def _write_decode(folder: Path, trained: "Trained") -> None:
    """decode.onnx: the graph of emissions.onnx, in float32 or int8, followed by the decoder."""
    import onnx

    batch, length = TRACED
    inputs = (torch.zeros(batch, length, len(trained.bias), dtype=torch.float32), example_pieces())
    axes = {
        "pieces": {0: "batch", 1: "length"},
        "token_pieces": {0: "texts", 1: "tokens", 2: "columns"},
        "tags": {0: "texts", 1: "tokens"},
    }
    with _scratch(folder) as scratch:
        tail = scratch / "tail.onnx"
        _export(trained.decoder(), inputs, tail, ["pieces", "token_pieces"], "tags", axes)
        first, second = onnx.load(str(folder / EMISSIONS)), onnx.load(str(tail))
    second.ir_version = first.ir_version
    _add_prefix(first.graph, "emissions", {*_INPUTS, "emissions"})
    merged = onnx.compose.merge_models(first, second, io_map=[("emissions", "pieces")])
    onnx.save(merged, str(folder / DECODE))


def _add_prefix(graph: Any, prefix: str, kept: set[str]) -> None:
    """Rename the nodes and values of a graph and of its subgraphs, in place.

    onnx.compose.add_prefix leaves subgraphs alone (those of an If, a Loop, a Scan), so that they
    would read values that no longer exist.

    kept: names that stay. An empty name stands for an optional input that is left out.
    """

    def rename(name: str) -> str:
        return name if not name or name in kept else prefix + name

    for node in graph.node:
        node.name = rename(node.name)
        node.input[:] = [rename(name) for name in node.input]
        node.output[:] = [rename(name) for name in node.output]
        for subgraph in _subgraphs(node):
            _add_prefix(subgraph, prefix, kept)
    for value in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        value.name = rename(value.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = rename(sparse.values.name)
        sparse.indices.name = rename(sparse.indices.name)


def _sort_nodes(path: Path) -> None:
    """Put each node of a graph after those whose values it or its subgraphs read, in place.

    onnxruntime's quantisers sort nodes without regard to subgraphs, which the standard forbids.
    """
    import onnx

    model = onnx.load(str(path))
    nodes = list(model.graph.node)
    makers = {name: number for number, node in enumerate(nodes) for name in node.output if name}
    order = TopologicalSorter(
        {
            number: [makers[name] for name in _names_read(node) if name in makers]
            for number, node in enumerate(nodes)
        }
    )
    del model.graph.node[:]
    model.graph.node.extend([nodes[number] for number in order.static_order()])
    onnx.save(model, str(path))


def _subgraphs(node: Any) -> list[Any]:
    single = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return [*single, *(graph for attribute in node.attribute for graph in attribute.graphs)]


def _names_read(node: Any) -> list[str]:
    """Names of the values that a node or its subgraphs read."""
    inner = (each for graph in _subgraphs(node) for each in graph.node)
    return [*node.input, *(name for each in inner for name in _names_read(each))]


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


def _open(folder: Path, file: str) -> Run:
    need_onnx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(folder / file), options, providers=["CPUExecutionProvider"]
    )
    taken = [value.name for value in session.get_inputs()]

    def run(*arrays: Any) -> Any:
        by_name = dict(zip((*_INPUTS, "token_pieces"), arrays, strict=False))
        return session.run(None, {name: by_name[name] for name in taken})[0]

    return run


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
    """A folder for intermediate files, which is removed afterwards."""
    scratch = folder / "scratch"
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch)


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
    open=_open,
    reader="onnx.py",
    check=_need_onnx,
)
DYNAMIC_INT8 = replace(
    FORMAT, name="onnx-int8", exact=False, lacks=ROUNDED_SCORES, write=_write_dynamic
)
STATIC_INT8 = replace(
    DYNAMIC_INT8, name="onnx-int8-static", write=_write_static, check=_need_calibration
)
