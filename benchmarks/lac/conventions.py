"""Entities of LAC with the borders that the guidelines of our texts give such names.

LAC takes a title or a kinship word into a person, and the number of a house into a place. It splits
a Latin name at its spaces. The guidelines do the opposite. So these are differences of convention,
and not of knowledge.
"""

import re

from benchmarks.harness.common import Entities

#: What may follow a name of a person: titles, forms of address, kinship.
TITLE = re.compile(
    r"(?<=.)(先生|女士|小姐|老师|教授|律师|师傅|同学|同志|主任|院士|庭长|法官|导|指导|研究员|经理|总"
    r"|阿姨|叔叔|大爷|大妈|奶奶|爷爷|姐|哥|叔|婶)$"
)
#: What may come before a surname.
PREFIX = re.compile(r"^[老小](?=.$)")
#: From the number of a house to the end of a place, but not a place that begins with a number.
NUMBER = re.compile(r"(?<=[^0-9０-９])[0-9０-９]+(号|弄|楼|层|栋|幢|座|室|单元|期|组)?.*$")


def by_guidelines(text: str, spans: Entities) -> Entities:
    """Entities of a text: Latin names joined, and titles and numbers of houses cut off.

    spans: (start, end, label) by characters, without overlaps. RETURNS: the same, changed.
    """
    joined: list[tuple[int, int, str]] = []
    for start, end, label in sorted(spans):
        last = joined[-1] if joined else (0, 0, "")
        if label == last[2] == "PER" and text[last[1] : start] == " ":
            joined[-1] = (last[0], end, label)
        else:
            joined.append((start, end, label))
    return {_trimmed(text, *span) for span in joined}


def _trimmed(text: str, start: int, end: int, label: str) -> tuple[int, int, str]:
    name = text[start:end]
    if label == "LOC":
        end -= len(name) - len(NUMBER.sub("", name))
    if label == "PER":
        end -= len(name) - len(TITLE.sub("", name))
        start += len(text[start:end]) - len(PREFIX.sub("", text[start:end]))
    return start, end, label
