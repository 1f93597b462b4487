"""The result as tables, and what must hold."""

from typing import Any

from benchmarks.harness.tables import table, words


def markdown(result: dict[str, Any]) -> str:
    """The result as tables."""
    lines = [
        "# Interchange with bert4torch",
        "",
        "Written by `python -m benchmarks.interchange`; how, and what the rows mean, is in "
        "`benchmarks/README.md`.",
        "",
        f"Data: {result['data']}. Machine: {result['machine']}, {result['threads']} thread(s). "
        f"bert4torch: {words(result['versions_bert4torch'])}. "
        f"This side: {words(result['versions'])}.",
        "",
    ]
    sides = [(name, result[name]) for name in ("out", "back") if name in result]
    heads = {"out": "out: export → bert4torch", "back": "back: bert4torch → import-model"}
    if result.get("note"):
        lines += [f"**Note.** {result['note']}", ""]
    if sides:
        lines += table(
            ["", *(heads[name] for name, _ in sides)],
            [[row, *(show(side) for _, side in sides)] for row, show in _ROWS.items()],
        )
    for name, side in sides:
        lines += ["", f"Differences, {name}, where each token is one wordpiece: "]
        if not side["differences"]:
            lines[-1] += "none."
            continue
        lines[-1] += f"{len(side['differences'])}."
        lines.append("")
        rows = [
            [
                each["text"],
                each["steps"],
                _number(each["margin"]),
                "yes" if each["is_tie"] else "no",
            ]
            for each in side["differences"]
        ]
        lines += table(["text", "tags that differ", "score margin", "a tie"], rows)
    if "back" in result:
        training = result["back"]["training"]
        losses = ", ".join(str(loss) for loss in training["losses"])
        lines += [
            "",
            f"bert4torch's training: {training['sentences']} sentences, {training['epochs']} "
            f"epochs, batches of {training['batch']}, Adam at {training['rate']:g}, seed "
            f"{training['seed']}, {training['seconds']} s; loss that it reports after each epoch: "
            f"{losses}.",
        ]
    lines += ["", *table(["guarantee", "holds"], [[k, v] for k, v in guarantees(result)])]
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def _same(side: dict[str, Any]) -> str:
    key = "same_tags" if "same_tags" in side else "single_same_entities"
    return f"{side[key]} of {side['single']}"


_ROWS: dict[str, Any] = {
    "encoder": lambda side: side["encoder"],
    "texts": lambda side: side["texts"],
    "of them in one window": lambda side: side["fit"],
    "same wordpieces by both tokenizers": lambda side: (
        f"{side['same_wordpieces']} of {side['fit']}"
    ),
    "each token one wordpiece": lambda side: f"{side['single']} ({side['share_single']:.1%})",
    "there: same entities": lambda side: f"{side['single_same_entities']} of {side['single']}",
    "there: same tags": lambda side: _same(side) if "same_tags" in side else "",
    "there: same entities, tags read as the example does": lambda side: (
        f"{side['same_entities_read_as_there']} of {side['single']}"
        if "same_entities_read_as_there" in side
        else ""
    ),
    "there: entities of the pipeline": lambda side: side["entities_single"],
    "there: largest difference of emissions": lambda side: _number(
        side["largest_difference_of_emissions"]
    ),
    "the other texts": lambda side: side["rest"],
    "of them with other entities": lambda side: side["rest_differ"],
    "texts with a tag on [CLS] or [SEP]": lambda side: side.get("texts_with_tagged_specials", ""),
    "entities: pipeline, bert4torch": lambda side: (
        f"{side['entities_ours']}, {side['entities_theirs']}"
    ),
    "entity F against the data: pipeline, bert4torch": lambda side: (
        f"{side['f_ours']:.4f}, {side['f_theirs']:.4f}"
    ),
    "seconds: pipeline, bert4torch": lambda side: (
        f"{side['seconds_ours']}, {side['seconds_theirs']}"
    ),
}


def guarantees(result: dict[str, Any]) -> list[tuple[str, str]]:
    """What must hold, and whether it does."""
    found = [(f"{name}: runs to its end", "NO") for name in result.get("broken_off", ())]
    for name in ("out", "back"):
        for what, holds in result.get(name, {}).get("holds", {}).items():
            found.append((f"{name}: {what}", "yes" if holds else "NO"))
    return found
