"""Entities by torch alone, from a spacy-bert-crf export: python predict.py "文本" """

import sys
from pathlib import Path

import torch
from reader import Reader


def open_graph(path):
    graph = torch.jit.load(str(path), map_location="cpu")

    @torch.inference_mode()
    def run(*arrays):
        # Without it, torch compiles the graph anew for each length of text.
        with torch.jit.optimized_execution(False):
            return graph(*map(torch.from_numpy, arrays)).numpy()

    return run


def load(folder):
    # emissions.pt is for long texts: decode.pt does not read overlapping windows.
    return Reader(folder, open_graph(folder / "emissions.pt"), open_graph(folder / "decode.pt"))


if __name__ == "__main__":
    for start, end, label in load(Path(__file__).parent)(sys.argv[1]):
        print(start, end, label, sys.argv[1][start:end])
