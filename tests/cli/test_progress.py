"""Long commands show a progress bar on a terminal, and nothing elsewhere."""

import io
import sys

import pytest

from spacy_bert_crf.evaluation.calibrate import calibrate
from spacy_bert_crf.evaluation.evaluate import evaluate
from spacy_bert_crf.evaluation.report.make import make_report
from spacy_bert_crf.evaluation.suspects import find_errors
from spacy_bert_crf.export.folder import export_pipeline
from support.toys import make_examples

LONG = {
    "evaluate": lambda nlp, docs, _: evaluate(nlp, docs, progress=True),
    "calibrate": lambda nlp, docs, _: calibrate(nlp, docs, progress=True),
    "find-errors": lambda nlp, docs, _: find_errors(nlp, docs, progress=True),
    "report": lambda nlp, docs, _: make_report(nlp, docs, progress=True),
    "export": lambda nlp, _, out: export_pipeline(nlp, out, formats=["huggingface"], progress=True),
}


class Stream(io.StringIO):
    """A stream that is a terminal, or is none."""

    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("name", LONG)
def test_the_bar_is_for_terminals(trained, tmp_path, monkeypatch, name, terminal):
    docs = [example.reference for example in make_examples(trained)]
    stream = Stream(terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    LONG[name](trained, docs * 8, tmp_path / "out")
    assert ("100%" in stream.getvalue()) == terminal
