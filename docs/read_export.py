"""Entities from any folder that `spacy bert-crf export` writes, also from those of earlier versions.

    python docs/read_export.py export/quickstart/onnx "王小明昨天在北京参观了清华大学。"
    python docs/read_export.py export/quickstart/onnx "王小明昨天在北京参观了清华大学。" --decode

Exports of this version have predict.py and reader.py in each folder. Those of earlier versions have
not: for them this script takes both from the checkout that it lies in. Of such an export it reads
the folders of formats; read_best_model.py reads best_model.pt. It imports neither spaCy nor
spacy-bert-crf.
"""
import argparse, importlib.util, json, sys
from pathlib import Path

READERS = Path(__file__).resolve().parents[1] / "spacy_bert_crf" / "export" / "readers"
#: The file of READERS that runs a format. Those of a family begin with the same name.
FAMILIES = ["bert4torch", "huggingface", "torchscript", "torch-int8", "onnx"]

def load(folder, decode=False):
    """The model in a folder, as a Reader of reader.py.

    decode: take the graph that contains the Viterbi algorithm.
    """
    folder = Path(folder)
    name = json.loads((folder / "best_model.json").read_text(encoding="utf8")).get("format", "")
    family = next((family for family in FAMILIES if name.startswith(family)), "best_model")
    module("reader", "reader.py")
    file = "torchscript.py" if family == "torch-int8" else f"{family}.py"
    model = module(f"predict_{family}", file).load(folder)
    if decode and model.decode is None:
        raise ValueError(f"the format {name} has no decode graph: leave --decode out")
    if not decode:
        model.decode = None
    return model

def entities(text, model, tokens=None):
    """The entities of a text: start and end (character offsets), label.

    tokens: (start, end) of each token, where the pipeline has a tokenizer of its own.
    """
    return model(text, tokens)

def module(name, file):
    """A file of READERS as a module, without its folder on the path, where it would hide others."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, READERS / file)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Print the entities of a text.")
    parser.add_argument("folder", help="folder of an export, as export/quickstart/onnx")
    parser.add_argument("text")
    parser.add_argument("--decode", action="store_true", help="use decode.onnx or decode.pt")
    options = parser.parse_args()
    for start, end, label in entities(options.text, load(options.folder, options.decode)):
        print(start, end, label, options.text[start:end])
