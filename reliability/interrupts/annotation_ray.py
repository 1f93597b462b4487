"""Kills of `annotate --engine ray` in a cluster of two nodes on this machine.

It is started by `python -m reliability.interrupts.annotation --engine ray`. Killed are actors, the
worker processes of actors, the driver (the command itself), and a whole node, which is replaced.
"""

import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from reliability.common import ROOT
from reliability.interrupts import annotation

#: Who is killed, in these shares.
KINDS = ("actor", "worker", "driver", "actor", "worker", "actor", "driver", "node")
#: Seconds in which a run must write a shard after a kill. A node that is gone is missed late.
PATIENCE = 300.0


class TwoNodes:
    """A Ray cluster of two nodes on this machine, within a `with` block."""

    def __init__(self, counts: Path) -> None:
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)  # nodes pass it to what they start
        os.environ[annotation.COUNTS] = str(counts)
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        from ray.cluster_utils import Cluster

        # The head has room for one actor, so that the other one is on the node that is killed.
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        self.second = self.cluster.add_node(num_cpus=2)
        os.environ["RAY_ADDRESS"] = self.cluster.address

    def __enter__(self) -> "TwoNodes":
        return self

    def __exit__(self, *_: object) -> None:
        self.cluster.shutdown()

    def kill_node(self) -> None:
        """Kill all processes of the second node, and add another one."""
        self.cluster.remove_node(self.second, allow_graceful=False)
        self.second = self.cluster.add_node(num_cpus=2)

    def actors(self) -> list[psutil.Process]:
        """Actors that annotate."""
        return [each for each in _processes() if _name(each).startswith("ray::MapWorker")]

    def workers(self) -> list[psutil.Process]:
        """Their worker processes."""
        found: list[psutil.Process] = []
        for actor in self.actors():
            try:
                found += [each for each in actor.children() if "spawn_main" in _words(each)]
            except psutil.Error:
                continue
        return found


def _processes() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _name(process: psutil.Process) -> str:
    return _words(process).lstrip()


def kill_again_and_again(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Annotate with `kills` kills. RETURNS what happened; "bad" lists what must not happen."""
    rng, output, counts = random.Random(seed), folder / f"ray-{seed}", folder / f"ray-counts-{seed}"
    shutil.rmtree(output, ignore_errors=True)
    counts.unlink(missing_ok=True)
    left = [KINDS[n % len(KINDS)] for n in range(kills)]
    rng.shuffle(left)
    done: Counter[str] = Counter()
    starts, bad = 0, []
    with TwoNodes(counts) as nodes:
        while True:
            process = annotation.start(folder, output, "--engine", "ray", counts=counts)
            starts += 1
            while left and _wait_for_a_shard(process, output):
                time.sleep(rng.uniform(0, 1.0))
                if _kill(left[-1], nodes, process, rng):
                    done[left.pop()] += 1
                    print(f"  {sum(done.values())}: {dict(done)}", flush=True)
            try:
                status = process.wait(PATIENCE)
            except annotation.subprocess.TimeoutExpired:
                process.kill()
                bad.append(f"start {starts}: no shard in {PATIENCE:.0f} seconds")
                break
            if status == 0:
                break
            if status != -signal.SIGKILL:
                bad.append(f"start {starts} ended with {status}: {annotation.said(process)[-300:]}")
                break
            if psutil.wait_procs(nodes.actors(), timeout=120)[1]:
                bad.append(f"start {starts}: actors outlived the run")
    bad += annotation.differences(folder / "whole", output)
    wasted = annotation.wasted_shards(folder, counts)
    # A driver and a node may have all workers.
    lost = sum(done.values()) + (done["driver"] + done["node"]) * (annotation.WORKERS - 1)
    if wasted > lost:
        bad.append(f"{wasted:.1f} shards were read in vain, and {lost} were in hand")
    whom = ", ".join(f"{count} {kind}s" for kind, count in sorted(done.items()))
    return {"kills": sum(done.values()), "whom": whom, "starts": starts, "wasted": wasted,
            "bad": bad}  # fmt: skip


def _wait_for_a_shard(process: Any, output: Path) -> bool:
    """Wait until the run has written a shard. RETURNS whether it has, and goes on."""
    before, until = annotation.committed(output), time.monotonic() + PATIENCE
    while annotation.committed(output) <= before:
        if process.poll() is not None or time.monotonic() > until:
            return False
        time.sleep(0.01)
    return process.poll() is None


def _kill(kind: str, nodes: TwoNodes, process: Any, rng: random.Random) -> bool:
    """Kill one of a kind. RETURNS whether there was one."""
    if kind == "node":
        nodes.kill_node()
        return True
    if kind == "driver":
        process.kill()
        return True
    found = nodes.actors() if kind == "actor" else nodes.workers()
    if not found:
        return False
    try:
        rng.choice(found).kill()
    except psutil.NoSuchProcess:
        return False
    return True
