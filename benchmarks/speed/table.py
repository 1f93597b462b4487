"""The result of the speed benchmark as markdown."""

from typing import Any

from benchmarks.harness.tables import table, words
from benchmarks.speed.inference import BOUND, INT8, OURS
from benchmarks.speed.training import OURS as OURS_TRAINING
from benchmarks.speed.training import THEIRS as THEIRS_TRAINING


def markdown(result: dict[str, Any]) -> str:
    """All measured parts as Markdown."""
    flags = ", ".join(f"{flag} {'yes' if has else 'no'}" for flag, has in result["flags"].items())
    lines = [
        "# Speed",
        "",
        "Written by `python -m benchmarks.speed`; how, and what the rows are, is in "
        "`benchmarks/README.md`.",
        "",
        f"Machine: {result['machine']}; {flags}. {result['threads']} thread(s) for each, "
        f"{result['rounds']} round(s), in turns; load average before: {result['load_average']}.",
        f"Data: {result['data']}. This side: {words(result['versions'])}. "
        f"Peers: {words(result['versions_peers'])}.",
    ]
    if result.get("note"):
        lines += ["", f"**Note.** {result['note']}"]
    for part, why in result.get("broken_off", {}).items():
        lines += ["", f"**The part {part} broke off:** {why}"]
    if "inference" in result:
        lines += ["", "## Inference", "", *inference_lines(result["inference"])]
    if "base" in result:
        lines += ["", "## Inference, bert-base size", "", *inference_lines(result["base"])]
    if "training" in result:
        lines += ["", "## Training", "", *training_lines(result["training"])]
    if "streams" in result:
        lines += ["", "## Long docs, streams, loading", "", *stream_lines(result["streams"])]
    return "\n".join(lines) + "\n"


def inference_lines(part: dict[str, Any]) -> list[str]:
    """Characters per second of each row, the fastest first."""
    rows = part["rows"]
    order = sorted(rows, key=lambda name: -rows[name].get("characters_per_second", 0))
    lines = [
        f"Encoder: {part['encoder']}. {part['texts']} texts, {part['characters']} characters.",
        "",
        *table(
            ["", "characters/s", "min to max", "to the bound", "to bert4torch", "batches"],
            [inference_row(name, rows[name]) for name in order],
        ),
    ]
    if "peak" in part:
        peak = part["peak"]
        lines += [
            "",
            f"A float32 matrix product of 2048 x 2048 reaches {peak['matmul_gflops']:.0f} GFLOPS "
            f"here; the bound ({BOUND}) does {peak['bound_gflops']:.0f}, {peak['share']:.1%} of "
            f"it ({peak['multiply_adds'] / peak['pieces'] / 1e6:.1f} million multiply-adds for "
            "each wordpiece, padding not counted).",
        ]
    for name in (OURS, INT8):
        found = part["quality"].get(name)
        if found:
            lines += ["", quality_line(name, found)]
    return lines


def inference_row(name: str, row: dict[str, Any]) -> list[str]:
    """Cells of a row."""
    if "not_available" in row:
        return [name, "not available", "", "", "", row["not_available"].replace("|", "/")[:160]]
    return [
        f"**{name}**" if name in (OURS, INT8) else name,
        f"{row['characters_per_second']:,.0f}",
        f"{row['min']:,.0f} to {row['max']:,.0f}",
        ratio(row.get("to_bound")),
        ratio(row.get("to_bert4torch")),
        row.get("batches", ""),
    ]


def quality_line(name: str, found: dict[str, Any]) -> str:
    """F1, and the comparison with the golden file."""
    line = f"{name}: entity F {found['f']:.4f}, {found['entities']} entities"
    kept = found.get("golden")
    if isinstance(kept, str):
        line += f"; golden file {kept}"
    elif kept:
        line += f"; {kept['same']} of {kept['texts']} texts as in the golden file"
    return line + "."


def training_lines(part: dict[str, Any]) -> list[str]:
    """One pass of each side."""
    rows = part["rows"]
    lines = [
        f"One pass over {part['sentences']} sentences ({part['characters']} characters), without "
        "loading and evaluation, each round in a new process. bert4torch's example is as "
        "published in its batch (16, shuffled), its length (256), its optimizer (Adam, 2e-5, all "
        "parameters) and its loop (model.fit); its encoder is the one of this run.",
        "",
    ]
    body = []
    for name in (OURS_TRAINING, THEIRS_TRAINING):
        row = rows[name]
        if "not_available" in row:
            body.append([name, "not available", "", "", "", row["not_available"][:160]])
            continue
        body.append(
            [
                name,
                f"{row['characters_per_second']:,.0f}",
                f"{row['min']:,.0f} to {row['max']:,.0f}",
                ratio(row.get("to_bert4torch")),
                f"{row['loaded']:.0f}",
                f"{row['peak']:.0f}",
            ]
        )
    head = ["", "characters/s", "min to max", "to bert4torch"]
    return lines + table([*head, "MiB before the pass", "MiB at the peak"], body)


def stream_lines(part: dict[str, Any]) -> list[str]:
    """The parts of "streams", one after another."""
    lines: list[str] = []
    for name, show in STREAM_ROWS.items():
        found = part.get(name, {})
        if "not_available" in found:
            lines += [f"{name}: not available ({found['not_available']})", ""]
        elif found:
            lines += [*show(found), ""]
    return lines[:-1]


def docs_lines(found: dict[str, Any]) -> list[str]:
    """Docs of several lengths."""
    lengths = list(dict.fromkeys(n for rows in found.values() for n in rows))
    rows = [
        [name, *(f"{values[n]:.2f}" if n in values else "" for n in lengths)]
        for name, values in found.items()
    ]
    head = ["µs per character, docs of", *(f"{int(n):,}" for n in lengths)]
    return table(head, rows)


def memory_lines(found: dict[str, Any]) -> list[str]:
    """Streams of two lengths."""
    head = ["stream (toy encoder)", "characters", "MiB loaded", "MiB at the peak", "characters/s"]
    rows = [
        [
            name,
            f"{row['characters']:,}",
            f"{row['loaded']:.0f}",
            f"{row['peak']:.0f}",
            f"{row['characters'] / row['seconds']:,.0f}",
        ]
        for name, row in found.items()
    ]
    return table(head, rows)


def process_lines(found: dict[str, float]) -> list[str]:
    """n_process."""
    rows = [[name, f"{speed:,.0f}"] for name, speed in found.items()]
    return table(["nlp.pipe, real encoder", "characters/s"], rows)


def import_lines(found: dict[str, float]) -> list[str]:
    """The import."""
    return [
        f"`import spacy_bert_crf` after `import spacy`: {found['median']:.1f} ms "
        f"({found['min']:.1f} to {found['max']:.1f})."
    ]


def loading_lines(found: dict[str, float]) -> list[str]:
    """Loading."""
    return table(["loading", "seconds"], [[name, f"{value:.3f}"] for name, value in found.items()])


STREAM_ROWS: dict[str, Any] = {
    "docs": docs_lines,
    "memory": memory_lines,
    "processes": process_lines,
    "import_ms": import_lines,
    "loading": loading_lines,
}


def ratio(value: float | None) -> str:
    """A ratio with two digits after the point."""
    return "" if value is None else f"{value:.2f}"
