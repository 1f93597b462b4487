"""The learning curves of `select` against random texts."""

import argparse

import pytest
import spacy
from spacy.tokens import Doc

from benchmarks.accuracy.selection import RANDOM, Rounds, characters_for, markdown, needed, size
from support.predictions import make_random
from support.toys import make_examples

SETTINGS = {"first": 2, "rounds": 3, "per": "token", "diversity": 1.0, "pool": 50}


def rows(*pairs):
    return [
        {"round": i, "docs": 2 * i, "characters": c, "entities": 1, "f": f, "p": f, "r": f,
         "seconds": 1.0, "choosing_seconds": 0.0}
        for i, (c, f) in enumerate(pairs, 1)
    ]  # fmt: skip


def test_characters_are_read_off_the_curve():
    curve = rows((100, 0.2), (200, 0.6), (300, 0.5), (400, 0.8))
    assert characters_for(curve, 0.4) == pytest.approx(150)
    assert characters_for(curve, 0.6) == 200 and characters_for(curve, 0.1) == 100
    assert characters_for(curve, 0.7) == pytest.approx(300 + 100 * 2 / 3)
    assert characters_for(curve, 0.9) is None


def test_the_share_of_randoms_characters():
    sides = {
        RANDOM: [{"seed": 1, "rounds": rows((100, 0.2), (200, 0.4))},
                 {"seed": 2, "rounds": rows((100, 0.2), (200, 0.6))}],
        "entropy": [{"seed": 1, "rounds": rows((100, 0.2), (200, 0.6))},
                    {"seed": 2, "rounds": rows((100, 0.2), (200, 0.55))}],
        "errors": [],
    }  # fmt: skip
    found = needed(sides)
    assert found[RANDOM]["share"] == 1 and set(found) == {RANDOM, "entropy"}
    assert found["entropy"]["shares"] == {1: pytest.approx(0.75), 2: None}
    assert found["entropy"]["characters"] == pytest.approx(100 + 100 * 0.3 / 0.375)


@pytest.mark.parametrize("budget", ["characters", "texts"])
def test_all_ways_begin_alike_and_select_keeps_to_randoms_budget(encoder_path, tmp_path, budget):
    nlp = spacy.blank("zh")
    docs = [eg.reference for eg in make_examples(nlp)]
    trained: list[tuple[list[Doc], bool]] = []

    def train(some, seed, keep):
        trained.append((some, keep is not None))
        if keep is not None:
            make_random(encoder_path, seed=seed).to_disk(keep)
        score = len(some) / 10
        epoch = {"f": score, "p": score, "r": score, "seconds": 1.0, "epoch": 1}
        return {
            "epochs": [epoch], "seconds": 1.0, "versions": {"spacy": "3"}, "settings": {},
            "per_type": {},
        }  # fmt: skip

    args = argparse.Namespace(**SETTINGS, budget=budget, threads=1, gpu_id=-1)
    rounds = Rounds(args, train, docs, 7, tmp_path)
    sides = {name: [{"seed": 7, **rounds.run(name)}] for name in (RANDOM, "entropy")}
    by_random, by_entropy = (sides[name][0]["rounds"] for name in sides)
    assert [row["docs"] for row in by_random] == [2, 4, 6] and len(trained) == 5
    assert [is_kept for _, is_kept in trained] == [True, False, False, True, False]
    first = trained[0][0]
    for some, _ in trained:
        assert some[:2] == first and len({id(doc) for doc in some}) == len(some)
    for mine, like in zip(by_entropy, by_random, strict=True):
        if budget == "texts":
            assert mine["docs"] == like["docs"]
        else:
            assert mine["characters"] <= like["characters"]
    assert size(trained[-1][0]) == by_entropy[-1]["characters"] > size(first)
    assert [path.name for path in tmp_path.iterdir()] == ["first"]
    about = {
        "machine": {"machine": "m", "flags": {}, "threads": 1, "load_average": 0},
        "corpus": {}, "command": "c", "note": "", "encoder": "e", "labels": ["PER"],
    }  # fmt: skip
    text = markdown({**about, **SETTINGS, "budget": budget, "sides": sides})
    assert "| random | 60.00 |" in text and "## Rounds, means over seeds" in text
