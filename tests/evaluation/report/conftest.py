"""A page whose texts, labels and title try to break out of it."""

import json

import pytest

from spacy_bert_crf.evaluation.report.make import make_report
from support.toys import TEXTS, train_toy

TITLE = "<b>quickstart & co.</b>"
HOSTILE = "</script><img src=x onerror=alert(1)><!--<script>{{7*7}} \"&amp;'\u2028😀张三在南京。"
LABEL = "<i>PER</i>"


def annotated(nlp, text, entities):
    doc = nlp.make_doc(text)
    doc.ents = [doc.char_span(*entity, alignment_mode="expand") for entity in entities]
    return doc


@pytest.fixture(scope="session")
def history(tmp_path_factory):
    """The history of a training of three epochs."""
    path = tmp_path_factory.mktemp("history") / "history.json"
    epochs = [
        {"epoch": n, "loss": 9.0 / n, "seconds": 1.0, "score": f, "ents_f": f}
        for n, f in ((1, 0.5), (2, 0.9), (3, 0.8))
    ]
    path.write_text(
        json.dumps({"epochs": epochs, "best_epoch": 2, "seconds": 3.0, "seed": 7}), "utf8"
    )
    return path


@pytest.fixture(scope="session")
def report(encoder_path, history):
    """Each of TEXTS with and without its gold, and a hostile text with a hostile label."""
    nlp = train_toy(encoder_path)
    at = HOSTILE.index("张三")
    docs = [annotated(nlp, text, gold) for text, gold in TEXTS]
    docs += [annotated(nlp, text, []) for text, _ in TEXTS]
    docs.append(annotated(nlp, HOSTILE, [(at, at + 2, LABEL)]))
    with pytest.warns(UserWarning, match=LABEL):
        return make_report(nlp, docs, history=history, title=TITLE)


@pytest.fixture(scope="session")
def page(report):
    """The HTML of the report."""
    return report.html()


@pytest.fixture(scope="session")
def page_file(page, tmp_path_factory):
    """The page as a file."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page, encoding="utf8")
    return path
