"""The other side of benchmarks.interchange: runs where bert4torch is installed.

Imports neither spaCy nor spacy_bert_crf. Reads a job from a JSON file; what it finds goes to
a JSON and an npz file.

python bert4torch_interchange.py JOB.json
"""

import json
import platform
import random
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bert4torch_model import STUBBED, Model, check_loaded, labelled, read_entities  # isort: skip
from bert4torch.snippets import sequence_padding
from bert4torch.tokenizers import Tokenizer
from torch import Tensor, nn
from torch.utils.data import DataLoader

#: Most input ids of one batch of predictions, padding included.
BATCH_PIECES = 4096
#: Its CRF misreads a batch that is one step wide, so that none may be.
FEWEST_IDS = 4


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


if __name__ == "__main__":
    main()
