"""The result as a page of tables."""

from typing import Any

from benchmarks.harness.tables import table, words


def report(found: dict[str, Any]) -> str:
    """Markdown of what was measured so far."""
    card = found["card"]
    where = "the CPU"
    if card:
        where = (
            f"{card['name']}, {card['memory_gib']} GiB, compute capability {card['capability']}, "
            f"CUDA {card['cuda']}"
        )
    lines = [
        "# On a GPU",
        "",
        f"`{found['command']}`",
        "",
        f"Card: {where}. Host: {found['machine']['machine']}. {words(found['versions'])}.",
        "",
        f"Encoder: {found['encoder']}. {found['texts']} texts, {found['characters']} characters. "
        "Figures are medians. One token is one character.",
        "",
    ]
    kinds = {
        "equality": ("Against float32 on the CPU", _equality),
        "prediction": ("Prediction, in characters a second", _prediction),
        "training": ("Training: one update", _training),
    }
    for kind, (title, rows_of) in kinds.items():
        measured = {
            key.partition(", ")[2]: value for key, value in found.items()
            if key.startswith(f"{kind}, ")
        }  # fmt: skip
        if measured:
            lines += [f"## {title}", "", *rows_of(measured), ""]
    if "crf" in found:
        lines += ["## The CRF, in milliseconds", "", *_crf(found["crf"]), ""]
    if "peers" in found:
        rows = [[name, _number(speed)] for name, speed in found["peers"].items()]
        lines += ["## Peers, in characters a second", ""]
        lines += ["In bfloat16, spaCy's pipeline in mixed precision.", ""]
        lines += [*table(["peer", "characters a second"], rows), ""]
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _waits(found: dict[str, int]) -> str:
    return ", ".join(f"{n} at {where}" for where, n in found.items()) or "none"


def _equality(measured: dict[str, Any]) -> list[str]:
    head = ["precision", "texts with the same entities", "largest difference", "largest emission"]
    rows = [
        [
            name, f"{row['same_entities']} of {row['texts']}",
            f"{row['largest_difference']:.1e}", f"{row['largest_emission']:.2f}",
        ]
        for name, row in measured.items()
    ]  # fmt: skip
    return table(head, rows)


def _prediction(measured: dict[str, Any]) -> list[str]:
    some = next(iter(measured.values()))
    limits = [str(limit) for limit in some["encoder"]]
    names = ["default" if limit == "0" else limit for limit in limits]
    head = [
        "precision", *(f"encoder, pass {name}" for name in names),
        *(f"nlp.pipe, pass {name}" for name in names), "batch_size 2048", "with scores",
        "one text, ms", "memory, GiB",
    ]  # fmt: skip
    rows = []
    for name, row in measured.items():
        speeds = {kind: {str(k): v for k, v in row[kind].items()} for kind in ("encoder", "pipe")}
        rows.append(
            [
                name,
                *(_number(speeds["encoder"][limit]) for limit in limits),
                *(_number(speeds["pipe"][limit]) for limit in limits),
                _number(row["pipe_large_batches"]),
                _number(row["pipe_with_scores"]),
                f"{row['one_text_ms']:.1f}",
                f"{row['memory_gib']:.1f}",
            ]
        )
    lines = [*table(head, rows), "", "A batch of 256 texts:", ""]
    head = ["precision", "launches", "copies", "share of the time in which the GPU works", "waits"]
    rows = [
        [
            name, row["of_256_texts"]["launches"], row["of_256_texts"]["copies"],
            f"{row['of_256_texts']['busy']:.2f}", _waits(row["waits_of_256_texts"]),
        ]
        for name, row in measured.items()
    ]  # fmt: skip
    lines += [*table(head, rows), "", "The wait for the tags of a batch is no part of the count."]
    return lines


def _training(measured: dict[str, Any]) -> list[str]:
    head = [
        "precision", "texts", "ms", "tokens a second", "launches",
        "share of the time in which the GPU works", "memory, GiB", "waits",
    ]  # fmt: skip
    rows = [
        [
            name, size, f"{row['ms']:.1f}", _number(row["tokens_a_second"]), row["launches"],
            f"{row['busy']:.2f}", f"{row['memory_gib']:.1f}", _waits(row["waits"]),
        ]
        for name, sizes in measured.items()
        for size, row in sizes.items()
    ]  # fmt: skip
    return table(head, rows)


def _crf(measured: dict[str, Any]) -> list[str]:
    devices = list(next(iter(measured.values())))
    head = ["sequences x steps", *(f"{k}, {d}" for k in ("viterbi", "likelihood") for d in devices)]
    rows = [
        [shape, *(f"{row[d][k]:.2f}" for k in ("viterbi", "likelihood") for d in devices)]
        for shape, row in measured.items()
    ]
    return [*table(head, rows), "", "`likelihood` is with its gradient."]
