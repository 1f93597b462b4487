"""The other side of bert4torch_interchange.py: runs where bert4torch is installed.

Imports neither spaCy nor spacy_bert_crf. Reads a job from a JSON file; what it finds goes to
a JSON and an npz file.

python bert4torch_side.py JOB.json
"""

import importlib.util
import json
import platform
import random
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any


def stub_torchvision() -> bool:
    """Put empty modules in the place of torchvision if it is missing; RETURNS whether it was.

    bert4torch imports it on the way to its image models, of which nothing is used here.
    """
    if importlib.util.find_spec("torchvision") is not None:
        return False
    parent = None
    for name in ("torchvision", "transforms", "v2", "functional"):
        full = f"{parent.__name__}.{name}" if parent else name
        module = ModuleType(full)
        module.__spec__ = ModuleSpec(full, None, is_package=True)
        module.__path__ = []
        sys.modules[full] = module
        if parent is not None:
            setattr(parent, name, module)
        parent = module
    return True


STUBBED = stub_torchvision()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from bert4torch.layers import CRF  # noqa: E402
from bert4torch.models import BaseModel, build_transformer_model  # noqa: E402
from bert4torch.snippets import sequence_padding  # noqa: E402
from bert4torch.tokenizers import Tokenizer  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

#: Most input ids of one batch of predictions, padding included.
BATCH_PIECES = 4096
#: Its CRF misreads a batch that is one step wide, so that none may be.
FEWEST_IDS = 4


class Model(BaseModel):
    """The model of bert4torch's CRF example: its layers, their names and its methods.

    folder: holds bert4torch_config.json. checkpoint_path: see build_transformer_model.
    n_tags: tags, `O` first.
    """

    def __init__(self, folder: Path, checkpoint_path: str | None, n_tags: int) -> None:
        super().__init__()
        self.bert = build_transformer_model(
            config_path=str(folder), checkpoint_path=checkpoint_path, segment_vocab_size=0
        )
        config = json.loads((folder / "bert4torch_config.json").read_text(encoding="utf8"))
        self.fc = nn.Linear(config["hidden_size"], n_tags)
        self.crf = CRF(n_tags)

    def forward(self, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Emissions [B, T, K] and mask [B, T]."""
        emissions = self.fc(self.bert([token_ids]))
        return emissions, token_ids.gt(0).long()

    def predict(self, token_ids: Tensor) -> Tensor:
        """Tags of all wordpieces, the special ones included, as the example decodes. [B, T]"""
        self.eval()
        with torch.no_grad():
            emissions, mask = self.forward(token_ids)
            return self.crf.decode(emissions, mask)


def main() -> None:
    """Run the job of the file that the command line names."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf8"))
    if job["threads"]:
        torch.set_num_threads(job["threads"])
    result, arrays = {"versions": versions_here, "out": out, "back": back}[job["kind"]](job)
    np.savez(job["result"] + ".npz", **arrays)
    text = json.dumps(result, ensure_ascii=False)
    Path(job["result"] + ".json").write_text(text, encoding="utf8")


def versions_here(job: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Versions of what takes part."""
    names = ("bert4torch", "torch4keras", "torch", "numpy")
    found = {"python": platform.python_version(), **{n: metadata.version(n) for n in names}}
    return {"versions": found, "torchvision_is_a_stub": STUBBED}, {}


def out(job: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Load an exported folder and predict without [CLS] and [SEP] in the CRF."""
    folder = Path(job["folder"])
    model = Model(folder, None, len(job["tags"]))
    model.load_weights(str(folder / "best_model.pt"), strict=True)
    tokenizer = Tokenizer(str(folder / "vocab.txt"), do_lower_case=job["lower"])
    return run(model, tokenizer, job, special=False)


def back(job: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train the example, save its weights, and predict as the example does."""
    random.seed(job["seed"])
    np.random.seed(job["seed"])
    torch.manual_seed(job["seed"])
    model = Model(Path(job["folder"]), job["checkpoint"], len(job["tags"]))
    check_loaded(model, job["checkpoint"])
    tokenizer = Tokenizer(job["vocab"], do_lower_case=job["lower"])
    ids = {tag: i for i, tag in enumerate(job["tags"])}

    def collate(batch: list[list[Any]]) -> tuple[Tensor, Tensor]:
        pairs = [labelled(tokenizer, text, spans, ids, job["max_length"]) for text, spans in batch]
        tokens, labels = (sequence_padding(list(part)) for part in zip(*pairs, strict=True))
        return torch.tensor(tokens), torch.tensor(labels, dtype=torch.long)

    class Loss(nn.Module):
        def forward(self, outputs: Any, labels: Tensor) -> Tensor:
            return model.crf(*outputs, labels)

    batches = DataLoader(
        job["train"], batch_size=job["batch_size"], shuffle=True, collate_fn=collate
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=job["rate"])
    model.compile(loss=Loss(), optimizer=optimizer)
    began = time.perf_counter()
    history = model.fit(batches, epochs=job["epochs"])
    seconds = time.perf_counter() - began
    model.save_weights(job["weights"])
    # What the file holds is what predicts.
    model.load_weights(job["weights"], strict=True)
    result, arrays = run(model, tokenizer, job, special=True)
    result["training_seconds"] = seconds
    result["losses"] = [float(loss) for loss in history.history["loss"]]
    return result, arrays


def check_loaded(model: Model, path: str) -> None:
    """Raises ValueError unless the encoder has the checkpoint's weights.

    bert4torch only prints names that it doesn't find, and goes on with random ones.
    """
    stored = torch.load(path, map_location="cpu", weights_only=True)
    last = len(model.bert.encoderLayer) - 1
    pairs = {
        "bert.embeddings.word_embeddings.weight": model.bert.embeddings.word_embeddings.weight,
        f"bert.encoder.layer.{last}.output.LayerNorm.bias": (
            model.bert.encoderLayer[last].ffnLayerNorm.bias
        ),
        f"bert.encoder.layer.{last}.attention.self.query.weight": (
            model.bert.encoderLayer[last].multiHeadAttention.q.weight
        ),
    }
    for name, tensor in pairs.items():
        if not torch.equal(stored[name], tensor.detach()):
            raise ValueError(f"bert4torch did not load {name}.")


def labelled(
    tokenizer: Any, text: str, spans: Sequence[Any], ids: dict[str, int], max_length: int
) -> tuple[list[int], np.ndarray]:
    """Ids and tags of a text, special tokens included and tagged O, as in the example."""
    tokens = tokenizer.tokenize(text, maxlen=max_length)
    mapping = tokenizer.rematch(text, tokens)
    first = {places[0]: i for i, places in enumerate(mapping) if places}
    last = {places[-1]: i for i, places in enumerate(mapping) if places}
    labels = np.zeros(len(tokens), dtype=np.int64)
    for start, end, label in spans:
        if start in first and end - 1 in last:
            begin, stop = first[start], last[end - 1] + 1
            labels[begin:stop] = ids[f"I-{label}"]
            labels[begin] = ids[f"B-{label}"]
    return tokenizer.tokens_to_ids(tokens), labels


def run(
    model: Model, tokenizer: Any, job: dict[str, Any], special: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Predict texts.

    special: whether [CLS] and [SEP] take part in the CRF.
    RETURNS: for each text its entities by characters (None where it has too many wordpieces, or
        they can't be found in it); and ids, tags and emissions of all its wordpieces, special
        ones included, joined, with the length of each text.
    """
    texts, tags = job["texts"], job["tags"]
    tokens = [tokenizer.tokenize(text) for text in texts]
    ids = [tokenizer.tokens_to_ids(each) for each in tokens]
    # Nothing but [CLS] and [SEP] is no sequence for its CRF.
    fits = [i for i, each in enumerate(ids) if 2 < len(each) <= job["longest"]]
    found: dict[int, Any] = {}
    rows: dict[int, Any] = {}
    seconds = 0.0
    for members in batches(fits, [len(each) for each in ids]):
        longest = max(FEWEST_IDS, len(ids[members[0]]))
        padded = torch.tensor([ids[i] + [0] * (longest - len(ids[i])) for i in members])
        began = time.perf_counter()
        with torch.no_grad():
            model.eval()
            emissions, mask = model.forward(padded)
            if special:
                best = model.predict(padded)
            else:
                # The mask of a step two further on ends with the text's last wordpiece.
                best = model.crf.decode(emissions[:, 1:-1], mask[:, 2:])
                best = nn.functional.pad(best, (1, 1))
        seconds += time.perf_counter() - began
        for i, row, path in zip(members, emissions, best, strict=True):
            rows[i] = row[: len(ids[i])].numpy()
            found[i] = path[: len(ids[i])].tolist()
    entities = [
        read_entities(tokenizer, text, tokens[i], found[i], tags) if i in found else None
        for i, text in enumerate(texts)
    ]
    result = {"entities": entities, "prediction_seconds": seconds}
    crf = {name: t.detach().numpy() for name, t in model.crf.named_parameters()}
    arrays = {
        "lengths": np.array([len(found.get(i, ())) for i in range(len(texts))]),
        "ids": np.array([n for i in range(len(texts)) for n in ids[i] if i in found]),
        "tags": np.array([n for i in range(len(texts)) for n in found.get(i, ())]),
        "emissions": np.concatenate([rows[i] for i in sorted(rows)]),
        **crf,
    }
    return result, arrays


def batches(members: list[int], lengths: list[int]) -> Iterator[list[int]]:
    """Groups of texts of like length, the longest first in each."""
    batch: list[int] = []
    for i in sorted(members, key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * max(FEWEST_IDS, lengths[batch[0]]) > BATCH_PIECES:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def read_entities(
    tokenizer: Any, text: str, tokens: list[str], path: list[int], tags: list[str]
) -> list[tuple[int, int, str]] | None:
    """Entities by characters, read as the example reads tags: an I- without its B- is dropped."""
    try:
        mapping = tokenizer.rematch(text, tokens)
    except ValueError:  # a wordpiece that is not in the text
        return None
    out: list[tuple[int, int, str]] = []
    is_open = False
    for places, tag_id in zip(mapping, path, strict=True):
        prefix, _, label = tags[tag_id].partition("-")
        if not places:
            is_open = False
        elif prefix == "B":
            out.append((places[0], places[-1] + 1, label))
            is_open = True
        elif prefix == "I" and is_open and label == out[-1][2]:
            out[-1] = (out[-1][0], places[-1] + 1, label)
        else:
            is_open = False
    return out


if __name__ == "__main__":
    main()
