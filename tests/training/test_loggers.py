"""[training.logger] as spaCy's loop calls it, settings without effect, labels of the dev corpus."""

import io
import json
import signal
from pathlib import Path

import pytest
import spacy
from spacy.tokens import DocBin
from spacy.util import load_config, registry

from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.training.loop import train
from support.toys import TEXTS, make_examples

CONFIG = Path(__file__).parents[2] / "configs" / "bert_crf.cfg"
RECORDED = []


@registry.loggers("test_loggers.Recorder.v1")
def create_recorder(stop_at: int = 0, fail_at: int = 0):
    """Records every call in RECORDED; sends a signal, or fails, after some update."""

    def setup_printer(nlp, stdout, stderr):
        RECORDED[:] = [("setup", nlp.pipe_names)]

        def log_step(info):
            RECORDED.append(("step", info))
            if len(RECORDED) - 1 == stop_at:
                signal.raise_signal(signal.SIGTERM)
            if len(RECORDED) - 1 == fail_at:
                raise RuntimeError("no connection")

        return log_step, lambda: RECORDED.append(("finalize", None))

    return setup_printer


def docbin(path, data):
    docs = [example.reference for example in make_examples(spacy.blank("zh"), data)]
    DocBin(docs=docs).to_disk(path)
    return str(path)


@pytest.fixture
def config(encoder_path, tmp_path):
    """Two epochs of three updates, with the recorder as logger."""
    data = docbin(tmp_path / "docs.spacy", TEXTS)
    settings = {
        "paths.train": data,
        "paths.dev": data,
        "components.bert_crf.model.tok2vec.name": str(encoder_path),
        "training.batcher.size": 3,
        "training.max_epochs": 2,
    }
    config = load_config(CONFIG, overrides=settings, interpolate=False)
    config["training"]["logger"] = {"@loggers": "test_loggers.Recorder.v1"}
    return config


def test_a_logger_gets_what_spacys_loop_gives_it(config, tmp_path):
    history = train(config, tmp_path / "out")
    assert [what for what, _ in RECORDED] == ["setup", *["step"] * 6, "finalize"]
    assert RECORDED[0] == ("setup", ["bert_crf"])
    infos = [info for what, info in RECORDED if what == "step"]
    assert [info is None for info in infos] == [True, True, False] * 2
    for epoch, (info, row) in enumerate(zip(infos[2::3], history["epochs"], strict=True)):
        assert (info["epoch"], info["step"]) == (epoch, 3 * epoch + 2)  # spaCy counts from 0
        assert info["score"] == row["score"]
        assert info["other_scores"]["ents_f"] == row["ents_f"]
        assert info["losses"] == row["losses"] and info["losses"]["bert_crf"] > 0
        assert info["words"] == (epoch + 1) * sum(len(text) for text, _ in TEXTS)
        assert info["checkpoints"] == [
            (done["score"], done["step"] - 1) for done in history["epochs"][: epoch + 1]
        ]
        assert Path(info["output_path"]) == tmp_path / "out" / "model-last"
        assert isinstance(info["seconds"], int)


def test_frozen_components_are_not_shown_to_a_logger(config, tmp_path):
    config["components"]["sentencizer"] = {"factory": "sentencizer"}
    config["nlp"]["pipeline"] = ["sentencizer", "bert_crf"]
    config["training"]["frozen_components"] = ["sentencizer"]
    train(config, tmp_path / "out")
    assert RECORDED[0] == ("setup", ["bert_crf"])


def test_a_logger_is_closed_after_an_interruption(config, tmp_path):
    config["training"]["logger"]["stop_at"] = 4
    with pytest.raises(BertCrfError, match="SIGTERM after step 4"):
        train(config, tmp_path / "out")
    assert [what for what, _ in RECORDED] == ["setup", *["step"] * 4, "finalize"]
    # The other part of the training may have another logger.
    config["training"]["logger"] = {"@loggers": "test_loggers.Recorder.v1"}
    train(config, tmp_path / "out", resume=True)
    assert [info is None for what, info in RECORDED if what == "step"] == [True, False]


def test_a_logger_is_closed_after_an_error(config, tmp_path):
    config["training"]["logger"]["fail_at"] = 2
    with pytest.raises(RuntimeError, match="no connection"):
        train(config, tmp_path / "out")
    assert RECORDED[-1] == ("finalize", None)


@pytest.mark.parametrize("version, settings", [
    ("v1", {"progress_bar": True}), ("v3", {"progress_bar": "train"}), ("v3", {}),
])  # fmt: skip
def test_spacys_console_logger(config, tmp_path, capsys, version, settings):
    config["training"]["logger"] = {"@loggers": f"spacy.ConsoleLogger.{version}", **settings}
    if version == "v3":
        config["training"]["logger"]["output_file"] = str(tmp_path / "log.jsonl")
    history = train(config, tmp_path / "out")
    lines = capsys.readouterr().out.splitlines()
    head, _, *rows = lines[[line.split()[:1] for line in lines].index(["E"]) :]
    assert head.split() == ["E", "#", "LOSS", "BERT_CRF", "ENTS_F", "ENTS_P", "ENTS_R", "SCORE"]
    want = [
        ["0", "2", f"{history['epochs'][0]['losses']['bert_crf']:.2f}"],
        ["1", "5", f"{history['epochs'][1]['losses']['bert_crf']:.2f}"],
    ]
    assert [row.split()[:3] for row in rows] == want
    if version == "v3":  # the file is closed, so complete
        lines = (tmp_path / "log.jsonl").read_text(encoding="utf8").splitlines()
        scores = [json.loads(line)["score"] for line in lines]
        assert scores == [row["score"] for row in history["epochs"]]


def test_our_logger_in_spacys_loop(config, tmp_path):
    from spacy.training.initialize import init_nlp
    from spacy.training.loop import train as spacy_train

    config["training"]["logger"] = {"@loggers": "spacy_bert_crf.ProgressLogger.v1"}
    config["training"]["eval_frequency"] = 3
    (tmp_path / "out").mkdir()
    shown = io.StringIO()
    spacy_train(init_nlp(config), tmp_path / "out", stdout=shown)
    lines = shown.getvalue().splitlines()
    at = next(i for i, line in enumerate(lines) if line.split()[:2] == ["epoch", "step"])
    rows = [line.split() for line in lines[at + 1 :] if line.startswith("    ")]
    assert [row[:2] for row in rows] == [["1", "1"], ["2", "4"]]
    assert rows[0][-1] == "best"


def test_nothing_else_is_printed(config, tmp_path, capfd):
    train(config, tmp_path / "out")
    assert capfd.readouterr().out == ""


def test_a_setting_without_effect_is_named(config, tmp_path, recwarn):
    config["training"]["eval_frequency"] = 7
    config["training"]["max_epochs"] = 1
    train(config, tmp_path / "out")
    found = [str(w.message) for w in recwarn if "no effect" in str(w.message)]
    assert len(found) == 1 and found[0].startswith("[training] eval_frequency = 7")


def test_spacys_default_of_it_is_not_worth_a_warning(config, tmp_path, recwarn):
    config["training"]["max_epochs"] = 1
    train(config, tmp_path / "out")
    assert not [w for w in recwarn if "no effect" in str(w.message)]


def relabelled(change):
    return [(text, [(a, b, change(label)) for a, b, label in spans]) for text, spans in TEXTS]


def test_labels_that_only_dev_has_are_named(config, tmp_path):
    config["paths"]["dev"] = docbin(
        tmp_path / "dev.spacy", relabelled(lambda label: "per" if label == "PER" else label)
    )
    with pytest.warns(UserWarning, match=r"dev corpus has labels .*: per \(\d+ ent.*per and PER"):
        train(config, tmp_path / "out")
    assert [what for what, _ in RECORDED][-1] == "finalize"


def test_a_dev_corpus_of_other_labels_is_refused_before_the_first_epoch(config, tmp_path):
    config["paths"]["dev"] = docbin(tmp_path / "dev.spacy", relabelled(str.lower))
    RECORDED.clear()
    with pytest.raises(BertCrfError, match=r"loc .*org .*per .*The pipeline has: LOC, ORG, PER"):
        train(config, tmp_path / "out")
    assert not RECORDED and not (tmp_path / "out" / "model-last").exists()
