"""`bert-crf select`: which texts to annotate next."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import typer

from ...errors import BertCrfError, first_of
from ..app import command


@command("select")
def select_command(
    pipeline: Path = typer.Argument(..., help="Folder of a trained pipeline"),
    texts: list[str] = typer.Argument(
        ...,
        help="Files, folders or globs of .txt (a text a line), .jsonl, .csv, .parquet or .spacy, "
        "also with .gz or .zst",
    ),
    output: Path = typer.Option(..., "--output", "-o", help="File of the tasks"),
    number: Optional[int] = typer.Option(
        None, "--number", "-n", help="How many texts  [default: 200, or as --characters allows]"
    ),
    characters: Optional[int] = typer.Option(
        None, "--characters", help="Largest number of characters of all texts together"
    ),
    to: str = typer.Option("jsonl", "--to", help="Format: jsonl, doccano, label-studio, prodigy"),
    by: str = typer.Option(
        "entropy", "--by", help="Score of a text: entropy, best-path, errors or token-errors"
    ),
    per: str = typer.Option(
        "token", "--per", help="A score counts per token, per root of their number, or per text"
    ),
    diversity: float = typer.Option(
        1.0, "--diversity", help="How much likeness to texts already chosen counts; 0 for nothing"
    ),
    near: float = typer.Option(
        0.8, "--near", help="Texts that are so similar to a chosen one are left out; 1 for equal"
    ),
    pool: int = typer.Option(
        5_000, "--pool", help="The choice is made among so many of the highest scores"
    ),
    exclude: list[Path] = typer.Option(
        [], "--exclude", help="A corpus or file of tasks; its texts are left out. May be repeated"
    ),
    uncertain: float = typer.Option(
        0.8, "--uncertain", help="Entities that are less probable are marked as uncertain"
    ),
    text_field: str = typer.Option("text", "--text-field", help="Field of the text"),
    id_field: str = typer.Option("", "--id-field", help="Field of the name; else FILE:NUMBER"),
    whole_files: bool = typer.Option(
        False, "--whole-files", help="A .txt file is one text; else each of its lines"
    ),
    component: str = typer.Option("", "--component", help="Which bert_crf, if there are several"),
    gpu_id: int = typer.Option(-1, "--gpu-id", "-g", help="GPU number, -1 for the CPU"),
) -> None:
    """Choose which texts to annotate next, and write them as tasks for an annotation tool.

    Texts of which the pipeline is least sure come first. Texts that are like one another are
    chosen seldom, and equal ones once. Each task has the entities that the pipeline finds, with
    their probabilities, and marks what is uncertain. After correction, convert-corpus reads it.

    \b
    Example:
      python -m spacy bert-crf select training/quickstart/model-best texts.txt \\
        -n 200 --exclude corpus/quickstart/train.spacy --output tasks.jsonl
    """
    from ..._devices import use_device
    from ...annotation.formats import read_texts
    from ...bulk.sources.files import check_fields, find_files
    from ...bulk.sources.read import Fields
    from ...component.pipelines import load_pipeline
    from ...evaluation.selection.select import select_texts
    from ...evaluation.selection.tasks import TASKS, write_tasks
    from ...evaluation.selection.uncertainty import check_choice

    check_choice("to", to, tuple(TASKS))
    files = find_files(texts)
    check_fields(files, [id_field] if id_field else [])
    known = [text for path in exclude for text in read_texts(path)]
    use_device(gpu_id)
    nlp = load_pipeline(pipeline)
    unread: list[str] = []
    chosen = select_texts(
        nlp,
        _texts(files, Fields(text_field, id_field, (), whole_files), unread),
        number=number,
        characters=characters,
        by=by,
        per=per,
        diversity=diversity,
        near=near,
        pool=pool,
        exclude=known,
        uncertain=uncertain,
        component=component,
        progress=True,
    )
    write_tasks(chosen, output, to)
    print(chosen.table())
    for line in first_of(unread):
        print(f"not read: {line}")
    print(f"wrote {output}")


def _texts(files: Any, fields: Any, unread: list[str]) -> Iterator[tuple[str, str]]:
    """The name and the text of each row; what can't be read is added to `unread`."""
    from ...bulk.rows import SetApart
    from ...bulk.sources.read import read_rows

    for file in files:
        try:
            for item, _ in read_rows(file, fields):
                if isinstance(item, SetApart):
                    unread.append(f"{item.where}: {item.reason}")
                else:
                    yield item.id, item.text
        except ImportError as err:
            raise BertCrfError(
                f"can't read {file.name} without {err.name}. Run: pip install "
                '"spacy-bert-crf[annotate]"'
            ) from err
