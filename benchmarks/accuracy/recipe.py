"""Variants of the training config, each with several seeds, in one table.

    python -m benchmarks.accuracy.recipe --encoder ENCODER --train train.spacy --dev dev.spacy \\
        --variants benchmarks/accuracy/recipe.yml --layers 4 --limit 1500 \\
        --output benchmarks/results/recipe

Trainings that the result file has are not run again, so that variants can be added later.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import srsly

from benchmarks.harness.common import (
    ROOT,
    Failed,
    command_line,
    parser_for,
    say,
    stem_of,
    write_json,
)
from benchmarks.harness.machine_info import machine
from benchmarks.harness.tables import table, words
from benchmarks.harness.trials import settings_of
from spacy_bert_crf._provenance import versions


def train_one(job: dict[str, Any], output: Path | None = None) -> dict[str, Any]:
    """Train one variant in this process.

    job: as `jobs_of` makes it; gpu_id and max_steps may be in it.
    output: folder for the pipelines and history.json; None for one that is removed at the end.
    RETURNS: scores of each epoch, and seconds.
    """
    import torch

    from spacy_bert_crf.training.config import fill_config
    from spacy_bert_crf.training.loop import train

    torch.set_num_threads(job["threads"])
    config, _ = fill_config(
        ROOT / "configs" / "bert_crf.cfg",
        encoder=Path(job["encoder"]),
        train=job["train"],
        dev=job["dev"],
        labels="",
        seed=job["seed"],
        max_epochs=job["epochs"],
        max_steps=job.get("max_steps", 0),
        settings={
            "corpora.train.limit": job["limit"],
            "corpora.dev.limit": job["dev_limit"],
            **job["settings"],
        },
    )
    if job["layers"]:
        encoder = config["components"]["bert_crf"]["model"]["tok2vec"]
        encoder["transformer_config"] = {"num_hidden_layers": job["layers"]}
    with tempfile.TemporaryDirectory(prefix="recipe-") as folder:
        # There is no such file, so that the labels are those of the data.
        config["paths"]["labels"] = str(Path(folder) / "labels.json")
        use_gpu = job.get("gpu_id", -1)
        history = train(config, output or Path(folder), use_gpu=use_gpu, keep_state=False)
    epochs = history["epochs"]
    return {
        "ents_f": [row.get("ents_f", 0.0) for row in epochs],
        "loss": [row["loss"] for row in epochs],
        "seconds": sum(row["seconds"] - row["evaluation_seconds"] for row in epochs),
    }


def train_there(job: dict[str, Any]) -> dict[str, Any]:
    """`train_one` in a process of its own. Raises Failed with the last lines it printed."""
    with tempfile.TemporaryDirectory(prefix="recipe-") as folder:
        out = Path(folder) / "out.json"
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "benchmarks.accuracy.recipe",
                "--job",
                json.dumps(job),
                str(out),
            ],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": str(job["threads"])},
        )
        if done.returncode:
            said = (done.stdout + done.stderr).strip().splitlines()[-8:]
            raise Failed(f"{job['variant']}, seed {job['seed']}: " + "\n".join(said))
        return {**job, **json.loads(out.read_text(encoding="utf8"))}


def jobs_of(args: argparse.Namespace, variants: dict[str, dict[str, Any]]) -> Iterator[dict]:
    """The trainings: each variant with each seed, in the order of the seeds."""
    for seed in args.seeds:
        for name, settings in variants.items():
            if args.only and name not in args.only:
                continue
            yield {
                "variant": name, "seed": seed, "settings": {**args.set, **settings},
                "encoder": str(args.encoder),
                "train": str(args.train), "dev": str(args.dev), "layers": args.layers,
                "limit": args.limit, "dev_limit": args.dev_limit, "epochs": args.epochs,
                "threads": args.threads,
            }  # fmt: skip


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two jobs are the same training."""
    return all(a[key] == b[key] for key in b)


def markdown(content: dict[str, Any], variants: dict[str, dict[str, Any]]) -> str:
    """The table: mean over seeds, its spread, and the difference to the first variant."""
    runs = content["runs"]
    names = [n for n in variants if any(r["variant"] == n for r in runs)]
    base = {r["seed"]: r["ents_f"][-1] for r in runs if r["variant"] == names[0]}
    n_epochs = max(len(r["ents_f"]) for r in runs)
    rows = []
    for name in names:
        mine = [r for r in runs if r["variant"] == name]
        by_epoch = [f"{100 * mean(r['ents_f'][i] for r in mine):.2f}" for i in range(n_epochs)]
        last = [100 * r["ents_f"][-1] for r in mine]
        paired = [100 * (r["ents_f"][-1] - base[r["seed"]]) for r in mine if r["seed"] in base]
        gain = "" if name == names[0] or not paired else f"{mean(paired):+.2f}"
        spread = f"{stdev(last):.2f}" if len(last) > 1 else ""
        settings = ", ".join(f"{k} = {v}" for k, v in variants[name].items()) or "as in the config"
        seconds = f"{mean(r['seconds'] for r in mine):.0f}"
        rows.append([name, f"`{settings}`", *by_epoch, spread, gain, len(mine), seconds])
    head = ["variant", "settings", *(f"epoch {i + 1}" for i in range(n_epochs))]
    head += ["spread", f"to {names[0]}", "seeds", "seconds"]
    first = runs[0]
    about = (
        f"{first['layers'] or 'all'} layers, {first['limit'] or 'all'} training sentences, "
        f"{first['dev_limit'] or 'all'} dev sentences, {first['threads']} thread(s) each."
    )
    return "\n".join(
        [
            "# The recipe, tried", "",
            "Entity F1 in percent on dev after each epoch, mean over the seeds; spread: standard "
            "deviation over them after the last; seconds of training.", "",
            about, "", *table(head, rows), "",
            f"Machine: {content['machine']}. Versions: {words(content['versions'])}.", "",
            "Command: `" + content["command"] + "`", "",
        ]
    )  # fmt: skip


def main() -> int:
    parser = parser_for(__doc__)
    parser.add_argument("--encoder", type=Path, help="folder of a converted encoder")
    parser.add_argument("--train", type=Path, help="training docs (.spacy)")
    parser.add_argument("--dev", type=Path, help="docs to score (.spacy)")
    parser.add_argument("--variants", type=Path, help="YAML: name of a variant to its settings")
    parser.add_argument("--only", nargs="+", default=[], help="names of variants")
    parser.add_argument("--layers", type=int, default=0, help="first layers only; 0: all")
    parser.add_argument("--limit", type=int, default=0, help="training docs; 0: all")
    parser.add_argument("--dev-limit", type=int, default=0, help="dev docs; 0: all")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.NAME=VALUE",
        help="a setting of all variants, as often as wanted",
    )  # fmt: skip
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--workers", type=int, default=2, help="trainings at a time")
    parser.add_argument("--threads", type=int, default=1, help="of each training")
    parser.add_argument("--output", type=Path, help="NAME.json and NAME.md")
    parser.add_argument("--job", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        write_json(Path(args.job[1]), train_one(json.loads(args.job[0])))
        return 0
    missing = [n for n in ("encoder", "train", "dev", "variants", "output") if not getattr(args, n)]
    if missing:
        parser.error(f"give {', '.join('--' + name for name in missing)}")
    args.set = settings_of(parser, args.set)
    variants = {name: settings or {} for name, settings in srsly.read_yaml(args.variants).items()}
    path = Path(f"{stem_of(args.output)}.json")
    content: dict[str, Any] = {"runs": []}
    if path.is_file():
        content = json.loads(path.read_text(encoding="utf8"))
    content |= {
        "machine": machine(),
        "versions": versions(),
        "command": command_line(),
    }
    todo = [j for j in jobs_of(args, variants) if not any(same(r, j) for r in content["runs"])]
    say(f"{len(todo)} trainings to do, {len(content['runs'])} there")
    failed, began = 0, time.monotonic()
    with ThreadPoolExecutor(args.workers) as pool:
        for future in as_completed([pool.submit(train_there, job) for job in todo]):
            try:
                run = future.result()
            except Failed as err:
                failed += 1
                say(str(err))
                continue
            content["runs"].append(run)
            scores = " ".join(f"{100 * f:.2f}" for f in run["ents_f"])
            say(
                f"{time.monotonic() - began:6.0f} s  {run['variant']}, seed {run['seed']}: {scores}"
            )
            write_json(path, content)
            path.with_suffix(".md").write_text(markdown(content, variants), encoding="utf8")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
