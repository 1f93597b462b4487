"""The table of a comparison of exports."""

from dataclasses import dataclass
from typing import Any, Optional


@dataclass
class Row:
    """One line of the table.

    format: name of the format and of the model's file.
    megabytes: size of the model with its weights, or of the pipeline's folder.
    load_seconds: median time to load the model, in seconds.
    characters_per_second: median speed of prediction.
    ents_f: entity F1 on the data.
    same: share of the docs that have the pipeline's entities.
    one_to_one: share of the docs that a format that decodes wordpieces reads as the pipeline does:
        one encoder pass, one wordpiece for each token, no word of several tokens to keep whole.
    same_one_to_one: `same` among those docs.
    largest_difference: largest difference of an emission from that of the pipeline.
    windows: number of docs with more than one window, which were decoded from the emissions.
    """

    format: str
    megabytes: float
    load_seconds: float = 0.0
    characters_per_second: float = 0.0
    ents_f: float = 0.0
    same: float = 0.0
    one_to_one: Optional[float] = None
    same_one_to_one: Optional[float] = None
    largest_difference: Optional[float] = None
    windows: int = 0


def markdown(result: dict[str, Any]) -> str:
    """The table of a comparison in Markdown, and how it was measured.

    result: see compare_exports.
    """
    head = [
        "format",
        "MB",
        "load s",
        "chars/s",
        "ents F1",
        "same entities",
        "max diff of emissions",
    ]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    notes = []
    for row in result["rows"]:
        difference = row["largest_difference"]
        lines.append(
            [
                row["format"],
                f"{row['megabytes']:.1f}",
                f"{row['load_seconds']:.2f}",
                f"{row['characters_per_second']:.0f}",
                f"{row['ents_f'] * 100:.2f}",
                f"{row['same'] * 100:.2f} %",
                "–" if difference is None else f"{difference:.1e}" if difference else "0",
            ]
        )
        if row["one_to_one"] is not None:
            notes.append(
                f"{row['format']} decodes wordpieces of whole docs: {row['one_to_one']:.1%} of the "
                "docs are one pass of the pipeline with one wordpiece for each token and no Latin "
                f"word; {row['same_one_to_one']:.2%} of these have the pipeline's entities."
            )
        if row["windows"]:
            notes.append(
                f"{row['format']}: {row['windows']} docs are longer than a window and were decoded "
                "from the emissions."
            )
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    measured_with = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    notes.append(
        f"{result['docs']} docs, {result['characters']} characters, {result['threads']} threads, "
        f"medians of {result['repeat']}; {measured_with}."
    )
    return table + "\n\n" + "\n".join(notes) + "\n"
