"""`bert-crf convert-checkpoint` and `bert-crf convert-corpus`: prepare encoder and corpora."""

import sys
from enum import Enum
from pathlib import Path
from typing import Optional

import typer

from ..errors import first_of
from .app import command

LANG = typer.Option("zh", "--lang", help="Language whose tokenizer is used")
TO = typer.Option("", "--to", help="Format of DST if it is no .spacy file")
LABEL_MAP = typer.Option("", "--map", help="New names of labels, such as PERSON=PER,GPE=LOC")
OUTSIDE = typer.Option(
    "", "--outside", help="Labels to drop; their tokens are no entity (*: all others)"
)
UNKNOWN = typer.Option(
    "", "--unknown", help="Labels to drop; their tokens are unknown (*: all others)"
)


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
    iob1 = "iob1"


class Overlap(str, Enum):
    """Which of two overlapping entities stays."""

    longest = "longest"
    first = "first"
    fail = "fail"


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
    src: Path = typer.Argument(..., help="Annotated corpus: a file, or a folder of brat"),
    dst: Path = typer.Argument(..., help="DocBin to write (.spacy), or another file; see --to"),
    format: str = typer.Option("auto", "--format", help="Format of SRC; auto finds it"),
    to: str = TO,
    columns: str = typer.Option(
        "", "--columns", help="Columns of token and tag (0,3), or of text and spans in CSV"
    ),
    scheme: Scheme = typer.Option(Scheme.auto, "--scheme", help="Tag scheme of the columns"),
    names: str = typer.Option(
        "", "--names", help="Names of ner_tags that are numbers: O,B-PER,I-PER"
    ),
    lang: str = LANG,
    join: Optional[str] = typer.Option(
        None, "--join", help='Text between tokens: "" for characters, " " for words; else found'
    ),
    overlap: Overlap = typer.Option(
        Overlap.longest, "--overlap", help="Which of two overlapping entities stays"
    ),
    partial: bool = typer.Option(
        False, "--partial", help="Texts are annotated in part: other tokens are unknown"
    ),
    covers: str = typer.Option(
        "", "--covers", help="Labels that are annotated, such as PER,LOC; else all are"
    ),
    label_map: str = LABEL_MAP,
    outside: str = OUTSIDE,
    unknown: str = UNKNOWN,
    on_error: OnError = typer.Option(
        OnError.fail,
        "--on-error",
        help="Errors: list them and stop, leave their text out, or repair them where possible (an "
        "I- after O becomes a B-)",
    ),
) -> None:
    """Convert an annotated corpus to spaCy's DocBin, or to another format.

    The format of SRC is found by its content: columns, doccano, Label Studio, Prodigy, CLUENER,
    spaCy JSON, Hugging Face JSONL or Parquet, CSV, WebAnno TSV, or a folder of brat. If SRC ends in
    .spacy, DST becomes a column file or what --to says.

    If only some labels are annotated in SRC, name them with --covers. The others are then not
    learned as absent. --map gives labels other names.

    \b
    Example:
      python -m spacy bert-crf convert-corpus admin.jsonl corpus/train.spacy --lang en
    """
    from ..annotation.convert import convert_corpus
    from ..annotation.coverage.label_map import LabelMap, parse_labels, parse_names

    report = convert_corpus(
        src,
        dst,
        format=format,
        to=to,
        columns=columns,
        scheme=scheme.value,
        names=[name.strip() for name in names.split(",")] if names else (),
        lang=lang,
        join=join,
        overlap=overlap.value,
        partial=partial,
        covers=parse_labels(covers) if covers else None,
        label_map=LabelMap.of(parse_names(label_map), parse_labels(outside), parse_labels(unknown)),
        on_error=on_error.value,
    )
    for text in first_of(report.messages):
        print(text, file=sys.stderr)
    print(report.table())
