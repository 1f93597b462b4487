"""Trained pipelines: load one, find its component and encoder, run the pipes before it."""

import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import srsly
from spacy import util
from spacy.language import Language
from spacy.lookups import Lookups
from spacy.tokens import Doc
from spacy.vectors import Vectors

from .._files import atomic_folder, write_text
from .._provenance import missing_shared
from ..encoder import hf as enc
from ..errors import BertCrfError, first_line

if TYPE_CHECKING:
    from .pipe import BertCrf


def _read_config(path: Path) -> None:
    config = util.load_config(path, interpolate=True)
    for name in config["nlp"]["pipeline"]:
        config["components"][name]


#: The files that every pipeline folder has, and how each is read.
_PIPELINE_FILES: dict[str, Callable[[Path], Any]] = {
    "config.cfg": _read_config,
    "meta.json": srsly.read_json,
    "tokenizer": lambda path: srsly.read_msgpack(path) if path.is_file() else list(path.iterdir()),
    "vocab/strings.json": srsly.read_json,
    "vocab/lookups.bin": lambda path: Lookups().from_disk(path.parent),
    "vocab/vectors": lambda path: Vectors().from_disk(path.parent),
}

#: The pipelines in the folder that a training writes. The first one is to be used.
_TRAINED = ("model-best", "model-last")


def load_pipeline(path: Path) -> Language:
    """Load a trained pipeline. Raises BertCrfError naming the folder if it can't be loaded."""
    if not path.is_dir():
        raise BertCrfError(f"there is no pipeline folder {path}: name the folder of a pipeline.")
    if not (path / "config.cfg").is_file() or not (path / "meta.json").is_file():
        inside = [path / name for name in _TRAINED if (path / name / "meta.json").is_file()]
        if inside:
            raise BertCrfError(f"{path} is no pipeline, but the folder of one: name {inside[0]}.")
    try:
        return util.load_model(path)
    except Exception as err:
        reason = first_line(err)
        where = damaged_file(path)
        reason = f"{where} is damaged. ({reason})" if where else reason
        hint = missing_shared(err)
        raise BertCrfError(f"can't load the pipeline {path}: {reason}{hint}") from err


def damaged_file(path: Path) -> Optional[Path]:
    """The first damaged file of a pipeline folder; None if all can be read.

    Files of components are left out: a component names its own.
    """
    for name, read in _PIPELINE_FILES.items():
        try:
            read(path / name)
        except Exception:
            return path / name
    return None


def docs_before(nlp: Language, component: str, texts: list[str]) -> list[Doc]:
    """Docs as a component reads them: after the pipes before it.

    nlp: the pipeline.
    component: name of the component.
    texts: the texts of the docs.
    Raises BertCrfError for a text that the pipeline does not take.
    """
    before = nlp.pipe_names[: nlp.pipe_names.index(component)]
    with nlp.select_pipes(enable=before):
        try:
            return list(nlp.pipe(texts))
        except ValueError as err:  # too long, or no valid text
            raise BertCrfError(f"the pipeline does not take a text: {first_line(err)}") from err


def entity_labels(nlp: Language) -> Optional[set[str]]:
    """The labels of all entities that a pipeline can write.

    None if they are not known, because a component does not declare its attributes or labels.
    """
    labels: set[str] = set()
    for name, pipe in nlp.pipeline:
        assigns = nlp.get_pipe_meta(name).assigns
        own = getattr(pipe, "labels", None)
        if own is not None and "doc.ents" in assigns:
            labels.update(own)
        elif own is None and (not assigns or "doc.ents" in assigns):
            return None
    return labels


def check_labels(
    nlp: Language, docs: Sequence[Doc], corpus: str, effect: str = "These entities count as missed."
) -> None:
    """Compare the labels of annotated docs with those that the pipeline can predict.

    nlp: the pipeline.
    docs: annotated docs.
    corpus: name of the docs, for messages.
    effect: what happens to entities of unknown labels, for the warning.
    Warns of labels that the pipeline does not have.
    Raises BertCrfError if it has none of the labels, so that every score would be 0.
    """
    known = entity_labels(nlp)
    counts = Counter(ent.label_ for doc in docs for ent in doc.ents)
    unknown = sorted(set(counts) - known) if known is not None else []
    if known is None or not unknown:
        return
    listed = ", ".join(
        f"{label} ({counts[label]} {'entity' if counts[label] == 1 else 'entities'})"
        for label in unknown
    )
    message = f"{corpus} has labels that the pipeline does not have: {listed}."
    by_case = {label.casefold(): label for label in sorted(known)}
    pairs = [(label, by_case[label.casefold()]) for label in unknown if label.casefold() in by_case]
    message += "".join(f" {a} and {b} differ only in case." for a, b in pairs)
    message += f" The pipeline has: {', '.join(sorted(known)) or 'none'}."
    if len(unknown) == len(counts):
        raise BertCrfError(f"{message} Nothing can be scored: use the same labels in both.")
    warnings.warn(f"{message} {effect}", stacklevel=3)


def is_bert_crf(nlp: Language, name: str) -> bool:
    """Whether a component of the pipeline was made by the factory `bert_crf`."""
    return bool(nlp.get_pipe_meta(name).factory == "bert_crf")


def find_component(nlp: Language, name: str = "") -> "BertCrf":
    """The trained `bert_crf` component of a pipeline.

    nlp: the pipeline.
    name: name of the component; needed only where there are several.
    Raises BertCrfError if there is none, several and no name, or one without weights.
    """
    found = {n: pipe for n, pipe in nlp.pipeline if is_bert_crf(nlp, n)}
    if name and name not in found:
        raise BertCrfError(
            f"the pipeline has no bert_crf component {name!r}, only {list(found)}: name one of "
            "these with --component."
        )
    if not name and len(found) != 1:
        raise BertCrfError(
            f"the pipeline has {len(found)} bert_crf components ({', '.join(found)}): "
            "name one of them with --component."
            if found
            else f"the pipeline has no bert_crf component, only {nlp.pipe_names}."
        )
    pipe = found[name] if name else next(iter(found.values()))
    from ..model.layers import head_of  # late, since half of the package stands behind it

    if not head_of(pipe.model).is_built:
        raise BertCrfError(f"component {pipe.name!r} is not trained: name a trained pipeline.")
    return pipe


def find_encoder(nlp: Language, pipe: "BertCrf") -> enc.LoadedEncoder:
    """The encoder of a component: its own, or the shared one that it listens to.

    Raises BertCrfError if it is no Hugging Face encoder with a fast tokenizer.
    """
    from ..model.layers import encoder_of

    encoder = encoder_of(pipe.model)
    if encoder is not None:
        return encoder.loaded
    models = [pipe.model.get_ref("tok2vec")]
    for node in pipe.model.walk():
        upstream = getattr(node, "upstream_name", None)
        for name, other in nlp.pipeline if upstream is not None else ():
            listeners = getattr(other, "listener_map", {}).get(pipe.name, ())
            if any(node is listener for listener in listeners) or name == upstream:
                models.append(other.model)
    for model in models:
        for node in model.walk():
            for shim in node.shims:
                # spacy-transformers keeps the model and the tokenizer in an HFObjects.
                held = getattr(shim, "_hfmodel", None) or getattr(shim, "_model", None)
                transformer = getattr(held, "transformer", held)
                tokenizer = getattr(held, "tokenizer", None)
                if getattr(transformer, "config", None) is not None and tokenizer is not None:
                    return enc.LoadedEncoder(transformer, tokenizer)
    raise BertCrfError(
        f"component {pipe.name!r} has no Hugging Face encoder with a fast tokenizer: only such a "
        "component can be exported."
    )


def check_output(output: Path) -> None:
    """Raise BertCrfError if a folder exists that is no pipeline, and must not be replaced."""
    if output.exists() and not (output / "meta.json").is_file():
        raise BertCrfError(f"{output} exists and is no pipeline folder: name a new one.")


def change_cfg(
    pipeline: Path, component: str, changes: dict[str, Any], output: Optional[Path] = None
) -> None:
    """Change entries of a component's `cfg` in a pipeline's folder, or in a copy of it.

    pipeline: folder of the pipeline.
    component: name of the component.
    changes: the entries, as JSON can hold them.
    output: folder of the copy; None to change the pipeline itself.
    Raises BertCrfError if the folder can't be written.
    """
    if output is None or output.resolve() == pipeline.resolve():
        _update_json(pipeline / component / "cfg", changes)
        return
    check_output(output)
    with atomic_folder(output) as folder:
        shutil.copytree(pipeline, folder, dirs_exist_ok=True)
        _update_json(folder / component / "cfg", changes)


def _update_json(path: Path, changes: dict[str, Any]) -> None:
    cfg: dict[str, Any] = srsly.read_json(path)
    write_text(path, srsly.json_dumps(cfg | changes, indent=2) + "\n")
