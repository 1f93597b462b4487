"""The model card of a pipeline for a hub: metadata, text, and a picture beside it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..._files import write_text
from ...errors import BertCrfError
from ..package.card import Place, model_card
from .card_data import card_data, with_data

CARD, PICTURE = "README.md", "calibration.svg"


def hub_card(meta: dict[str, Any], metrics: dict[str, Any], place: Place) -> dict[str, str]:
    """The files of a card for a hub, by their names.

    meta: a meta.json, as `complete_meta` returns it.
    metrics: figures, as `measure.figures` returns them.
    place: where the reader has the pipeline.
    RETURNS: README.md, and calibration.svg where the calibration is known.
    Raises BertCrfError for metadata that the hub does not take.
    """
    from .measure import picture  # it imports all that evaluates

    drawn = picture(metrics)
    text = model_card(meta, metrics, replace(place, picture=PICTURE if drawn else ""))
    files = {CARD: with_data(text, card_data(meta, metrics))}
    return {**files, PICTURE: drawn} if drawn else files


def check_place(output: Path, force: bool = False) -> None:
    """Refuse to replace a file that is no model card.

    output: the card to write.
    force: replace it all the same.
    Raises BertCrfError for such a file, and for a name that is not one of Markdown.
    """
    if output.suffix.lower() != ".md":
        raise BertCrfError(f"the card {output} must be an .md file, such as card/{CARD}.")
    if force or not output.is_file():
        return
    text = output.read_text(encoding="utf8", errors="replace")
    if not (text.startswith("---\n") and "library_name: spacy" in text.split("\n---", 1)[0]):
        raise BertCrfError(
            f"{output} is there already, and no model card of a spaCy pipeline: name another file, "
            "or use --force."
        )


def write_card(output: Path, files: dict[str, str]) -> list[Path]:
    """Write the files of a card.

    output: the card. Pictures go beside it.
    files: as `hub_card` returns them.
    RETURNS: the files that were written, the card last.
    Raises BertCrfError if one can't be written.
    """
    others = {output.parent / name: text for name, text in files.items() if name != CARD}
    for path, text in {**others, output: files[CARD]}.items():
        write_text(path, text)
    return [*others, output]
