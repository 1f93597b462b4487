import pytest
import spacy
from spacy.tokens import DocBin

from spacy_bert_crf.annotation.docbin import read_docs
from spacy_bert_crf.component.pipelines import load_pipeline
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.evaluation.evaluate import evaluate
from support.toys import TEXTS, make_examples


def test_perfect_and_partial_gold(trained):
    docs = [example.reference for example in make_examples(trained)]
    scores = evaluate(trained, docs).scores
    assert scores.entities.f == scores.tokens.f == 1.0
    partial = trained.make_doc(TEXTS[0][0])
    partial.set_ents([partial.char_span(0, 3, "PER")], default="missing")
    scores = evaluate(trained, [partial]).scores
    # As in spaCy: what is predicted where nothing is known is neither right nor wrong.
    assert (scores.entities.p, scores.entities.r) == (1.0, 1.0)
    nlp_scores = trained.evaluate([spacy.training.Example(trained.make_doc(partial.text), partial)])
    assert nlp_scores["ents_p"] == scores.entities.p


def test_agrees_with_spacy_evaluate(trained_path):
    nlp = spacy.load(trained_path)
    examples = make_examples(nlp)
    for example in examples[::2]:  # gold that the pipeline does not find
        example.reference.ents = [spacy.tokens.Span(
            example.reference, 0, 1, label="ORG")]  # fmt: skip
    ours = evaluate(nlp, [eg.reference for eg in examples]).to_dict()
    theirs = nlp.evaluate(examples)
    for key in ("ents_p", "ents_r", "ents_f"):
        assert ours[key] == pytest.approx(theirs[key])
    assert 0 < ours["ents_f"] < 1


def with_label(nlp, label):
    doc = nlp.make_doc("张三在南京。")
    doc.ents = [doc.char_span(0, 2, label), doc.char_span(3, 5, "LOC")]
    return doc


def test_labels_that_the_pipeline_does_not_have_are_named(trained):
    with pytest.warns(UserWarning, match=r"have: per \(1 entity\)\. per and PER differ only in"):
        found = evaluate(trained, [with_label(trained, "per")])
    assert found.scores.per_type["per"].r == 0.0
    odd = trained.make_doc("张三")
    odd.ents = [odd.char_span(0, 2, "ODD")]
    with pytest.raises(BertCrfError, match=r"ODD \(1 .*The pipeline has: LOC, ORG, PER"):
        evaluate(trained, [odd])


def test_labels_of_a_component_that_says_nothing_are_not_guessed(trained, recwarn):
    """A component of one's own may rename entities."""
    name = "test_rename"

    @spacy.Language.component(name)
    def rename(doc):
        doc.ents = [spacy.tokens.Span(doc, e.start, e.end, e.label_.lower()) for e in doc.ents]
        return doc

    trained.add_pipe(name)
    found = evaluate(trained, [with_label(trained, "per")])
    assert found.scores.per_type["per"].r == 1.0
    assert not [w for w in recwarn if "does not have" in str(w.message)]


def test_gold_that_is_not_annotated_is_refused(trained):
    with pytest.raises(BertCrfError, match="entity annotation"):
        evaluate(trained, [trained.make_doc("张三")])


def test_what_can_not_be_read_is_named(trained, tmp_path):
    with pytest.raises(BertCrfError, match="no pipeline folder"):
        load_pipeline(tmp_path / "none")
    DocBin().to_disk(tmp_path / "empty.spacy")
    with pytest.raises(BertCrfError, match="holds no docs"):
        read_docs(tmp_path / "empty.spacy", trained)
