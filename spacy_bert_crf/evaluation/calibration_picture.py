"""A reliability diagram as SVG, written by hand: no plotting library is needed."""

from .reliability import Reliability

_LEFT, _TOP, _SIZE, _COUNTS = 70, 50, 360, 80
_STYLE = (
    "text{font:13px sans-serif;fill:#222}.title{font-size:16px}.axis{stroke:#222;fill:none}"
    ".grid{stroke:#ddd}.bar{fill:#3b7dd8}.gap{fill:#d8593b;fill-opacity:.35}"
    ".ideal{stroke:#888;stroke-dasharray:5 4}"
)


def picture(found: Reliability, title: str) -> str:
    """Share of right entities over probability, and the number of entities in each bin."""
    width, height = _LEFT + _SIZE + 30, _TOP + _SIZE + _COUNTS + 90
    bottom, base = _TOP + _SIZE, _TOP + _SIZE + 60 + _COUNTS
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
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


def _text(x: float, y: float, text: str, anchor: str, css: str = "") -> str:
    safe = text.replace("&", "&amp;").replace("<", "&lt;")
    kind = f' class="{css}"' if css else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{safe}</text>'


def _bar(css: str, x: float, y: float, width: float, height: float) -> str:
    return (
        f'<rect class="{css}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
    )
