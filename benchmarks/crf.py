"""Speed and agreement of the CRF beside pytorch-crf, on random emissions.

Both sides get the same weights, the same number of threads and the same tensors, and take turns
within one run. README.md says what the columns mean.

python -m benchmarks.crf --output benchmarks/results/crf
"""

import gc
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchcrf import CRF as PytorchCRF

from benchmarks.harness.common import command_line, parser_for, stem_of, write_results
from benchmarks.harness.machine_info import machine
from benchmarks.harness.tables import table, words
from spacy_bert_crf.crf.linear_chain import LinearChainCRF

#: Sequences, steps, tags.
SHAPES = [(64, 128, 7), (16, 48, 7), (64, 128, 25), (8, 512, 17)]


@dataclass
class Case:
    """A batch, and the two CRFs with the same weights."""

    emissions: Tensor
    tags: Tensor
    mask: Tensor
    own: LinearChainCRF
    other: PytorchCRF


def make_case(shape: tuple[int, int, int], ragged: bool) -> Case:
    """Emissions of a spread that a trained tagger has; lengths uniform in 1..T where ragged."""
    n_batch, n_steps, n_tags = shape
    generator = torch.Generator().manual_seed(0)
    emissions = 3 * torch.randn(n_batch, n_steps, n_tags, generator=generator)
    tags = torch.randint(n_tags, (n_batch, n_steps), generator=generator)
    lengths = torch.full((n_batch,), n_steps)
    if ragged:
        lengths[1:] = torch.randint(1, n_steps + 1, (n_batch - 1,), generator=generator)
    mask = torch.arange(n_steps) < lengths.unsqueeze(1)
    own, other = LinearChainCRF(n_tags), PytorchCRF(n_tags, batch_first=True)
    with torch.no_grad():
        for param in own.parameters():
            param.copy_(torch.randn(param.shape, generator=generator))
    other.load_state_dict(own.state_dict())
    return Case(emissions, tags, mask, own, other)


def likelihood(case: Case, dtype: torch.dtype, own: bool) -> list[Tensor]:
    """Negative log-likelihood [B] and the gradients of its sum: emissions, and each weight."""
    emissions = case.emissions.to(dtype).requires_grad_()
    if own:
        crf: torch.nn.Module = case.own
        loss = crf(emissions, case.tags, case.mask)
    else:
        crf = case.other
        loss = -crf(emissions, case.tags, mask=case.mask, reduction="none")
    names = ("start_transitions", "end_transitions", "transitions")
    weights = [crf.get_parameter(name) for name in names]
    return [loss.detach(), *torch.autograd.grad(loss.sum(), [emissions, *weights])]


@torch.inference_mode()
def decode(case: Case, own: bool) -> list[list[int]]:
    """Best tags as Python lists."""
    if not own:
        paths: list[list[int]] = case.other.decode(case.emissions, mask=case.mask)
        return paths
    rows = case.own.viterbi(case.emissions, case.mask)[0].tolist()
    lengths = case.mask.sum(1).tolist()
    return [row[:length] for row, length in zip(rows, lengths, strict=True)]


def take_turns(jobs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median milliseconds of each job over rounds, after 3 to warm up.

    In each round each job has its turn, of 3 calls in a row.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    gc.collect()
    gc.disable()  # as timeit does
    try:
        for i in range(repeats + 3):
            for name, job in jobs.items():
                began = time.perf_counter()
                for _ in range(3):
                    job()
                if i >= 3:
                    seconds[name].append((time.perf_counter() - began) / 3)
    finally:
        gc.enable()
    return {name: round(1000 * statistics.median(s), 3) for name, s in seconds.items()}


def measure(shape: tuple[int, int, int], ragged: bool, repeats: int) -> dict[str, Any]:
    """One row of the result."""
    case = make_case(shape, ragged)
    jobs = {
        "likelihood": lambda: likelihood(case, torch.float32, True),
        "likelihood_pytorch_crf": lambda: likelihood(case, torch.float32, False),
        "decode": lambda: decode(case, True),
        "decode_pytorch_crf": lambda: decode(case, False),
    }
    row: dict[str, Any] = {"shape": list(shape), "ragged": ragged}
    row["milliseconds"] = took = take_turns(jobs, repeats)
    for name in ("likelihood", "decode"):
        row[f"{name}_times_faster"] = round(took[f"{name}_pytorch_crf"] / took[name], 2)

    parts = {
        "forward_pass": lambda: case.own(case.emissions, case.tags, case.mask),
        "log_partition": torch.no_grad()(lambda: case.own.log_partition(case.emissions, case.mask)),
        "marginals": lambda: case.own.marginals(case.emissions, case.mask, constrain=False),
    }
    row["milliseconds"] |= take_turns(parts, repeats)
    row["same_paths"] = decode(case, True) == decode(case, False)
    own = likelihood(case, torch.float32, True)
    other = likelihood(case, torch.float32, False)
    exact_case = Case(case.emissions.double(), case.tags, case.mask, case.own, case.other.double())
    exact = likelihood(exact_case, torch.float64, False)
    row["from_pytorch_crf"] = differences(own, other)
    row["from_float64"] = differences(own, exact)
    row["pytorch_crf_from_float64"] = differences(other, exact)
    return row


def differences(left: list[Tensor], right: list[Tensor]) -> dict[str, float]:
    """Largest absolute differences of log-likelihood, its gradients, and relative to it."""
    away = [float((a.double() - b.double()).abs().max()) for a, b in zip(left, right, strict=True)]
    relative = ((left[0].double() - right[0].double()) / right[0].double()).abs().max()
    return {
        "log_likelihood": away[0],
        "log_likelihood_relative": float(relative),
        "gradient_of_emissions": away[1],
        "gradient_of_weights": max(away[2:]),
    }


def markdown(result: dict[str, Any]) -> str:
    """The result for people."""
    rows = result["rows"]
    weights = ("log_likelihood", "gradient_of_emissions", "gradient_of_weights")
    sides = ("from_pytorch_crf", "from_float64", "pytorch_crf_from_float64")
    lines = [
        "# CRF beside pytorch-crf",
        f"{result['machine']['cpu']}, {result['machine']['threads']} threads, float32, medians of "
        f"{result['repeats']} turns of 3 calls. {words(result['versions'])}.",
        "",
        "```bash",
        result["command"],
        "```",
        "",
        *table(
            ["B, T, K", "lengths", "likelihood + gradient, ms", "pytorch-crf", "times faster",
             "decoding, ms", "pytorch-crf", "times faster", "same paths"],
            [[*_case_cells(row), *_turns(row, "likelihood"), *_turns(row, "decode"),
              "yes" if row["same_paths"] else "no"] for row in rows],
        ),
        "",
        "Marginals of all tags at all steps, beside the likelihood's forward pass (with what its "
        "gradient needs) and log Z alone:",
        "",
        *table(
            ["B, T, K", "lengths", "marginals, ms", "forward pass, ms", "log Z, ms"],
            [[*_case_cells(row), *(f"{row['milliseconds'][name]:.2f}"
              for name in ("marginals", "forward_pass", "log_partition"))] for row in rows],
        ),
        "",
        "Largest differences of the log-likelihood of a sequence, of the gradient of an emission "
        "and of a weight:",
        "",
        *table(
            ["B, T, K", "lengths", "from pytorch-crf", "from float64", "pytorch-crf from float64"],
            [[*_case_cells(row), *(", ".join(f"{row[side][part]:.0e}" for part in weights)
              for side in sides)] for row in rows],
        ),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _case_cells(row: dict[str, Any]) -> tuple[str, str]:
    return ", ".join(map(str, row["shape"])), "ragged" if row["ragged"] else "full"


def _turns(row: dict[str, Any], name: str) -> tuple[str, str, str]:
    took = row["milliseconds"]
    other = took[f"{name}_pytorch_crf"]
    return f"{took[name]:.2f}", f"{other:.2f}", f"{row[f'{name}_times_faster']:.1f}"


def main() -> int:
    """RETURNS: the exit code."""
    parser = parser_for(__doc__)
    parser.add_argument("--output", type=Path, required=True, help="gets .json and .md")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20, help="turns of each measurement")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for shape in SHAPES:
        for ragged in (False, True):
            rows.append(measure(shape, ragged, options.repeats))
    result = {
        "machine": {"cpu": machine(), "threads": options.threads},
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("torch", "pytorch-crf")},
        },
        "repeats": options.repeats,
        "command": command_line(),
        "rows": rows,
    }
    stem = stem_of(options.output)
    write_results(stem, result, markdown(result))
    print(markdown(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
