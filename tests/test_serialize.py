"""Disk, bytes, pickle, processes, packages: the same entities everywhere."""

import pickle
import subprocess
import sys
import threading

import pytest
import spacy
from conftest import TEXTS, entities, make_examples

from spacy_bert_crf import layers
from spacy_bert_crf.errors import BertCrfError

ALL = [text for text, _ in TEXTS] * 3


def found(nlp, **settings):
    return [entities(doc) for doc in nlp.pipe(ALL, **settings)]


def test_disk_and_bytes(trained, tmp_path):
    want = found(trained)
    trained.to_disk(tmp_path / "p")
    loaded = spacy.load(tmp_path / "p")
    assert found(loaded) == want and any(want)
    assert loaded.get_pipe("bert_crf").labels == trained.get_pipe("bert_crf").labels
    again = spacy.util.load_model_from_config(trained.config)
    again.from_bytes(trained.to_bytes())
    assert found(again) == want
    one, other = (nlp.get_pipe("bert_crf").to_bytes(exclude=["vocab"]) for nlp in (again, trained))
    assert one == other


def test_a_loaded_pipeline_can_be_trained_on(trained_path):
    nlp = spacy.load(trained_path)
    from spacy_bert_crf.optim import create_adamw

    optimizer = create_adamw(1e-3)
    first = nlp.update(make_examples(nlp), sgd=optimizer)["bert_crf"]
    for _ in range(5):
        last = nlp.update(make_examples(nlp), sgd=optimizer)["bert_crf"]
    assert last < first


def test_pickle(trained):
    assert found(pickle.loads(pickle.dumps(trained))) == found(trained)


def test_two_processes(trained):
    assert found(trained, n_process=2, batch_size=4) == found(trained)


def test_threads_share_a_pipeline(trained_path):
    """No thread switches the module to training under another one."""
    nlp = spacy.load(trained_path)
    pipe = nlp.get_pipe("bert_crf")
    docs = [nlp.make_doc(text) for text in ALL]
    want = [rows.tolist() for rows in pipe.predict(docs)]
    bad = []

    def work():
        for _ in range(10):
            if [rows.tolist() for rows in pipe.predict(docs)] != want:
                bad.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not bad


def test_needs_no_network_and_no_encoder_folder(trained_path, encoder_path, tmp_path):
    config = (trained_path / "config.cfg").read_text(encoding="utf8")
    assert str(encoder_path) in config
    copy = tmp_path / "copy"
    spacy.load(trained_path).to_disk(copy)
    text = (copy / "config.cfg").read_text(encoding="utf8")
    (copy / "config.cfg").write_text(text.replace(str(encoder_path), "/nowhere"), encoding="utf8")
    code = (
        "import socket, sys, spacy\n"
        "def refuse(*a, **k): raise RuntimeError('network')\n"
        "socket.socket.connect = refuse\n"
        f"nlp = spacy.load({str(copy)!r})\n"
        f"print([(e.text, e.label_) for e in nlp({TEXTS[0][0]!r}).ents])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert "王小明" in done.stdout and "清华大学" in done.stdout


@pytest.mark.parametrize("damage", ["cut", "empty"])
def test_a_damaged_model_is_not_loaded(trained, tmp_path, damage):
    trained.to_disk(tmp_path / "p")
    file = tmp_path / "p" / "bert_crf" / "model"
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2] if damage == "cut" else b"")
    from spacy_bert_crf.evaluation import load_pipeline

    with pytest.raises(BertCrfError, match="can't load the pipeline"):
        load_pipeline(tmp_path / "p")


def test_another_scheme_does_not_fit_the_weights(trained, tmp_path):
    trained.to_disk(tmp_path / "p")
    with pytest.raises(BertCrfError, match="7 tags"):
        spacy.load(tmp_path / "p", config={"components": {"bert_crf": {"scheme": "BIOES"}}})


def test_settings_at_load(trained, tmp_path):
    trained.to_disk(tmp_path / "p")
    nlp = spacy.load(tmp_path / "p", config={"components": {"bert_crf": {"constraints": False}}})
    assert layers.head_of(nlp.get_pipe("bert_crf").model).module.crf.legal_transitions.all()
    assert found(nlp) == found(trained)
