"""Make a column corpus (train, dev, test) out of annotated sentences and lists of names.

SRC/sentences/*.txt holds one sentence a line, with entities as [text|TYPE.kind] (see GUIDELINES.md
there). SRC/names/<kind>.txt holds names. Each name belongs to one of train, dev and test. A split
consists of sentences in which names of that split replace the names that were written there.

Train goes through all sentences several times; dev and test go through a part of them once. No
entity name of dev or test occurs as an entity of train, but the sentences around the names recur.
So the test split measures new names in known sentences. With --hold-out, train does not contain
the sentences of dev and test either.

SRC/sentences/train and SRC/names/train hold further sentences and lists, which are for train only.
They change neither dev nor test, so scores stay comparable when sentences are added there.

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
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spacy_bert_crf._files import write_text
from spacy_bert_crf._signals import exit_status, terminable
from spacy_bert_crf.errors import BertCrfError

from .compose_names import Composer
from .names import SHARES, SPLITS, Names, add_train_names, divide_names
from .sentences import Part, Sentence, read_sentences

#: The folder, in SRC/sentences and in SRC/names, of what is for train only.
TRAIN_ONLY = "train"
#: The kind of name that --adjacent puts before a name of each kind.
BEFORE = {"city": "region", "district": "city", "site": "city"}
BEFORE |= dict.fromkeys(("company", "school", "government", "hospital", "institute"), "region")
BEFORE |= {"road": "district", "estate": "city"}


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


@dataclass
class Passes:
    """Goes through the sentences of a split, and puts names of the split into them.

    names: names to draw from.
    copies: number of passes for train.
    scramble, adjacent, join, compose: as in `multiply`.
    composer: composes names of organisations; None for none.
    composer_rng: source of random numbers of the composer.
    """

    names: Names
    copies: int
    scramble: float
    adjacent: float
    join: float
    compose: float
    composer: Composer | None
    composer_rng: random.Random

    def over(self, sentences: list[Sentence], split: str, rng: random.Random) -> list[Sentence]:
        """Return the sentences of all passes, shuffled."""
        filled = []
        for repeat in range(self.copies if split == "train" else 1):
            copy = []
            for sentence in sentences:
                has_entity = any(part.label for part in sentence)
                how = (0.0, self.scramble if split == "train" else 0.0) if repeat else (1.0, 0.0)
                if repeat:
                    sentence = with_neighbours(sentence, self.adjacent, self.names, rng)
                if has_entity or repeat % 2 == 0:  # half as many without entities
                    sentence = fill(sentence, split, self.names, *how, rng)
                    if self.composer and repeat:
                        sentence = with_composed(
                            sentence, self.compose, self.composer, self.names, self.composer_rng
                        )
                    copy.append(sentence)
            rng.shuffle(copy)
            filled += joined(copy, self.join, rng) if repeat else copy
        rng.shuffle(filled)
        return filled


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
        for part in (part for sentence in sentences[split] for part in sentence):
            if part.label and part.kind != "zh":
                names.split_of.setdefault(part.text, split)
    # The split of the persons is settled before further names are added to train.
    for part in (part for split in SPLITS for sentence in sentences[split] for part in sentence):
        if part.kind == "zh":
            names.belongs(part.text)
    more: list[Sentence] = []
    folder = src / "sentences" / TRAIN_ONLY
    if folder.is_dir():
        more = [sentence for file in read_sentences(folder).values() for sentence in file]
    for part in (part for sentence in more for part in sentence):
        if part.label and part.kind != "zh":
            names.keep_for_train(part.text)
    add_train_names(src / "names" / TRAIN_ONLY, names)
    composer = None
    if compose:
        lists = {kind: pool for (kind, split), pool in names.pools.items() if split == SPLITS[0]}
        composer = Composer(src / "names" / "composed.yml", lists)
    # A source of random numbers of its own for what must leave the other splits as they are.
    passes = Passes(names, copies, scramble, adjacent, join, compose, composer, random.Random(seed))
    out = {"train": passes.over(sentences["train"], "train", rng)}
    for split in SPLITS[1:]:  # whatever train has, they stay as they are
        out[split] = passes.over(sentences[split], split, random.Random(f"{seed} {split}"))
    if more:
        own_rng = random.Random(seed + 1)
        out["train"] += passes.over(more, SPLITS[0], own_rng)
        own_rng.shuffle(out["train"])
    out["train"] = out["train"][: round(len(out["train"]) * share)]
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


def main(arguments: Sequence[str] | None = None) -> int:
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
    args = parser.parse_args(arguments)
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
