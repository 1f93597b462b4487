"""How long the steps took."""

from scripts.times import record, table


def test_each_step_has_its_last_time(tmp_path):
    for step, seconds in (("assets", 3.0), ("student", 100.0), ("assets", 2.04)):
        record(tmp_path / "training", step, seconds)
    (tmp_path / "training" / "history.json").write_text('{"seconds": 400.5}', encoding="utf8")
    rows = [line.split() for line in table(tmp_path / "training").split("\n")[1:]]
    assert rows == [["student", "100.0"], ["assets", "2.0"], ["train", "400.5"]]
