"""Read the corpus of a new project: its files, language, labels and parts."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from ..annotation.formats import Corpus, read_corpus, to_docs
from ..errors import BertCrfError, first_line
from ..training.config import make_config
from .language import Guess, find_language
from .split import SHARES, split_texts
from .survey import Survey

if TYPE_CHECKING:
    from spacy.language import Language


def survey_corpus(
    train: Path,
    dev: Optional[Path] = None,
    test: Optional[Path] = None,
    *,
    lang: str = "",
    labels: Sequence[str] = (),
    format: str = "auto",
    columns: str = "",
    scheme: str = "auto",
    join: Optional[str] = None,
    names: Sequence[str] = (),
    overlap: str = "longest",
    partial: bool = False,
    seed: int = 0,
) -> Survey:
    """Read a corpus, find its language and labels, and divide it into parts.

    Errors in the files are mended where possible, and else the entity or text is left out. All are
    listed in the result.

    train: the annotated texts. Without `dev`, a tenth of them becomes dev. Without `dev` and
        `test`, another tenth becomes test.
    dev: the texts that choose the best epoch.
    test: the texts for the final scores.
    lang: code of the language. "" finds it.
    labels: the labels to learn, in the order of the pipeline. Empty for all, sorted.
    format, columns, scheme, join, names, overlap, partial: see `read_corpus`.
    seed: seed of the split.
    RETURNS: the parts and what was found.
    Raises BertCrfError if a file can't be read, no entity is left, a label of `labels` does not
    occur, there are too few texts to split, or the language has no tokenizer here.
    """
    files = {"train": train, "dev": dev, "test": test}
    read: dict[str, Corpus] = {
        part: read_corpus(
            path,
            format=format,
            columns=columns,
            scheme=scheme,
            join=join,
            names=names,
            overlap=overlap,
            partial=partial,
            on_error="repair" if overlap != "fail" else "fail",
        )
        for part, path in files.items()
        if path is not None
    }
    parts = {part: corpus.texts for part, corpus in read.items()}
    texts = [text for part in parts.values() for text in part]
    counts = Counter(entity.label for text in texts for entity in text.entities)
    chosen, left_out = _choose_labels(train, counts, labels)
    if left_out:
        for text in texts:
            text.entities = [entity for entity in text.entities if entity.label in chosen]
    guess = find_language([text.text for text in texts])
    if lang:
        guess = Guess(lang, guess.script, True)
    nlp = tokenizer_of(guess.lang, is_given=bool(lang))
    how = "the files as given"
    missing = {name: share for name, share in SHARES.items() if name not in parts}
    if "dev" in parts:
        missing.pop("test", None)
    if missing:
        split = split_texts(parts["train"], shares=missing, seed=seed)
        whole = parts["train"]
        made = {part: [whole[i] for i in rows] for part, rows in split.parts.items()}
        parts = {part: {**parts, **made}[part] for part in files if part in {**parts, **made}}
        unit = "by document" if split.by_document else "by text"
        how = f"{' and '.join(missing)} split off {unit}, seed {seed}"
    elif "test" not in parts:
        how = "the files as given; without a test file, scores are those of dev"
    docs, unplaced = {}, []
    for part in parts:
        docs[part], found = to_docs(nlp, parts[part])
        unplaced += found
    details = {key: value for corpus in read.values() for key, value in corpus.details.items()}
    return Survey(
        formats=[corpus.format for corpus in read.values()],
        details=details,
        language=guess,
        is_language_given=bool(lang),
        labels=chosen,
        texts=parts,
        docs=docs,
        problems=[problem for corpus in read.values() for problem in corpus.problems],
        unplaced=unplaced,
        how_split=how,
        left_out=left_out,
    )


def tokenizer_of(lang: str, *, is_given: bool = True) -> "Language":
    """A blank pipeline with the tokenizer that training configs have for a language.

    Raises BertCrfError if spaCy does not know the language, or if its tokenizer needs a package
    that is not installed.
    """
    import spacy

    config = make_config(lang=lang)
    try:
        nlp = spacy.blank(lang, config={"nlp": {"tokenizer": config["nlp"]["tokenizer"]}})
    except (ImportError, OSError, ValueError) as err:
        found = "" if is_given else ", which was found from the text"
        raise BertCrfError(
            f"there is no tokenizer for the language {lang!r}{found} ({first_line(err)}). Install "
            "what it needs, or name another language with --lang: xx suits any language."
        ) from err
    nlp.max_length = 1 << 40  # The limit is for parsers.
    return nlp


def _choose_labels(
    train: Path, counts: Counter[str], wanted: Sequence[str]
) -> tuple[list[str], dict[str, int]]:
    """The labels in the order of the pipeline, and those left out with their counts."""
    if not counts:
        raise BertCrfError(
            f"{train} has texts and no entity, so there is nothing to learn. Check --format and "
            "--columns, and whether the annotation was exported with the texts."
        )
    if not wanted:
        return sorted(counts), {}
    if absent := [label for label in wanted if label not in counts]:
        raise BertCrfError(
            f"--labels names {', '.join(absent)}, which the corpus does not have. It has "
            f"{', '.join(sorted(counts))}."
        )
    left_out = {label: n for label, n in sorted(counts.items()) if label not in wanted}
    return list(dict.fromkeys(wanted)), left_out
