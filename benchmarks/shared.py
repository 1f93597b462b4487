"""Two components on a shared encoder beside two encoders, and beside spacy-transformers.

Each pipeline trains and predicts in a process of its own, on one thread, on random texts with a
random BERT. Its memory is the most that the process held, without what it held before it had a
pipeline. Seconds are those of the CPU, so that other programs on the machine hardly count. Rounds
begin with another pipeline each; figures are medians over rounds. The pipeline with
spacy-transformers needs the extra [shared], and is left out without it.

python -m benchmarks.shared --output benchmarks/results/shared
"""

import multiprocessing
import platform
import random
import resource
import statistics
import sys
import tempfile
import time
import warnings
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import spacy
import torch
from spacy.training import Example
from transformers import BertConfig, BertModel

from benchmarks.harness.common import command_line, parser_for, say, stem_of, write_results
from benchmarks.harness.machine_info import machine
from benchmarks.harness.tables import table, words
from spacy_bert_crf._transformers import bert_tokenizer
from spacy_bert_crf.model.optimizer import create_adamw

TWO, OWN = "two encoders of their own", "bert_crf_encoder"
BY_SPACY, DEFAULT = "spacy-transformers", "bert_crf_encoder, mixed_precision auto"
LABELS = {"people": ["PER"], "places": ["LOC"]}
#: Characters of the random texts.
CHARACTERS = [chr(0x4E00 + i) for i in range(3000)]


def write_encoder(folder: Path, layers: int, width: int) -> None:
    """Write a random BERT with the size of bert-base-chinese's vocabulary."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    unused = [f"[unused{i}]" for i in range(21_128 - len(special) - len(CHARACTERS))]
    lines = "\n".join([*special, *CHARACTERS, *unused]) + "\n"
    (folder / "vocab.txt").write_text(lines, encoding="utf8")
    tokenizer = bert_tokenizer(folder / "vocab.txt", do_lower_case=True, model_max_length=512)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=21_128, hidden_size=width, num_hidden_layers=layers,
        num_attention_heads=width // 64, intermediate_size=4 * width,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)


def make_pipeline(kind: str, folder: str) -> Any:
    """A blank pipeline with two components."""
    spacy.util.fix_random_seed(0)
    nlp = spacy.blank("zh")
    exact = {} if kind == DEFAULT else {"mixed_precision": False}
    encoder = {"name": folder, **exact}
    listener: dict[str, Any] = {"@architectures": "spacy_bert_crf.EncoderListener.v1"}
    if kind == TWO:
        listener = encoder
    elif kind == BY_SPACY:
        listener = {
            "@architectures": "spacy-transformers.TransformerListener.v1", "grad_factor": 1.0,
            "pooling": {"@layers": "reduce_mean.v1"},
        }  # fmt: skip
        nlp.add_pipe("transformer", config={"model": {
            "@architectures": "spacy-transformers.TransformerModel.v3", "name": folder,
            "tokenizer_config": {"use_fast": True, "model_max_length": 512},
            "get_spans": {"@span_getters": "spacy-transformers.strided_spans.v1",
                          "window": 128, "stride": 96},
        }})  # fmt: skip
    else:
        nlp.add_pipe("bert_crf_encoder", config={"model": encoder})
    for name in LABELS:
        nlp.add_pipe("bert_crf", name=name, config={"model": {"tok2vec": listener}})
    nlp.config["initialize"]["components"] = {n: {"labels": own} for n, own in LABELS.items()}
    return nlp


def peak_mb() -> float:
    """The most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(job: dict[str, Any]) -> dict[str, float]:
    """Train and predict with one pipeline. It runs in a new process."""
    warnings.simplefilter("ignore")
    nlp = make_pipeline(job["kind"], job["folder"])
    rng, examples = random.Random(0), []
    for _ in range(job["batch"]):
        doc = nlp.make_doc("".join(rng.choices(CHARACTERS, k=rng.randint(20, 80))))
        doc.ents = [doc.char_span(0, 3, "PER"), doc.char_span(8, 10, "LOC")]
        examples.append(Example(nlp.make_doc(doc.text), doc))
    before = peak_mb()
    nlp.initialize(lambda: examples[:8])
    optimizer, seconds = create_adamw(), []
    for _ in range(job["updates"] + 1):
        began = time.process_time()
        nlp.update(examples, sgd=False, drop=0.1)
        for _, pipe in nlp.pipeline:
            pipe.finish_update(optimizer)
        optimizer.step_schedules()
        seconds.append(time.process_time() - began)
    memory = peak_mb() - before
    texts = [example.text for example in examples] * (256 // job["batch"] or 1)
    list(nlp.pipe(texts[:8]))
    began = time.process_time()
    list(nlp.pipe(texts))
    characters = sum(map(len, texts))
    return {
        "update_seconds": statistics.median(seconds[1:]),
        "memory_mb": memory,
        "characters_per_second": characters / (time.process_time() - began),
    }


def markdown(result: dict[str, Any]) -> str:
    """The result for people."""
    rows = []
    for row in result["rows"]:
        first = next(one for one in result["rows"] if one["batch"] == row["batch"])
        rows.append([
            row["batch"], row["kind"], f"{row['update_seconds']:.2f}",
            f"{first['update_seconds'] / row['update_seconds']:.2f}",
            f"{row['memory_mb']:,.0f}", f"{row['characters_per_second']:,.0f}",
        ])  # fmt: skip
    head = ["texts of a batch", "encoder", "CPU s per update", "times faster", "memory, MB"]
    lines = [
        "# Two components on one encoder",
        "",
        f"{result['machine']['cpu']}, one thread. A random BERT of "
        f"{result['layers']} layers, {result['width']} wide; texts of 20 to 80 characters; "
        f"dropout 0.1. Rounds: {result['rounds']}, with medians over them; each has "
        f"{result['updates']} updates in a new process. In float32 where nothing else is said. "
        f"{words(result['versions'])}.",
        "",
        "```bash",
        result["command"],
        "```",
        "",
        *table([*head, "characters per CPU s in prediction"], rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """RETURNS: the exit code."""
    parser = parser_for(__doc__)
    parser.add_argument("--output", type=Path, required=True, help="gets .json and .md")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=4, help="updates of each round")
    parser.add_argument("--batches", default="32,128", help="sizes of batches")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kinds = [TWO, OWN, DEFAULT, *([BY_SPACY] if find_spec("spacy_transformers") else [])]
    sizes = [int(size) for size in options.batches.split(",")]
    found: dict[tuple[int, str], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_encoder(Path(folder), options.layers, options.width)
        for number in range(options.rounds):
            at = number % len(kinds)
            for size in sizes:
                for kind in [*kinds[at:], *kinds[:at]]:
                    job = {"kind": kind, "folder": folder, "batch": size}
                    job |= {"updates": options.updates}
                    with multiprocessing.get_context("fork").Pool(1) as pool:
                        got = pool.apply(measure, (job,))
                    say(f"round {number + 1}, batch of {size}, {kind}: {got}")
                    found.setdefault((size, kind), []).append(got)
    rows = [
        {"batch": size, "kind": kind}
        | {key: statistics.median(one[key] for one in runs) for key in runs[0]}
        for size in sizes
        for kind in kinds
        for runs in [found[size, kind]]
    ]
    names = ("torch", "transformers", "spacy", *([BY_SPACY] if BY_SPACY in kinds else []))
    result = {
        "machine": {"cpu": machine(), "threads": 1},
        "versions": {"python": platform.python_version()}
        | {name: metadata.version(name) for name in names},
        "command": command_line(),
        **{key: getattr(options, key) for key in ("rounds", "updates", "layers", "width")},
        "rows": rows,
    }
    stem = stem_of(options.output)
    write_results(stem, result, markdown(result))
    print(markdown(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
