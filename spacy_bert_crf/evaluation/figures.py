"""Figures as SVG: reliability diagram, confusion matrix, learning curve. No plotting library."""

from collections.abc import Sequence
from typing import Any

from .reliability import Reliability
from .scores import BORDERS, Confusion

#: Sizes of the reliability diagram, in pixels.
_LEFT, _TOP, _SIZE, _COUNTS = 70, 50, 360, 80
#: Sizes of the confusion matrix, in pixels.
_CELL_W, _CELL_H, _HEADER, _BAR = 64, 30, 108, 240
#: Sizes of a panel of the learning curve, in pixels.
_PANEL_W, _PANEL_H, _GAP = 360, 170, 70
#: Colours are properties, so that a page around a figure can set them (see `report/page.css`).
_INK, _MUTED, _LINE = "var(--ink,#222)", "var(--muted,#555)", "var(--line,#ddd)"
_PAPER, _RIGHT, _WRONG = "var(--paper,#fff)", "var(--right,#3b7dd8)", "var(--wrong,#d8593b)"
#: All figures have one style. Its rules are limited to them, since a page has texts of its own.
_STYLE = (
    f".figure text{{font:13px sans-serif;fill:{_INK}}}.figure .title{{font-size:16px}}"
    f".figure .axis{{stroke:{_INK};fill:none}}.figure .frame{{stroke:{_LINE};fill:none}}"
    f".figure .paper{{fill:{_PAPER}}}.figure .head{{fill:{_MUTED}}}.figure .light{{fill:{_PAPER}}}"
    f".figure .right{{fill:{_RIGHT}}}.figure .wrong{{fill:{_WRONG}}}"
    f".figure .gap{{fill:{_WRONG};fill-opacity:.45}}"
    f".figure .ideal{{stroke:{_MUTED};stroke-dasharray:5 4}}"
    f".figure .curve{{stroke:{_RIGHT};stroke-width:2;fill:none}}"
    f".figure .best{{stroke:{_WRONG};stroke-width:2;fill:none}}"
)


def reliability_picture(found: Reliability, title: str) -> str:
    """A reliability diagram as SVG.

    The bars above show the share of right entities in each bin of probability. The bars below show
    the number of entities in each bin.

    found: reliability of a corpus.
    title: printed above the diagram.
    """
    width, height = _LEFT + _SIZE + 30, _TOP + _SIZE + _COUNTS + 150
    bottom, base = _TOP + _SIZE, _TOP + _SIZE + 60 + _COUNTS
    out = [
        *_head(width, height, title),
        _text(_LEFT, 22, title, "start", "title"),
        _text(
            _LEFT, 40,
            f"expected calibration error {found.ece:.4f} over {found.count} entities", "start",
        ),
    ]  # fmt: skip
    for tick in range(0, 11, 2):
        x, y = _LEFT + _SIZE * tick / 10, bottom - _SIZE * tick / 10
        out.append(f'<path class="frame" d="M{_LEFT} {y:.1f}H{_LEFT + _SIZE}"/>')
        out.append(_text(_LEFT - 8, y + 4, f"{tick / 10:.1f}", "end"))
        out.append(_text(x, bottom + 18, f"{tick / 10:.1f}", "middle"))
    most = max((b.count for b in found.bins), default=0)
    wide = _SIZE / len(found.bins) - 2
    for b in found.bins:
        if not b.count:
            continue
        x = _LEFT + _SIZE * b.low + 1
        y, ideal = bottom - _SIZE * b.right, bottom - _SIZE * b.probability
        out.append(_bar("right", x, y, wide, bottom - y))
        out.append(_bar("gap", x, min(y, ideal), wide, abs(y - ideal)))
        tall = _COUNTS * b.count / most
        out.append(_bar("right", x, base - tall, wide, tall))
        out.append(_text(x + wide / 2, base - tall - 4, str(b.count), "middle"))
    out += [
        f'<path class="ideal" d="M{_LEFT} {bottom}L{_LEFT + _SIZE} {_TOP}"/>',
        f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{_LEFT + _SIZE}"/>',
        f'<path class="axis" d="M{_LEFT} {base}H{_LEFT + _SIZE}"/>',
        _text(_LEFT + _SIZE / 2, bottom + 36, "probability of the entity", "middle"),
        _text(_LEFT + _SIZE / 2, base + 18, "entities in each bin", "middle"),
        f'<text transform="translate(18 {_TOP + _SIZE / 2}) rotate(-90)" text-anchor="middle">'
        "share of them that is right</text>",
        _bar("right", _LEFT, base + 34, 14, 12),
        _text(_LEFT + 22, base + 45, "share that is right; entities in the bin", "start"),
        _bar("gap", _LEFT, base + 54, 14, 12),
        _text(_LEFT + 22, base + 65, "distance from the mean probability", "start"),
        f'<path class="ideal" d="M{_LEFT} {base + 80}h14"/>',
        _text(_LEFT + 22, base + 85, "perfect calibration", "start"),
        "</svg>",
    ]
    return "\n".join(out) + "\n"


def confusion_picture(found: Confusion, title: str) -> str:
    """A confusion matrix of entities as SVG.

    Rows are gold labels, and "no entity". Columns are predicted labels, and "none". The cells
    between labels count entities of the same span. Overlapping ones have a column of their own, by
    gold label, so that the cells of a row add up to its gold entities. The bars below show how the
    borders of overlapping entities differ.

    found: confusion of a corpus.
    title: printed above the matrix.
    """
    labels = found.labels
    columns = [*labels, "other borders", "none"]
    left = 34 + max([70, *(_wide(label) for label in labels)])
    step = max([_CELL_W, *(_wide(label) + 12 for label in columns)])
    below = _HEADER + _CELL_H * (len(labels) + 1) + 62
    width = left + max(step * len(columns), _BAR + 150) + 20
    height = below + 24 * len(BORDERS) + 62
    middle = _HEADER + _CELL_H * (len(labels) + 1) / 2
    out = [
        *_head(width, height, title),
        _text(20, 24, title, "start", "title"),
        _text(20, 44, f"{found.gold} gold entities, {found.predicted} predicted, "
              f"{found.exact} right", "start"),
        _text(left, 76, "predicted label (shade: share of the row)", "start", "head"),
        f'<text class="head" transform="translate(16 {middle:.1f}) rotate(-90)" '
        'text-anchor="middle">gold label</text>',
    ]  # fmt: skip
    for j, name in enumerate(columns):
        out.append(_text(left + step * (j + 0.5), _HEADER - 8, name, "middle"))
    rows = [*labels, None]
    for i, gold in enumerate(rows):
        y = _HEADER + _CELL_H * i
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
                tone = "light" if share > 0.75 else ""
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


def learning_picture(epochs: Sequence[dict[str, Any]], best: int, title: str) -> str:
    """The learning curve of a training as SVG: F1 on dev and loss, by epoch.

    epochs: epoch, loss and ents_f of each epoch, in order (see `evaluate.read_history`).
    best: number of the best epoch, which is circled.
    title: printed above the curves.
    """
    out = [
        *_head(_LEFT + _PANEL_W + 30, _TOP + 30 + 2 * (_PANEL_H + _GAP), title),
        _text(_LEFT, 22, title, "start", "title"),
    ]
    numbers = [int(row["epoch"]) for row in epochs]
    panels = (("F1 on dev", "ents_f", 100.0, 100.0), ("loss", "loss", 1.0, float("inf")))
    for i, (name, key, factor, most) in enumerate(panels):
        top = _TOP + 24 + i * (_PANEL_H + _GAP)
        values = [float(row[key]) * factor for row in epochs]
        out += _curve(top, name, numbers, values, best, most)
    middle = _LEFT + _PANEL_W / 2
    out.append(_text(middle, top + _PANEL_H + 40, "epoch (circle: the best)", "middle"))
    out.append("</svg>")
    return "\n".join(out) + "\n"


def _curve(
    top: float, name: str, numbers: Sequence[int], values: Sequence[float], best: int, most: float
) -> list[str]:
    """A panel of the learning curve, whose upper edge is at `top`. No value is above `most`."""
    left, bottom = _LEFT, top + _PANEL_H
    low, high = min(values, default=0.0), max(values, default=1.0)
    spare = (high - low) * 0.1 or max(abs(high) * 0.1, 1e-3)
    # F1 and loss are never below zero, so the axis is not, either.
    low, high = max(low - spare, min(low, 0.0)), min(high + spare, most)
    first, last = min(numbers, default=1), max(numbers, default=1)

    def x(number: int) -> float:
        return left + _PANEL_W * ((number - first) / (last - first) if last > first else 0.5)

    def y(value: float) -> float:
        return bottom - _PANEL_H * (value - low) / (high - low)

    out = [_text(left, top - 10, name, "start", "head")]
    for part in range(5):
        value = low + (high - low) * part / 4
        out.append(f'<path class="frame" d="M{left} {y(value):.1f}h{_PANEL_W}"/>')
        out.append(_text(left - 8, y(value) + 4, f"{value:.3g}", "end"))
    step = max(1, -(-len(numbers) // 10))  # at most about ten numbers at the axis
    out += [_text(x(n), bottom + 18, str(n), "middle") for n in numbers[::step]]
    points = " ".join(f"{x(n):.1f},{y(v):.1f}" for n, v in zip(numbers, values, strict=True))
    out.append(f'<polyline class="curve" points="{points}"/>')
    for n, value in zip(numbers, values, strict=True):
        at = f'cx="{x(n):.1f}" cy="{y(value):.1f}"'
        out.append(
            f'<circle class="right" {at} r="3"><title>epoch {n}: {value:.4g}</title></circle>'
        )
        if n == best:
            out.append(f'<circle class="best" {at} r="7"/>')
    out.append(f'<path class="axis" d="M{left} {top}V{bottom}h{_PANEL_W}"/>')
    return out


def _row(found: Confusion, gold: str | None) -> list[int]:
    """The cells of a row: of each label, other borders, none.

    found: confusion of a corpus.
    gold: gold label of the row; None for the row "no entity".
    """
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
    """An upper limit of the width of a text, in pixels."""
    return sum(8 if char.isascii() else 14 for char in text)


def _head(width: float, height: float, title: str) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="figure" role="img" width="{width}" '
        f'height="{height}" viewBox="0 0 {width} {height}">',
        f"<title>{_escaped(title)}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{width}" height="{height}"/>',
    ]


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _text(x: float, y: float, text: str, anchor: str, css: str = "") -> str:
    kind = f' class="{css}"' if css else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{_escaped(text)}</text>'


def _bar(css: str, x: float, y: float, width: float, height: float) -> str:
    return (
        f'<rect class="{css}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
    )


def _box(css: str, x: float, y: float, width: float, height: float, opacity: float) -> str:
    return (
        f'<rect class="{css}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'fill-opacity="{opacity:.2f}"/>'
    )
