"""The result as Markdown. Sections that have not run are left out."""

from collections.abc import Iterator
from typing import Any

from benchmarks.harness.tables import table, words


def markdown(result: dict[str, Any]) -> str:
    """The result for people."""
    parts = (_head, _equality, _counts, _speed, _training, _crf, _peers, _failed)
    lines = [line for part in parts for line in part(result)]
    return "\n".join(lines) + "\n"


def _head(result: dict[str, Any]) -> Iterator[str]:
    device = result["device"]
    yield "# On a CUDA device" if "card" in device else "# On the CPU"
    yield ""
    if "card" in device:
        yield (
            f"{device['card']}, {device['memory_gib']} GiB, compute capability "
            f"{device['capability']}, driver {device['driver'] or 'unknown'}, CUDA "
            f"{device['cuda']}."
        )
    yield f"{result['machine']['machine']}. {words(device['versions'])}."
    yield f"Pipeline: {result['pipeline']}. {result['texts']['texts']} texts, "
    yield f"{result['texts']['characters']} characters. {result['seconds']:.0f} s in all."
    yield from ("", "```bash", result["command"], "```", "")


def _equality(result: dict[str, Any]) -> Iterator[str]:
    if rows := result.get("equality"):
        yield from ("## Equality with the CPU", "")
        yield "Differences of emissions, from float32 on the CPU. Their spread is their deviation."
        yield ""
        yield from table(
            ["precision", "texts", "same entities", "largest difference", "mean", "spread"],
            [
                [name, row["texts"], f"{row['same_entities']:.1%}",
                 f"{row['largest_difference']:.1e}", f"{row['mean_difference']:.1e}",
                 f"{row['spread']:.1f}"]
                for name, row in rows.items()
            ],
        )  # fmt: skip
        yield ""


_COUNTS = ["ms", "launches", "copies", "waits", "GPU busy", "GiB"]


def _count_cells(row: dict[str, Any]) -> list[str]:
    return [
        f"{row['milliseconds']:.2f}", str(row["launches"]), str(row["copies"]),
        str(sum(row["waits"].values())), f"{row['busy']:.0%}", _gib(row["peak_gib"]),
    ]  # fmt: skip


def _gib(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _counts(result: dict[str, Any]) -> Iterator[str]:
    if rows := result.get("counts"):
        batch = next(iter(rows.values()))
        yield from (f"## A predicted batch of {batch['docs']} texts", "")
        yield f"{batch['tokens']} tokens, from docs to tags, or to probabilities (scores)."
        yield ""
        named = [(name, kind) for name in rows for kind in ("entities", "scores")]
        yield from table(
            ["precision", "what", *_COUNTS],
            [[name, kind, *_count_cells(rows[name][kind])] for name, kind in named],
        )
        yield from ("", "Where the host waits:", "")
        for name, kind in named:
            yield f"- {name}, {kind}: {_places(rows[name][kind]['waits'])}"
        yield ""


def _places(waits: dict[str, int]) -> str:
    return ", ".join(f"`{place}` {n}" for place, n in waits.items()) or "nowhere"


def _speed(result: dict[str, Any]) -> Iterator[str]:
    if rows := result.get("speed"):
        yield from ("## Prediction", "")
        yield from table(
            ["precision", "wordpieces of a pass", "encoder, tokens/s", "nlp.pipe, characters/s"],
            [
                [name, _pass_name(size, row), f"{each['encoder_tokens_per_second']:,.0f}",
                 f"{each['pipe_characters_per_second']:,.0f}"]
                for name, row in rows.items() for size, each in row["by_pass"].items()
            ],
        )  # fmt: skip
        yield ""
        yield "Nine of ten calls with one text take less than the slow ms."
        yield ""
        yield from table(
            ["precision", "with scores, characters/s", "one text, characters", "ms", "slow ms"],
            [
                [name, f"{row['scores_characters_per_second']:,.0f}",
                 row["one_text"]["characters"], f"{row['one_text']['milliseconds']:.2f}",
                 f"{row['one_text']['slowest_tenth']:.2f}"]
                for name, row in rows.items()
            ],
        )  # fmt: skip
        yield ""


def _pass_name(size: str, row: dict[str, Any]) -> str:
    return f"{row['default_pass']:,} (default)" if size == "default" else f"{int(size):,}"


def _training(result: dict[str, Any]) -> Iterator[str]:
    if rows := result.get("training"):
        yield from ("## Updates", "")
        cells = []
        for name, sizes in rows.items():
            for size, row in sizes.items():
                if "not_available" in row:
                    cells.append([name, size, row["not_available"], *[""] * 7])
                    continue
                speed = f"{row['tokens_per_second']:,.0f}"
                cells.append([name, size, row["tokens"], speed, *_count_cells(row)])
        yield from table(["precision", "texts", "tokens", "tokens/s", *_COUNTS], cells)
        yield from ("", "Where the host waits:", "")
        for name, sizes in rows.items():
            for size, row in sizes.items():
                if "waits" in row:
                    yield f"- {name}, {size} texts: {_places(row['waits'])}"
        yield ""


def _crf(result: dict[str, Any]) -> Iterator[str]:
    if rows := result.get("crf"):
        yield from ("## CRF", "")
        yield "Milliseconds: best paths on the host; likelihood with all gradients."
        yield ""
        sides = [side for side in ("cpu", "gpu") if side in rows[0]]
        kinds = {"decode_ms": "best paths", "learn_ms": "likelihood"}
        yield from table(
            ["B, T, K", *(f"{kind}, {side}" for kind in kinds.values() for side in sides)],
            [
                [", ".join(map(str, row["shape"])),
                 *(f"{row[side][key]:.2f}" for key in kinds for side in sides)]
                for row in rows
            ],
        )  # fmt: skip
        yield ""


def _peers(result: dict[str, Any]) -> Iterator[str]:
    if found := result.get("peers"):
        yield from ("## Beside other software", "")
        size = f"{found['texts']} texts, {found['characters']} characters"
        yield f"The same encoder and device, {size}."
        yield ""
        yield from table(
            ["", "characters/s"],
            [
                [name, row.get("not_available") or f"{row['characters_per_second']:,.0f}"]
                for name, row in found["rows"].items()
            ],
        )
        yield ""


def _failed(result: dict[str, Any]) -> Iterator[str]:
    if result.get("left_out"):
        yield from ("## Not measured", "")
        yield from (f"- {name}: {why}" for name, why in result["left_out"].items())
