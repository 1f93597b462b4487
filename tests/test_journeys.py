"""Journeys: docs/architecture.md names exactly the files that a prediction and an update run."""

import re
import sys
from pathlib import Path

import spacy

import spacy_bert_crf
from spacy_bert_crf.model.optimizer import create_adamw
from support.paths import ROOT
from support.toys import make_examples, train_toy

PACKAGE = Path(spacy_bert_crf.__file__).parent


def documented(heading):
    """Files that a section of the page names: those of its steps, and those it lists as helpers."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf8")
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0].split("\n### ")[0]
    steps = re.findall(r"^\| \d+ \| `([\w/]+\.py)`", section, re.M)
    (helpers,) = re.findall(r"^These steps also use (.*)$", section, re.M)
    return steps, re.findall(r"`([\w/]+\.py)`", helpers)


def visited(run):
    """Files of the package whose functions run, in the order of their first call."""
    files = {}

    def profile(frame, event, _):
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            files.setdefault(path.relative_to(PACKAGE).as_posix())

    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(None)
    return list(files)


def check(run, heading):
    steps, helpers = documented(heading)
    found = visited(run)
    assert set(found) == {*steps, *helpers}
    assert len(steps) + len(helpers) == len({*steps, *helpers})


def test_a_prediction_runs_the_documented_files(trained_path):
    nlp = spacy.load(trained_path)
    texts = ["王小明昨天在北京参观了清华大学。"] * 2
    list(nlp.pipe(texts))  # the fast copy of the encoder is made once
    check(lambda: list(nlp.pipe(texts)), "From a Doc to its entities")
    assert len(documented("From a Doc to its entities")[0]) <= 9


def test_an_update_runs_the_documented_files(encoder_path):
    nlp = train_toy(encoder_path, updates=2)
    examples, optimizer = make_examples(nlp), create_adamw()

    def update():
        nlp.update(examples, sgd=False, drop=0.1)
        nlp.get_pipe("bert_crf").finish_update(optimizer)
        optimizer.step_schedules()

    update()  # the optimizer looks up the group of each parameter once
    check(update, "From an Example to a step of the optimizer")
    assert len(documented("From an Example to a step of the optimizer")[0]) <= 9
