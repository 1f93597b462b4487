"""The labels that the annotation of a doc covers.

A doc that covers PER and LOC has all of its persons and places annotated. Its other tokens are
none of these, but they may be anything else: an organisation, for example. A doc that does not say
what it covers covers every label.
"""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Optional

from ...errors import BertCrfError

if TYPE_CHECKING:
    from spacy.tokens import Doc

#: Key of `doc.user_data`, and of the record of a text in JSON lines.
COVERS = "covers"


def covers_of(doc: "Doc") -> Optional[frozenset[str]]:
    """The labels that the annotation of a doc covers; None for all.

    Raises BertCrfError if `doc.user_data["covers"]` is no list of labels.
    """
    if not doc.user_data:
        return None
    return checked(doc.user_data.get(COVERS), f'doc.user_data["{COVERS}"]')


def set_covers(doc: "Doc", labels: Optional[Iterable[str]]) -> None:
    """Say which labels the annotation of a doc covers.

    They are kept in `doc.user_data`, which a DocBin saves with `store_user_data=True`.

    doc: the doc, which is changed.
    labels: the labels; None for all.
    """
    if labels is None:
        doc.user_data.pop(COVERS, None)
    else:
        doc.user_data[COVERS] = sorted(set(labels))


def checked(value: Any, where: str) -> Optional[frozenset[str]]:
    """The labels of a value that was read; None if it is None.

    value: the value.
    where: its name, for the message.
    Raises BertCrfError if it is no list of labels.
    """
    if value is None:
        return None
    is_list = isinstance(value, Collection) and not isinstance(value, (str, bytes, dict))
    if not is_list or not all(isinstance(label, str) and label.strip() for label in value):
        raise BertCrfError(
            f'{where} is {value!r}: give the list of the labels that are annotated, such as ["PER"]'
            ", or leave it out where all are."
        )
    return frozenset(value)
