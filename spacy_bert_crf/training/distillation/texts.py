"""Texts without annotation, as further examples of a training corpus."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Optional, cast

import srsly
from spacy.language import Language
from spacy.training import Example
from spacy.util import registry
from thinc.api import Config

from ...annotation.formats import detect_format, read_corpus
from ...annotation.formats.text import read_text
from ...errors import BertCrfError

Corpus = Callable[[Language], Iterable[Example]]
#: Name of the reader of a corpus with further texts.
WITH_TEXTS = "spacy_bert_crf.WithTexts.v1"


@registry.readers(WITH_TEXTS)
def create_with_texts(texts: str, corpus: Optional[Corpus] = None) -> Corpus:
    """A training corpus followed by texts without annotation.

    texts: file of the texts; see `read_texts`.
    corpus: the reader of the annotated corpus; None for none.
    """

    def read(nlp: Language) -> Iterator[Example]:
        if corpus is not None:
            yield from corpus(nlp)
        for text in read_texts(Path(texts)):
            yield Example(nlp.make_doc(text), nlp.make_doc(text))

    return read


def read_texts(path: Path) -> list[str]:
    """The texts of a file, without empty ones. Annotation in it is not used.

    path: plain text (.txt) with one text on each line, JSON lines (.jsonl) with a "text" in each,
        or an annotated corpus of any format that `convert-corpus` knows.
    Raises BertCrfError if the file can't be read, or has no text.
    """
    if not path.exists():
        raise BertCrfError(f"there is no file {path}: name a file of texts.")
    texts: Optional[list[str]] = None
    if path.suffix == ".jsonl":
        texts = _texts_of_records(path)
    elif path.suffix == ".txt" and not _is_corpus(path):
        texts = read_text(path).split("\n")
    if texts is None:
        texts = [item.text for item in read_corpus(path, on_error="repair").texts]
    texts = [text for text in (each.strip() for each in texts) if text]
    if not texts:
        raise BertCrfError(f"{path} has no text: name a file with one text on each line.")
    return texts


def add_texts(config: Config, texts: str) -> None:
    """Let the training corpus of a config end with the texts of a file.

    A corpus whose path is not set is left out, so that there may be texts only.

    config: the training config, which is changed.
    texts: the file; "" leaves the corpus as it is.
    Raises BertCrfError if the config has no section of the training corpus.
    """
    where = config["training"].get("train_corpus", "corpora.train")
    *above, last = where.split(".")
    holder, plain = _section(config, above), _section(config.interpolate(), [*above, last])
    section = holder.get(last)
    if not isinstance(section, dict):
        raise BertCrfError(f"the config has no section [{where}]: add it.")
    if section.get("@readers") == WITH_TEXTS:  # the config of an earlier distillation
        section, plain = section.get("corpus", {}), plain.get("corpus", {"path": None})
    own = section if plain.get("path", "") is not None else None
    if texts:
        section = {"@readers": WITH_TEXTS, "texts": texts, **({"corpus": own} if own else {})}
    holder[last] = section


def _section(config: Any, names: Iterable[str]) -> dict[str, Any]:
    """A section of a config by its names from the top; empty if it is not there."""
    for name in names:
        config = config.get(name, {})
    return cast(dict[str, Any], config)


def _texts_of_records(path: Path) -> Optional[list[str]]:
    """The texts of JSON lines; None if not every line is an object with a text."""
    lines = [line for line in read_text(path).split("\n") if line.strip()]
    try:
        records = [srsly.json_loads(line) for line in lines]
        texts = [record["text"] for record in records]
    except (ValueError, TypeError, KeyError):
        return None
    return texts if all(isinstance(text, str) for text in texts) else None


def _is_corpus(path: Path) -> bool:
    """Whether a .txt file has annotation: columns, or standoff files beside it."""
    try:
        return bool(detect_format(path))
    except BertCrfError:
        return False
