"""The commands `python -m spacy bert-crf …`: one file for each group of them.

This room may import everything else. Every spaCy command imports it, through the entry point in
group `spacy_cli`. So no module here imports torch, transformers or thinc's layers at module level.
Each command imports its own needs. The library returns values, and the commands print and write.
"""

from spacy.cli._util import app as spacy_app

# Each of these modules adds its commands.
from . import (  # noqa: F401
    compare,
    convert,
    evaluate,
    export,
    import_model,
    new,
    probabilities,
    train,
)
from .app import cli
from .handing_on import card, push  # noqa: F401
from .texts import annotate, bootstrap, select, serve  # noqa: F401

spacy_app.add_typer(cli, name="bert-crf")

__all__ = ["cli"]
