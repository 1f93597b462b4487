"""Seeds and rows that ran side by side, in one result."""

import pytest

from benchmarks.accuracy.merge import merged
from benchmarks.harness.common import Failed


def result(seed, **other):
    sides = {"full": [{"seed": seed, "f": 0.5}], "covers": []}
    known = {"command": f"run --seeds {seed}", "note": "", "machine": {"load_average": seed}}
    return {**known, "epochs": 3, "sides": sides, **other}


def test_the_runs_of_each_side_are_joined_in_the_order_of_their_seeds():
    out = merged([result(2), result(1)], ["b.json", "a.json"])
    assert [run["seed"] for run in out["sides"]["full"]] == [1, 2]
    assert out["sides"]["covers"] == []
    assert out["command"] == "run --seeds 2\nrun --seeds 1" and out["epochs"] == 3


def test_sides_within_sides():
    results = [result(n, sides={"weibo": {"alone": [{"seed": n}]}}) for n in (1, 2)]
    out = merged(results, ["a.json", "b.json"])
    assert out["sides"] == {"weibo": {"alone": [{"seed": 1}, {"seed": 2}]}}


def test_other_settings_and_a_seed_twice_are_refused():
    with pytest.raises(Failed, match="b.json and a.json differ in epochs"):
        merged([result(1), result(2, epochs=4)], ["a.json", "b.json"])
    with pytest.raises(Failed, match=r"\[1, 1\]"):
        merged([result(1), result(1)], ["a.json", "b.json"])


def test_rows_that_ran_apart():
    full = result(1, variants={"full": {"entities": 9}}, sides={"full": [{"seed": 1}]})
    covers = result(1, variants={"covers": {"entities": 3}}, sides={"covers": [{"seed": 1}]})
    out = merged([full, covers], ["a.json", "b.json"])
    assert out["variants"] == {"full": {"entities": 9}, "covers": {"entities": 3}}
    assert out["sides"] == {"full": [{"seed": 1}], "covers": [{"seed": 1}]}
    other = result(2, variants={"full": {"entities": 8}}, sides={"full": [{"seed": 2}]})
    with pytest.raises(Failed, match="b.json: full was trained on other docs"):
        merged([full, other], ["a.json", "b.json"])
