"""Entities by onnxruntime, from a spacy-bert-crf export: python predict.py "文本" """

import sys
from pathlib import Path

import onnxruntime
from reader import Reader

NAMES = ["input_ids", "attention_mask", "token_type_ids", "token_pieces"]


def open_graph(path):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    used = {value.name for value in session.get_inputs()}  # some encoders have no token types

    def run(*arrays):
        given = dict(zip(NAMES, arrays, strict=False))
        return session.run(None, {name: given[name] for name in given if name in used})[0]

    return run


def load(folder):
    # emissions.onnx is for long texts: decode.onnx does not read overlapping windows.
    return Reader(folder, open_graph(folder / "emissions.onnx"), open_graph(folder / "decode.onnx"))


if __name__ == "__main__":
    for start, end, label in load(Path(__file__).parent)(sys.argv[1]):
        print(start, end, label, sys.argv[1][start:end])
