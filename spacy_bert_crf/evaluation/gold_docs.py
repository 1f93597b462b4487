"""Annotated docs, paired with the docs that a component reads, batch by batch."""

from collections.abc import Iterator
from typing import NamedTuple

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import minibatch
from tqdm import tqdm

from ..annotation.gold import Gold, read_gold
from ..component.pipelines import docs_before
from ..errors import BertCrfError

#: Docs that go through the component together, sorted by length.
_BATCH = 256


class GoldDoc(NamedTuple):
    """A doc and its gold annotation.

    number: number of the doc in its corpus, from 0.
    doc: as the component gets it, after the pipes before it.
    gold: the annotation, on the tokens of `doc`.
    """

    number: int
    doc: Doc
    gold: Gold


def gold_docs(
    nlp: Language, component: str, docs: list[Doc], progress: bool = False
) -> Iterator[list[GoldDoc]]:
    """Batches of annotated docs. Docs without any entity annotation are left out.

    nlp: the pipeline.
    component: name of the component that reads the docs.
    docs: annotated docs.
    progress: show a progress bar on stderr, if that is a terminal.
    Raises BertCrfError if no doc is annotated.
    """
    known = [
        (number, doc)
        for number, doc in enumerate(docs)
        if doc.has_annotation("ENT_IOB") and len(doc)
    ]
    if not known:
        raise BertCrfError(
            "no doc of the corpus has entity annotation (doc.ents must be set, to [] where there "
            "is none)."
        )
    with tqdm(total=len(known), disable=None if progress else True) as bar:
        for batch in minibatch(known, _BATCH):
            ours = docs_before(nlp, component, [doc.text for _, doc in batch])
            yield [
                GoldDoc(number, own, read_gold(Example(own, reference)))
                for own, (number, reference) in zip(ours, batch, strict=True)
            ]
            bar.update(len(batch))
