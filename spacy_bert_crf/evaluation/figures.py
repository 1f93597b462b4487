"""Figures as SVG: a reliability diagram and a confusion matrix. They need no plotting library."""

from .reliability import Reliability
from .scores import BORDERS, Confusion

#: Sizes of the reliability diagram, in pixels.
_LEFT, _TOP, _SIZE, _COUNTS = 70, 50, 360, 80
#: Sizes of the confusion matrix, in pixels.
_CELL_W, _CELL_H, _HEADER, _BAR = 64, 30, 108, 240
_RELIABILITY_STYLE = (
    "text{font:13px sans-serif;fill:#222}.title{font-size:16px}.axis{stroke:#222;fill:none}"
    ".grid{stroke:#ddd}.bar{fill:#3b7dd8}.gap{fill:#d8593b;fill-opacity:.35}"
    ".ideal{stroke:#888;stroke-dasharray:5 4}"
)
_CONFUSION_STYLE = (
    "text{font:13px sans-serif;fill:#222}.title{font-size:16px}.head{fill:#555}"
    ".right{fill:#3b7dd8}.wrong{fill:#d8593b}.light{fill:#fff}.frame{stroke:#ddd;fill:none}"
)


def reliability_picture(found: Reliability, title: str) -> str:
    """A reliability diagram as SVG.

    The bars above show the share of right entities in each bin of probability. The bars below show
    the number of entities in each bin.

    found: reliability of a corpus.
    title: printed above the diagram.
    """
    width, height = _LEFT + _SIZE + 30, _TOP + _SIZE + _COUNTS + 90
    bottom, base = _TOP + _SIZE, _TOP + _SIZE + 60 + _COUNTS
    out = [
        *_head(width, height, _RELIABILITY_STYLE),
        _text(_LEFT, 22, title, "start", "title"),
        _text(
            _LEFT, 40,
            f"expected calibration error {found.ece:.4f} over {found.count} entities", "start",
        ),
    ]  # fmt: skip
    for tick in range(0, 11, 2):
        x, y = _LEFT + _SIZE * tick / 10, bottom - _SIZE * tick / 10
        out.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_LEFT + _SIZE}"/>')
        out.append(_text(_LEFT - 8, y + 4, f"{tick / 10:.1f}", "end"))
        out.append(_text(x, bottom + 18, f"{tick / 10:.1f}", "middle"))
    most = max((b.count for b in found.bins), default=0)
    wide = _SIZE / len(found.bins) - 2
    for b in found.bins:
        if not b.count:
            continue
        x = _LEFT + _SIZE * b.low + 1
        y, ideal = bottom - _SIZE * b.right, bottom - _SIZE * b.probability
        out.append(_bar("bar", x, y, wide, bottom - y))
        out.append(_bar("gap", x, min(y, ideal), wide, abs(y - ideal)))
        tall = _COUNTS * b.count / most
        out.append(_bar("bar", x, base - tall, wide, tall))
        out.append(_text(x + wide / 2, base - tall - 4, str(b.count), "middle"))
    out += [
        f'<path class="ideal" d="M{_LEFT} {bottom}L{_LEFT + _SIZE} {_TOP}"/>',
        f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{_LEFT + _SIZE}"/>',
        f'<path class="axis" d="M{_LEFT} {base}H{_LEFT + _SIZE}"/>',
        _text(_LEFT + _SIZE / 2, bottom + 36, "probability of the entity", "middle"),
        _text(_LEFT + _SIZE / 2, base + 18, "entities in each bin", "middle"),
        f'<text transform="translate(18 {_TOP + _SIZE / 2}) rotate(-90)" text-anchor="middle">'
        "share of them that is right</text>",
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
        *_head(width, height, _CONFUSION_STYLE),
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


def _head(width: float, height: float, style: str) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">',
        f"<style>{style}</style>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]


def _text(x: float, y: float, text: str, anchor: str, css: str = "") -> str:
    safe = text.replace("&", "&amp;").replace("<", "&lt;")
    kind = f' class="{css}"' if css else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{safe}</text>'


def _bar(css: str, x: float, y: float, width: float, height: float) -> str:
    return (
        f'<rect class="{css}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
    )


def _box(css: str, x: float, y: float, width: float, height: float, opacity: float) -> str:
    return (
        f'<rect class="{css}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'fill-opacity="{opacity:.2f}"/>'
    )
