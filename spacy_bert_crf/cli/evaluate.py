"""`bert-crf evaluate` and `report`: scores of a trained pipeline, as text and as a page."""

import time
from pathlib import Path
from typing import Optional

import typer

from ..errors import BertCrfError
from .app import command, write_json


@command("evaluate")
def evaluate_command(
    pipeline: Path = typer.Argument(..., help="Folder of a trained pipeline"),
    data: Path = typer.Argument(..., help="Annotated docs (.spacy)"),
    dev: Optional[Path] = typer.Option(
        None, "--dev", help="A second corpus; its scores are written under `dev`"
    ),
    history: Optional[Path] = typer.Option(
        None,
        "--history",
        help="history.json of the training, from which epochs and seed are copied",
    ),
    output: Optional[Path] = typer.Option(None, "--output", "-o", help="JSON file to write"),
    picture: Optional[Path] = typer.Option(
        None, "--picture", help="Reliability diagram of DATA to write (.svg)"
    ),
    confused: Optional[Path] = typer.Option(
        None, "--confusion", help="Confusion matrix of DATA to write (.svg)"
    ),
    intervals: bool = typer.Option(
        False, "--intervals", help="Also write 95 % intervals of the scores to the JSON file"
    ),
    gpu_id: int = typer.Option(-1, "--gpu-id", "-g", help="GPU number, -1 for the CPU"),
) -> None:
    """Score a pipeline's entities: precision, recall and F1, in total and for each label.

    Entities are scored by entity (borders and label must be right) and by token (tags other than
    O). The calibration of their probabilities is measured too: of the entities with a probability
    of 0.9, nine in ten should be right. See `calibrate`.

    With --confusion, the errors are counted by kind: another label, other borders, missed,
    spurious. The counts are in the picture, in a table and in the JSON file.

    \b
    Example:
      python -m spacy bert-crf evaluate training/quickstart/model-best \\
        corpus/quickstart/test.spacy --output metrics.json
    """
    from .._devices import use_device
    from .._files import write_text
    from ..annotation.docbin import read_docs
    from ..component.pipelines import load_pipeline
    from ..evaluation.evaluate import evaluate, metrics
    from ..evaluation.figures import confusion_picture, reliability_picture

    for drawn in (picture, confused):
        if drawn is not None and drawn.suffix.lower() != ".svg":
            raise BertCrfError(f"the picture {drawn} must be an .svg file.")
    use_device(gpu_id)
    began = time.perf_counter()
    nlp = load_pipeline(pipeline)
    found = []
    for path in (data, dev):
        if path is not None:
            docs = read_docs(path, nlp)
            wanted = {"confusion": confused is not None, "intervals": intervals}
            found.append(evaluate(nlp, docs, **wanted, progress=True))
            print(f"{found[-1].tables(path.name)}\n", flush=True)
    figures = metrics(
        found[0],
        dev=found[1] if dev is not None else None,
        history=history,
        seconds=time.perf_counter() - began,
    )
    figures["data"] = data.name
    if dev is not None:
        figures["dev"]["data"] = dev.name
    title = f"Entities in {data.name}"
    if output is not None:
        write_json(output, figures)
    if picture is not None and found[0].reliability is not None:
        write_text(picture, reliability_picture(found[0].reliability, title))
    if confused is not None and found[0].confusion is not None:
        write_text(confused, confusion_picture(found[0].confusion, title))
    for written in (output, picture, confused):
        if written is not None and written.is_file():
            print(f"wrote {written}")


@command("report")
def report_command(
    pipeline: Path = typer.Argument(..., help="Folder of a trained pipeline"),
    data: Path = typer.Argument(..., help="Annotated docs (.spacy)"),
    output: Path = typer.Option(
        Path("report.html"), "--output", "-o", help="Page to write (.html)"
    ),
    history: Optional[Path] = typer.Option(
        None,
        "--history",
        help="history.json of the training, for the learning curve; by default the one beside "
        "PIPELINE, if there is one",
    ),
    title: str = typer.Option(
        "", "--title", help="Title of the page; by default made of the names"
    ),
    component: str = typer.Option("", "--component", help="Which bert_crf, if there are several"),
    gpu_id: int = typer.Option(-1, "--gpu-id", "-g", help="GPU number, -1 for the CPU"),
) -> None:
    """Write a page to look at: scores, errors, calibration, learning curve and every sentence.

    The page is one HTML file that needs no network. Scores have 95 % intervals. Sentences show
    gold entities above predicted ones, the worst first. They can be filtered by kind of error,
    label and text. Each entity shows its probability.

    \b
    Example:
      python -m spacy bert-crf report training/quickstart/model-best \\
        corpus/quickstart/dev.spacy --output report.html
    """
    from .._devices import use_device
    from .._files import write_text
    from ..annotation.docbin import read_docs
    from ..component.pipelines import load_pipeline
    from ..evaluation.report.make import make_report

    if output.suffix.lower() not in (".html", ".htm"):
        raise BertCrfError(f"the page {output} must be an .html file.")
    use_device(gpu_id)
    nlp = load_pipeline(pipeline)
    folder = pipeline.resolve()
    beside = folder.parent / "history.json"
    if history is None and beside.is_file():
        history = beside
    found = make_report(
        nlp,
        read_docs(data, nlp),
        component=component,
        history=history,
        title=title or f"{folder.parent.name}/{folder.name} on {data.name}",
        progress=True,
    )
    write_text(output, found.html())
    entities = found.evaluation.scores.entities
    print(f"F1 {entities.f * 100:.2f} on {data.name}, {found.evaluation.scores.docs} sentences")
    size = output.stat().st_size
    shown = f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.0f} kB"
    print(f"wrote {output} ({shown}): open it in a browser")
