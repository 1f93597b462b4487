"""The project's student: what a profile and the variable say, and when there is none."""

import json
from pathlib import Path

import pytest
import spacy
from spacy.tokens import DocBin
from thinc.api import Config

from scripts import student
from scripts.student import compared, student_of, train_student
from spacy_bert_crf.errors import BertCrfError

PROFILE = {"student": {"layers": 4, "gold_weight": 0.3, "epochs": 2, "encoder_lr": 0.001,
                       "settings": {"training.batcher.size": 16}}}  # fmt: skip


@pytest.mark.parametrize(
    ("profile", "layers", "want"),
    [(PROFILE, "", 4), (PROFILE, "0", 4), (PROFILE, "3", 3), (PROFILE, "none", 0),
     ({}, "", 0), ({}, "2", 2), ({"student": {"layers": 0}}, "", 0)],
)  # fmt: skip
def test_layers_of_the_profile_or_the_variable(profile, layers, want):
    assert student_of(profile, layers)["layers"] == want


def test_unknown_words_are_named():
    with pytest.raises(BertCrfError, match="student.layer in the profile is not known: use layers"):
        student_of({"student": {"layer": 4}})
    with pytest.raises(BertCrfError, match="student_layers is 'few': use a number .*or 'none'"):
        student_of(PROFILE, "few")


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A folder with a full pipeline of 12 layers. RETURNS: the commands, which are not run."""
    monkeypatch.chdir(tmp_path)
    for path in ("encoders/x", "training/x/student/model-best", "corpus/x", "export/x-small"):
        Path(path).mkdir(parents=True)
    Path("encoders/x/config.json").write_text('{"num_hidden_layers": 12}')
    Path("training/x/student/history.json").write_text('{"seconds": 3}')
    config = Config({"components": {"a": {"factory": "sentencizer"}, "b": {"factory": "bert_crf"}}})
    config.to_disk("training/x/student/model-best/config.cfg")
    return []


def test_the_profile_becomes_options_of_distill(trained):
    Path("corpus/x/unlabelled.txt").write_text("x")
    train_student(PROFILE, "x", lambda *words: trained.append([str(word) for word in words]))
    (words,) = trained
    options = dict(zip(words[4:], words[5:], strict=False))
    assert (
        words[0] == "distill" and options["--layers"] == "4" and options["--gold-weight"] == "0.3"
    )
    assert options["--text"] == str(Path("corpus/x/unlabelled.txt"))
    assert options["--training.optimizer.encoder_lr"] == "0.001"
    assert options["--training.max_epochs"] == "2" and options["--training.batcher.size"] == "16"
    config = Config().from_disk("training/x/model-small/config.cfg")
    assert config["components"]["b"]["quantize"] == "int8"
    assert "quantize" not in config["components"]["a"]
    about = json.loads(Path("training/x/student.json").read_text("utf8"))
    assert about["layers"] == 4 and about["history"] == {"seconds": 3}


def test_epochs_of_the_config_and_a_gpu(trained):
    def command(*words):
        trained.append([str(word) for word in words])

    train_student(PROFILE, "x", command, max_epochs=1, gpu_id=0)
    assert "--training.max_epochs" not in trained[0] and "--teacher-quantize" not in trained[0]


def test_a_machine_without_integer_kernels(trained, monkeypatch, capsys):
    def check():
        raise BertCrfError("no kernels here")

    monkeypatch.setattr("spacy_bert_crf.encoder.cpu.int8.check_kernels", check)
    train_student(PROFILE, "x", lambda *words: trained.append(words))
    assert "the student stays in float32: no kernels here" in capsys.readouterr().out
    config = Config().from_disk("training/x/model-small/config.cfg")
    assert config["components"]["b"]["quantize"] == "" and "--teacher-quantize" not in trained[0]


def test_the_best_epoch_is_chosen_by_dev_and_news_dev(trained):
    nlp = spacy.blank("zh")
    for name, texts in (("dev", ["一", "二"]), ("news-dev", ["三"])):
        docs = [nlp(text) for text in texts]
        docs[0].user_data["unknown"] = [(0, 1)]
        DocBin(docs=docs, store_user_data=True).to_disk(f"corpus/x/{name}.spacy")
    for _ in range(2):
        train_student(PROFILE, "x", lambda *words: trained.append([str(word) for word in words]))
        options = dict(zip(trained[-1][4:], trained[-1][5:], strict=False))
        found = list(DocBin().from_disk(options["--paths.dev"]).get_docs(nlp.vocab))
        assert [(doc.text, "unknown" in doc.user_data) for doc in found] == [
            ("一", True), ("二", False), ("三", True),
        ]  # fmt: skip
    Path("corpus/x/news-dev.spacy").unlink()
    train_student(PROFILE, "x", lambda *words: trained.append(words))
    assert "--paths.dev" not in trained[-1] and not Path(options["--paths.dev"]).exists()


@pytest.mark.parametrize(
    ("layers", "why"), [("none", "student.layers is 0"), ("12", "the full pipeline has 12")]
)
def test_no_student_leaves_nothing_of_an_earlier_one(trained, capsys, layers, why):
    Path("training/x/model-small").mkdir()
    for name in ("metrics-small.json", "student-dev.spacy"):
        Path("training/x", name).touch()
    train_student(PROFILE, "x", lambda *words: trained.append(words), layers=layers)
    assert why in capsys.readouterr().out and not trained
    assert [path.name for path in Path("training/x").iterdir()] == ["student.json"]
    assert not Path("export/x-small").exists()
    student.evaluate_student("x", lambda *words: trained.append(words))
    student.export_student("x", lambda *words: trained.append(words))
    assert not trained


def test_a_table_of_both(tmp_path):
    for name, f in (("full", 0.9), ("small", 0.8)):
        metrics = {"ents_per_type": {"LOC": {"f": f}}, "ents_f": f, "dev": {"ents_f": f - 0.1},
                   "characters_per_second": 1000.0}  # fmt: skip
        (tmp_path / name).write_text(json.dumps(metrics))
    lines = compared(tmp_path / "full", tmp_path / "small").split("\n")
    assert lines[1].split() == ["LOC", "all", "dev", "chars/s"]
    assert lines[3].split() == ["model-small", "80.00", "80.00", "70.00", "1000"]
