"""Read sentences with entities marked as [text|TYPE.kind]."""

import re
from pathlib import Path
from typing import NamedTuple

from spacy_bert_crf.errors import BertCrfError

MARK = re.compile(r"\[([^\[\]|]+)\|([A-Z]+)\.([a-z]+)\]")


class Part(NamedTuple):
    """A piece of a sentence. Label and kind are empty for plain text."""

    text: str
    label: str = ""
    kind: str = ""


Sentence = list[Part]


def read_sentences(folder: Path) -> dict[str, list[Sentence]]:
    """Read the sentences of each file. Raises BertCrfError for a mark that can't be read."""
    out = {}
    for path in sorted(folder.glob("*.txt")):
        sentences = []
        for number, line in enumerate(path.read_text(encoding="utf8").split("\n"), 1):
            if not line or line.startswith("#"):
                continue
            parts, at = [], 0
            for match in MARK.finditer(line):
                if match.start() > at:
                    parts.append(Part(line[at : match.start()]))
                parts.append(Part(*match.groups()))
                at = match.end()
            if at < len(line):
                parts.append(Part(line[at:]))
            if any(set(p.text) & set("[]|") for p in parts if not p.label):
                raise BertCrfError(
                    f"{path}:{number}: write each mark as [text|TYPE.kind], and no other brackets: "
                    f"{line}"
                )
            sentences.append(parts)
        out[path.stem] = sentences
    if not any(out.values()):
        raise BertCrfError(f"{folder} has no sentences: name a folder with annotated *.txt files.")
    return out
