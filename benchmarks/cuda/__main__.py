"""What a GPU does with the component: equality, speed, waits and memory, with peers beside it.

    python -m benchmarks.cuda --output benchmarks/results/cuda
    python -m benchmarks.cuda --pipeline training/people-daily/model-best \\
        --data corpus/people-daily/dev.spacy --output cuda

Without a pipeline, the encoder has the size of bert-base and random weights. The result is written
after each section. `--gpu -1` runs everything on the CPU.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.cuda import sections
from benchmarks.cuda.material import BASE, TINY, Material, random_material, trained_material
from benchmarks.cuda.peers import peers
from benchmarks.cuda.report import report
from benchmarks.harness.common import command_line, parser_for, say, stem_of, write_json
from benchmarks.harness.machine_info import describe_machine
from spacy_bert_crf._files import write_text
from spacy_bert_crf._provenance import versions

SHAPES = [(1, 50, 7), (32, 128, 7), (512, 40, 7), (512, 128, 7), (2048, 128, 7), (512, 128, 41)]


def card(gpu: int) -> dict[str, Any]:
    """The GPU and what drives it; empty for the CPU."""
    if gpu < 0:
        return {}
    found = torch.cuda.get_device_properties(gpu)
    return {
        "name": found.name,
        "memory_gib": round(found.total_memory / 2**30, 1),
        "capability": f"{found.major}.{found.minor}",
        "cuda": torch.version.cuda,
    }


def run(args: argparse.Namespace, material: Material) -> None:
    """Run all sections, and write the result after each."""
    stem = stem_of(args.output)
    tiny = args.gpu < 0
    passes, sizes = ([256], [4]) if tiny else ([4096, 16_384], [16, 64, 256])
    found: dict[str, Any] = {
        "command": command_line(),
        "card": card(args.gpu),
        "machine": describe_machine(torch.get_num_threads()),
        "versions": versions(),
        "encoder": material.about,
        "texts": len(material.texts),
        "characters": sum(map(len, material.texts)),
    }

    def keep(name: str, figures: dict[str, Any], began: float) -> None:
        found[name] = figures
        say(f"{name}: {json.dumps(figures)} ({time.monotonic() - began:.0f} s)")
        write_json(Path(f"{stem}.json"), found)
        write_text(Path(f"{stem}.md"), report(found))

    for precision in args.precisions:
        with sections.without_bfloat16(precision):
            for name, section, last in (
                ("equality", sections.equality, 8 if tiny else 256),
                ("prediction", sections.prediction, passes),
                ("training", sections.training, sizes),
            ):
                began = time.monotonic()
                figures = section(material, args.gpu, precision, last)  # type: ignore[operator]
                keep(f"{name}, {precision}", figures, began)
    began = time.monotonic()
    keep("crf", sections.crf(args.gpu, SHAPES[:1] if tiny else SHAPES), began)
    if not args.no_peers:
        began = time.monotonic()
        keep("peers", peers(material, args.gpu, min(len(material.texts), 1000)), began)


def main() -> int:
    """The command line. RETURNS: the exit code."""
    parser = parser_for(__doc__)
    parser.add_argument("--pipeline", type=Path, help="folder of a trained pipeline")
    parser.add_argument("--data", type=Path, help="a DocBin, with --pipeline")
    parser.add_argument("--texts", type=int, default=4000, help="number of texts")
    parser.add_argument("--gpu", type=int, default=0, help="number of the GPU, -1 for the CPU")
    parser.add_argument(
        "--precisions", nargs="+", choices=tuple(sections.PRECISIONS),
        default=list(sections.PRECISIONS),
    )  # fmt: skip
    parser.add_argument("--no-peers", action="store_true", help="leave the peers out")
    parser.add_argument("--output", type=Path, required=True, help="NAME.md and NAME.json")
    args = parser.parse_args()
    if (args.pipeline is None) != (args.data is None):
        parser.error("--pipeline and --data belong together.")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if args.pipeline is not None:
            material = trained_material(work, args.pipeline, args.data, args.texts)
        else:
            sizes = TINY if args.gpu < 0 else BASE
            material = random_material(work, args.texts, sizes)
        run(args, material)
    return 0


if __name__ == "__main__":
    sys.exit(main())
