"""TorchScript: a traced encoder, a scripted Viterbi."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..graphs import (
    TRACED,
    DecodeModel,
    EmissionModel,
    check_other_shapes,
    example_inputs,
    example_pieces,
    recorded,
)
from .format import HALF_PRECISION, Format, Options, Run, on_arrays
from .quiet import quiet

if TYPE_CHECKING:
    from ..trained import Trained

EMISSIONS, DECODE = "emissions.pt", "decode.pt"
#: torch propagates shapes through `view`, and not through `reshape`. The two are the same.
_RESHAPE = """graph(%x, %shape):
  %out = aten::reshape(%x, %shape)
  return (%out)"""
_VIEW = """graph(%x, %shape):
  %format : int = prim::Constant[value=0]()
  %dense = aten::contiguous(%x, %format)
  %out = aten::view(%dense, %shape)
  return (%out)"""


def write_pair(folder: Path, trained: "Trained", emissions: EmissionModel) -> None:
    """emissions.pt and decode.pt, for any shape.

    folder: folder of the format.
    trained: the component.
    emissions: the model to trace, in float32 or int8.
    """
    inputs = example_inputs(*TRACED, trained.config.vocab_size)
    decode = DecodeModel(emissions, trained.decoder()).eval()
    with recorded(emissions.encoder):
        _save(_frozen(_trace(emissions, inputs)), folder / EMISSIONS)
        _save(_frozen(_trace(decode, (*inputs, example_pieces()))), folder / DECODE)
    run = open_torchscript(folder, EMISSIONS)
    check_other_shapes(
        lambda *arrays: run(*(array.numpy() for array in arrays)),
        emissions, int(trained.info["max_length"]),
    )  # fmt: skip


def open_torchscript(folder: Path, file: str) -> Run:
    """Load a graph that write_pair wrote."""
    jit: Any = torch.jit
    run = on_arrays(jit.load(str(folder / file), map_location="cpu"))

    def run_plainly(*arrays: Any) -> Any:
        # The optimising executor specialises to each new shape, which costs more than it gains.
        with jit.optimized_execution(False):
            return run(*arrays)

    return run_plainly


@torch.no_grad()
def _trace(module: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    with quiet():
        return torch.jit.trace(module, inputs, check_trace=False)  # type: ignore[no-untyped-call]


def _frozen(traced: Any) -> Any:
    with quiet():
        return torch.jit.freeze(traced)


def _fixed(traced: Any, inputs: tuple[Tensor, ...]) -> Any:
    """A frozen graph in which the shapes of the inputs are constants."""
    frozen = _frozen(traced)
    graph = frozen.graph
    torch._C._jit_pass_custom_pattern_based_rewrite_graph(_RESHAPE, _VIEW, graph)
    for value, tensor in zip(list(graph.inputs())[1:], inputs, strict=True):
        value.setType(torch._C.TensorType.create_from_tensor(tensor))
    # A size that becomes a constant may tell the shapes of the next layer.
    n_nodes = 0
    while n_nodes != (n_nodes := sum(1 for _ in graph.nodes())):
        torch._C._jit_pass_propagate_shapes_on_graph(graph)
        for _ in range(3):
            torch._C._jit_pass_peephole(graph, False)
            torch._C._jit_pass_constant_propagation(graph)
            torch._C._jit_pass_dce(graph)
    return frozen


def _save(module: Any, path: Path) -> None:
    with quiet():
        torch.jit.save(module, str(path))


def _write(folder: Path, trained: "Trained", options: Options) -> dict[str, str]:
    """emissions.pt and decode.pt, and emissions_BxT.pt if a shape is requested."""
    write_pair(folder, trained, trained.emission_model("sdpa"))
    if options.shape is None:
        return {"fixed": "None was requested (`--shape 1x256` adds one)."}
    batch, length = options.shape
    plain = trained.emission_model("eager")
    inputs = example_inputs(batch, length, trained.config.vocab_size)
    _save(_fixed(_trace(plain, inputs), inputs), folder / f"emissions_{batch}x{length}.pt")
    return {
        "fixed": f"`emissions_{batch}x{length}.pt` takes int64 `[{batch}, {length}]` three times "
        f"and returns float32 `[{batch}, {length}, {len(trained.tag_set.tags)}]`. Its graph reads "
        "no shape and has no control flow, as compilers for a fixed shape need it."
    }


def _write_half(dtype: torch.dtype) -> Callable[..., dict[str, str]]:
    """How a format is written whose encoder has a dtype of 16 bits."""

    def write(folder: Path, trained: "Trained", options: Options) -> dict[str, str]:
        write_pair(folder, trained, trained.emission_model("sdpa", dtype))
        return {"dtype": str(dtype).removeprefix("torch.")}

    return write


FORMAT = Format(
    name="torchscript",
    emissions=EMISSIONS,
    decode=DECODE,
    write=_write,
    open=open_torchscript,
    reader="torchscript.py",
)
FLOAT16, BFLOAT16 = (
    replace(
        FORMAT,
        name=f"torchscript-{name}",
        write=_write_half(dtype),
        exact=False,
        **HALF_PRECISION[dtype],
    )
    for name, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16))
)
