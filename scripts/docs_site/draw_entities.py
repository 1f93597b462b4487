"""Draw the entities that a pipeline finds in sentences as an SVG, with labels and probabilities.

    python -m scripts.docs_site.draw_entities training/quickstart/model-best \
        docs/pictures/entities.svg SENTENCE…
"""

import argparse
from html import escape
from pathlib import Path

import spacy
from spacy.tokens import Doc

from spacy_bert_crf._files import write_text

COLOURS = {"PER": "#ffd8a8", "LOC": "#b2f2bb", "ORG": "#a5d8ff"}
OTHER = "#e9ecef"
SIZE, LEFT, TOP, ROW, LABEL = 22, 24, 18, 62, 11
STYLE = (
    f"text {{ font-family: sans-serif; fill: #222 }} .text {{ font-size: {SIZE}px }} "
    f".label {{ font-size: {LABEL}px; fill: #444 }} .p {{ fill: #888 }}"
)


def width(text: str) -> float:
    """Pixels of a text: Chinese characters are as wide as high in every font, others about half."""
    return sum(SIZE if ord(char) > 0x2E7F else SIZE * 0.56 for char in text)


def draw(docs: list[Doc]) -> str:
    """The picture of docs, one a line.

    docs: read with the setting `scores`, so that `span._.score` is there.
    """
    parts, widest = [], 0.0
    for i, doc in enumerate(docs):
        y, x, at = TOP + i * ROW, float(LEFT), 0
        for ent in doc.ents:
            plain = doc.text[at : ent.start_char]
            parts.append(_text("text", x, y + SIZE, plain))
            x += width(plain) + 4
            across = max(width(ent.text), 60) + 8
            colour = COLOURS.get(ent.label_, OTHER)
            parts.append(
                f'<rect x="{x:g}" y="{y - 5:g}" width="{across:g}" height="50" rx="6" '
                f'fill="{colour}"/>'
            )
            parts.append(_text("text", x + (across - width(ent.text)) / 2, y + SIZE, ent.text))
            label = f'{escape(ent.label_)} <tspan class="p">{ent._.score:.2f}</tspan>'
            parts.append(
                f'<text class="label" text-anchor="middle" x="{x + across / 2:g}" '
                f'y="{y + SIZE + 17:g}">{label}</text>'
            )
            x += across + 4
            at = ent.end_char
        parts.append(_text("text", x, y + SIZE, doc.text[at:]))
        widest = max(widest, x + width(doc.text[at:]) + LEFT)
    height = TOP + len(docs) * ROW + 4
    title = "Entities and their probabilities: " + " ".join(doc.text for doc in docs)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {widest:g} {height}" role="img" '
        f'width="{widest:g}" lang="zh"><title>{escape(title)}</title><style>{STYLE}</style>'
        f'<rect width="{widest:g}" height="{height}" rx="8" fill="white" stroke="#ddd"/>\n'
        + "\n".join(part for part in parts if part)
        + "\n</svg>\n"
    )


def _text(css: str, x: float, y: float, text: str) -> str:
    length = f' textLength="{width(text):g}" lengthAdjust="spacingAndGlyphs"'
    return f'<text class="{css}" x="{x:g}" y="{y:g}"{length}>{escape(text)}</text>' if text else ""


def main() -> None:
    """Read the arguments and write the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("pipeline", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("sentences", nargs="+")
    args = parser.parse_args()
    nlp = spacy.load(args.pipeline, config={"components": {"bert_crf": {"scores": True}}})
    write_text(args.output, draw(list(nlp.pipe(args.sentences))))
    print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
