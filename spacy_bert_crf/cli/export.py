"""`bert-crf export`."""

from pathlib import Path
from typing import Optional

import typer

from .app import command


@command("export")
def export_command(
    pipeline: Path = typer.Argument(..., help="Folder of a trained pipeline"),
    dst: Path = typer.Argument(..., help="Folder to write"),
    component: str = typer.Option("", "--component", help="Which bert_crf, if there are several"),
    metrics: Optional[Path] = typer.Option(
        None, "--metrics", help="metrics.json, whose figures are recorded in best_model.json"
    ),
) -> None:
    """Write best_model.pt and its companions: the trained weights for use with torch alone.

    best_model.pt is a flat dict of float32 tensors (torch.load with weights_only=True); beside it
    config.json with id2label, the tokenizer's files, and best_model.json with the tag scheme.
    """
    from ..checkpoint_files import read_json
    from ..evaluation import load_pipeline
    from ..export import export_pipeline

    figures = None if metrics is None else read_json(metrics)
    sidecar = export_pipeline(load_pipeline(pipeline), dst, component=component, metrics=figures)
    size = (dst / "best_model.pt").stat().st_size / 1e6
    print(f"{dst / 'best_model.pt'}: {size:.1f} MB, tags {', '.join(sidecar['tags'])}")
