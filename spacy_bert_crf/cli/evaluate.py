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
    gpu_id: int = typer.Option(-1, "--gpu-id", "-g", help="GPU number, -1 for the CPU"),
) -> None:
    """Score a pipeline's entities: precision, recall and F1, over all and per type.

    By entity (borders and label must be right) and by token (tags other than O).
    """
    from ..evaluation import evaluate
    from ..training import use_device

    use_device(gpu_id)
    evaluate(pipeline, data, dev=dev, history=history, output=output)
    if output is not None:
        print(f"wrote {output}")
