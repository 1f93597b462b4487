"""The commands as people run them: exit status, one clear message, nothing half-written."""

import json
import re
import subprocess
import sys

import pytest
import spacy
import torch
from spacy.tokens import DocBin

from support.commands import cli
from support.paths import CONFIG
from support.toys import TEXTS, make_examples

GOOD = "王 B-PER\n明 I-PER\n在 O\n京 B-LOC\n\n没 O\n有 O\n"


def process(*words, code=0):
    """Run a command as a person does, in a process of its own, which takes seconds to start."""
    done = subprocess.run(
        [sys.executable, "-m", "spacy", "bert-crf", *map(str, words)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def spacy_cli(*words):
    """Run a command of spaCy's own in this process. RETURNS what it prints."""
    from spacy.cli._util import app
    from typer.testing import CliRunner

    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_help_lists_the_commands_in_the_order_of_use():
    listed = re.findall(r"^  ([a-z][a-z-]+)(?:  |$)", cli("--help").split("Commands:\n")[1], re.M)
    order = ["new", "init-config", "convert-corpus", "convert-checkpoint", "train", "distill"]
    order += [
        "evaluate",
        "report",
        "find-errors",
        "calibrate",
        "nbest",
        "export",
        "compare-exports",
    ]
    order += ["import-model", "package", "card", "push", "select", "bootstrap", "annotate"]
    order += ["serve", "dictionary"]
    assert listed == [name for name in order if name in listed] and len(listed) >= 11


def test_help_lists_the_commands():
    text = process("--help")
    names = ["convert-checkpoint", "convert-corpus", "train", "evaluate", "export"]
    for name in [*names, "calibrate", "find-errors", "nbest"]:
        assert name in text
        assert "Usage" in cli(name, "--help")


BAD = {
    "no tag": ("王 B-PER\n明\n", ":2"),
    "three columns": ("王 B-PER\n明 x O\n", ":2"),
    "unknown prefix": ("王 B-PER\n明 Q-PER\n", ":2.*Q-PER|Q"),
    "orphan": ("王 O\n明 I-PER\n", ":2.*I-PER"),
    "two characters": ("王 B-PER\n明 I-PER\n在 O\n王明 B-PER\n", ":4: 2 characters"),
    "not utf-8": (b"\xe7\x8e O\n", "UTF-8"),
    "empty": ("", "no sentence"),
}


def test_each_problem_is_printed_on_a_line_of_its_own(tmp_path):
    """At most ten, then how many more there are, then what to do."""
    src = tmp_path / "bad.txt"
    src.write_text("王 I-PER\n\n" * 13 + "王 B-PER\n", encoding="utf8")
    lines = cli("convert-corpus", src, tmp_path / "a.spacy", code=1).splitlines()
    assert [line.split(": ")[0] for line in lines[:10]] == [
        f"{'✘ ' * (i == 0)}{src}:{2 * i + 1}" for i in range(10)
    ]
    assert all("orphan" in line for line in lines[:10])
    assert lines[10] == "... and 3 more"
    assert lines[11].startswith("13 problem(s), nothing was written") and len(lines) == 12
    # Where the conversion goes on, they are listed the same way.
    words = ["convert-corpus", src, tmp_path / "a.spacy", "--on-error", "skip-sentence"]
    lines = cli(*words).splitlines()
    shown = [line.split(": ")[0] for line in lines if line.startswith(str(src))]
    assert shown == [f"{src}:{2 * i + 1}" for i in range(10)]
    assert "... and 3 more" in lines


def test_each_command_has_an_example_that_fits_it():
    from typer.main import get_command

    from spacy_bert_crf.cli import cli as app

    commands = get_command(app).commands
    for name in commands:
        example = cli(name, "--help").split("Example:\n")[1].split("\n\n")[0]
        lines = [line.split() for line in example.replace("\\\n", " ").splitlines()]
        used = [line[line.index("bert-crf") + 1 :] for line in lines if "bert-crf" in line]
        assert name in [words[0] for words in used]
        for word, *others in used:
            with commands[word].make_context(word, others) as context:
                assert context.params


@pytest.mark.parametrize("name", BAD)
def test_bad_corpus_lines(tmp_path, name):
    content, pattern = BAD[name]
    src, dst = tmp_path / "bad.txt", tmp_path / "out.spacy"
    src.write_bytes(content if isinstance(content, bytes) else content.encode("utf8"))
    text = cli("convert-corpus", src, dst, "--scheme", "bio", code=1)
    assert re.search(pattern, text), text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.txt"]


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace("\n", "\r\n"),
        lambda t: "\ufeff" + t,
        lambda t: t.rstrip("\n"),
        lambda t: "\n\n" + t.replace("\n\n", "\n\n\n\n") + "\n\n",
        lambda t: t.replace(" ", "\t"),
    ],
)
def test_accepted_variants(tmp_path, change):
    (tmp_path / "a.txt").write_bytes(change(GOOD).encode("utf8"))
    text = cli("convert-corpus", tmp_path / "a.txt", tmp_path / "a.spacy")
    assert "sentences" in text and "PER" in text
    docs = list(DocBin().from_disk(tmp_path / "a.spacy").get_docs(spacy.blank("zh").vocab))
    assert [doc.text for doc in docs] == ["王明在京", "没有"]
    assert [(e.text, e.label_) for e in docs[0].ents] == [("王明", "PER"), ("京", "LOC")]
    cli("convert-corpus", tmp_path / "a.spacy", tmp_path / "b.txt")
    assert (tmp_path / "b.txt").read_text(encoding="utf8").rstrip("\n") == GOOD.rstrip("\n")


def test_a_bad_checkpoint(tmp_path, encoder_path):
    src = tmp_path / "src"
    src.mkdir()
    for name in ("config.json", "vocab.txt"):
        (src / name).write_bytes((encoder_path / name).read_bytes())
    (src / "pytorch_model.bin").write_bytes(b"\x80\x02]q\x00.")
    text = cli("convert-checkpoint", src, tmp_path / "dst", code=1)
    assert "pytorch_model.bin" in text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["src"]


def test_train_refuses_what_is_not_there(tmp_path):
    assert "no config" in process("train", tmp_path / "no.cfg", tmp_path / "out", code=1)
    (tmp_path / "a.cfg").write_text("[training]\nseed = x\n", encoding="utf8")
    cli("train", tmp_path / "a.cfg", tmp_path / "out", code=1)


def test_train_evaluate_export(tmp_path, encoder_path):
    nlp = spacy.blank("zh")
    DocBin(docs=[eg.reference for eg in make_examples(nlp)]).to_disk(tmp_path / "d.spacy")
    from support.paths import CONFIG

    text = process(
        "train", CONFIG, tmp_path / "out", "--paths.train", tmp_path / "d.spacy",
        "--paths.dev", tmp_path / "d.spacy", "--training.max_epochs", 60,
        "--training.dropout", "0.0",
        "--components.bert_crf.model.tok2vec.name", encoder_path,
        "--training.optimizer.encoder_lr", "5e-3", "--training.optimizer.head_lr", "2e-2",
        "--training.batcher.size", 3,
        "--training.optimizer.decay", "constant",
    )  # fmt: skip
    assert "best epoch" in text
    text = cli(
        "evaluate", tmp_path / "out" / "model-best", tmp_path / "d.spacy", "--dev",
        tmp_path / "d.spacy", "--history", tmp_path / "out" / "history.json",
        "--output", tmp_path / "metrics.json",
    )  # fmt: skip
    assert "precision" in text and "all entities" in text
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf8"))
    assert metrics["ents_f"] == metrics["dev"]["ents_f"] == 1.0
    assert metrics["data"] == metrics["dev"]["data"] == "d.spacy"
    assert {"ents_p", "ents_r", "ents_per_type", "tokens_p", "tokens_r", "tokens_f"} <= set(metrics)
    assert len(metrics["epochs"]) == 60
    assert set(metrics["epochs"][0]) == {"epoch", "loss", "ents_f", "seconds"}
    assert metrics["seed"] == 0 and metrics["seconds"] > 0 and metrics["versions"]["torch"]
    cli(
        "export", tmp_path / "out" / "model-best", tmp_path / "x",
        "--metrics", tmp_path / "metrics.json",
    )  # fmt: skip
    assert (
        json.loads((tmp_path / "x" / "best_model.json").read_text("utf8"))["metrics"]["ents_f"] == 1
    )


def test_evaluate_and_export_refuse_what_is_not_there(tmp_path, trained_path):
    assert "no pipeline folder" in cli("evaluate", tmp_path / "p", tmp_path / "d", code=1)
    assert "no corpus" in cli("evaluate", trained_path, tmp_path / "d.spacy", code=1)
    (tmp_path / "d.spacy").write_bytes(b"no")
    assert "DocBin" in cli("evaluate", trained_path, tmp_path / "d.spacy", code=1)
    assert "no pipeline folder" in cli("export", tmp_path / "p", tmp_path / "x", code=1)
    assert not (tmp_path / "x").exists()


def test_a_gpu_that_is_not_there(tmp_path, trained_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    DocBin().to_disk(tmp_path / "d.spacy")
    text = cli("evaluate", trained_path, tmp_path / "d.spacy", "--gpu-id", 0, code=1)
    assert "gpu_id 0" in text


def test_full_memory_is_one_message(tmp_path, trained_path, monkeypatch):
    """From another component than this package's, which explains its own."""

    def fail(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. See also")

    DocBin(docs=[spacy.blank("zh")("北京")]).to_disk(tmp_path / "d.spacy")
    monkeypatch.setattr("spacy_bert_crf.evaluation.evaluate.evaluate", fail)
    text = cli("evaluate", trained_path, tmp_path / "d.spacy", code=1)
    assert "✘ not enough memory (CUDA out of memory. Tried to allocate 2.00 GiB). Lower" in text
    monkeypatch.setattr("spacy_bert_crf.evaluation.evaluate.evaluate", other_error)
    with pytest.raises(RuntimeError, match="of another kind"):
        cli("evaluate", trained_path, tmp_path / "d.spacy")


def other_error(*args, **kwargs):
    raise RuntimeError("of another kind")


@pytest.mark.parametrize(
    "name", ["train", "distill", "evaluate", "report", "find-errors", "calibrate", "nbest"]
)
def test_each_command_with_a_gpu_refuses_one_that_is_not_there(name, tmp_path, trained_path):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    DocBin(docs=[spacy.blank("zh")("北京")]).to_disk(tmp_path / "d.spacy")
    out = tmp_path / "out"
    words = {
        "train": [CONFIG, out],
        "distill": [trained_path, CONFIG, out],
        "nbest": [trained_path, "北京"],
    }
    usual = [trained_path, tmp_path / "d.spacy"]
    text = cli(name, *words.get(name, usual), "--gpu-id", 7, code=1)
    assert "gpu_id 7 can't be used: torch" in text and "Use -1 for the CPU." in text


def test_spacys_own_commands_know_the_component(tmp_path, encoder_path):
    """init fill-config, debug config, debug data, init labels, evaluate, apply."""
    from support.paths import CONFIG

    nlp = spacy.blank("zh")
    # spaCy calls fewer than 100 docs an error.
    docs = [eg.reference for eg in make_examples(nlp, TEXTS * 13)]
    DocBin(docs=docs).to_disk(tmp_path / "d.spacy")
    options = [
        "--paths.train", tmp_path / "d.spacy", "--paths.dev", tmp_path / "d.spacy",
        "--components.bert_crf.model.tok2vec.name", encoder_path,
    ]  # fmt: skip

    spacy_cli("init", "fill-config", CONFIG, tmp_path / "full.cfg")
    text = (tmp_path / "full.cfg").read_text(encoding="utf8")
    assert "batch_pieces = 0" in text and "grad_scaler_config" in text
    assert 'score_extension = "score"' in text and "temperature = 1.0" in text
    spacy_cli("debug", "config", CONFIG, *options)
    spacy_cli("debug", "data", CONFIG, *options)
    spacy_cli("init", "labels", CONFIG, tmp_path / "labels", *options)
    labels = json.loads((tmp_path / "labels" / "bert_crf.json").read_text(encoding="utf8"))
    assert labels == ["LOC", "ORG", "PER"]


def test_spacy_evaluate_apply_and_benchmark(tmp_path, trained_path):
    nlp = spacy.blank("zh")
    DocBin(docs=[eg.reference for eg in make_examples(nlp)]).to_disk(tmp_path / "d.spacy")
    (tmp_path / "t.txt").write_text(TEXTS[0][0], encoding="utf8")
    for words in (
        ["evaluate", trained_path, tmp_path / "d.spacy", "--output", tmp_path / "m.json"],
        ["apply", trained_path, tmp_path / "t.txt", tmp_path / "a.spacy"],
        ["benchmark", "speed", trained_path, tmp_path / "d.spacy", "--batches", "30"],
    ):
        spacy_cli(*words)
    assert json.loads((tmp_path / "m.json").read_text(encoding="utf8"))["ents_f"] == 1.0
    (doc,) = DocBin().from_disk(tmp_path / "a.spacy").get_docs(nlp.vocab)
    assert [ent.text for ent in doc.ents] == ["王小明", "北京", "清华大学"]


@pytest.mark.parametrize("name, code", [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_within_a_write(tmp_path, monkeypatch, name, code):
    """The old file stays, the temporary one goes, and the handlers are as they were."""
    import os
    import signal

    from support.commands import cli

    (tmp_path / "a.txt").write_text("王 B-PER\n", encoding="utf8")
    (tmp_path / "a.spacy").write_text("old")
    # A job in the background is started with SIGINT ignored.
    interrupts = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.getsignal(signal.SIGTERM)
    # os.kill may wake another thread, and this one would go on for a moment.
    monkeypatch.setattr(os, "fsync", lambda f: signal.raise_signal(getattr(signal, name)))
    words = ["convert-corpus", tmp_path / "a.txt", tmp_path / "a.spacy"]
    try:
        assert "interrupted" in cli(*words, code=code)
    finally:
        signal.signal(signal.SIGINT, interrupts)
    assert (tmp_path / "a.spacy").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.spacy", "a.txt"]
    assert signal.getsignal(signal.SIGTERM) == before
