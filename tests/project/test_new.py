"""`bert-crf new`: a project of one's own, from a corpus as it is to an export."""

import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from itertools import permutations
from types import SimpleNamespace

import pytest
import spacy
import srsly
from spacy.tokens import DocBin
from spacy.util import load_config

from support.commands import cli
from support.folders import content
from support.toys import ENGLISH, TEXTS

#: Pairs of the toy's sentences: 56 texts that differ.
PAIRS = [
    (a + b, ea + [(start + len(a), end + len(a), label) for start, end, label in eb])
    for (a, ea), (b, eb) in permutations(TEXTS, 2)
]


def write(path, texts, **more):
    srsly.write_jsonl(
        path, [{"text": t, "label": [list(e) for e in es], **more} for t, es in texts]
    )
    return path


@pytest.fixture
def corpus(tmp_path):
    return write(tmp_path / "corpus.jsonl", PAIRS)


def new(folder, *words, code=0):
    return cli("new", folder, *words, code=code)


def docs_of(folder, part):
    nlp = spacy.blank("zh")
    return list(DocBin().from_disk(folder / "corpus" / f"{part}.spacy").get_docs(nlp.vocab))


def test_tags_that_are_numbers_get_names(encoder_path, tmp_path):
    rows = [
        {"tokens": [*text, *str(i)], "ner_tags": [1, *[2] * (len(text) - 1), *[0] * len(str(i))]}
        for i, text in enumerate(["王小明", "李伟", "张三丰"] * 10)
    ]
    srsly.write_jsonl(tmp_path / "n.jsonl", rows)
    words = ["--train", tmp_path / "n.jsonl", "--encoder", encoder_path, "--lang", "zh"]
    assert "--names" in new(tmp_path / "mine", *words, code=1)
    text = new(tmp_path / "mine", *words, "--join", "", "--names", "O,B-PER,I-PER")
    assert "PER" in text
    docs = docs_of(tmp_path / "mine", "train")
    assert all([ent.start for ent in doc.ents] == [0] for doc in docs)


def test_the_folder_has_what_a_training_needs(corpus, encoder_path, tmp_path):
    output = new(tmp_path / "mine", "--train", corpus, "--encoder", encoder_path)
    folder = tmp_path / "mine"
    for words in ("doccano", "zh (found from the text)", "train 43, dev 7, test 6", "seed 0"):
        assert words in output
    parts = {part: docs_of(folder, part) for part in ("train", "dev", "test")}
    found = [doc.text for docs in parts.values() for doc in docs]
    assert sorted(found) == sorted(text for text, _ in PAIRS)
    entities = {
        doc.text: [(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents]
        for docs in parts.values()
        for doc in docs
    }
    assert entities == {text: sorted(spans) for text, spans in PAIRS}
    config = load_config(folder / "config.cfg")
    assert config["nlp"]["lang"] == "zh" and config["paths"]["train"] == "corpus/train.spacy"
    assert config["components"]["bert_crf"]["model"]["tok2vec"]["name"] == "encoder"
    assert json.loads((folder / "labels.json").read_text()) == ["LOC", "ORG", "PER"]
    assert len((folder / "README.md").read_text(encoding="utf8").splitlines()) <= 10
    assert str(folder) not in (folder / "project.yml").read_text(encoding="utf8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.jsonl", "mine"]


def test_the_project_runs_to_an_export(corpus, encoder_path, tmp_path):
    folder = tmp_path / "mine"
    new(folder, "--train", corpus, "--encoder", encoder_path, "--seed", 3)
    config = folder / "config.cfg"
    text = config.read_text(encoding="utf8")
    epochs = load_config(config)["training"]["max_epochs"]
    config.write_text(text.replace(f"max_epochs = {epochs}", "max_epochs = 1"), encoding="utf8")
    before = content(folder / "corpus")

    def run(step="all"):
        done = subprocess.run(
            [sys.executable, "-m", "spacy", "project", "run", step, str(folder)],
            cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run()
    # The step `corpus` writes what `new` wrote.
    assert content(folder / "corpus") == before
    nlp = spacy.load(folder / "training" / "model-best")
    assert nlp.get_pipe("bert_crf").labels == ("LOC", "ORG", "PER")
    metrics = json.loads((folder / "training" / "metrics.json").read_text())
    assert metrics["seed"] == 3 and "dev" in metrics and "ents_f" in metrics
    assert (folder / "export" / "best_model.pt").stat().st_size > 1000
    assert "<html" in (folder / "report.html").read_text(encoding="utf8")
    # A second run skips every step.
    assert run().count("Skipping") == 5
    # A package of it, named after the folder.
    pytest.importorskip("build")
    assert "license is empty" in run("package")
    assert [path.name for path in (folder / "packages").iterdir()] == [
        "zh_mine-0.1.0-py3-none-any.whl"
    ]
    assert f"| all | {100 * metrics['ents_p']:.2f} |" in (folder / "card.md").read_text("utf8")
    assert run("package").count("Skipping") == 1
    run("card")
    assert "model-index:" in (folder / "card" / "README.md").read_text("utf8")


def test_given_files_are_the_parts(encoder_path, tmp_path):
    train = write(tmp_path / "train.jsonl", PAIRS[:40])
    dev = write(tmp_path / "dev.jsonl", [*PAIRS[40:50], PAIRS[3], ("王小明", [(0, 3, "RARE")])])
    output = new(tmp_path / "a", "--train", train, "--dev", dev, "--encoder", encoder_path)
    assert "train 40, dev 12" in output and "scores are those of dev" in output
    assert "RARE is in dev only: it can't be learned" in output
    assert "in two parts: 1 text, such as" in output and "dev.jsonl" in output
    assert "test.spacy" not in (tmp_path / "a" / "project.yml").read_text(encoding="utf8")
    test = write(tmp_path / "test.jsonl", PAIRS[50:])
    output = new(tmp_path / "b", "--train", train, "--test", test, "--encoder", encoder_path)
    assert "train 36, dev 4, test 6 (dev split off by text" in output


def test_few_examples_are_doubtful(corpus, encoder_path, tmp_path):
    output = new(tmp_path / "mine", "--train", corpus, "--encoder", encoder_path)
    doubts = output[output.index("Doubtful:") :]
    counts = [
        sum(ent.label_ == "ORG" for ent in doc.ents) for doc in docs_of(tmp_path / "mine", "train")
    ]
    assert f"ORG has {sum(counts)} examples in train" not in doubts  # 20 and more
    write(tmp_path / "few.jsonl", PAIRS[:20])
    output = new(tmp_path / "few", "--train", tmp_path / "few.jsonl", "--encoder", encoder_path)
    assert "examples in train, under 20" in output and "dev has" in output


def test_texts_without_entities_are_counted_and_doubted_if_most_are(encoder_path, tmp_path):
    empty = [(f"今天的天气不错，第{n}天。", []) for n in range(60)]
    for some, doubted in ((empty[:10], False), (empty, True)):
        path = write(tmp_path / f"{len(some)}.jsonl", [*PAIRS[:25], *some])
        output = new(tmp_path / f"of-{len(some)}", "--train", path, "--encoder", encoder_path)
        assert re.search(rf"^without entities +{len(some)} texts$", output, re.MULTILINE)
        assert ("60 of 85 texts have no entity: they are learned so" in output) is doubted


def test_the_first_layers_of_an_encoder(corpus, encoder_path, tmp_path):
    words = ["--train", corpus, "--encoder", encoder_path, "--layers", 1]
    assert "3 layers" in fails(tmp_path, *words[:-1], 3)
    assert "1 layers" in new(tmp_path / "mine", *words)
    config = tmp_path / "mine" / "encoder" / "config.json"
    assert srsly.read_json(config)["num_hidden_layers"] == 1
    (step,) = (
        command
        for command in srsly.read_yaml(tmp_path / "mine" / "project.yml")["commands"]
        if command["name"] == "encoder"
    )
    folder = tmp_path / "mine" / "encoder"
    (script,) = step["script"]
    source = script.removeprefix("python -m spacy bert-crf convert-checkpoint ").split()[0]
    assert script.endswith(f" {source} encoder --layers 1")
    shutil.rmtree(folder)
    cli("convert-checkpoint", source, folder, "--layers", 1)
    assert srsly.read_json(config)["num_hidden_layers"] == 1


def test_labels_are_chosen_and_ordered(corpus, encoder_path, tmp_path):
    words = ("--train", corpus, "--encoder", encoder_path)
    output = new(tmp_path / "mine", *words, "--labels", "PER, LOC")
    assert json.loads((tmp_path / "mine" / "labels.json").read_text()) == ["PER", "LOC"]
    assert "left out: ORG (42)" in output
    labels = {ent.label_ for doc in docs_of(tmp_path / "mine", "train") for ent in doc.ents}
    assert labels == {"PER", "LOC"}
    output = new(tmp_path / "other", *words, "--labels", "PER,DATE", code=1)
    assert "DATE" in output and "It has LOC, ORG, PER" in output


def test_documents_stay_together(encoder_path, tmp_path):
    lines = []
    for number in range(12):
        lines.append("-DOCSTART- -X- O O\n")
        for text, spans in ENGLISH:
            text = f"{text} in {number}"
            at = 0
            for word in text.split(" "):
                tag = next((label for s, e, label in spans if s <= at < e), None)
                is_first = any(s == at for s, _, _ in spans)
                lines.append(f"{word} NN O {'BI'[not is_first] + '-' + tag if tag else 'O'}")
                at += len(word) + 1
            lines.append("")
    path = tmp_path / "train.conll"
    path.write_text("\n".join(lines) + "\n", encoding="utf8")
    output = new(tmp_path / "mine", "--train", path, "--encoder", encoder_path)
    assert "en (found from the text)" in output and "split off by document" in output
    found = {}
    for part in ("train", "dev", "test"):
        for doc in docs_of(tmp_path / "mine", part):
            found.setdefault(doc.text.rpartition(" ")[2], set()).add(part)
    assert len(found) == 12 and all(len(parts) == 1 for parts in found.values())


def test_partial_annotation_stays_partial(encoder_path, tmp_path):
    corpus = write(tmp_path / "corpus.jsonl", PAIRS)
    new(tmp_path / "mine", "--train", corpus, "--encoder", encoder_path, "--partial")
    for doc in docs_of(tmp_path / "mine", "train"):
        assert all(token.ent_iob in (0, 1, 3) for token in doc)
    rows = list(srsly.read_jsonl(tmp_path / "mine" / "assets" / "train.jsonl"))
    assert all(row["partial"] for row in rows)


def fails(tmp_path, *words):
    """The message of a `new` that fails, and that leaves nothing behind."""
    before = sorted(tmp_path.rglob("*"))
    output = new(tmp_path / "mine", *words, code=1)
    assert sorted(tmp_path.rglob("*")) == before
    assert output.count("✘") == 1 and "Traceback" not in output
    return output


def test_a_folder_in_use_is_refused_first(corpus, encoder_path, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    assert "not empty" in fails(tmp_path, "--train", tmp_path / "none.jsonl")
    shutil.rmtree(tmp_path / "mine")
    (tmp_path / "mine").write_text("a file")
    assert "is a file" in fails(tmp_path, "--train", corpus)


def test_a_corpus_without_use(encoder_path, tmp_path):
    assert "none.jsonl" in fails(tmp_path, "--train", tmp_path / "none.jsonl")
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7\n\x00\xff\xfe")
    assert "a.pdf" in fails(tmp_path, "--train", tmp_path / "a.pdf")
    path = write(tmp_path / "plain.jsonl", [(text, []) for text, _ in PAIRS])
    assert "no entity" in fails(tmp_path, "--train", path, "--encoder", encoder_path)
    path = write(tmp_path / "two.jsonl", PAIRS[:2])
    assert "can't be divided" in fails(tmp_path, "--train", path, "--encoder", encoder_path)


def test_an_encoder_that_is_not_there(corpus, tmp_path):
    output = fails(tmp_path, "--train", corpus, "--encoder", "./encoders/mine")
    assert "there is no encoder folder" in output
    (tmp_path / "empty").mkdir()
    assert "config.json" in fails(tmp_path, "--train", corpus, "--encoder", tmp_path / "empty")


def test_a_hub_that_is_not_reached(corpus, tmp_path):
    """HF_ENDPOINT is read when the library is imported, so a process of its own."""
    done = subprocess.run(
        [
            sys.executable, "-m", "spacy", "bert-crf", "new", "mine", "--train", str(corpus),
            "--encoder", "someone/some-bert",
        ],
        cwd=tmp_path, capture_output=True, text=True,
        env={"HF_ENDPOINT": "http://127.0.0.1:9", **_environment()},
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    assert "the hub can't be reached" in done.stdout and "--encoder packaged" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.jsonl"]


def _environment():
    import os

    return {key: value for key, value in os.environ.items() if not key.startswith("HF_")}


@pytest.mark.parametrize("revision", ["", "v1"])
def test_a_name_on_the_hub(revision, corpus, encoder_path, tmp_path, monkeypatch):
    """The commit is that of the moment, or of the revision. It is recorded."""
    import huggingface_hub

    commit = "0123456789abcdef0123456789abcdef01234567"

    def info(self, name, revision):
        assert (name, revision) == ("someone/some-bert", wanted)
        files = [SimpleNamespace(rfilename=path.name) for path in encoder_path.iterdir()]
        return SimpleNamespace(sha=commit, siblings=files)

    def download(name, revision, allow_patterns):
        assert (name, revision) == ("someone/some-bert", commit)
        assert "model.safetensors" in allow_patterns and "config.json" in allow_patterns
        return str(encoder_path)

    wanted = revision or None
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    source = "someone/some-bert" + (f"@{revision}" if revision else "")
    new(tmp_path / "mine", "--train", corpus, "--encoder", source)
    assert (tmp_path / "mine" / "encoder" / "model.safetensors").is_file()
    config = json.loads((tmp_path / "mine" / "encoder" / "config.json").read_text("utf8"))
    assert config["origin"] == f"someone/some-bert@{commit}"
    text = (tmp_path / "mine" / "project.yml").read_text(encoding="utf8")
    assert "convert-checkpoint" not in text


def test_an_encoder_of_another_script(encoder_path, tmp_path):
    """The toy knows neither Greek nor its letters."""
    data = [(f"Αθήνα είναι πόλη αριθμός {i}", [(0, 5, "LOC")]) for i in range(30)]
    path = write(tmp_path / "greek.jsonl", data)
    output = fails(tmp_path, "--train", path, "--encoder", encoder_path)
    assert "does not know" in output and "made for el" in output


@pytest.mark.skipif(find_spec("sudachipy") is not None, reason="the tokenizer is installed")
def test_a_language_without_its_tokenizer(encoder_path, tmp_path):
    data = [(f"東京は日本の首都である。{i}", [(0, 2, "LOC")]) for i in range(30)]
    path = write(tmp_path / "japanese.jsonl", data)
    output = fails(tmp_path, "--train", path, "--encoder", encoder_path)
    assert "'ja'" in output and "SudachiPy" in output
