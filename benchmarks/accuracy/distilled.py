"""Students of a teacher and models that never had one: layers against F1 and speed, in one table.

    python -m benchmarks.accuracy.distilled --teacher training/quickstart/model-best \\
        --dev corpus/quickstart/dev.spacy --layers 3 4 6 --encoder encoders/quickstart \\
        --work training/students --output benchmarks/results/distilled

The config is the teacher's own unless --config names one. Each number of layers is trained in up to
three ways: from the teacher (`distill`); from the teacher's layers, on gold only; and, with
--encoder, from the first layers of that encoder (`train`). F1 and speed are those of `nlp.pipe` on
the texts of dev, in float32 and in 8-bit integers, with one and two threads.

The trained pipelines stay in --work. A run that was interrupted goes on where it was, and what the
result has is neither trained nor measured again.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.harness.common import (
    Failed,
    command_line,
    entities_of,
    f_score,
    parser_for,
    read_docs,
    say,
    status_of,
    stem_of,
    write_json,
)
from benchmarks.harness.machine_info import describe_machine
from benchmarks.harness.tables import table, words
from spacy_bert_crf._files import write_text
from spacy_bert_crf._provenance import versions

#: How a model came to be, and what the table calls it.
WAYS = {
    "distilled": "student: gold and teacher",
    "gold": "the teacher's layers, gold only",
    "alone": "first layers of the encoder, no teacher",
}
#: (quantize, threads) of each measurement of speed.
SPEEDS = [("", 1), ("", 2), ("int8", 1), ("int8", 2)]


def accuracy(pipeline: Path, dev: Path, limit: int, gpu_id: int) -> dict[str, Any]:
    """F1 of a pipeline, without its speed.

    pipeline: its folder.
    dev: the annotated texts (.spacy).
    limit: number of texts, 0 for all.
    gpu_id: where float32 is computed; -1 is the CPU. 8-bit integers need the CPU.
    RETURNS: F1 by name, no speeds, and the number of parameters.
    """
    from spacy_bert_crf._devices import use_device

    scores = {}
    for quantize, device in (("", gpu_id), ("int8", -1)):
        use_device(device)
        nlp, pipe, docs = _loaded(pipeline, dev, limit)
        pipe.quantize = quantize
        found = nlp.pipe([doc.text for doc in docs])
        scores[quantize or "float32"] = f_score(map(entities_of, found), docs)
    return {"f": scores, "speed": {}, "parameters": _parameters(nlp, pipe)}


def accuracy_and_speed(pipeline: Path, dev: Path, limit: int, repeats: int) -> dict[str, Any]:
    """F1 and speed of a pipeline on the CPU, in this process.

    pipeline, dev, limit: as for `accuracy`.
    repeats: the fastest of so many runs counts.
    RETURNS: F1 and characters per second, each by name, and the number of parameters.
    """
    import torch

    nlp, pipe, docs = _loaded(pipeline, dev, limit)
    texts = [doc.text for doc in docs]
    scores, speeds = {}, {}
    for quantize, threads in SPEEDS:
        torch.set_num_threads(threads)
        pipe.quantize = quantize
        list(nlp.pipe(texts[:64]))
        seconds = []
        for _ in range(repeats):
            began = time.perf_counter()
            found = list(nlp.pipe(texts))
            seconds.append(time.perf_counter() - began)
        name = quantize or "float32"
        scores[name] = f_score(map(entities_of, found), docs)
        speeds[f"{name}, {threads}"] = sum(map(len, texts)) / min(seconds)
    return {"f": scores, "speed": speeds, "parameters": _parameters(nlp, pipe)}


def measure(pipeline: Path, dev: Path, limit: int, repeats: int, gpu_id: int) -> dict[str, Any]:
    """`accuracy_and_speed`; with 0 repeats `accuracy`, which may use a GPU."""
    if repeats:
        return accuracy_and_speed(pipeline, dev, limit, repeats)
    return accuracy(pipeline, dev, limit, gpu_id)


def _loaded(pipeline: Path, dev: Path, limit: int) -> tuple[Any, Any, list[Any]]:
    """The pipeline, its component, and the texts of dev."""
    import spacy

    from spacy_bert_crf.component.pipelines import find_component

    nlp = spacy.load(pipeline)
    return nlp, find_component(nlp), read_docs(dev, nlp, limit)


def _parameters(nlp: Any, pipe: Any) -> int:
    from spacy_bert_crf.component.pipelines import find_encoder

    return int(find_encoder(nlp, pipe).model.num_parameters())


def run_python(*command: Any, threads: int, log: Path) -> None:
    """Run Python with these words in a process of its own. Raises Failed with its last lines."""
    with log.open("ab") as handle:
        done = subprocess.run(
            [sys.executable, *map(str, command)], stdout=handle, stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )  # fmt: skip
    if done.returncode:
        said = log.read_text(encoding="utf8", errors="replace").strip().splitlines()[-8:]
        raise Failed(" ".join(map(str, command[:5])) + " … failed:\n" + "\n".join(said))


def train(args: argparse.Namespace, way: str, layers: int, inner: int, seed: int) -> Path:
    """Train a model, or go on with it. RETURNS: the folder of its pipeline. Raises Failed.

    inner: number of inner channels of its feed-forward networks, 0 for all.
    """
    name = f"{way}-{layers}-{seed}" + (f"-{inner}" if inner else "")
    out, log = args.work / name, args.work / f"{name}.log"
    ours = ("-m", "spacy", "bert-crf")
    settings = [word for each in args.set for word in _option(each)]
    settings += ["--system.seed", seed, "--paths.dev", args.dev, "--gpu-id", args.gpu_id]
    if way == "alone":
        encoder = args.work / f"encoder-{layers}"
        words_of = ("convert-checkpoint", args.encoder, encoder, "--layers", layers)
        run_python(*ours, *words_of, threads=args.threads, log=log)
        component = component_of(args.config)
        settings += [f"--components.{component}.model.tok2vec.name", encoder]
        command = ("train", args.config, out)
    else:
        command = ("distill", args.teacher, args.config, out, "--layers", layers)
        settings += ["--inner-width", inner]
        if args.which_layers:
            settings += ["--which-layers", args.which_layers]
        if way == "gold":
            settings += ["--teacher-weight", 0, "--gold-weight", 1]
        else:
            for option in ("gold_weight", "teacher_weight", "temperature", "text"):
                if (value := getattr(args, option)) is not None:
                    settings += [f"--{option.replace('_', '-')}", value]
    run_python(*ours, *command, "--resume", *settings, threads=args.threads, log=log)
    return out / "model-best"


def component_of(config: Path) -> str:
    """Name of the bert_crf component of a config."""
    from spacy.util import load_config

    components = load_config(config, interpolate=False)["components"]
    return next(n for n, section in components.items() if section.get("factory") == "bert_crf")


def _option(setting: str) -> tuple[str, str]:
    name, _, value = setting.partition("=")
    return f"--{name}", value


def measure_there(args: argparse.Namespace, pipeline: Path) -> dict[str, Any]:
    """`measure` in a process of its own. Raises Failed."""
    out = args.work / "measured.json"
    job = [pipeline, args.dev, args.texts, args.repeats, args.gpu_id, out]
    run_python(
        "-m", "benchmarks.accuracy.distilled", "--measure", *job,
        threads=2, log=args.work / "measure.log",
    )  # fmt: skip
    return dict(json.loads(out.read_text(encoding="utf8")))


def run(args: argparse.Namespace) -> None:
    """Train and measure what the result does not have. It is written after each. Raises Failed."""
    args.work.mkdir(parents=True, exist_ok=True)
    path = Path(f"{args.stem}.json")
    content: dict[str, Any] = {"rows": []}
    if path.is_file():
        content = json.loads(path.read_text(encoding="utf8"))
    for row in content["rows"]:  # of a result from before there were narrower students
        row.setdefault("inner_width", 0)
    content |= {
        "command": command_line(), "note": args.note, "versions": versions(),
        "machine": describe_machine(args.threads), "settings": args.set,
    }  # fmt: skip
    ways = [way for way in args.ways if way != "alone" or args.encoder]
    jobs: list[tuple[str, int, int, int]] = [("teacher", 0, 0, 0)]
    jobs += [
        (way, layers, inner, seed)
        for seed in args.seeds for layers in args.layers
        for way in ways for inner in (args.inner_widths if way != "alone" else [0])
    ]  # fmt: skip
    for way, layers, inner, seed in jobs:
        key = {"way": way, "layers": layers, "inner_width": inner, "seed": seed}
        if any(key.items() <= row.items() for row in content["rows"]):
            continue
        say(" ".join(f"{name} {value}" for name, value in key.items()))
        began = time.monotonic()
        pipeline = args.teacher if way == "teacher" else train(args, way, layers, inner, seed)
        seconds = time.monotonic() - began
        content["rows"].append({**key, "seconds": seconds, **measure_there(args, pipeline)})
        write_json(path, content)
        write_text(path.with_suffix(".md"), markdown(content))


def markdown(content: dict[str, Any]) -> str:
    """The table. F1 is the mean over the seeds, speed that of the fastest."""
    groups: dict[tuple[int, str, int], list[dict[str, Any]]] = {}
    for row in content["rows"]:
        key = (row["layers"], row["way"], row["inner_width"])
        groups.setdefault(key, []).append(row)
    order = {way: i for i, way in enumerate(("teacher", *WAYS))}
    cells = []
    for (layers, way, inner), rows in sorted(
        groups.items(), key=lambda each: (each[0][0], order[each[0][1]], -each[0][2])
    ):
        f = [f"{100 * mean(row['f'][name] for row in rows):.2f}" for name in ("float32", "int8")]
        names = (f"{q or 'float32'}, {n}" for q, n in SPEEDS)
        speeds = [max(row["speed"].get(key, 0) for row in rows) for key in names]
        millions = f"{rows[0]['parameters'] / 1e6:.1f}"
        cells.append(
            [WAYS.get(way, "the teacher"), layers or "all", inner or "all", millions, *f,
             *(f"{speed:,.0f}" if speed else "" for speed in speeds), len(rows)]
        )  # fmt: skip
    head = ["model", "layers", "inner channels", "million parameters", "F1", "F1 int8"]
    head += [f"{q or 'float32'}, {n} thread{'s' * (n > 1)}" for q, n in SPEEDS] + ["seeds"]
    machine = content["machine"]
    return "\n".join(
        [
            "# Students and their teacher", "",
            f"`{content['command']}`", "",
            "F1 of entities on dev, in percent, mean over the seeds. Speed in characters a second "
            f"of `nlp.pipe`, the fastest run. {content['note']}".rstrip(), "",
            *table(head, cells), "",
            f"{machine['machine']}; load before the start {machine['load_average']}. "
            f"{words(content['versions'])}.", "",
        ]
    )  # fmt: skip


def main() -> int:
    """The command line. RETURNS: the exit code."""
    if sys.argv[1:2] == ["--measure"]:
        pipeline, dev, *numbers, out = sys.argv[2:]
        limit, repeats, gpu_id = map(int, numbers)
        write_json(Path(out), measure(Path(pipeline), Path(dev), limit, repeats, gpu_id))
        return 0
    parser = parser_for(__doc__ or "")
    parser.add_argument("--teacher", type=Path, required=True, help="folder of a trained pipeline")
    parser.add_argument("--config", type=Path, help="training config of the students")
    parser.add_argument("--dev", type=Path, required=True, help="annotated texts (.spacy)")
    parser.add_argument("--layers", type=int, nargs="+", default=[3, 4, 6])
    parser.add_argument("--encoder", type=Path, help="encoder folder for models without a teacher")
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=list(WAYS))
    parser.add_argument("--text", type=Path, help="texts without gold, for the students")
    parser.add_argument("--which-layers", choices=("even", "first"), help="of the students")
    parser.add_argument(
        "--inner-widths", type=int, nargs="+", default=[0],
        help="inner channels of the students' feed-forward networks; 0 for all",
    )  # fmt: skip
    parser.add_argument("--gold-weight", type=float)
    parser.add_argument("--teacher-weight", type=float)
    parser.add_argument("--temperature", type=float)
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.NAME=VALUE",
        help="a setting of all trainings, as often as wanted",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--threads", type=int, default=2, help="of each training")
    parser.add_argument("--gpu-id", type=int, default=-1, help="of the trainings; -1 for the CPU")
    parser.add_argument("--texts", type=int, default=0, help="texts of dev to measure; 0 for all")
    parser.add_argument(
        "--repeats", type=int, default=3, help="runs of which the fastest counts; 0: no speed"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of the trained pipelines")
    parser.add_argument("--note", default="", help="a sentence for the result")
    parser.add_argument("--output", type=Path, required=True, help="NAME.json and NAME.md")
    args = parser.parse_args()
    args.config = args.config or args.teacher / "config.cfg"
    args.stem = stem_of(args.output)
    return status_of(lambda: run(args), args.stem)


if __name__ == "__main__":
    sys.exit(main())
