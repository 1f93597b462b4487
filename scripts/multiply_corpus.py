"""Make a column corpus (train, dev, test) out of annotated sentences and lists of names.

SRC/sentences/*.txt holds one sentence a line, with entities as [text|TYPE.kind] (see GUIDELINES.md
there). SRC/names/<kind>.txt holds names. Each name belongs to one of train, dev and test. A split
consists of sentences in which names of that split replace the names that were written there.

Train goes through all sentences several times; dev and test go through a part of them once. No
entity name of dev or test occurs as an entity of train, but the sentences around the names recur.
So the test split measures new names in known sentences. With --hold-out, train does not contain
the sentences of dev and test either.

A line `name*N` in a list gives a name the weight N: it is drawn N times as often, and belongs to
train. Four options vary train further:

--scramble replaces some characters in a share of the names. An encoder without pretraining then
    learns to use the characters around a name too.

--adjacent puts a region or a city before a share of the places and organisations. The two names
    stay two entities.

--join appends a share of the sentences to the sentence before.

--compose replaces a share of the organisations in train by composed names (compose_names.py).

--share keeps a share of the sentences of train in the end. It changes neither dev nor test.

    python -m scripts.multiply_corpus assets/quickstart assets/quickstart/corpus
"""

import argparse
import hashlib
import random
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from spacy_bert_crf._files import write_text
from spacy_bert_crf._signals import exit_status, terminable
from spacy_bert_crf.errors import BertCrfError

from .compose_names import Composer

SPLITS = ("train", "dev", "test")
#: Shares of train, dev and test.
SHARES = (0.78, 0.10, 0.12)
#: The kind of name that --adjacent puts before a name of each kind.
BEFORE = {"city": "region", "district": "city", "site": "city"}
BEFORE |= dict.fromkeys(("company", "school", "government", "hospital", "institute"), "region")
MARK = re.compile(r"\[([^\[\]|]+)\|([A-Z]+)\.([a-z]+)\]")


class Part(NamedTuple):
    """A piece of a sentence. Label and kind are empty for plain text."""

    text: str
    label: str = ""
    kind: str = ""


Sentence = list[Part]


@dataclass
class Names:
    """Names with their weights, by kind and split, and the parts of composed Chinese names.

    pools: names by (kind, split).
    weights: weight of each of these names.
    split_of: the split that each name belongs to.
    surnames: surnames of the kind `zh`.
    first_names: first names of the kind `zh`.
    """

    pools: dict[tuple[str, str], list[str]]
    weights: dict[tuple[str, str], list[int]]
    split_of: dict[str, str]
    surnames: list[str]
    first_names: list[str]

    def draw(self, kind: str, split: str, rng: random.Random) -> str:
        """Draw a name of this kind that belongs to this split."""
        if kind != "zh":
            return rng.choices(self.pools[kind, split], self.weights[kind, split])[0]
        while True:
            name = rng.choice(self.surnames) + rng.choice(self.first_names)
            if self.belongs(name) == split:
                return name

    def belongs(self, name: str) -> str:
        """Return the split of a name.

        A name of a list or of a sentence has a split. The hash of any other name decides.
        """
        if name not in self.split_of:
            digest = int.from_bytes(hashlib.sha256(name.encode("utf8")).digest()[:4], "big")
            share = digest / 2**32
            at = 0 if share < SHARES[0] else 1 if share < SHARES[0] + SHARES[1] else 2
            self.split_of[name] = SPLITS[at]
        return self.split_of[name]


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


def divide_names(folder: Path, rng: random.Random) -> Names:
    """Read the lists of names and divide each among the splits."""
    lists = {
        path.stem: path.read_text(encoding="utf8").split("\n")
        for path in sorted(folder.glob("*.txt"))
    }
    surnames = [name for name in lists.pop("surnames") if name]
    first_names = [name for name in lists.pop("given") if name]
    lists["surname"] = list(surnames)
    out = Names({}, {}, {}, surnames, first_names)
    for kind, lines in lists.items():
        rows = [line.partition("*") for line in lines if line]
        weighted = {name: int(weight) for name, star, weight in rows if star}
        others = [name for name, star, _ in rows if not star]
        rng.shuffle(others)
        # Dev and test get a few names of short lists too.
        few = [max(round(len(others) * share), min(3, len(others) // 3)) for share in SHARES[1:]]
        cuts = [len(others) - sum(few), len(others) - few[1]]
        for split in SPLITS:
            out.pools[kind, split], out.weights[kind, split] = [], []
        splits = [SPLITS[0]] * cuts[0] + [SPLITS[1]] * few[0] + [SPLITS[2]] * few[1]
        names = [(name, SPLITS[0]) for name in weighted] + list(zip(others, splits, strict=True))
        for name, split in names:
            split = out.split_of.setdefault(name, split)  # a name in two lists has one split
            out.pools[kind, split].append(name)
            out.weights[kind, split].append(weighted.get(name, 1))
    return out


def divide_sentences(
    files: dict[str, list[Sentence]], hold_out: bool, rng: random.Random
) -> dict[str, list[Sentence]]:
    """Divide the sentences of each file among the splits, so that each split has all topics.

    hold_out: whether train leaves out the sentences of dev and test.
    """
    out: dict[str, list[Sentence]] = {split: [] for split in SPLITS}
    for sentences in files.values():
        sentences = list(sentences)
        rng.shuffle(sentences)
        first = round(len(sentences) * SHARES[0])
        second = round(len(sentences) * (SHARES[0] + SHARES[1]))
        out["train"] += sentences[:first] if hold_out else sentences
        out["dev"] += sentences[first:second]
        out["test"] += sentences[second:]
    return out


def scrambled(name: str, rng: random.Random) -> str:
    """Replace about half of a name's characters by common ones (GB2312 level 1)."""

    def common() -> str:
        return bytes([rng.randint(0xB0, 0xD6), rng.randint(0xA1, 0xFE)]).decode("gb2312")

    return "".join(common() if char > "\u3000" and rng.random() < 0.5 else char for char in name)


def fill(
    sentence: Sentence,
    split: str,
    names: Names,
    keep: float,
    scramble: float,
    rng: random.Random,
) -> Sentence:
    """Replace the names in a sentence by names of the split.

    Names of other splits are always replaced.

    sentence: the sentence.
    split: the split.
    names: names to draw from.
    keep: share of the split's own names that stay.
    scramble: share of names to scramble.
    rng: source of random numbers.
    """
    swapped: dict[Part, str] = {}
    out = []
    for part in sentence:
        if not part.label:
            out.append(part)
            continue
        own = names.belongs(part.text) == split
        if part not in swapped:  # a name that occurs twice is replaced by the same name
            stays = own and rng.random() < keep
            swapped[part] = part.text if stays else names.draw(part.kind, split, rng)
            if rng.random() < scramble:
                name = scrambled(swapped[part], rng)
                if names.belongs(name) == split:
                    swapped[part] = name
        out.append(part._replace(text=swapped[part]))
    return out


def with_composed(
    sentence: Sentence, share: float, composer: Composer, names: Names, rng: random.Random
) -> Sentence:
    """Replace a share of the organisations in a sentence of train by composed names.

    sentence: the sentence.
    share: share of the organisations for which a name is composed. It is used if it belongs to
        train, as three in four do.
    composer: composes the names.
    names: says to which split a name belongs.
    rng: source of random numbers.
    """
    swapped: dict[Part, Part] = {}
    for part in sentence:
        if part.kind in composer.patterns and part not in swapped and rng.random() < share:
            name = composer.compose(part.kind, rng)
            if names.belongs(name) == SPLITS[0]:
                swapped[part] = part._replace(text=name)
    return [swapped.get(part, part) for part in sentence]


def with_neighbours(sentence: Sentence, share: float, names: Names, rng: random.Random) -> Sentence:
    """Put a place before a share of the places and organisations in a sentence."""
    out: Sentence = []
    for part in sentence:
        kind = BEFORE.get(part.kind)
        if kind and not (out and out[-1].label) and rng.random() < share:
            out.append(Part(names.draw(kind, "train", rng), "LOC", kind))
        out.append(part)
    return out


def joined(sentences: list[Sentence], share: float, rng: random.Random) -> list[Sentence]:
    """Append a share of the sentences to the sentence before."""
    out: list[Sentence] = []
    for sentence in sentences:
        if out and rng.random() < share and sum(len(p.text) for p in out[-1]) < 150:
            out[-1] = out[-1] + sentence
        else:
            out.append(sentence)
    return out


def columns(sentence: Sentence) -> str:
    """Return the sentence as lines of one character and its BIO tag."""
    lines = []
    for part in sentence:
        for i, char in enumerate(part.text):
            tag = f"{'I' if i else 'B'}-{part.label}" if part.label else "O"
            lines.append(f"{char} {tag}")
    return "\n".join(lines) + "\n"


def multiply(
    src: Path,
    dst: Path,
    copies: int,
    scramble: float,
    hold_out: bool,
    seed: int,
    adjacent: float = 0.0,
    join: float = 0.0,
    share: float = 1.0,
    compose: float = 0.0,
) -> dict[str, list[Sentence]]:
    """Write DST/{train,dev,test}.txt and return their sentences; see the head of this file.

    Same files, options and seed give the same corpus.

    src: folder with sentences/ and names/.
    dst: folder to write.
    copies: number of passes of train over the sentences.
    scramble: share of names to scramble in train, from 0 to 1.
    hold_out: whether train leaves out the sentences of dev and test.
    seed: seed of the random numbers.
    adjacent: share of names with a place before, from 0 to 1.
    join: share of sentences to append, from 0 to 1.
    share: share of the sentences of train to keep, from 0 to 1.
    compose: share of organisations in train to replace by composed names, from 0 to 1.
    Raises BertCrfError for sentences that can't be read and a name that is in two splits.
    """
    rng = random.Random(seed)
    names = divide_names(src / "names", rng)
    sentences = divide_sentences(read_sentences(src / "sentences"), hold_out, rng)
    for split in SPLITS:  # a name in no list belongs to the first split that it occurs in
        for sentence in sentences[split]:
            for part in sentence:
                if part.label and part.kind != "zh":
                    names.split_of.setdefault(part.text, split)
    composer, own_rng = None, random.Random(seed)  # so that the other splits stay as they are
    if compose:
        lists = {kind: pool for (kind, split), pool in names.pools.items() if split == SPLITS[0]}
        composer = Composer(src / "names" / "composed.yml", lists)
    out: dict[str, list[Sentence]] = {}
    for split in SPLITS:
        filled = []
        for repeat in range(copies if split == "train" else 1):
            copy = []
            for sentence in sentences[split]:
                has_entity = any(part.label for part in sentence)
                how = (0.0, scramble if split == "train" else 0.0) if repeat else (1.0, 0.0)
                if repeat:
                    sentence = with_neighbours(sentence, adjacent, names, rng)
                if has_entity or repeat % 2 == 0:  # half as many without entities
                    sentence = fill(sentence, split, names, *how, rng)
                    if composer and repeat:
                        sentence = with_composed(sentence, compose, composer, names, own_rng)
                    copy.append(sentence)
            rng.shuffle(copy)
            filled += joined(copy, join, rng) if repeat else copy
        rng.shuffle(filled)
        out[split] = filled[: round(len(filled) * share)] if split == "train" else filled
    seen = {p.text for sentence in out["train"] for p in sentence if p.label}
    for split in SPLITS[1:]:
        shared = seen & {p.text for sentence in out[split] for p in sentence if p.label}
        if shared:
            raise BertCrfError(
                f"entity names of {split} occur in train: {sorted(shared)[:5]}. Put them into a "
                f"list in {src / 'names'}, so that each has one split."
            )
    for split in SPLITS:
        write_text(dst / f"{split}.txt", "\n".join(columns(s) for s in out[split]))
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("src", type=Path, help="folder with sentences/ and names/")
    parser.add_argument("dst", type=Path, help="folder for train.txt, dev.txt and test.txt")
    parser.add_argument("--copies", type=int, default=8, help="passes over the sentences for train")
    parser.add_argument(
        "--scramble", type=float, default=0.0, help="share of names to scramble in train"
    )
    parser.add_argument(
        "--adjacent", type=float, default=0.0, help="share of names with a place before"
    )
    parser.add_argument("--join", type=float, default=0.0, help="share of sentences to append")
    parser.add_argument(
        "--compose", type=float, default=0.0, help="share of organisations to compose in train"
    )
    parser.add_argument("--share", type=float, default=1.0, help="share of train to keep")
    parser.add_argument(
        "--hold-out", action="store_true", help="leave these sentences out of train"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    try:
        with terminable():
            out = multiply(
                args.src, args.dst, args.copies, args.scramble, args.hold_out, args.seed,
                args.adjacent, args.join, args.share, args.compose,
            )  # fmt: skip
    except (BertCrfError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as err:
        print("error: interrupted; nothing half-written is left", file=sys.stderr)
        return exit_status(err)
    for split, sentences in out.items():
        entities = sum(1 for s in sentences for p in s if p.label)
        characters = sum(len(p.text) for s in sentences for p in s)
        print(f"{split}: {len(sentences)} sentences, {characters} characters, {entities} entities")
    return 0


if __name__ == "__main__":
    sys.exit(main())
