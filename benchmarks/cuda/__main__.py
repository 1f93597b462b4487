"""Equality with the CPU, waits, launches, speed, latency, memory and peers on a CUDA device.

python -m benchmarks.cuda --random --output benchmarks/results/cuda
python -m benchmarks.cuda --pipeline training/people-daily/model-best \
    --data corpus/people-daily/dev.spacy --output benchmarks/results/cuda

The result is written after each section, so that a run that is cut off loses nothing.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import spacy
from spacy.tokens import Doc
from thinc.api import require_cpu

from benchmarks.harness.common import command_line, parser_for, say, stem_of, write_json
from benchmarks.harness.machine_info import describe_machine
from spacy_bert_crf._files import write_text

from . import crf, peers, prediction, training
from .measure import Device
from .report import markdown
from .subject import PRECISIONS, Subject, random_pipeline, read_gold


def main(words: list[str] | None = None) -> int:
    """Run the sections. words: the command line, None for that of the program."""
    args = options(words)
    with tempfile.TemporaryDirectory(prefix="cuda-") as folder:
        try:
            run = Run(args, Path(folder))
        except ValueError as err:
            say(f"✘ {err}")
            return 1
        for name, section in run.sections():
            run.measure(name, section)
    print(markdown(run.result))
    return 0


def options(words: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = parser_for(__doc__ or "")
    add = parser.add_argument
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--random", action="store_true", help="bert-base's shape, random weights")
    which.add_argument("--pipeline", type=Path, help="folder of a pipeline with its own encoder")
    add("--data", type=Path, help="annotated docs (.spacy); random texts without it")
    add("--gpu", type=int, default=0, help="number of the GPU; -1 runs small sizes on the CPU")
    add("--texts", type=int, default=0, help="so many docs of --data; 0 for the usual number")
    add("--quick", action="store_true", help="fewer sizes and texts: below a minute on an H100")
    add("--seconds", type=float, default=0, help="begin nothing new after so long; 0: 140 or 55")
    add("--only", nargs="+", default=[], help="names of sections, such as counts or training")
    add("--output", type=Path, required=True, help="write NAME.md and NAME.json")
    args = parser.parse_args(words)
    for path in filter(None, (args.pipeline, args.data)):
        if not path.exists():
            parser.error(f"there is no {path}")
    args.seconds = args.seconds or (55 if args.quick else 140)
    return args


class Run:
    """All that is measured, and the result so far."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        """Raises ValueError where the pipeline or the GPU can't be used."""
        self.args, self.folder = args, folder
        self.is_small = args.gpu < 0
        self.is_brief = self.is_small or args.quick
        self.device = Device(args.gpu, args.seconds)
        if args.random:
            require_cpu()
            path = random_pipeline(folder, self.is_small)
        else:
            path = args.pipeline
        n_texts = args.texts or (24 if self.is_small else 1500 if args.quick else 4000)
        require_cpu()
        on_cpu = Subject.load(path)
        gold = read_gold(on_cpu.nlp, args.data, n_texts, self.is_small)
        if not gold:
            raise ValueError(f"{args.data} holds no docs with text.")
        self.texts = [doc.text for doc in gold]
        self.few = self.texts[: 8 if self.is_small else 64 if args.quick else 192]
        self.want = prediction.reference(on_cpu, self.few)
        if args.gpu >= 0:
            spacy.require_gpu(args.gpu)
        self.subject = Subject.load(path)
        self.gold: list[Doc] = read_gold(self.subject.nlp, args.data, n_texts, self.is_small)
        config = self.subject.own.module.config
        self.result: dict[str, Any] = {
            "command": command_line(),
            "machine": describe_machine(threads=0),
            "device": self.device.describe(),
            "pipeline": f"{'random weights' if args.random else path.name}, "
            f"{config.num_hidden_layers} layers, width {config.hidden_size}",
            "texts": {"texts": len(self.texts), "characters": sum(map(len, self.texts))},
            "seconds": 0.0,
            "left_out": {},
        }

    def sections(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Names and functions, the most wanted first."""
        yield "equality", self.equality
        yield "counts", self.counts
        yield "speed", self.speed
        yield "training", self.training
        yield "crf", lambda: crf.times(self.device, self.is_small)
        yield "peers", self.peers

    def measure(self, name: str, section: Callable[[], Any]) -> None:
        """Run a section, print how long it took, and write the result so far."""
        if self.args.only and name not in self.args.only:
            return
        began = time.perf_counter()
        if self.device.is_over:
            self.result["left_out"][name] = "the time was up"
        else:
            try:
                self.result[name] = section()
            except Exception as err:  # the other sections shall run
                self.result["left_out"][name] = f"{type(err).__name__}: {err}"[:300]
        say(f"{name}: {time.perf_counter() - began:.1f} s {self.result['left_out'].get(name, '')}")
        self.result["seconds"] = self.device.spent
        stem = stem_of(self.args.output)
        write_json(stem.with_name(f"{stem.name}.json"), self.result)
        write_text(stem.with_name(f"{stem.name}.md"), markdown(self.result))

    def by_precision(self, names: list[str], job: Callable[[str], Any]) -> dict[str, Any]:
        """What a function returns in each precision."""
        out = {}
        for name in names:
            if self.device.is_over:
                break
            with self.subject.precision(name):
                out[name] = job(name)
        return out

    def equality(self) -> dict[str, Any]:
        """Entities and emissions beside the CPU's."""
        names = ["float32", "bfloat16"] if self.is_small else list(PRECISIONS)
        return self.by_precision(
            names, lambda _: prediction.equality(self.subject, self.few, self.want)
        )

    def counts(self) -> dict[str, Any]:
        """Waits, launches and copies of a predicted batch."""
        names = ["float32", "bfloat16"]
        return self.by_precision(
            names, lambda _: prediction.counts(self.device, self.subject, self.texts[:256])
        )

    def speed(self) -> dict[str, Any]:
        """Speed by precision and pass size."""
        passes = {"bfloat16": [0, 4096, 16_384, 65_536]}
        names = ["bfloat16", "float32"] if self.is_brief else ["bfloat16", "TF32", "float32"]
        if self.is_small:
            passes = {"bfloat16": [0, 256]}
        return self.by_precision(
            names,
            lambda name: prediction.speed(
                self.device, self.subject, self.texts, passes.get(name, [0])
            ),
        )

    def training(self) -> dict[str, Any]:
        """Updates by precision and batch size."""
        examples = self.subject.examples(self.gold[:256])
        sizes = {"bfloat16": [4, 8] if self.is_small else [16, 64, 256]}
        names = ["bfloat16"] if self.is_brief else ["bfloat16", "float16", "float32"]
        return self.by_precision(
            names,
            lambda name: training.updates(
                self.device, self.subject, examples, sizes.get(name, [64])
            ),
        )

    def peers(self) -> dict[str, Any]:
        """Other software, with this package's own speed in the first line."""
        gold = self.gold[: 500 if self.is_brief else 1000]
        with self.subject.precision("bfloat16"):
            texts = [doc.text for doc in gold]
            own = prediction.pipe_speed(self.device, self.subject, texts)
            alone = prediction.encoder_speed(self.device, self.subject, self.subject.docs(texts))
        with self.subject.precision("TF32"):
            found = peers.speeds(self.device, self.subject, self.folder / "peer", gold)
        found["rows"] = {
            "this package, nlp.pipe": {"characters_per_second": own},
            "this package, encoder alone": {"characters_per_second": alone},
            **found["rows"],
        }
        return found


if __name__ == "__main__":
    sys.exit(main())
