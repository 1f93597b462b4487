"""TorchScript in float32 and int8: traced encoders, a scripted Viterbi."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...encoder.cpu.smoothing import MIN_SNR, left_in_float, rounding_ratios
from ..graphs import DecodeModel, EmissionModel, example_inputs
from .quiet import quiet
from .torch_int8 import quantized

if TYPE_CHECKING:
    from ..trained import Trained

#: A length that no other dimension of the graph has, so that nothing looks constant by accident.
TRACED = (2, 19)
_TRACED_TOKENS = 13


def write_torchscript(folder: Path, trained: "Trained", shape: tuple[int, int] | None) -> None:
    """emissions.pt and decode.pt for any shape, and emissions_BxT.pt if a shape is given."""
    emissions = trained.emission_model("sdpa")
    _write_pair(folder, trained, emissions)
    if shape is not None:
        plain = trained.emission_model("eager")
        ids = example_inputs(*shape, trained.config.vocab_size)
        name = f"emissions_{shape[0]}x{shape[1]}.pt"
        _save(_fixed(_trace(plain, ids), ids), folder / name)


def write_torch_int8(folder: Path, trained: "Trained", any_cpu: bool) -> list[str]:
    """emissions.pt and decode.pt with the encoder's linear layers in int8.

    RETURNS: lines on those that were left in float.
    """
    emissions = trained.smoothed_model("sdpa")
    ratios = rounding_ratios(emissions.encoder, trained.probes())
    left = [name for name, ratio in ratios.items() if ratio < MIN_SNR]
    emissions.encoder = quantized(emissions.encoder, any_cpu, left)
    _write_pair(folder, trained, emissions)
    return left_in_float(ratios)


def _write_pair(folder: Path, trained: "Trained", emissions: EmissionModel) -> None:
    inputs = example_inputs(*TRACED, trained.config.vocab_size)
    decode = DecodeModel(emissions, trained.decoder()).eval()
    _save(_frozen(_trace(emissions, inputs)), folder / "emissions.pt")
    _save(_frozen(_trace(decode, (*inputs, example_pieces()))), folder / "decode.pt")


def example_pieces() -> Tensor:
    """token_pieces for the inputs that graphs are traced with. [2, tokens, 2]"""
    first = torch.arange(1, _TRACED_TOKENS + 1)
    pieces = torch.stack([first, first + 1], dim=1).repeat(TRACED[0], 1, 1)
    pieces[1, _TRACED_TOKENS // 2 :] = 0
    return pieces


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
    for value, tensor in zip(list(graph.inputs())[1:], inputs, strict=True):
        value.setType(torch._C.TensorType.create_from_tensor(tensor))
    torch._C._jit_pass_propagate_shapes_on_graph(graph)
    for _ in range(3):
        torch._C._jit_pass_peephole(graph, False)
        torch._C._jit_pass_constant_propagation(graph)
        torch._C._jit_pass_dce(graph)
    return frozen


def _save(module: Any, path: Path) -> None:
    with quiet():
        torch.jit.save(module, str(path))
