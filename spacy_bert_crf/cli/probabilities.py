"""`bert-crf calibrate`, `dictionary`, `find-errors` and `nbest`: commands about probabilities."""

import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from enum import Enum
from pathlib import Path
from typing import Any, Optional

import typer

from ..errors import BertCrfError
from .app import command, write_json

_COMPONENT = typer.Option("", "--component", help="Which bert_crf, if there are several")
_COPY = typer.Option(
    None,
    "--output",
    "-o",
    help="Write a copy of the pipeline; without this option, the pipeline is changed",
)
_GPU = typer.Option(-1, "--gpu-id", "-g", help="GPU number, -1 for the CPU")


@command("calibrate")
def calibrate_command(
    pipeline: Path = typer.Argument(..., help="Folder of a trained pipeline"),
    data: Path = typer.Argument(..., help="Annotated docs that it was not trained on (.spacy)"),
    output: Optional[Path] = _COPY,
    component: str = _COMPONENT,
    gpu_id: int = _GPU,
) -> None:
    """Calibrate the probabilities of a pipeline's entities.

    First, a temperature is fitted to the likelihood of the gold annotation. Then a correction of
    the probabilities of predicted entities is fitted. Both are stored with the component. The best
    entities stay the same. The expected calibration error is printed before and after. For it,
    each half of the docs has the fit on the other half.

    \b
    Example:
      python -m spacy bert-crf calibrate training/quickstart/model-best \\
        corpus/quickstart/dev.spacy
    """
    from .._devices import use_device
    from ..annotation.docbin import read_docs
    from ..component.pipelines import check_output, load_pipeline
    from ..evaluation.calibrate import calibrate, store

    if output is not None:
        check_output(output)
    use_device(gpu_id)
    nlp = load_pipeline(pipeline)
    found = calibrate(nlp, read_docs(data, nlp), component=component, progress=True)
    store(found, pipeline, output)
    print(found.table())
    print(f"stored temperature {found.temperature:g} in {output or pipeline}")


class Mode(str, Enum):
    """How a name counts that does not say so itself."""

    soft = "soft"
    hard = "hard"
    never = "not"


@command("dictionary")
def dictionary_command(
    pipeline: Path = typer.Argument(..., help="Folder of a trained pipeline"),
    names: Path = typer.Argument(..., help="Names: NAME, tab, LABEL on each line; or .jsonl"),
    mode: Mode = typer.Option(
        Mode.soft, "--mode", help="soft: likelier; hard: always an entity; not: never of this label"
    ),
    bonus: Optional[float] = typer.Option(
        None, "--bonus", help="By how many nats a soft name is likelier  [default: 2]"
    ),
    fit: Optional[Path] = typer.Option(
        None, "--fit", help="Annotated docs (.spacy) to which the bonus of each label is fitted"
    ),
    output: Optional[Path] = _COPY,
    component: str = _COMPONENT,
    gpu_id: int = _GPU,
) -> None:
    """Give a pipeline a dictionary of names, which takes part in decoding.

    A third column, or "mode" in JSON lines, says soft, hard or not for a single name. A soft name
    is only a hint: the context decides. The names replace those that the pipeline has. An empty
    file removes them.

    \b
    Example:
      python -m spacy bert-crf dictionary training/mine/model-best names.tsv --fit corpus/dev.spacy
    """
    from .._devices import use_device
    from ..annotation.docbin import read_docs
    from ..component.decoding.dictionary import DEFAULT_BONUS, Dictionary
    from ..component.decoding.dictionary_file import read_dictionary
    from ..component.pipelines import check_output, find_component, load_pipeline
    from ..evaluation.fit_dictionary import fit_dictionary, store_dictionary

    if bonus is not None and fit is not None:
        raise BertCrfError("--bonus and --fit exclude one another: give one of them.")
    if output is not None:
        check_output(output)
    read = read_dictionary(names, mode.value)
    use_device(gpu_id)
    nlp = load_pipeline(pipeline)
    pipe = find_component(nlp, component)
    nats = DEFAULT_BONUS if bonus is None else bonus
    found = Dictionary(read.entries, dict.fromkeys(read.labels, nats))
    pipe.dictionary = found  # checks the labels
    if fit is not None:
        fitted = fit_dictionary(nlp, read_docs(fit, nlp), found, component=pipe.name, progress=True)
        found = fitted.dictionary
        print(fitted.table())
    store_dictionary(found, pipe.name, pipeline, output)
    print(f"stored {len(found.entries):,} names in {output or pipeline}")


@command("find-errors")
def find_errors_command(
    pipeline: Path = typer.Argument(..., help="Folder of a trained pipeline"),
    data: Path = typer.Argument(..., help="Annotated docs (.spacy)"),
    top: int = typer.Option(20, "--top", "-n", min=0, help="Rows of each list; 0 for all"),
    output: Optional[Path] = typer.Option(None, "--output", "-o", help="JSON file to write"),
    component: str = _COMPONENT,
    gpu_id: int = _GPU,
) -> None:
    """List the places where a corpus may be annotated wrongly.

    The first list has gold entities, the least probable first, each with the prediction in its
    place. The second list has predicted entities where the gold has none, the most probable first.
    A pipeline that was not trained on these docs finds more errors.

    \b
    Example:
      python -m spacy bert-crf find-errors training/quickstart/model-best \\
        corpus/quickstart/dev.spacy --top 10
    """
    from .._devices import use_device
    from ..annotation.docbin import read_docs
    from ..component.pipelines import load_pipeline
    from ..evaluation.suspects import find_errors

    use_device(gpu_id)
    nlp = load_pipeline(pipeline)
    found = find_errors(nlp, read_docs(data, nlp), component=component, progress=True)
    print(found.table(top))
    if output is not None:
        write_json(output, found.to_dict(top))
        print(f"wrote {output}")


@command("nbest")
def nbest_command(
    pipeline: Path = typer.Argument(..., help="Folder of a trained pipeline"),
    texts: Path = typer.Argument(Path("-"), help="Texts, one a line, in UTF-8; - for stdin"),
    k: int = typer.Option(5, "--number", "-k", min=1, help="How many readings of each text"),
    output: Optional[Path] = typer.Option(
        None, "--output", "-o", help="File to write; without this option, the lines are printed"
    ),
    component: str = _COMPONENT,
    gpu_id: int = _GPU,
) -> None:
    """Write the k most probable readings of each text, as JSON lines.

    A reading is a tag path with its entities. Each line holds a text and its readings. A reading
    has a probability and a list of entities. An entity has start and end (offsets in characters),
    label and text. The search is exact: these are the k best of all legal tag paths.

    \b
    Example:
      echo 王小明在北京。 | python -m spacy bert-crf nbest training/quickstart/model-best -k 3
    """
    from .._devices import use_device
    from .._files import atomic_file
    from ..component.pipelines import find_component, load_pipeline

    use_device(gpu_id)
    lines = _lines(texts)
    nlp = load_pipeline(pipeline)
    found = _readings(nlp, find_component(nlp, component), lines, k)
    if output is None:
        for line in found:
            print(line, flush=True)
        return
    with atomic_file(output) as tmp, tmp.open("w", encoding="utf8", newline="\n") as file:
        for line in found:
            file.write(line + "\n")
    print(f"wrote {output}")


def _lines(path: Path) -> Iterator[str]:
    """Lines of a file or of stdin. Raises BertCrfError for a line that is not UTF-8."""
    if str(path) != "-" and not path.is_file():
        raise BertCrfError(f"there is no file {path}: name a text file, or - for stdin.")
    return _decoded(path)


def _decoded(path: Path) -> Iterator[str]:
    with nullcontext(sys.stdin.buffer) if str(path) == "-" else path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield line.decode("utf8").lstrip("\ufeff").rstrip("\r\n")
            except UnicodeDecodeError as err:
                where = "stdin" if str(path) == "-" else str(path)
                raise BertCrfError(f"{where}:{number} is not UTF-8: convert it first.") from err


def _readings(nlp: Any, pipe: Any, lines: Iterator[str], k: int) -> Iterator[str]:
    from spacy.util import minibatch

    from ..component.pipelines import docs_before

    for batch in minibatch(lines, 64):
        docs = docs_before(nlp, pipe.name, batch)
        for doc, found in zip(docs, pipe.nbest(docs, k), strict=True):
            readings = [
                {
                    "probability": p,
                    "entities": [
                        {"start": e.start_char, "end": e.end_char, "label": e.label_,
                         "text": e.text}
                        for e in entities
                    ],
                }
                for entities, p in found
            ]  # fmt: skip
            yield json.dumps({"text": doc.text, "readings": readings}, ensure_ascii=False)
