"""`bert-crf convert-checkpoint` and `bert-crf convert-corpus`: prepare encoder and corpora."""

import sys
from enum import Enum
from pathlib import Path

import typer

from ..errors import first_of
from .app import command


class Case(str, Enum):
    """Whether the tokenizer lower-cases texts."""

    auto = "auto"
    yes = "true"
    no = "false"


class Scheme(str, Enum):
    """Tag schemes of column files."""

    auto = "auto"
    bio = "bio"
    bioes = "bioes"
    bmes = "bmes"
    bilu = "bilu"


class OnError(str, Enum):
    """Ways to handle a bad line."""

    fail = "fail"
    skip = "skip-sentence"
    repair = "repair"


@command("convert-checkpoint")
def convert_checkpoint_command(
    src: Path = typer.Argument(..., help="Folder as downloaded: weights, config.json, vocab.txt"),
    dst: Path = typer.Argument(..., help="Folder to write"),
    layers: int = typer.Option(0, "--layers", help="Keep only the first N layers; 0 keeps all"),
    lower_case: Case = typer.Option(
        Case.auto, "--lower-case", help="Lower-case texts; auto looks at the vocabulary"
    ),
) -> None:
    """Convert an encoder's checkpoint to a folder that current transformers load.

    LayerNorm.gamma and beta are renamed to weight and bias. Every tensor that config.json implies
    must be there in the right shape. DST becomes a complete Hugging Face folder (model.safetensors,
    config, tokenizer) with a pytorch_model_cvt.bin. Code in a checkpoint is never executed.

    \b
    Example:
      python -m spacy bert-crf convert-checkpoint downloads/bert-base-chinese encoders/mine
    """
    from ..encoder.checkpoint import convert_checkpoint

    report = convert_checkpoint(src, dst, layers=layers, lower_case=lower_case.value)
    print(report.text())


@command("convert-corpus")
def convert_corpus_command(
    src: Path = typer.Argument(..., help="Column file (one character and its tag a line)"),
    dst: Path = typer.Argument(..., help="DocBin to write (.spacy)"),
    scheme: Scheme = typer.Option(Scheme.auto, "--scheme", help="Tag scheme of the columns"),
    lang: str = typer.Option("zh", "--lang", help="Language whose tokenizer is used"),
    join: str = typer.Option(
        "", "--join", help='Text between tokens: "" for characters, " " for words'
    ),
    on_error: OnError = typer.Option(
        OnError.fail,
        "--on-error",
        help="Bad lines: list them and stop, leave their sentence out, or repair them where "
        "possible (an I- after O becomes a B-)",
    ),
) -> None:
    """Convert a column corpus to spaCy's DocBin, or a DocBin back to columns.

    A blank line separates sentences. A space or a tab separates the columns. If SRC ends in .spacy,
    DST becomes a column file.

    \b
    Example:
      python -m spacy bert-crf convert-corpus train.txt corpus/train.spacy --scheme bio
    """
    from ..annotation.convert import convert_corpus

    report = convert_corpus(
        src, dst, scheme=scheme.value, lang=lang, join=join, on_error=on_error.value
    )
    for text in first_of(report.messages):
        print(text, file=sys.stderr)
    print(report.table())
