"""This package's trainings as a worker: one after another in a process that imports once.

python -m benchmarks.accuracy.convergence.trainer   (orders on stdin, see peers/peer_loop.py)
"""

import gc
from pathlib import Path
from typing import Any

import torch

from benchmarks.accuracy.recipe import train_one
from benchmarks.peers.peer_loop import memory, serve


class Trainer:
    """Trains what it is told to."""

    def train(self, job: dict[str, Any], folder: str) -> dict[str, Any]:
        """Train one job. `history.json` in the folder grows with each epoch."""
        try:
            train_one(job, Path(folder))
        finally:
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return memory()


if __name__ == "__main__":
    serve({"trainer": Trainer})
