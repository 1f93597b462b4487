"""`bert-crf card`: the model card of a trained pipeline."""

from pathlib import Path
from typing import Optional

import typer

from ..app import command
from .inputs import ABOUT, DATA, HISTORY, METRICS, read_inputs


@command("card")
def card_command(
    pipeline: Path = typer.Argument(..., help="Folder of a trained pipeline"),
    metrics: Optional[Path] = METRICS,
    data: Optional[Path] = DATA,
    about: Optional[Path] = ABOUT,
    history: Optional[Path] = HISTORY,
    output: Path = typer.Option(
        Path("card/README.md"), "--output", "-o", help="Card to write (.md)"
    ),
    repo: str = typer.Option(
        "", "--repo", help="OWNER/NAME on the hub, if the card is for a repository there"
    ),
    force: bool = typer.Option(
        False, "--force", "-F", help="Replace the file even if it is no model card"
    ),
) -> None:
    """Write the model card of a pipeline: README.md with the metadata that model hubs read.

    The card says what the pipeline is for, what it was trained on under which licence, how good
    it is, how sure, where wrong, how to use it, and what it needs. The metadata has language,
    licence, tags, encoder, data sets and results. What is not known is left out. The diagram of the
    calibration is a picture beside the card.

    \b
    Example:
      python -m spacy bert-crf card training/quickstart/model-best \\
        --metrics training/quickstart/metrics.json --output card/README.md
    """
    from ...export.hub.card import check_place, hub_card, write_card
    from ...export.hub.push import DOWNLOAD, check_repo_id
    from ...export.package.card import Place
    from ...export.package.meta import complete_meta, gaps

    check_place(output, force)
    if repo:
        check_repo_id(repo)
    nlp, said, found = read_inputs(pipeline, about, metrics, data, history)
    meta = complete_meta(nlp, said, found)
    place = Place(folder=pipeline.as_posix())
    if repo:
        place = Place(folder=repo.split("/")[-1], repo=repo, download=DOWNLOAD)
    for path in write_card(output, hub_card(meta, found, place)):
        print(f"wrote {path}")
    for gap in gaps(meta):
        print(f"note: {gap}")
    if "ents_f" not in found:
        print("note: the scores are those on dev in the training: give --metrics or --data")
