"""`bert-crf evaluate`."""

from pathlib import Path
from typing import Optional

import typer

from .app import command


@command("evaluate")
def evaluate_command(
    pipeline: Path = typer.Argument(..., help="Folder of a trained pipeline"),
    data: Path = typer.Argument(..., help="Annotated docs (.spacy)"),
    dev: Optional[Path] = typer.Option(None, "--dev", help="A second DocBin, under `dev`"),
    history: Optional[Path] = typer.Option(
        None, "--history", help="history.json of the training, to take epochs and seed over"
    ),
    output: Optional[Path] = typer.Option(None, "--output", "-o", help="JSON file to write"),
    picture: Optional[Path] = typer.Option(
        None, "--picture", help="Reliability diagram of DATA to write (.svg)"
    ),
    confused: Optional[Path] = typer.Option(
        None, "--confusion", help="Confusion matrix of DATA to write (.svg)"
    ),
    gpu_id: int = typer.Option(-1, "--gpu-id", "-g", help="GPU number, -1 for the CPU"),
) -> None:
    """Score a pipeline's entities: precision, recall and F1, over all and per type.

    By entity (borders and label must be right) and by token (tags other than O). And whether the
    probabilities of entities are what comes true: of those with P = 0.9, nine in ten should be
    right (expected calibration error; see `calibrate`).

    With --confusion, where they differ from gold: same span but another label, other borders (too
    short, too long, shifted), missed, spurious; as a picture, as text, and in the JSON.
    """
    from ..component.pipelines import use_device
    from ..evaluation.evaluate import evaluate

    use_device(gpu_id)
    evaluate(
        pipeline, data, dev=dev, history=history, output=output, picture=picture,
        confused=confused,
    )  # fmt: skip
    for written in (output, picture, confused):
        if written is not None:
            print(f"wrote {written}")
