"""Where the time of `nlp.pipe` goes, by group, in float32 and in int8.

One pass under torch.profiler, in which some functions of the package are marked: an operator
counts for the function that is marked as all of one kind (decoding, say), else for its own kind;
what a marked function does outside of operators counts for its group. A second pass under
cProfile lists the functions of Python that cost most. Profilers slow things down: shares are of
the profiled pass, seconds are those of a pass without profiler.

python -m benchmarks.speed.profile --pipeline training/people-daily/model-best \
    --data corpus/people-daily/dev.spacy --sentences 400 --output benchmarks/results/profile

The picture needs matplotlib: --env FOLDER names an environment that the speed benchmark made.
"""

import argparse
import cProfile
import functools
import pstats
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import spacy
import torch
from spacy.language import Language
from torch.profiler import ProfilerActivity, record_function

from benchmarks.harness.common import (
    HARNESS,
    Failed,
    call_there,
    parser_for,
    python_of,
    read_docs,
    say,
    write_json,
)
from benchmarks.harness.machine_info import machine
from benchmarks.harness.tables import table
from benchmarks.peers.peer_loop import evenly
from benchmarks.speed.own_worker import load
from spacy_bert_crf._provenance import versions
from spacy_bert_crf.component.pipelines import find_component
from spacy_bert_crf.encoder import passes
from spacy_bert_crf.model import crf_batches

TOKENIZER, DOC = "wordpiece tokeniser", "spaCy tokeniser, Doc"
DECODING, WRITING, OTHER = "decoding", "writing entities", "other"

#: Operators by what their names contain; the first that fits counts.
OPERATORS = {
    "attention": ("scaled_dot_product", "flash_attention", "softmax", "bmm"),
    "layer norm": ("layer_norm",),
    "activation": ("gelu", "relu", "tanh"),
    "embedding": ("embedding",),
    "matmul": ("mm", "linear", "matmul", "mkldnn", "onednn", "quantize"),
}
GROUPS = (*OPERATORS, TOKENIZER, DOC, DECODING, WRITING, OTHER)
#: Marks whose operators count for the mark, whatever they are.
WHOLE = (DECODING, WRITING, TOKENIZER, DOC)
MARK = "mark: "


def profile(nlp: Language, texts: list[str]) -> dict[str, Any]:
    """Seconds without profiler, shares of groups, operators and functions that cost most."""
    list(nlp.pipe(texts[:64]))
    plain = min(timed(nlp, texts) for _ in range(3))
    mark(nlp)
    with torch.profiler.profile(activities=[ProfilerActivity.CPU]) as profiler:
        timed_with_profiler = timed(nlp, texts)
    spent, operators = count(profiler.events())
    spent[OTHER] += max(0.0, timed_with_profiler - sum(spent.values()))
    total = sum(spent.values())
    return {
        "seconds": plain,
        "characters_per_second": sum(map(len, texts)) / plain,
        "slowdown_by_profiler": timed_with_profiler / plain,
        "shares": {name: spent.get(name, 0.0) / total for name in GROUPS},
        "operators": {name: seconds / total for name, seconds in operators},
        "functions": functions(nlp, texts),
    }


def timed(nlp: Language, texts: list[str]) -> float:
    """Seconds of one pass."""
    began = time.perf_counter()
    list(nlp.pipe(texts))
    return time.perf_counter() - began


def mark(nlp: Language) -> None:
    """Wrap what stands for a group, so that the profiler shows it."""
    pipe = find_component(nlp)
    places: list[tuple[Any, str, str]] = [
        (passes, "tokenize_joined", TOKENIZER),
        (crf_batches, "decode", DECODING),
        (pipe, "set_annotations", WRITING),
        (nlp, "make_doc", DOC),
    ]
    for owner, name, group in places:
        if not hasattr(owner, name):
            say(f"  {getattr(owner, '__name__', owner)} has no {name}: {group} is not marked")
            continue
        wrapped = marked(getattr(owner, name), group)
        try:
            setattr(owner, name, wrapped)
        except AttributeError:  # of a class that is compiled
            say(f"  {name} can't be marked: its time counts for another group")


def marked(function: Any, group: str) -> Any:
    """A function under a mark."""

    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        with record_function(MARK + group):
            return function(*args, **kwargs)

    return inner


def count(events: Any) -> tuple[dict[str, float], list[tuple[str, float]]]:
    """Seconds of each group, and of the operators that cost most, without what they call."""
    spent: dict[str, float] = defaultdict(float)
    operators: dict[str, float] = defaultdict(float)
    for event in events:
        seconds = event.self_cpu_time_total / 1e6
        spent[group_of(event)] += seconds
        if not event.name.startswith(MARK):
            operators[event.name] += seconds
    top = sorted(operators.items(), key=lambda pair: -pair[1])[:20]
    return spent, top


def group_of(event: Any) -> str:
    """The group of an event of torch.profiler."""
    above = event
    while above is not None:
        if above.name.startswith(MARK) and above.name[len(MARK) :] in WHOLE:
            return str(above.name[len(MARK) :])
        above = above.cpu_parent
    above = event
    while above is not None:  # a copy within an attention is the attention's
        for group, parts in OPERATORS.items():
            if any(part in above.name for part in parts):
                return group
        above = above.cpu_parent
    return OTHER


def functions(nlp: Language, texts: list[str]) -> list[dict[str, Any]]:
    """The functions of Python that cost most, without what they call, by cProfile."""
    profiler = cProfile.Profile()
    profiler.runcall(timed, nlp, texts)
    stats: dict[Any, Any] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    total = sum(row[2] for row in stats.values())
    top = sorted(stats.items(), key=lambda pair: -pair[1][2])[:25]
    return [
        {
            "function": f"{Path(file).parent.name}/{Path(file).name}:{name}" if line else name,
            "calls": row[1],
            "share": row[2] / total,
        }
        for (file, line, name), row in top
    ]


def markdown(result: dict[str, Any]) -> str:
    """The result as tables."""
    kinds = result["kinds"]
    rows = [[name, *(f"{kind['shares'][name]:.1%}" for kind in kinds.values())] for name in GROUPS]
    ends = {
        "seconds, not profiled": lambda kind: f"{kind['seconds']:.2f}",
        "characters/s": lambda kind: f"{kind['characters_per_second']:,.0f}",
        "profiled pass, times as long": lambda kind: f"{kind['slowdown_by_profiler']:.2f}",
    }
    rows += [[name, *(show(kind) for kind in kinds.values())] for name, show in ends.items()]
    lines = [
        "# Where the time of nlp.pipe goes",
        "",
        "Written by `python -m benchmarks.speed.profile`, which says how.",
        "",
        f"Machine: {result['machine']}, {result['threads']} thread(s). Data: {result['data']}.",
        "",
        *table(["", *kinds], rows),
    ]
    for name, why in result["not_available"].items():
        lines += ["", f"{name}: not available ({why})"]
    for name, kind in kinds.items():
        lines += ["", f"Operators, {name}:", ""]
        lines += table(
            ["operator", "share"], [[k, f"{v:.1%}"] for k, v in kind["operators"].items()]
        )
        lines += ["", f"Functions, {name} (cProfile):", ""]
        lines += table(
            ["function", "calls", "share"],
            [[f["function"], f["calls"], f"{f['share']:.1%}"] for f in kind["functions"]],
        )
    return "\n".join(lines) + "\n"


def parse(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = parser_for(__doc__)
    add = parser.add_argument
    add("--pipeline", type=Path, required=True, help="a trained pipeline")
    add("--data", type=Path, required=True, help="docs (.spacy), of which the texts are taken")
    add("--sentences", type=int, default=400, help="so many, evenly taken; 0 takes all")
    add("--threads", type=int, default=2)
    add("--env", type=Path, help="an environment with matplotlib; without it no picture")
    add("--output", type=Path, required=True, help="write NAME.md, NAME.json, NAME.png")
    return parser.parse_args(given)


def main() -> int:
    """RETURNS: the exit code."""
    args = parse()
    torch.set_num_threads(args.threads)
    texts = [doc.text for doc in read_docs(args.data, spacy.blank("zh"), 0)]
    texts = evenly(texts, args.sentences)
    result: dict[str, Any] = {
        "machine": machine(),
        "threads": args.threads,
        "versions": versions(),
        "data": f"{args.data.parent.name}/{args.data.name}, {len(texts)} texts, "
        f"{sum(map(len, texts))} characters",
        "kinds": {},
        "not_available": {},
    }
    for name, setting in {"float32": "", "int8": "int8"}.items():
        say(name)
        try:
            nlp = load(str(args.pipeline), setting)
        except ValueError as err:  # a version without the setting
            result["not_available"][name] = " ".join(str(err).split()).partition(" {")[0]
            continue
        result["kinds"][name] = profile(nlp, texts)
    stem = args.output
    stem.parent.mkdir(parents=True, exist_ok=True)
    write_json(Path(f"{stem}.json"), result)
    text = markdown(result)
    Path(f"{stem}.md").write_text(text, encoding="utf8")
    print(text)
    if args.env:
        command = [str(python_of(args.env)), str(HARNESS / "profile_picture.py")]
        try:
            paths = [f"{stem}.json", f"{stem}.png"]
            with tempfile.TemporaryDirectory(prefix="profile-") as folder:
                call_there([*command, *paths], "the picture", Path(folder) / "picture.log")
        except Failed as err:
            say(str(err))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
