"""Graphs of ONNX: from torch, joined to one that decodes, with weights in a file that both read."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...errors import BertCrfError
from ..graphs import (
    TRACED,
    EmissionModel,
    check_other_shapes,
    example_inputs,
    example_pieces,
    recorded,
)
from .format import Run
from .quiet import quiet

if TYPE_CHECKING:
    from ..trained import Trained

#: The opset of the graphs: of 2022, so that runtimes have it.
OPSET = 17
EMISSIONS, DECODE = "emissions.onnx", "decode.onnx"
#: The weights of both graphs, as external data of ONNX. Tensors below this number of bytes are in
#: the graphs themselves, since shape inference reads some of them.
WEIGHTS = "weights.bin"
_SMALL = 1024
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
#: Begin of the names of values in decode.onnx that come from emissions.onnx.
_PREFIX = "emissions"


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


def write_emissions(path: Path, trained: "Trained", model: EmissionModel) -> None:
    """emissions.onnx, with its weights in it.

    path: the file.
    trained: the component.
    model: what it computes.
    """
    axes = {name: {0: "batch", 1: "length"} for name in (*INPUTS, "emissions")}
    inputs = example_inputs(*TRACED, model.encoder.config.vocab_size)
    with recorded(model.encoder):
        _export(model, inputs, path, list(INPUTS), "emissions", axes)
        run = open_onnx(path.parent, path.name)
    check_other_shapes(
        lambda *arrays: run(*(array.numpy() for array in arrays)),
        model, int(trained.info["max_length"]),
    )  # fmt: skip


def write_decode(folder: Path, trained: "Trained") -> None:
    """decode.onnx: the graph of emissions.onnx, followed by the decoder, in float32.

    The weights of both go to WEIGHTS. So they are stored once.
    """
    import onnx

    batch, length = TRACED
    inputs = (torch.zeros(batch, length, len(trained.bias), dtype=torch.float32), example_pieces())
    axes = {
        "pieces": {0: "batch", 1: "length"},
        "token_pieces": {0: "texts", 1: "tokens", 2: "columns"},
        "tags": {0: "texts", 1: "tokens"},
    }
    _store_weights(folder)
    with scratch_folder(folder) as scratch:
        tail = scratch / "tail.onnx"
        _export(trained.decoder(), inputs, tail, ["pieces", "token_pieces"], "tags", axes)
        first, second = onnx.load(str(folder / EMISSIONS)), onnx.load(str(tail))
    second.ir_version = first.ir_version
    _add_prefix(first.graph, _PREFIX, {*INPUTS, "emissions"})
    merged = onnx.compose.merge_models(first, second, io_map=[("emissions", "pieces")])
    stored = onnx.load(str(folder / EMISSIONS), load_external_data=False).graph.initializer
    places = {_PREFIX + tensor.name: tensor for tensor in stored if tensor.external_data}
    for tensor in merged.graph.initializer:
        if tensor.name in places:
            name = tensor.name
            tensor.CopyFrom(places[name])
            tensor.name = name
    onnx.save(merged, str(folder / DECODE))


def _store_weights(folder: Path) -> None:
    """Move the weights of emissions.onnx to WEIGHTS, where each tensor has a place."""
    import onnx

    model = onnx.load(str(folder / EMISSIONS))
    onnx.save(
        model,
        str(folder / EMISSIONS),
        save_as_external_data=True,
        location=WEIGHTS,
        size_threshold=_SMALL,
    )
    # onnx lets only the owner read this file.
    if (folder / WEIGHTS).exists():
        (folder / WEIGHTS).chmod((folder / EMISSIONS).stat().st_mode)


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


def sort_nodes(path: Path) -> None:
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


def open_onnx(folder: Path, file: str) -> Run:
    """Load a graph of a folder for onnxruntime on the CPU."""
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
        by_name = dict(zip((*INPUTS, "token_pieces"), arrays, strict=False))
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
def scratch_folder(folder: Path) -> Iterator[Path]:
    """A folder for intermediate files, which is removed afterwards."""
    scratch = folder / "scratch"
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch)
