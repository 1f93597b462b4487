"""Silver annotation of texts by several sources."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Optional

from spacy.tokens import Doc, Span

from ..._files import atomic_file
from ...annotation.convert import blank
from ...annotation.coverage.covers import set_covers
from ...errors import BertCrfError
from .agreement import Agreement, Opinion, Rule, agree
from .output import check_output, disagreement_record, write_docs
from .pairs import Disagreement, disagreements
from .report import SilverReport
from .sources.source import Source, Text

#: What becomes of tokens on which sources do not agree.
UNKNOWN, OUTSIDE = "unknown", "outside"
#: Sources are asked for so many texts at a time.
BATCH = 128


@dataclass(frozen=True)
class Settings:
    """How texts are annotated.

    lang: the language whose blank tokenizer makes the docs.
    rule: when a span is an entity.
    doubt: UNKNOWN, or OUTSIDE to see what this would cost.
    skip_failed: texts of which a source says nothing are left out. Otherwise the other sources
        decide.
    Raises BertCrfError for another value of `doubt`.
    """

    lang: str = "zh"
    rule: Rule = field(default_factory=Rule)
    doubt: str = UNKNOWN
    skip_failed: bool = False

    def __post_init__(self) -> None:
        if self.doubt not in (UNKNOWN, OUTSIDE):
            raise BertCrfError(f"doubt is {self.doubt!r}: use {UNKNOWN} or {OUTSIDE}.")


class RawText(NamedTuple):
    """A text to be annotated.

    id: its name.
    text: the text.
    place: where it was read, as FILE:NUMBER.
    has_id: whether a field of the file is its name. Otherwise it is only FILE:NUMBER.
    """

    id: str
    text: str
    place: str = ""
    has_id: bool = False


class Silver(NamedTuple):
    """An annotated text.

    text: the text. Its doc has the entities; what is unknown has no annotation.
    agreement: what the sources agree on.
    opinions: what each source says; None for one that failed.
    places: where they do not agree.
    """

    text: Text
    agreement: Agreement
    opinions: list[Optional[Opinion]]
    places: list[Disagreement]


def annotate(
    texts: Iterable[RawText],
    sources: Sequence[Source],
    settings: Settings,
    report: SilverReport,
) -> Iterator[Silver]:
    """Annotate texts by several sources, a few texts at a time.

    texts: the texts. Those of white space only are left out.
    sources: the sources.
    settings: see Settings.
    report: it counts. It has the names of the sources.
    RETURNS: the texts in order, without those that are left out.
    Raises BertCrfError for damaged input of a source.
    """
    nlp = blank(settings.lang)
    weights = [source.spec.weight for source in sources]
    stream, asked = iter(texts), 0
    while rows := list(islice(stream, BATCH)):
        batch = [
            Text(row.id, row.place or row.id, nlp.make_doc(row.text), row.has_id)
            for row in rows
            if row.text.strip()
        ]
        report.left_out += len(rows) - len(batch)
        asked += len(batch)
        said = [source.opinions(batch) for source in sources] if batch else []
        for i, text in enumerate(batch):
            opinions: list[Optional[Opinion]] = []
            for source, outcomes in zip(sources, said, strict=True):
                outcome = outcomes[i]
                opinions.append(outcome if isinstance(outcome, Opinion) else None)
                if isinstance(outcome, str):
                    report.fail(source.spec.name, text.place, outcome)
            is_lacking = None in opinions
            if not any(opinions) or (is_lacking and settings.skip_failed):
                report.left_out += 1
                continue
            agreement = agree(opinions, settings.rule, weights)
            n_unknown = set_silver(text.doc, agreement, settings.doubt)
            silver = Silver(text, agreement, opinions, disagreements(opinions, agreement))
            _count(report, silver, n_unknown)
            yield silver
    for source in sources:
        report.remarks += source.close(asked)


def set_silver(doc: Doc, agreement: Agreement, doubt: str = UNKNOWN) -> int:
    """Write what sources agree on to a doc, and which labels it covers.

    doc: the doc, which is changed.
    doubt: UNKNOWN, or OUTSIDE for tokens of which the sources say different things.
    RETURNS: the number of tokens without annotation.
    """
    ents = [Span(doc, start, end, label=label) for start, end, label in agreement.entities]
    is_open = agreement.covers is not None and not agreement.covers and doubt == UNKNOWN
    unknown = agreement.unknown if doubt == UNKNOWN else ()
    missing = [] if is_open else [doc[i : i + 1] for i in unknown]
    doc.set_ents(ents, missing=missing, default="missing" if is_open else "outside")
    covers = None if is_open else agreement.covers
    if doubt == OUTSIDE and not covers:
        covers = None
    set_covers(doc, covers)
    return sum(token.ent_iob == 0 for token in doc)


def bootstrap(
    texts: Iterable[RawText],
    sources: Sequence[Source],
    dst: Path,
    *,
    settings: Optional[Settings] = None,
    to: str = "",
    disagreements: Optional[Path] = None,
    progress: bool = False,
) -> SilverReport:
    """Annotate texts by several sources, and write them.

    Memory does not grow with the number of texts, but for a single DocBin and for formats that are
    no JSON lines. These are written at the end.

    texts: the texts.
    sources: the sources.
    dst: a DocBin (.spacy), JSON lines, a file of another format, or a name without a suffix for a
        folder of DocBins.
    settings: see Settings; None for the default.
    to: the format of a file that is no DocBin, a name of FORMATS. "" writes doccano's JSON lines.
    disagreements: JSON lines of the texts with disagreements; None for none.
    progress: show a progress bar on stderr, if that is a terminal.
    RETURNS: the counts.
    Raises BertCrfError if there is no source or no text, for damaged input of a source, and if a
        file can't be written. Nothing is written then.
    """
    settings, names = settings or Settings(), [source.spec.name for source in sources]
    if not sources or len(set(names)) < len(names):
        raise BertCrfError(
            f"the sources are {', '.join(names) or 'none'}: give at least one, and each a name of "
            "its own."
        )
    to = check_output(dst, to)
    report = SilverReport(names)

    def finish() -> None:
        if not report.texts:
            raise BertCrfError(_nothing(report))

    found = annotate(texts, sources, settings, report)
    with nullcontext() if disagreements is None else atomic_file(disagreements) as tmp:
        if tmp is not None:
            found = _written(found, tmp, names)
        if progress:
            found = _progress(found)
        write_docs(dst, (silver.text.doc for silver in found), to, finish)
    return report


def _written(found: Iterator[Silver], path: Path, names: Sequence[str]) -> Iterator[Silver]:
    """Write the disagreements of texts as they pass."""
    with path.open("w", encoding="utf8", newline="\n") as file:
        for silver in found:
            if silver.places:
                record = disagreement_record(silver.text.id, silver.text.doc, names, silver.places)
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
            yield silver


def _count(report: SilverReport, silver: Silver, n_unknown: int) -> None:
    doc = silver.text.doc
    places = [(doc[place.start : place.end].text, place) for place in silver.places]
    report.add(
        silver.opinions,
        silver.agreement,
        places,
        len(doc),
        n_unknown,
        lambda start, end: doc[start:end].text,
    )


def _nothing(report: SilverReport) -> str:
    """The message where no text was annotated."""
    if not report.left_out:
        return "there is no text: name a file with texts."
    reasons = [f"{name}: {r}" for name, own in report.sources.items() for r in own.reasons[:2]]
    first = f"all {report.left_out:,} texts were left out, so nothing was written."
    return "\n".join([first, *(reasons or ["They are empty. Name a file with texts."])])


def _progress(found: Iterator[Silver]) -> Any:
    from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

    return tqdm(found, unit=" texts", leave=False, disable=None)
