"""`bert-crf new`: a project of one's own."""

from pathlib import Path
from typing import Optional

import typer

from .app import command
from .convert import Overlap


@command("new")
def new_command(
    folder: Path = typer.Argument(..., metavar="FOLDER", help="Folder to make, new or empty"),
    train: Path = typer.Option(..., "--train", help="Annotated texts, in any format that is known"),
    dev: Optional[Path] = typer.Option(
        None, "--dev", help="Texts that choose the best epoch; else a tenth of --train"
    ),
    test: Optional[Path] = typer.Option(
        None, "--test", help="Texts for the final scores; else a tenth of --train, if no --dev"
    ),
    encoder: str = typer.Option(
        "packaged",
        "--encoder",
        help="Folder with a checkpoint, name on the Hugging Face hub, or packaged: the encoder of "
        "the quickstart, which pip gets",
    ),
    layers: int = typer.Option(
        0, "--layers", min=0, help="Keep so many layers of the encoder, from the first; 0 keeps all"
    ),
    lang: str = typer.Option("", "--lang", help="Language, as in zh or en; else found"),
    labels: str = typer.Option("", "--labels", help="Labels to learn, as in LOC,PER; else all"),
    format_: str = typer.Option("auto", "--format", help="Format of the files; auto finds it"),
    columns: str = typer.Option("", "--columns", help="Columns of token and tag, as in 0,3"),
    scheme: str = typer.Option("auto", "--scheme", help="Tag scheme of the columns; auto finds it"),
    names: str = typer.Option(
        "", "--names", help="Names of ner_tags that are numbers: O,B-PER,I-PER"
    ),
    join: Optional[str] = typer.Option(
        None, "--join", help='Text between tokens: "" for characters, " " for words; else found'
    ),
    overlap: Overlap = typer.Option(
        Overlap.longest, "--overlap", help="Which of two overlapping entities stays"
    ),
    partial: bool = typer.Option(
        False, "--partial", help="Annotation is incomplete: what is in no entity is unknown"
    ),
    seed: int = typer.Option(0, "--seed", help="Seed of the split and of the training"),
) -> None:
    """Make a project from an annotated corpus: everything that a training needs, in one folder.

    It finds format, language and labels, prints what is in the corpus, and splits off dev and test:
    whole documents, all labels in each part, no text in two parts. Then it converts the encoder and
    writes FOLDER: project.yml, config.cfg, package.yml, the texts, a README. With --encoder
    packaged it uses the network through pip, with a name on the hub through huggingface_hub.

    \b
    Example:
      python -m spacy bert-crf new my-project --train annotated.jsonl
      python -m spacy project run all my-project
    """
    from ..project.make import check_folder, make_project
    from ..project.read import survey_corpus

    check_folder(folder)
    survey = survey_corpus(
        train,
        dev,
        test,
        lang=lang,
        labels=[label.strip() for label in labels.split(",") if label.strip()],
        format=format_,
        columns=columns,
        scheme=scheme,
        join=join,
        names=[name.strip() for name in names.split(",") if name.strip()],
        overlap=overlap.value,
        partial=partial,
        seed=seed,
    )
    print(survey.table() + "\n", flush=True)
    project = make_project(folder, survey, encoder=encoder, layers=layers, seed=seed)
    print(project.encoder.text())
    for doubt in project.doubts():
        print(f"Doubtful: {doubt}.")
    print(f"\nMade {folder}. The training will take {project.epochs} epochs. Next:")
    print(f"  python -m spacy project run all {folder}")
