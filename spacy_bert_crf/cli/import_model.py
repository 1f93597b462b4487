"""`bert-crf import-model`: make a pipeline from trained weights."""

from pathlib import Path
from typing import Optional

import typer

from .app import command


@command("import-model")
def import_model_command(
    src: Path = typer.Argument(..., help="Folder with trained weights, or the weights in it"),
    dst: Path = typer.Argument(..., help="Pipeline folder to write"),
    labels: str = typer.Option(
        "", "--labels", help="Entity types in the order of their tags, such as LOC,PER,ORG"
    ),
    scheme: str = typer.Option("", "--scheme", help="Tag scheme: BIO, BIOES, BMES, BILUO or IO"),
    constraints: Optional[bool] = typer.Option(
        None,
        "--constraints/--no-constraints",
        help="Whether decoding follows the tag scheme; by default as in best_model.json, else as "
        "the source does: yes with a CRF, no without",
    ),
    lang: str = typer.Option(
        "",
        "--lang",
        help="Language of the pipeline; by default as in best_model.json, else zh for a vocabulary "
        "with Chinese and xx for others",
    ),
) -> None:
    """Make a spaCy pipeline from trained weights.

    \b
    SRC can be:
      - a folder that `export` wrote, or its bert4torch or huggingface folder
      - a best_model.pt of bert4torch's CRF example, beside config.json and vocab.txt (give
        --labels)
      - a Hugging Face folder for token classification

    The last has no CRF. Its pipeline takes the best tag of each token, as the model does, unless
    --constraints is given. Models with one tag for each label (scheme IO) become BIO. No code in a
    file is executed.

    \b
    Example:
      python -m spacy bert-crf import-model theirs/ pipeline/ --labels LOC,PER,ORG --scheme BIO
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
    for note in imported.notes:
        print(f"note: {note}")
