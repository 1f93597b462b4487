"""The commands `python -m spacy bert-crf …`.

Every spaCy command imports this package (entry point in group `spacy_cli`), so nothing here
imports torch, transformers or thinc's layers at module level: each command imports what it needs.
"""

from spacy.cli._util import app as spacy_app

from . import ask, convert, evaluate, export, exports, train  # noqa: F401  (each adds its commands)
from .app import cli

spacy_app.add_typer(cli, name="bert-crf")

__all__ = ["cli"]
