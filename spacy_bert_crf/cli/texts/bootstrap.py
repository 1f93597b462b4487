"""`bert-crf bootstrap`: silver annotation by several sources."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import typer

from ...errors import BertCrfError, first_of
from ..app import command, write_json
from ..convert import LABEL_MAP, LANG, OUTSIDE, TO, UNKNOWN

if TYPE_CHECKING:
    from ...bulk.sources.files import SourceFile
    from ...evaluation.silver.bootstrap import RawText


class OnError(str, Enum):
    """What happens to a bad text or record."""

    fail = "fail"
    skip = "skip-text"


class Doubt(str, Enum):
    """What becomes of tokens on which sources do not agree."""

    unknown = "unknown"
    outside = "outside"


@command("bootstrap")
def bootstrap_command(
    texts: str = typer.Argument(
        ..., help="Texts: .txt with one on each line, .jsonl, .csv, .parquet or .spacy; or a folder"
    ),
    dst: Path = typer.Argument(
        ...,
        help="File to write: .spacy, or .jsonl for annotation tools; a name without a suffix "
        "becomes a folder of .spacy files",
    ),
    source: list[str] = typer.Option(
        [],
        "--source",
        "-s",
        help="[NAME=]KIND:PATH, where KIND is pipeline, file or dictionary; may be repeated",
    ),
    sources: Optional[Path] = typer.Option(
        None, "--sources", help="JSON file of sources with settings of their own"
    ),
    agreement: str = typer.Option(
        "all",
        "--agreement",
        "-a",
        help="An entity is what nobody is against (all), what more are for than against "
        "(majority), or what so many sources find (2, 3, ...)",
    ),
    doubt: Doubt = typer.Option(
        Doubt.unknown, "--doubt", help="What tokens become on which the sources do not agree"
    ),
    label_map: str = LABEL_MAP,
    outside: str = OUTSIDE,
    unknown: str = UNKNOWN,
    lang: str = LANG,
    text_field: str = typer.Option("text", "--text-field", help="Field of the text in TEXTS"),
    id_field: str = typer.Option(
        "", "--id-field", help="Field of the id, in TEXTS and in files of annotation"
    ),
    to: str = TO,
    disagreements: Optional[Path] = typer.Option(
        None, "--disagreements", "-d", help="JSON lines of the texts with disagreements"
    ),
    report: Optional[Path] = typer.Option(None, "--report", "-r", help="JSON file of the counts"),
    top: int = typer.Option(20, "--top", "-n", min=0, help="How many disagreements are printed"),
    on_error: OnError = typer.Option(
        OnError.fail, "--on-error", help="Bad texts and records: list them and stop, or go on"
    ),
    skip_failed: bool = typer.Option(
        False, "--skip-failed", help="Leave out texts of which a source says nothing"
    ),
    code: Optional[Path] = typer.Option(
        None, "--code", "-c", help="Python file with registered functions of the pipelines"
    ),
    gpu_id: int = typer.Option(-1, "--gpu-id", "-g", help="GPU number, -1 for the CPU"),
) -> None:
    """Annotate texts by what several sources agree on, for a training.

    A source is a spaCy pipeline, a file of annotations of the same texts by another program, or a
    dictionary of names. What the sources agree on becomes entities. Where they do not agree, the
    tokens are unknown: a training learns nothing there. The rest is outside.

    A pipeline and a file find all entities of their labels. A dictionary finds some, so that its
    silence says nothing.

    \b
    Example:
      python -m spacy bert-crf bootstrap texts.txt silver.spacy --source pipeline:zh_core_web_trf \\
        --source llm=file:answers.jsonl --source dictionary:names.tsv --map PERSON=PER,GPE=LOC
    """
    from spacy.cli._util import import_code

    from ..._devices import use_device
    from ...annotation.coverage.label_map import LabelMap, parse_labels, parse_names
    from ...bulk.sources.files import check_fields, find_files
    from ...evaluation.silver.agreement import Rule
    from ...evaluation.silver.bootstrap import Settings, bootstrap
    from ...evaluation.silver.output import check_output
    from ...evaluation.silver.sources import open_sources, parse_source, read_sources

    settings = Settings(lang, Rule.of(agreement), doubt.value, skip_failed)
    specs = [parse_source(each) for each in source]
    specs += [] if sources is None else read_sources(sources)
    if not specs:
        raise BertCrfError("there is no source: give --source KIND:PATH, or --sources FILE.")
    specs = [
        replace(spec, id_field=spec.id_field or id_field, on_error=on_error.value) for spec in specs
    ]
    labels = LabelMap.of(parse_names(label_map), parse_labels(outside), parse_labels(unknown))
    check_output(dst, to)
    files = find_files([texts])
    check_fields(files, [id_field] if id_field else [])
    import_code(code)
    use_device(gpu_id)
    opened = open_sources(specs, labels)
    problems: list[str] = []
    found = bootstrap(
        _texts(files, text_field, id_field, on_error is OnError.skip, problems),
        opened,
        dst,
        settings=settings,
        to=to,
        disagreements=disagreements,
        progress=True,
    )
    for line in first_of(problems):
        print(f"left out: {line}", file=sys.stderr)
    print(found.table(top))
    if report is not None:
        write_json(report, found.to_dict())
    for path in filter(None, (dst, disagreements, report)):
        print(f"wrote {path}")


def _texts(
    files: "list[SourceFile]", text_field: str, id_field: str, skips: bool, problems: list[str]
) -> "Iterator[RawText]":
    """The texts of files. Bad ones are collected in `problems`, or raise BertCrfError."""
    from ...bulk.rows import SetApart
    from ...bulk.sources.read import Fields, read_rows
    from ...evaluation.silver.bootstrap import RawText

    fields = Fields(text_field, id_field)
    for file in files:
        for item, _ in read_rows(file, fields):
            if not isinstance(item, SetApart):
                yield RawText(item.id, item.text, item.where, bool(id_field))
            elif skips:
                problems.append(f"{item.where}: {item.reason}")
            else:
                raise BertCrfError(
                    f"{item.where}: {item.reason}. Correct it, or use --on-error skip-text."
                )
