"""The result of benchmarks.lac for people."""

from collections.abc import Sequence
from typing import Any

from benchmarks.harness.tables import table, words
from benchmarks.lac.scores import LABELS, Corpus, Found
from benchmarks.lac.speed import WAYS


def markdown(result: dict[str, Any]) -> str:
    """Tables of F1 and of speed."""
    lines = ["# Beside LAC", ""]
    if result["note"]:
        lines += [result["note"], ""]
    lines += [
        "Entity F1 in percent, with 95 % intervals by the bootstrap over texts.", "",
        *table(["data", "system", *LABELS, "all", "95 %"], score_rows(result["scores"])), "",
    ]  # fmt: skip
    counts = [
        [row["name"], f"{row['texts']:,}", f"{row['characters']:,}", f"{row['entities']:,}"]
        for row in result["data"]
    ]
    lines += [*table(["data", "texts", "characters", "gold entities"], counts), ""]
    if result["speed"]:
        texts = result["speed_texts"]
        lines += [
            f"Characters a second on {texts['texts']:,} texts ({texts['characters']:,} characters "
            "of all data). Medians; the ratio to LAC is the median over the rounds.", "",
            *table(["threads", "system", "in batches", "to LAC", "one text a call", "to LAC",
                    "batches"], speed_rows(result["speed"])), "",
        ]  # fmt: skip
    flags = [name for name, is_there in result["flags"].items() if is_there]
    lines += [
        f"Machine: {result['machine']} ({', '.join(flags)}); load before the start: "
        f"{result['load_average']:.1f}.", "",
        f"Versions: {words(result['versions'])}. LAC: {words(result['versions_peer'])}.", "",
        f"Command: `{result['command']}`", "",
    ]  # fmt: skip
    return "\n".join(lines)


def score_rows(scores: dict[str, Any]) -> list[list[str]]:
    """A row for each corpus and system. The higher F1 of a corpus is bold."""
    rows = []
    for data, systems in scores.items():
        best = {
            label: max(scored[label]["f"] for scored in systems.values() if label in scored)
            for label in (*LABELS, "all")
            if any(label in scored for scored in systems.values())
        }
        for system, scored in systems.items():
            cells = []
            for label in (*LABELS, "all"):
                value = scored.get(label, {}).get("f")
                shown = "" if value is None else f"{value:.2f}"
                is_best = len(systems) > 1 and shown and value == best[label]
                cells.append(f"**{shown}**" if is_best else shown)
            interval = f"{scored['all']['low']:.1f}–{scored['all']['high']:.1f}"
            rows.append([data, system, *cells, interval])
    return rows


def speed_rows(speed: dict[str, Any]) -> list[list[str]]:
    """A row for each number of threads and system."""
    rows = []
    for threads, systems in speed.items():
        for system, measured in systems.items():
            cells = []
            for way in WAYS:
                cells.append(f"{measured[way]['characters_per_second']:,.0f}")
                cells.append(f"{measured[way]['to_last']:.2f}")
            rows.append([threads, system, *cells, measured["how"]])
    return rows


def errors_markdown(
    corpora: Sequence[Corpus], found: dict[str, list[Found]], count: int, wanted: Sequence[str]
) -> str:
    """Texts with most errors, gold above predicted, for each corpus and system.

    count: texts of each. wanted: names of --data; none takes all.
    """
    lines = [
        "# Errors", "",
        "Texts with most missed and spurious entities. 【text/LABEL】 is an entity.", "",
    ]  # fmt: skip
    for place, corpus in enumerate(corpora):
        if wanted and corpus.data not in wanted:
            continue
        for system, parts in found.items():
            golds, texts = corpus.gold, [doc.text for doc in corpus.docs]
            wrong = [len(a ^ b) for a, b in zip(parts[place], golds, strict=True)]
            order = sorted(range(len(texts)), key=lambda i: -wrong[i])[:count]
            n_texts = sum(map(bool, wrong))
            lines += [f"## {corpus.name}: {system}, {n_texts} of {len(texts)} texts", ""]
            for i in order:
                if wrong[i]:
                    lines += [f"- gold: {marked(texts[i], golds[i])}"]
                    lines += [f"  - found: {marked(texts[i], parts[place][i])}"]
            lines += [""]
    return "\n".join(lines)


def marked(text: str, spans: set[tuple[int, int, str]]) -> str:
    """A text with its entities in brackets."""
    out, at = "", 0
    for start, end, label in sorted(spans):
        out += f"{text[at:start]}【{text[start:end]}/{label}】"
        at = end
    return (out + text[at:]).replace("\n", " ")
