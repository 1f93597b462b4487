"""A training run killed again and again, by SIGKILL at random moments and inside writes.

    python -m reliability.interrupts.kills --kills 51
    python -m reliability.interrupts.kills --kills 17 --seed 2     # a piece; pieces add up

A toy encoder is trained on a toy corpus, with states saved often. Each killed run is started again
with the same command, until the requested number of kills is reached. Then it may end. Its weights
must equal those of a run without kills, tensor for tensor, and so must its best_model.pt.
"""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from reliability import toys
from reliability.common import ROOT, WORK, Result, parser_for
from reliability.interrupts import count_steps

FOLDER = WORK / "kills"
EPOCHS = 12
#: Minutes between two saved states.
SAVE = 0.01


def command(output: Path) -> list[str]:
    """The command of the first start and of all later ones."""
    words = [sys.executable, "-m", "spacy", "bert-crf", "train", str(FOLDER / "train.cfg")]
    words += [str(output), "--resume", "--save-minutes", str(SAVE)]
    return [*words, "--code", str(Path(count_steps.__file__))]


def start(output: Path, log: Path, steps: Path) -> subprocess.Popen[bytes]:
    env = {**os.environ, "COUNT_STEPS": str(steps), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with open(log, "wb") as handle:
        return subprocess.Popen(
            command(output), stdout=handle, stderr=subprocess.STDOUT, cwd=FOLDER, env=env
        )


def prepare() -> None:
    """Make encoder, corpus and config, and train once without a kill."""
    if (FOLDER / "whole.json").is_file():
        return
    shutil.rmtree(FOLDER, ignore_errors=True)
    toys.training_files(FOLDER, epochs=EPOCHS)
    steps, log = FOLDER / "whole.steps", FOLDER / "whole.log"
    began = time.monotonic()
    if start(FOLDER / "whole", log, steps).wait():
        raise SystemExit(log.read_text(encoding="utf8"))
    said = {"seconds": time.monotonic() - began, "steps": steps.stat().st_size}
    (FOLDER / "whole.json").write_text(json.dumps(said), encoding="utf8")


def temporary(output: Path) -> list[str]:
    """Names of temporary files: what is being written now."""
    try:
        return [name for name in os.listdir(output) if name.endswith(".tmp")]
    except FileNotFoundError:
        return []


def wait_for(process: subprocess.Popen[bytes], met: Any, pause: float) -> bool:
    """Wait until `met` is true. RETURNS False if the process ended before."""
    while not met():
        if process.poll() is not None:
            return False
        time.sleep(pause)
    return True


def kill(
    process: subprocess.Popen[bytes], output: Path, log: Path, in_write: bool, rng: random.Random
) -> str:
    """Kill the process at a random moment of its training.

    RETURNS what it was writing, "-" for nothing, or "ended" if it was too late.
    """
    begun = f"{'seconds':>9}\n".encode()
    past = (output / "state").stat().st_mtime_ns if (output / "state").is_dir() else 0

    def saved() -> bool:  # so that each start gets further than the one before
        state = output / "state"
        return state.is_dir() and state.stat().st_mtime_ns > past

    if not wait_for(process, lambda: begun in log.read_bytes(), 0.02):
        return "ended"
    if not wait_for(process, saved, 0.002):
        return "ended"
    time.sleep(rng.uniform(0, 0.8))
    if in_write and not wait_for(process, lambda: temporary(output), 0.0002):
        return "ended"
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = [re.sub(r"^\.|\.\w{8}\.tmp$", "", name) for name in temporary(output)]
    return ", ".join(sorted(left)) or "-"


def check_pipelines(output: Path) -> list[str]:
    """Errors of loading model-best and model-last."""
    import spacy

    bad = []
    for name in ("model-best", "model-last"):
        if (output / name).exists():
            try:
                spacy.load(output / name)("王明在北京。")
            except Exception as err:
                bad.append(f"{name}: {err}")
    return bad


def digest(pipeline: Path, folder: Path) -> str:
    """SHA-256 of the best_model.pt of a pipeline."""
    import spacy

    from spacy_bert_crf.export.folder import export_pipeline

    export_pipeline(spacy.load(pipeline), folder)
    return hashlib.sha256((folder / "best_model.pt").read_bytes()).hexdigest()


def tensors(pipeline: Path) -> dict[str, Any]:
    import spacy

    from spacy_bert_crf.export.trained import gather

    return gather(spacy.load(pipeline), "", {}).tensors()


def same_results(output: Path) -> list[str]:
    """Differences between the results and those of the run without kills."""
    import torch

    bad = []
    for name in ("model-best", "model-last"):
        ours, theirs = tensors(output / name), tensors(FOLDER / "whole" / name)
        if ours.keys() != theirs.keys():
            bad.append(f"{name}: other tensors")
        bad += [f"{name}: {k}" for k in ours if not torch.equal(ours[k], theirs[k])]
        hashes = {digest(o / name, FOLDER / "export") for o in (output, FOLDER / "whole")}
        if len(hashes) > 1:
            bad.append(f"{name}: best_model.pt differs")
    return bad


def run(kills: int, seed: int) -> dict[str, Any]:
    """Train once with `kills` kills. RETURNS what happened."""
    rng = random.Random(seed)
    output, steps = FOLDER / f"killed-{seed}", FOLDER / f"killed-{seed}.steps"
    shutil.rmtree(output, ignore_errors=True)
    steps.unlink(missing_ok=True)
    log = FOLDER / f"killed-{seed}.log"
    rows: list[dict[str, Any]] = []
    bad: list[str] = []
    for number in range(kills + 1):
        process = start(output, log, steps)
        wrote = "" if number == kills else kill(process, output, log, number % 2 == 0, rng)
        if process.poll() is None and process.wait():
            bad.append(f"start {number} failed: {log.read_text(encoding='utf8')[-500:]}")
            break
        found = re.search(r"resuming at epoch (\d+), step (\d+)", log.read_text(encoding="utf8"))
        if number and found is None:
            bad.append(f"start {number} did not resume")
        at = int(found[2]) if found else 0
        if number and at == 0:
            bad.append(f"start {number} resumed at step 0")
        rows.append({"resumed_at": at, "killed_in": wrote})
        print(
            f"  start {number}: from step {at}, killed while writing: {wrote or 'not'}", flush=True
        )
        if wrote in ("", "ended"):
            break
        bad += check_pipelines(output)
    bad += same_results(output)
    left = [name for name in os.listdir(output) if name.startswith(".") or name == "state"]
    bad += [f"left behind: {name}" for name in left]
    done = [row["killed_in"] for row in rows if row["killed_in"] not in ("", "ended")]
    whole = json.loads((FOLDER / "whole.json").read_text(encoding="utf8"))
    out = {
        "kills": len(done),
        "in_write": sum(name != "-" for name in done),
        "resumed_at": [row["resumed_at"] for row in rows[1:]],
        "steps": steps.stat().st_size,
        "steps_of_one_run": whole["steps"],
        "bad": bad,
    }
    if out["steps"] >= 2 * whole["steps"]:
        bad.append(f"{out['steps']} steps where one run has {whole['steps']}")
    return out


def main() -> int:
    parser = parser_for(__doc__)
    parser.add_argument("--kills", type=int, default=51)
    parser.add_argument("--per-run", type=int, default=17, help="kills of one training run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--prepare", action="store_true", help="only the run without kills")
    args = parser.parse_args()
    prepare()
    if args.prepare:
        return 0
    result = Result("kills")
    for number in range(-(-args.kills // args.per_run)):
        seed = args.seed + number
        began = time.monotonic()
        done = run(min(args.per_run, args.kills - number * args.per_run), seed)
        for line in done["bad"]:
            print("  BAD", line)
        result.add(
            f"SIGKILL at random moments of training, run {seed}",
            tries=done["kills"],
            bad=len(done["bad"]),
            command=f"python -m reliability.interrupts.kills --kills {args.per_run} --seed {seed}",
            note=f"{done['in_write']} inside a write; resumed at steps {done['resumed_at']}; "
            f"{done['steps']} steps in all, one run has {done['steps_of_one_run']}; "
            "final weights and best_model.pt "
            + ("equal to the undisturbed run's" if not done["bad"] else "see BAD"),
            seconds=round(time.monotonic() - began, 1),
            in_write=done["in_write"],
            what_was_bad=done["bad"],
        )
        result.write()
    return result.status()


if __name__ == "__main__":
    sys.exit(main())
