"""What `card` and `push` read alike: description, figures, pipeline."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import typer

if TYPE_CHECKING:
    from spacy.language import Language

    from ...export.package.about import About

ABOUT = typer.Option(
    None,
    "--about",
    help="YAML or JSON file with what only you know, as for `package`: name, version, description, "
    "author, license, purpose, labels, limits, example; also base_model, datasets, emissions",
)
METRICS = typer.Option(
    None,
    "--metrics",
    help="metrics.json, as `evaluate` writes it: scores, calibration, time of the training",
)
DATA = typer.Option(
    None,
    "--data",
    help="Annotated docs (.spacy) to measure scores with intervals, calibration and errors on; "
    "--metrics then gives only dev scores and time",
)
HISTORY = typer.Option(
    None,
    "--history",
    help="history.json of the training, for its time; by default the one beside PIPELINE",
)


def read_inputs(
    pipeline: Path,
    about: Optional[Path],
    metrics: Optional[Path],
    data: Optional[Path],
    history: Optional[Path],
) -> "tuple[Language, About, dict[str, Any]]":
    """Read what a card is made of.

    RETURNS: the pipeline, what its maker says, and figures.
    Raises BertCrfError for a file that can't be read.
    """
    from ...annotation.docbin import read_docs
    from ...component.pipelines import load_pipeline
    from ...encoder.checkpoint_files import read_json
    from ...export.hub.measure import figures
    from ...export.package.about import About, read_about

    said = About() if about is None else read_about(about)
    known = None if metrics is None else read_json(metrics)
    nlp = load_pipeline(pipeline)
    beside = pipeline.resolve().parent / "history.json"
    if history is None and beside.is_file():
        history = beside
    docs = None if data is None else read_docs(data, nlp)
    found = figures(
        nlp,
        metrics=known,
        docs=docs,
        data="" if data is None else data.name,
        history=history,
        progress=True,
    )
    return nlp, said, found
