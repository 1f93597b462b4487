"""`bert-crf compare-exports`: exported formats beside their pipeline."""

from pathlib import Path
from typing import Optional

import typer

from ..errors import BertCrfError
from .app import command, write_json


@command("compare-exports")
def compare_exports_command(
    pipeline: Path = typer.Argument(..., help="Folder of the trained pipeline"),
    data: Path = typer.Argument(..., help="Annotated docs (.spacy)"),
    exports: list[Path] = typer.Argument(
        ..., help="Folders that `export` wrote, or format folders in them"
    ),
    output: Optional[Path] = typer.Option(
        None, "--output", "-o", help="Write the table to NAME.md and NAME.json"
    ),
    repeat: int = typer.Option(1, "--repeat", min=1, help="Runs of each format; times are medians"),
    limit: int = typer.Option(0, "--limit", min=0, help="Only the first N docs; 0 for all"),
    threads: int = typer.Option(0, "--threads", min=0, help="CPU threads; 0 for torch's default"),
    component: str = typer.Option("", "--component", help="Which bert_crf, if there are several"),
) -> None:
    """Compare exported formats with their pipeline: size, load time, speed, F1, equal entities.

    The command decodes emissions with the transitions.npz of their format. All formats run on the
    CPU on the same batches, sorted by length.

    \b
    Example:
      python -m spacy bert-crf compare-exports training/quickstart/model-best \\
        corpus/quickstart/test.spacy export/quickstart --output formats
    """
    import torch

    from .._files import write_text
    from ..annotation.docbin import read_docs
    from ..component.pipelines import load_pipeline
    from ..export.compare import compare_exports
    from ..export.compare_table import markdown
    from ..export.open import find_exports

    if threads:
        torch.set_num_threads(threads)
    found = [export for folder in exports for export in find_exports(folder)]
    nlp = load_pipeline(pipeline)
    docs = read_docs(data, nlp)
    result = compare_exports(
        pipeline, nlp, docs[:limit] if limit else docs, found, repeat=repeat, component=component
    )
    text = markdown(result)
    print(text)
    if output is not None:
        if output.suffix in (".md", ".json"):
            output = output.with_suffix("")
        if output.is_dir():
            raise BertCrfError(f"{output} is a folder: give --output the name of a file.")
        write_text(output.parent / f"{output.name}.md", text)
        write_json(output.parent / f"{output.name}.json", result)
        print(f"wrote {output}.md and {output}.json")
