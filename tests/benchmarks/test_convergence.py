"""Documents, joined sentences, plans and tables of the accuracy benchmarks."""

import pytest
import spacy
from spacy.tokens import DocBin

from benchmarks.accuracy.convergence.plan import furthest, read_plan, read_source, same
from benchmarks.accuracy.convergence.report import markdown, rows_in_words
from benchmarks.accuracy.documents import by_first_entity, join, keep_labels
from benchmarks.accuracy.joined import by_count, by_length, f_of, shifted
from benchmarks.harness.common import Failed, entities_of

NLP = spacy.blank("zh")


def sentence(text, *spans):
    doc = NLP.make_doc(text)
    doc.ents = [doc.char_span(start, end, label) for start, end, label in spans]
    return doc


def people():
    return [
        sentence("高勇，男，", (0, 2, "NAME")),
        sentence("任北京大学教授。", (1, 5, "ORG"), (5, 7, "TITLE")),
        sentence("高勇生于上海。", (0, 2, "NAME"), (4, 6, "LOC")),
        sentence("杨帆，女。", (0, 2, "NAME")),
    ]


def test_a_new_name_begins_a_document_and_a_repeated_one_does_not():
    groups = [[doc.text for doc in group] for group in by_first_entity(people(), "NAME")]
    assert groups == [["高勇，男，", "任北京大学教授。", "高勇生于上海。"], ["杨帆，女。"]]


def test_a_document_has_the_text_and_entities_of_its_sentences():
    docs = people()
    docs[1].set_ents(list(docs[1].ents), missing=[docs[1][0:1]], default="outside")
    with_starts = join(docs, NLP.vocab, sentence_starts=True)
    without = join(docs, NLP.vocab, sentence_starts=False)
    assert with_starts.text == without.text == "".join(doc.text for doc in docs)
    (want,) = shifted([docs], {id(doc): entities_of(doc) for doc in docs})
    assert entities_of(with_starts) == entities_of(without) == want
    assert [token.i for token in without if not token.ent_iob] == [5]
    assert [sent.text for sent in with_starts.sents] == [doc.text for doc in docs]
    assert not without.has_annotation("SENT_START")


def test_entities_of_other_labels_become_outside():
    docs = people()
    keep_labels(docs, ["NAME"])
    assert [[ent.label_ for ent in doc.ents] for doc in docs] == [["NAME"], [], ["NAME"], ["NAME"]]
    assert all(token.ent_iob for doc in docs for token in doc)


def test_all_sentences_are_in_a_group_whatever_its_size():
    docs = people()
    assert [len(group) for group in by_count(docs, 3)] == [3, 1]
    assert [len(group) for group in by_length(docs, 12)] == [2, 2]
    assert [len(group) for group in by_length(docs, 1000)] == [4]


def test_f_of_joined_texts_counts_places_in_the_whole_text():
    docs = people()
    groups = list(by_count(docs, 2))
    gold = shifted(groups, {id(doc): entities_of(doc) for doc in docs})
    assert gold[0] == {(0, 2, "NAME"), (6, 10, "ORG"), (10, 12, "TITLE")}
    assert f_of(gold, gold) == 100
    assert f_of([gold[0], set()], gold) == pytest.approx(200 * 3 / 9)


@pytest.fixture
def sources(tmp_path):
    DocBin(docs=people() * 10).to_disk(tmp_path / "train.spacy")
    DocBin(docs=people()).to_disk(tmp_path / "dev.spacy")
    words = ["resume", str(tmp_path / "train.spacy"), str(tmp_path / "dev.spacy"), "bmes"]
    return {"resume": read_source(words, "zh")}


PLAN = """
- {corpus: resume, variants: [bioes, bert4torch], seeds: [1, 2], epochs: 2, table: A}
- {corpus: resume, variants: all, seeds: [1], epochs: 2, table: A, settings: {a.b: 1}}
- {corpus: resume, name: small, variants: [base], limit: 20, settings: {training.batcher.size: 4}}
- {corpus: resume, variants: [base, bert4torch], max_steps: 4, table: B}
"""
VARIANTS = {"base": {}, "bioes": {"x.scheme": "BIOES"}}


def test_a_plan_lists_trainings_once_in_its_order(tmp_path, sources):
    (tmp_path / "plan.yml").write_text(PLAN)
    jobs = read_plan(tmp_path / "plan.yml", sources, VARIANTS)
    assert [(j["table"], j["row"], j["seed"], j["updates"]) for j in jobs] == [
        ("A", "bioes", 1, 6),
        ("A", "bert4torch", 1, 6),
        ("A", "bioes", 2, 6),
        ("A", "bert4torch", 2, 6),
        ("A", "base", 1, 6),
        ("resume, 3 epochs", "base, small", 1, 15),
        ("B", "base", 1, 5),
        ("B", "bert4torch", 1, 9),
    ]
    assert jobs[4]["settings"] == {"a.b": 1}
    assert same({**jobs[0], "complete": True}, jobs[0])
    assert not same(jobs[0], jobs[2])


@pytest.mark.parametrize(
    "entry", ["{corpus: weibo}", "{corpus: resume, variants: [x]}", "{corpus: resume, epoch: 3}"]
)
def test_a_plan_with_unknown_words_is_refused(tmp_path, sources, entry):
    (tmp_path / "plan.yml").write_text(f"- {entry}\n")
    with pytest.raises(Failed, match="weibo|x|epoch"):
        read_plan(tmp_path / "plan.yml", sources, VARIANTS)


def test_the_table_counts_the_seeds_that_reached_an_epoch(tmp_path, sources):
    (tmp_path / "plan.yml").write_text(PLAN)
    jobs = read_plan(tmp_path / "plan.yml", sources, VARIANTS)
    f = {("bioes", 1): [0.5, 0.8], ("bioes", 2): [0.6], ("base", 1): [0.4, 0.75]}
    runs = []
    for job in jobs[:5]:
        done = [
            {"epoch": i + 1, "f": value, "seconds": 1.0}
            for i, value in enumerate(f.get((job["row"], job["seed"]), []))
        ]
        complete = len(done) == 2
        runs.append(
            {**job, "epochs_done": done, "complete": complete, "error": "late" * (not done)}
            | {"session": int(job["row"] == "base")}
        )
    session = {
        "machine": "m", "gpu": "", "workers": 1, "threads": 1, "encoder": "e", "versions": {},
        "command": "c",
    }  # fmt: skip
    content = {
        "runs": runs, "tables": {"A": ["bioes", "base", "bert4torch"]}, "corpora": {},
        "sessions": [session, {**session, "machine": "another"}],
    }  # fmt: skip
    cut_off = {**runs[2], "epochs_done": [{"epoch": 1, "f": 0.1, "seconds": 1.0}]}
    begun = {**runs[0], "epochs_done": []}
    content["runs"] = furthest([cut_off, *runs, begun])
    lines = markdown(content).splitlines()
    cells = {line.split(" | ")[0]: line.split(" | ") for line in lines if line.startswith("| b")}
    assert cells["| bioes"][2:5] == ["55.00", "80.00 (1)", "70.00"]
    assert cells["| base"][2:7] == ["40.00", "75.00", "75.00", "", "-5.00"]
    assert "- A, bert4torch, seed 1: late" in lines
    (other,) = (line for line in lines if "Machine: another" in line)
    assert other.startswith("A: base. ")


def test_seeds_are_named_where_sessions_share_a_row():
    runs = [
        {"table": "A", "row": row, "seed": seed, "session": session}
        for row, seed, session in [("x", 1, 0), ("x", 3, 1), ("x", 2, 1), ("y", 1, 1)]
    ]
    assert rows_in_words(runs[1:], runs) == "A: x, seed 2, 3; A: y"
