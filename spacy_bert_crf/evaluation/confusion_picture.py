"""A confusion matrix of entities as SVG, written by hand: no plotting library is needed."""

from .confusion import BORDERS, Confusion

_CELL_W, _CELL_H, _TOP, _BAR = 64, 30, 108, 240
_STYLE = (
    "text{font:13px sans-serif;fill:#222}.title{font-size:16px}.head{fill:#555}"
    ".right{fill:#3b7dd8}.wrong{fill:#d8593b}.light{fill:#fff}.frame{stroke:#ddd;fill:none}"
)


def confusion_picture(found: Confusion, title: str) -> str:
    """Gold labels (rows, and "no entity") by predicted labels (columns, and "none"), and below, as
    bars, how the borders of entities with the right label are wrong.

    The cells between labels count entities of the same span; overlapping ones stand in a column
    of their own, by gold label, so that the cells of a row are all its gold entities.
    """
    labels = found.labels
    columns = [*labels, "other borders", "none"]
    left = 34 + max([70, *(_wide(label) for label in labels)])
    step = max([_CELL_W, *(_wide(label) + 12 for label in columns)])
    below = _TOP + _CELL_H * (len(labels) + 1) + 62
    width = left + max(step * len(columns), _BAR + 150) + 20
    height = below + 24 * len(BORDERS) + 62
    middle = _TOP + _CELL_H * (len(labels) + 1) / 2
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(20, 24, title, "start", "title"),
        _text(20, 44, f"{found.gold} gold entities, {found.predicted} predicted, "
              f"{found.exact} right", "start"),
        _text(left, 76, "predicted label (shade: share of the row)", "start", "head"),
        f'<text class="head" transform="translate(16 {middle:.1f}) rotate(-90)" '
        'text-anchor="middle">gold label</text>',
    ]  # fmt: skip
    for j, name in enumerate(columns):
        out.append(_text(left + step * (j + 0.5), _TOP - 8, name, "middle"))
    rows = [*labels, None]
    for i, gold in enumerate(rows):
        y = _TOP + _CELL_H * i
        out.append(_text(left - 8, y + 20, gold or "no entity", "end"))
        counts = _row(found, gold)
        total = sum(counts)
        for j, n in enumerate(counts):
            x = left + step * j
            css = (
                "right" if gold is not None and columns[j] == gold and j < len(labels) else "wrong"
            )
            share = n / total if total else 0.0
            out.append(_box(css, x, y, step, _CELL_H, 0.1 + 0.9 * share if n else 0.0))
            out.append(f'<path class="frame" d="M{x} {y}h{step}v{_CELL_H}h-{step}z"/>')
            if n:
                tone = "light" if share > 0.5 else ""
                out.append(_text(x + step / 2, y + 20, str(n), "middle", tone))
    out.append(_text(20, below, "Overlapping, other borders", "start"))
    bars = [(f"same label, {kind}", _kind(found, kind)) for kind in BORDERS]
    bars.append(("another label", found.overlapping.total()))
    most = max(1, *(n for _, n in bars))
    for i, (name, n) in enumerate(bars):
        y = below + 12 + 24 * i
        out.append(_text(160, y + 14, name, "end"))
        out.append(_box("wrong", 168, y, _BAR * n / most, 18, 0.8))
        out.append(_text(174 + _BAR * n / most, y + 14, str(n), "start"))
    out.append("</svg>")
    return "\n".join(out) + "\n"


def _row(found: Confusion, gold: str | None) -> list[int]:
    """The cells of a gold label, or of what is no entity: of each label, other borders, none."""
    labels = found.labels
    if gold is None:
        return [*(found.spurious[label] for label in labels), 0, 0]
    borders = sum(n for (label, _), n in found.borders.items() if label == gold)
    borders += sum(n for (label, _), n in found.overlapping.items() if label == gold)
    same = [found.same_span[gold, label] for label in labels]
    return [*same, borders, found.missed[gold]]


def _kind(found: Confusion, kind: str) -> int:
    return sum(n for (_, which), n in found.borders.items() if which == kind)


def _wide(text: str) -> int:
    """Width of a text in pixels, at most."""
    return sum(8 if char.isascii() else 14 for char in text)


def _text(x: float, y: float, text: str, anchor: str, css: str = "") -> str:
    safe = text.replace("&", "&amp;").replace("<", "&lt;")
    kind = f' class="{css}"' if css else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{safe}</text>'


def _box(css: str, x: float, y: float, width: float, height: float, opacity: float) -> str:
    return (
        f'<rect class="{css}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'fill-opacity="{opacity:.2f}"/>'
    )
