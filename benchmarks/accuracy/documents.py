"""Join neighbouring sentences of a corpus to documents, and write both forms of it.

    python -m benchmarks.accuracy.documents --data resume/train.char.bmes --scheme bmes \\
        --on-error repair --begin NAME --output corpus/resume-train

The corpus must have its sentences in order. NAME-documents.spacy holds the documents, and
NAME-sentences.spacy the same sentences one by one, so that trainings on both can be compared.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import spacy
from spacy.tokens import Doc, DocBin, Span
from spacy.vocab import Vocab

from benchmarks.accuracy.joined import by_count
from benchmarks.harness.common import Failed, parser_for, read_docs, say, spacy_command
from benchmarks.harness.trials import count
from spacy_bert_crf._files import atomic_file
from spacy_bert_crf.annotation.formats import ON_ERROR
from spacy_bert_crf.annotation.tags import SCHEME_NAMES


def by_first_entity(docs: Iterable[Doc], label: str) -> Iterator[list[Doc]]:
    """Group sentences: one that begins with an entity of this label begins a new group.

    A sentence that repeats the name of its group stays in the group.
    """
    group: list[Doc] = []
    name = ""
    for doc in docs:
        first = next((ent for ent in doc.ents if ent.start == 0 and ent.label_ == label), None)
        if group and first is not None and first.text != name:
            yield group
            group = []
        if first is not None:
            name = first.text
        group.append(doc)
    if group:
        yield group


def join(group: list[Doc], vocab: Vocab, sentence_starts: bool) -> Doc:
    """One doc of these sentences, with their entities and nothing between them.

    sentence_starts: whether the doc says where its sentences begin.
    """
    starts: list[int] = []
    for doc in group:
        starts += [1] + [-1] * (len(doc) - 1)
    joined = Doc(
        vocab,
        words=[token.text for doc in group for token in doc],
        spaces=[bool(token.whitespace_) for doc in group for token in doc],
        sent_starts=starts if sentence_starts else None,
    )
    shift = 0
    spans: list[Span] = []
    unknown: list[Span] = []
    for doc in group:
        spans += [Span(joined, e.start + shift, e.end + shift, e.label_) for e in doc.ents]
        unknown += [joined[t.i + shift : t.i + shift + 1] for t in doc if not t.ent_iob]
        shift += len(doc)
    joined.set_ents(spans, missing=unknown, default="outside")
    return joined


def keep_labels(docs: Iterable[Doc], labels: list[str]) -> None:
    """Remove entities of other labels, in place. Their tokens are outside then."""
    for doc in docs:
        unknown = [doc[t.i : t.i + 1] for t in doc if not t.ent_iob]
        kept = [ent for ent in doc.ents if ent.label_ in labels]
        doc.set_ents(kept, missing=unknown, default="outside")


def write(path: Path, docs: list[Doc]) -> None:
    """Write a DocBin."""
    with atomic_file(path) as tmp:
        DocBin(docs=docs).to_disk(tmp)


def main() -> int:
    """The command line. RETURNS: the exit code."""
    parser = parser_for(__doc__ or "")
    add = parser.add_argument
    add("--data", type=Path, required=True, help="columns, or docs (.spacy), in order")
    add("--scheme", default="auto", choices=("auto", *SCHEME_NAMES), help="of the columns")
    add("--on-error", default="fail", choices=ON_ERROR, help="bad lines; see convert-corpus")
    add("--lang", default="zh", help="language of the tokenizer")
    add("--begin", default="", metavar="LABEL", help="a sentence that begins with an entity of "
        "this label begins a document")  # fmt: skip
    add("--size", type=int, default=8, help="sentences of a document, without --begin")
    add("--labels", nargs="+", default=[], help="keep entities of these labels only")
    add("--skip", type=int, default=0, help="leave out so many sentences at the beginning")
    add("--take", type=int, default=0, help="then take so many; 0: all")
    add("--sentence-starts", action="store_true", help="documents say where sentences begin")
    add("--output", type=Path, required=True, help="NAME-documents.spacy, NAME-sentences.spacy")
    args = parser.parse_args()
    try:
        return run(args)
    except Failed as err:
        say(f"✘ {err}")
        return 1


def run(args: argparse.Namespace) -> int:
    """Read, join and write. Raises Failed."""
    nlp = spacy.blank(args.lang)
    with tempfile.TemporaryDirectory(prefix="documents-") as folder:
        path = args.data
        if path.suffix != ".spacy":
            path = Path(folder) / "corpus.spacy"
            spacy_command(
                "convert-corpus", str(args.data), str(path), "--scheme", args.scheme,
                "--lang", args.lang, "--on-error", args.on_error,
            )  # fmt: skip
        docs = read_docs(path, nlp, 0)[args.skip :]
    docs = docs[: args.take or None]
    if args.labels:
        keep_labels(docs, args.labels)
    groups = by_first_entity(docs, args.begin) if args.begin else by_count(docs, args.size)
    joined = [join(group, nlp.vocab, args.sentence_starts) for group in groups]
    for name, part in (("sentences", docs), ("documents", joined)):
        write(args.output.with_name(f"{args.output.name}-{name}.spacy"), part)
        found = count(part)
        say(
            f"{name}: {found['docs']:,}, {found['characters']:,} characters "
            f"({max(len(d.text) for d in part):,} at most), {found['entities']:,} entities"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
