"""Read lists of names, and divide the names among train, dev and test."""

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

SPLITS = ("train", "dev", "test")
#: Shares of train, dev and test.
SHARES = (0.78, 0.10, 0.12)


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

    def keep_for_train(self, name: str) -> bool:
        """Make a name without a split one of train. Returns whether it belongs to train.

        The hash decides about a name that may also be drawn as a person of the kind `zh`. So dev
        and test get the same persons with it and without it.

        name: a name of another kind than `zh`.
        """
        if any(name.startswith(s) and name[len(s) :] in self.first_names for s in self.surnames):
            return self.belongs(name) == SPLITS[0]
        return self.split_of.setdefault(name, SPLITS[0]) == SPLITS[0]


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


def add_train_names(folder: Path, names: Names) -> None:
    """Add names for train only, to the lists that are there or as new lists.

    A name of dev or test is left out.
    """
    for path in sorted(folder.glob("*.txt")):
        key = path.stem, SPLITS[0]
        pool, weights = names.pools.setdefault(key, []), names.weights.setdefault(key, [])
        known = set(pool)
        for line in path.read_text(encoding="utf8").split("\n"):
            name, star, weight = line.partition("*")
            if name and name not in known and names.keep_for_train(name):
                known.add(name)
                pool.append(name)
                weights.append(int(weight) if star else 1)
