"""Entity F1 of sentences that are joined to longer texts: 1, 2, 4, ... to a text.

    python -m benchmarks.accuracy.joined --pipeline training/people-daily/model-best \\
        --data corpus/people-daily/dev.spacy --output benchmarks/results/joined

Gold is known, since each text is made of annotated sentences. All sentences count in each row.
Several ways take turns on the same texts, and their speed is compared with that of the last one.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc

from benchmarks.harness.common import (
    Entities,
    command_line,
    end_at_sigterm,
    entities_of,
    named,
    parser_for,
    read_docs,
    say,
    stem_of,
    write_json,
)
from benchmarks.harness.machine_info import machine
from benchmarks.harness.tables import table, words
from benchmarks.harness.trials import settings_of
from spacy_bert_crf._devices import use_device
from spacy_bert_crf._files import write_text
from spacy_bert_crf._provenance import versions
from spacy_bert_crf.encoder.checkpoint_files import read_json

#: Section of the settings that --way changes.
ENCODER = "components.bert_crf.model.tok2vec"
#: What a pipeline as it was saved is called.
AS_SAVED = "as saved"
#: Figures of one form of the texts, by name.
Row = dict[str, float]


def by_count(docs: Sequence[Doc], size: int) -> Iterator[list[Doc]]:
    """Groups of `size` consecutive docs; the last one may be smaller."""
    for i in range(0, len(docs), size):
        yield list(docs[i : i + size])


def by_length(docs: Sequence[Doc], length: int) -> Iterator[list[Doc]]:
    """Groups of consecutive docs of at least `length` characters; the last may have fewer."""
    group: list[Doc] = []
    for doc in docs:
        group.append(doc)
        if sum(len(d.text) for d in group) >= length:
            yield group
            group = []
    if group:
        yield group


def shifted(groups: list[list[Doc]], found: dict[int, Entities]) -> list[Entities]:
    """Entities of each group's text, from those of its docs. found: by id of the doc."""
    out = []
    for group in groups:
        at, entities = 0, set()
        for doc in group:
            entities |= {(a + at, b + at, label) for a, b, label in found[id(doc)]}
            at += len(doc.text)
        out.append(entities)
    return out


def f_of(one: list[Entities], other: list[Entities]) -> float:
    """F of the entities of all texts together, in percent."""
    both = sum(len(a & b) for a, b in zip(one, other, strict=True))
    return 200 * both / max(1, sum(map(len, one)) + sum(map(len, other)))


def forms(docs: list[Doc], counts: list[int], length: int) -> dict[str, list[list[Doc]]]:
    """The rows: what they are called, and the groups of sentences that are one text each."""
    rows = {("1 sentence" if n == 1 else f"{n} sentences"): list(by_count(docs, n)) for n in counts}
    if length:
        rows[f"{length:,} characters"] = list(by_length(docs, length))
    return rows


def measure(
    path: Path, ways: dict[str, dict[str, Any]], docs: list[Doc], args: argparse.Namespace
) -> dict[str, dict[str, Row]]:
    """F and speed of one pipeline, for each way and row. The ways take turns on each row.

    ways: the changed settings of its encoder, by name.
    docs: the annotated sentences, in order.
    """
    nlps = {
        name: spacy.load(path, config={f"{ENCODER}.{key}": value for key, value in way.items()})
        for name, way in ways.items()
    }
    gold = {id(doc): entities_of(doc) for doc in docs}
    rows: dict[str, dict[str, Row]] = {name: {} for name in nlps}
    alone: dict[str, dict[int, Entities]] = {}
    for name, groups in forms(docs, args.counts, args.length).items():
        texts = ["".join(doc.text for doc in group) for group in groups]
        wanted = shifted(groups, gold)
        found, seconds = in_turns(nlps, texts, args.rounds)
        for way, entities in found.items():
            if all(len(group) == 1 for group in groups):
                alone.setdefault(way, {id(g[0]): e for g, e in zip(groups, entities, strict=True)})
            row = rows[way][name] = {
                "f": f_of(entities, wanted),
                "texts": len(texts),
                "characters_per_text": sum(map(len, texts)) / len(texts),
                "characters_per_second": sum(map(len, texts)) / median(seconds[way]),
                "to_last_way": median(
                    last / own
                    for own, last in zip(seconds[way], list(seconds.values())[-1], strict=True)
                ),
            }
            if way in alone:
                row["to_alone"] = f_of(entities, shifted(groups, alone[way]))
            speed = row["characters_per_second"]
            say(f"  {name}, {way}: {row['f']:.2f}, {speed:,.0f} characters/s")
    return rows


def in_turns(
    nlps: dict[str, Language], texts: list[str], rounds: int
) -> tuple[dict[str, list[Entities]], dict[str, list[float]]]:
    """Entities of the texts by each pipeline, and the seconds of each round."""
    found: dict[str, list[Entities]] = {}
    seconds: dict[str, list[float]] = {name: [] for name in nlps}
    for nlp in nlps.values():
        list(nlp.pipe(texts[:32]))  # warms up
    for i in range(rounds):
        for name in list(nlps) if i % 2 == 0 else reversed(nlps):
            began = time.perf_counter()
            found[name] = [entities_of(doc) for doc in nlps[name].pipe(texts)]
            seconds[name].append(time.perf_counter() - began)
    return {name: found[name] for name in nlps}, seconds


def markdown(content: dict[str, Any], before: dict[str, Any]) -> str:
    """The result for people.

    before: an earlier result, whose speeds are compared with where pipeline, way and row are the
    same or, for a way that it lacks, where it has the pipeline as saved.
    """
    lines = [
        "# Sentences joined to texts", "",
        f"{content['sentences']:,} sentences, {content['characters']:,} characters of "
        f"{content['data']}, in order. Entity F1 in percent, on all gold entities.", "",
    ]  # fmt: skip
    for pipeline, ways in content["pipelines"].items():
        last = list(ways)[-1]
        for way, rows in ways.items():
            is_compared = way != last and all("to_last_way" in row for row in rows.values())
            earlier = before.get("pipelines", {}).get(pipeline, {})
            old = earlier.get(way) or earlier.get(AS_SAVED) or {}
            first = next(iter(rows.values()))["f"]
            cells = []
            for name, row in rows.items():
                speed = row["characters_per_second"]
                ratio = f"{speed / old[name]['characters_per_second']:.2f}" if name in old else ""
                cells.append([
                    name, f"{row['texts']:,.0f}", f"{row['characters_per_text']:.0f}",
                    f"{row['f']:.2f}", f"{row['f'] - first:+.2f}",
                    f"{row['to_alone']:.2f}" if "to_alone" in row else "", f"{speed:,.0f}",
                    *([f"{row['to_last_way']:.2f}"] if is_compared else []),
                    *([ratio] if before else []),
                ])  # fmt: skip
            head = ["a text is", "texts", "characters of one", "F1", "to the first row",
                    "F1 against the sentences alone", "characters/s"]  # fmt: skip
            head += [f"speed, to {last}"] if is_compared else []
            head += ["speed, to before"] if before else []
            lines += [f"## {pipeline}, {way}", "", *table(head, cells), ""]
    lines += [
        f"Machine: {content['machine']}, {content['threads']} threads"
        f"{', ' + content['gpu'] if content['gpu'] else ''}; medians of {content['rounds']} "
        f"passes. Versions: {words(content['versions'])}.", "",
        f"Command: `{content['command']}`", "",
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> int:
    """The command line. RETURNS: the exit code."""
    parser = parser_for(__doc__ or "")
    add = parser.add_argument
    add("--pipeline", type=named, action="append", required=True, metavar="[NAME=]FOLDER",
        help="a trained pipeline, as often as wanted")  # fmt: skip
    add("--data", type=Path, required=True, help="annotated sentences in order (.spacy)")
    add("--way", action="append", default=[], metavar="NAME=VALUE[,NAME=VALUE]",
        help=f"measure with these settings of {ENCODER}, as often as wanted; without it, the "
        "pipeline as saved")  # fmt: skip
    add("--counts", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="sentences of a text")
    add("--length", type=int, default=3000, help="characters of the longest texts; 0: none")
    add("--limit", type=int, default=0, help="sentences; 0: all")
    add("--rounds", type=int, default=1, help="passes over the texts by each way, in turns; the "
        "medians count")  # fmt: skip
    add("--threads", type=int, default=2)
    add("--gpu-id", type=int, default=-1, help="a GPU by number, -1 for the CPU")
    add("--before", type=Path, help="NAME.json of another checkout, to compare the speed with")
    add("--output", type=Path, required=True, help="NAME.json and NAME.md")
    args = parser.parse_args()
    end_at_sigterm()
    use_device(args.gpu_id)
    torch.set_num_threads(args.threads)
    ways: dict[str, dict[str, Any]] = {} if args.way else {AS_SAVED: {}}
    for way in args.way:
        pairs = settings_of(parser, [f"{ENCODER}.{pair}" for pair in way.split(",")])
        ways[way] = {key.removeprefix(f"{ENCODER}."): value for key, value in pairs.items()}
    docs = read_docs(args.data, spacy.blank("xx"), args.limit)
    content: dict[str, Any] = {
        "data": args.data.name,
        "sentences": len(docs),
        "characters": sum(len(doc.text) for doc in docs),
        "machine": machine(),
        "gpu": torch.cuda.get_device_name(args.gpu_id) if args.gpu_id >= 0 else "",
        "threads": args.threads,
        "rounds": args.rounds,
        "versions": versions(),
        "command": command_line(),
        "pipelines": {},
    }
    before = read_json(args.before) if args.before else {}
    stem = stem_of(args.output)
    for name, path in args.pipeline:
        say(name)
        content["pipelines"][name] = measure(path, ways, docs, args)
        write_json(Path(f"{stem}.json"), content)
        write_text(f"{stem}.md", markdown(content, before))
    return 0


if __name__ == "__main__":
    sys.exit(main())
