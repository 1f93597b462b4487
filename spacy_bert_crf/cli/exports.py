"""`bert-crf import-model` and `bert-crf compare-exports`."""

import json
from pathlib import Path
from typing import Optional

import typer

from ..errors import BertCrfError
from .app import command


@command("import-model")
def import_model_command(
    src: Path = typer.Argument(..., help="Folder with trained weights, or the weights in it"),
    dst: Path = typer.Argument(..., help="Pipeline folder to write"),
    labels: str = typer.Option(
        "", "--labels", help="Entity types in the order of their tags, as LOC,PER,ORG"
    ),
    scheme: str = typer.Option("", "--scheme", help="Tag scheme: BIO, BIOES, BMES, BILUO or IO"),
    constraints: Optional[bool] = typer.Option(
        None,
        "--constraints/--no-constraints",
        help="Whether decoding keeps to the scheme; else as best_model.json says, or yes",
    ),
    lang: str = typer.Option(
        "",
        "--lang",
        help="Language of the pipeline; else as best_model.json says, else zh for a vocabulary "
        "with Chinese and xx for others",
    ),
) -> None:
    """Make a spaCy pipeline of trained weights.

    Reads best_model.pt and its companions (or any format folder with Hugging Face or bert4torch
    weights) as `export` writes them; a best_model.pt trained by bert4torch's CRF example, with its
    config.json and vocab.txt beside it (give --labels); and Hugging Face token classification
    folders, whose transitions then follow from the tag scheme alone. Models that have one tag for
    each label (scheme IO) become BIO. No code in a file is run.

    spacy bert-crf import-model theirs/ pipeline/ --labels LOC,PER,ORG --scheme BIO
    """
    from ..export.import_model import import_model

    imported = import_model(
        src,
        dst,
        labels=[label.strip() for label in labels.split(",")] if labels else (),
        scheme=scheme,
        constraints=constraints,
        lang=lang,
    )
    print(f"{dst}: {imported.summary}")


@command("compare-exports")
def compare_exports_command(
    pipeline: Path = typer.Argument(..., help="Folder of the trained pipeline"),
    data: Path = typer.Argument(..., help="Annotated docs (.spacy)"),
    exports: list[Path] = typer.Argument(
        ..., help="Folders that `export` wrote: one with all its formats, or those of formats"
    ),
    output: Optional[Path] = typer.Option(
        None, "--output", "-o", help="Write the table to NAME.md and NAME.json"
    ),
    repeat: int = typer.Option(1, "--repeat", min=1, help="Runs of each; medians of the times"),
    limit: int = typer.Option(0, "--limit", min=0, help="Only the first N docs; 0 takes all"),
    threads: int = typer.Option(0, "--threads", min=0, help="Threads of all; 0: as torch says"),
    component: str = typer.Option("", "--component", help="Which bert_crf, if there are several"),
) -> None:
    """Compare exported formats with their pipeline: size, load time, speed, entity F1, equality.

    Formats that give emissions are decoded here with their transitions.npz. All run on the CPU on
    the same batches, sorted by length.

    spacy bert-crf compare-exports PIPELINE corpus/quickstart/test.spacy export/quickstart
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
        data_text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
        write_text(output.parent / f"{output.name}.json", data_text)
        print(f"wrote {output}.md and {output}.json")
