"""Disk, bytes, pickle, processes, packages: the same entities everywhere."""

import mmap
import pickle
import subprocess
import sys
import threading
from unittest import mock

import pytest
import spacy

from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.model import layers
from spacy_bert_crf.model.shims import EncoderShim
from spacy_bert_crf.model.weights_file import CHECKSUMS, NAME, beside
from support.toys import TEXTS, entities, make_examples

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
    from spacy_bert_crf.model.optimizer import create_adamw

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


FILES = [
    "bert_crf/model",
    "bert_crf/encoder.safetensors",
    "bert_crf/cfg",
    "config.cfg",
    "meta.json",
    "vocab/strings.json",
]


@pytest.mark.parametrize("damage", ["cut", "empty"])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named(trained, tmp_path, name, damage):
    trained.to_disk(tmp_path / "p")
    file = tmp_path / "p" / name
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2] if damage == "cut" else b"")
    from spacy_bert_crf.component.pipelines import load_pipeline

    with pytest.raises(BertCrfError, match=f"can't load the pipeline .*{name} is damaged"):
        load_pipeline(tmp_path / "p")


def test_a_flipped_bit_in_the_weights_is_seen(trained, tmp_path):
    trained.to_disk(tmp_path / "p")
    file = tmp_path / "p" / "bert_crf" / "encoder.safetensors"
    data = bytearray(file.read_bytes())
    weight = layers.own_encoder_of(trained.get_pipe("bert_crf").model).module.state_dict()
    values = weight["embeddings.word_embeddings.weight"].numpy().tobytes()
    data[data.index(values) + 100] ^= 1
    file.write_bytes(data)
    with pytest.raises(BertCrfError, match="bert_crf/encoder.safetensors is damaged: .*checksum"):
        spacy.load(tmp_path / "p")


def repacked(trained, change):
    """The component's model with something changed in what its shims saved."""
    import srsly

    pipe = trained.get_pipe("bert_crf")
    saved = srsly.msgpack_loads(pipe.model.to_bytes())

    def walk(value):
        if isinstance(value, bytes) and value:
            try:
                inner = srsly.msgpack_loads(value)
            except Exception:
                return value
            if not isinstance(inner, dict):
                return value
            inner.pop("crc32", None)
            return srsly.msgpack_dumps(change(inner))
        if isinstance(value, list):
            return [walk(item) for item in value]
        if isinstance(value, dict):
            return {key: walk(item) for key, item in value.items()}
        return value

    return srsly.msgpack_dumps(walk(saved))


@pytest.mark.parametrize(
    "change, match",
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        ({"vocab_size": 10**9}, r"word_embeddings.weight is \[\d+, 16\].* \[1000000000, 16\]"),
        ({"intermediate_size": 10**12}, r"intermediate.* asks for \[1000000000000"),
        ({"hidden_size": 10**7}, r"asks for \[\d+, 10000000\]"),
    ],
)
def test_a_model_that_claims_to_be_huge_is_not_built(trained, tmp_path, change, match):
    import json

    trained.to_disk(tmp_path / "p")

    def enlarge(saved):
        if "config" in saved:
            saved["config"] = json.dumps({**json.loads(saved["config"]), **change})
        return saved

    (tmp_path / "p" / "bert_crf" / "model").write_bytes(repacked(trained, enlarge))
    with pytest.raises(BertCrfError, match=f"model is damaged.*{match}"):
        spacy.load(tmp_path / "p")


def test_code_that_comes_with_a_model_is_neither_run_nor_asked_about(trained, tmp_path):
    """transformers would ask on the terminal whether to run what auto_map names."""
    import json

    code = f"open({str(tmp_path / 'ran')!r}, 'w')\nclass X: pass\n"

    def add_code(saved):
        if "config" in saved:
            own = {"AutoConfig": "own.X", "AutoModel": "own.X"}
            saved["config"] = json.dumps({**json.loads(saved["config"]), "auto_map": own})
            saved["tokenizer"]["own.py"] = code.encode()
            settings = json.loads(saved["tokenizer"]["tokenizer_config.json"])
            settings["auto_map"] = {"AutoTokenizer": ["own.X", "own.X"]}
            saved["tokenizer"]["tokenizer_config.json"] = json.dumps(settings).encode()
        return saved

    trained.to_disk(tmp_path / "p")
    (tmp_path / "p" / "bert_crf" / "model").write_bytes(repacked(trained, add_code))
    assert found(spacy.load(tmp_path / "p")) == found(trained)
    assert not (tmp_path / "ran").exists()


def test_another_scheme_does_not_fit_the_weights(trained, tmp_path):
    trained.to_disk(tmp_path / "p")
    with pytest.raises(BertCrfError, match="7 tags"):
        spacy.load(tmp_path / "p", config={"components": {"bert_crf": {"scheme": "BIOES"}}})


def test_settings_at_load(trained, tmp_path):
    trained.to_disk(tmp_path / "p")
    nlp = spacy.load(tmp_path / "p", config={"components": {"bert_crf": {"constraints": False}}})
    assert layers.head_of(nlp.get_pipe("bert_crf").model).module.crf.legal_transitions.all()
    assert found(nlp) == found(trained)


WEIGHTS = "bert_crf/encoder.safetensors"


def test_old_pipelines_have_the_weights_in_their_model(trained, tmp_path):
    trained.to_disk(tmp_path / "p")
    trained.get_pipe("bert_crf").model.to_disk(tmp_path / "p" / "bert_crf" / "model")
    (tmp_path / "p" / WEIGHTS).unlink()
    assert found(spacy.load(tmp_path / "p")) == found(trained)


def test_weights_of_another_pipeline_are_refused(trained, tmp_path):
    trained.to_disk(tmp_path / "p")
    trained.update(make_examples(trained), sgd=trained.create_optimizer())
    trained.to_disk(tmp_path / "other")
    (tmp_path / "p" / WEIGHTS).write_bytes((tmp_path / "other" / WEIGHTS).read_bytes())
    with pytest.raises(BertCrfError, match=f"{WEIGHTS} is damaged: .*checksum"):
        spacy.load(tmp_path / "p")


def test_missing_weights_are_named(trained, tmp_path):
    trained.to_disk(tmp_path / "p")
    (tmp_path / "p" / WEIGHTS).unlink()
    with pytest.raises(BertCrfError, match=f"{WEIGHTS} is damaged: it is missing"):
        spacy.load(tmp_path / "p")
    with pytest.raises(BertCrfError, match="load the component's folder"):
        trained.get_pipe("bert_crf").model.from_disk(tmp_path / "p" / "bert_crf" / "model")


def test_saving_over_the_folder_that_is_loaded(trained, tmp_path):
    """Its weights are mapped from the file that is replaced, and trained on in between."""
    trained.to_disk(tmp_path / "p")
    nlp = spacy.load(tmp_path / "p")
    before = (tmp_path / "p" / WEIGHTS).read_bytes()
    nlp.update(make_examples(nlp), sgd=nlp.create_optimizer())
    assert (tmp_path / "p" / WEIGHTS).read_bytes() == before
    want = nlp.get_pipe("bert_crf").to_bytes(exclude=["vocab"])
    nlp.to_disk(tmp_path / "p")
    assert nlp.get_pipe("bert_crf").to_bytes(exclude=["vocab"]) == want
    again = spacy.load(tmp_path / "p").get_pipe("bert_crf").to_bytes(exclude=["vocab"])
    assert again == want != trained.get_pipe("bert_crf").to_bytes(exclude=["vocab"])
    assert sorted(f.name for f in (tmp_path / "p" / "bert_crf").iterdir()) == [
        "cfg", "encoder.safetensors", "model",
    ]  # fmt: skip


def test_the_weights_file_is_one_of_safetensors(trained, tmp_path):
    import safetensors.torch
    import torch

    trained.to_disk(tmp_path / "p")
    data = (tmp_path / "p" / WEIGHTS).read_bytes()
    assert (8 + int.from_bytes(data[:8], "little")) % 64 == 0
    weights = layers.own_encoder_of(trained.get_pipe("bert_crf").model).module.state_dict()
    for saved in (
        safetensors.torch.load_file(tmp_path / "p" / WEIGHTS),
        safetensors.torch.load(data),
    ):
        assert saved.keys() == weights.keys()
        assert all(torch.equal(saved[name], weights[name]) for name in weights)


@pytest.mark.parametrize("kind", ["weights_checksum", "weights_crc32"])
def test_weights_with_a_checksum_of_an_earlier_version_load(trained, tmp_path, kind):
    pack = EncoderShim._pack

    def pack_as_then(shim):
        saved = pack(shim)
        del saved["weights_xxh3"]
        with (
            open(beside(), "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return {**saved, kind: CHECKSUMS[kind](data)}

    with mock.patch.object(EncoderShim, "_pack", pack_as_then):
        trained.to_disk(tmp_path / "then")
    text = TEXTS[0][0]
    assert entities(spacy.load(tmp_path / "then")(text)) == entities(trained(text))
    weights = tmp_path / "then" / "bert_crf" / NAME
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(BertCrfError, match="checksum"):
        spacy.load(tmp_path / "then")


def test_weights_without_a_checksum_are_refused(trained, tmp_path):
    pack = EncoderShim._pack

    def pack_without(shim):
        return {k: v for k, v in pack(shim).items() if k != "weights_xxh3"}

    with mock.patch.object(EncoderShim, "_pack", pack_without):
        trained.to_disk(tmp_path / "p")
    with pytest.raises(BertCrfError, match="no checksum"):
        spacy.load(tmp_path / "p")
