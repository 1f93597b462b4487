import pytest
import spacy
from spacy.tokens import DocBin

from spacy_bert_crf.annotation.docbin import read_docs
from spacy_bert_crf.component.pipelines import load_pipeline
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.evaluation.evaluate import evaluate, evaluate_docs
from support.toys import TEXTS, make_examples


def test_perfect_and_partial_gold(trained):
    docs = [example.reference for example in make_examples(trained)]
    scores, _ = evaluate_docs(trained, docs, "BIO")
    assert scores.entities.f == scores.tokens.f == 1.0
    partial = trained.make_doc(TEXTS[0][0])
    partial.set_ents([partial.char_span(0, 3, "PER")], default="missing")
    scores, _ = evaluate_docs(trained, [partial], "BIO")
    # As in spaCy: what is predicted where nothing is known is neither right nor wrong.
    assert (scores.entities.p, scores.entities.r) == (1.0, 1.0)
    nlp_scores = trained.evaluate([spacy.training.Example(trained.make_doc(partial.text), partial)])
    assert nlp_scores["ents_p"] == scores.entities.p


def test_agrees_with_spacy_evaluate(trained_path, tmp_path):
    nlp = spacy.load(trained_path)
    examples = make_examples(nlp)
    for example in examples[::2]:  # gold that the pipeline does not find
        example.reference.ents = [spacy.tokens.Span(
            example.reference, 0, 1, label="ORG")]  # fmt: skip
    DocBin(docs=[eg.reference for eg in examples]).to_disk(tmp_path / "d.spacy")
    ours = evaluate(trained_path, tmp_path / "d.spacy")
    theirs = nlp.evaluate(examples)
    for key in ("ents_p", "ents_r", "ents_f"):
        assert ours[key] == pytest.approx(theirs[key])
    assert 0 < ours["ents_f"] < 1


def test_gold_that_is_not_annotated_is_refused(trained):
    with pytest.raises(BertCrfError, match="entity annotation"):
        evaluate_docs(trained, [trained.make_doc("张三")], "BIO")


def test_what_can_not_be_read_is_named(trained, tmp_path):
    with pytest.raises(BertCrfError, match="no pipeline folder"):
        load_pipeline(tmp_path / "none")
    DocBin().to_disk(tmp_path / "empty.spacy")
    with pytest.raises(BertCrfError, match="holds no docs"):
        read_docs(tmp_path / "empty.spacy", trained)
