"""`bert-crf convert-checkpoint` and `bert-crf convert-corpus`."""

import sys
from enum import Enum
from pathlib import Path

import typer

from .app import command

#: Bad lines that are listed where the conversion went on.
_SHOWN = 50


class Case(str, Enum):
    """Whether the tokenizer lower-cases."""

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
    """What to do with a bad line."""

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
    """Convert an encoder's checkpoint to what current transformers load.

    Renames LayerNorm.gamma/beta to weight/bias, checks that every tensor that config.json asks
    for is there in the right shape, and writes a complete Hugging Face folder (model.safetensors,
    config, tokenizer) and pytorch_model_cvt.bin. Never executes code from a checkpoint.
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
        "", "--join", help='What stands between tokens: "" for characters, " " for words'
    ),
    on_error: OnError = typer.Option(
        OnError.fail,
        "--on-error",
        help="Bad lines: list all and stop, leave their sentence out, "
        "or mend what can be mended (an I- after O becomes a B-)",
    ),
) -> None:
    """Convert a column corpus to spaCy's DocBin, or a DocBin back to columns.

    Blank lines part sentences; a space or a tab parts the columns. If SRC ends in .spacy, columns
    are written to DST.
    """
    from ..annotation.convert import convert_corpus

    report = convert_corpus(
        src, dst, scheme=scheme.value, lang=lang, join=join, on_error=on_error.value
    )
    for problem in report.problems[:_SHOWN]:
        print(f"{src}:{problem[0]}: {problem[1]}", file=sys.stderr)
    if len(report.problems) > _SHOWN:
        print(f"... and {len(report.problems) - _SHOWN} more", file=sys.stderr)
    print(report.table())
