"""Programs that changed torch's settings: the pipeline gives what it gives in a plain process."""

import threading
from contextlib import contextmanager

import numpy as np
import pytest
import spacy
import torch

from spacy_bert_crf._host import float32_default, plain_torch
from spacy_bert_crf.export.folder import export_pipeline
from spacy_bert_crf.export.import_model import import_model
from spacy_bert_crf.model.layers import head_of, own_encoder_of
from spacy_bert_crf.model.optimizer import create_adamw
from support.toys import TEXTS, emissions, entities, make_examples, train_toy

STRINGS = [text for text, _ in TEXTS]


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
        assert torch.get_default_dtype() is dtype  # it is the program's own again
    finally:
        torch.set_default_dtype(before)


@contextmanager
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@contextmanager
def gradients_off():
    torch.set_grad_enabled(False)
    try:
        yield
        assert not torch.is_grad_enabled()
    finally:
        torch.set_grad_enabled(True)


@contextmanager
def default_device(name):
    torch.set_default_device(name)
    try:
        yield
        assert torch.get_default_device().type == name
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


HOSTS = {
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "float16": lambda: default_dtype(torch.float16),
    "another device": lambda: default_device("meta"),
    "a device for a while": lambda: torch.device("meta"),
    "one thread": one_thread,
    "gradients off": gradients_off,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "deterministic": deterministic,
    "anomaly detection": torch.autograd.detect_anomaly,
}
pytestmark = pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")


def probabilities(nlp):
    readings = nlp.get_pipe("bert_crf").read([nlp.make_doc(text) for text in STRINGS])
    return [span.probability for each in readings for span in each.entities]


def found(nlp):
    return [entities(doc) for doc in nlp.pipe(STRINGS)]


def step(nlp):
    """Two updates of a loaded pipeline. RETURNS: the sum of their losses."""
    optimizer = create_adamw(encoder_lr=5e-3, head_lr=2e-2, crf_lr=2e-2, warmup=0)
    losses = nlp.update(make_examples(nlp), sgd=optimizer)
    return nlp.update(make_examples(nlp), sgd=optimizer, losses=losses)["bert_crf"]


def vectors(nlp):
    return np.concatenate(emissions(nlp, STRINGS))


def dtypes(nlp):
    model = nlp.get_pipe("bert_crf").model
    modules = (own_encoder_of(model).module, head_of(model).module)
    tensors = [t for module in modules for t in (*module.parameters(), *module.buffers())]
    return {tensor.dtype for tensor in tensors if tensor.is_floating_point()}


@pytest.fixture(scope="module")
def plain(encoder_path, tmp_path_factory):
    """What a plain process gives: folder, pipeline, entities, probabilities; loss and emissions
    of two updates.
    """
    folder = tmp_path_factory.mktemp("plain") / "pipe"
    nlp = train_toy(encoder_path, updates=15)
    nlp.to_disk(folder)
    wanted = found(nlp)
    assert sum(map(len, wanted)) > 5
    other = spacy.load(folder)
    return folder, nlp, wanted, probabilities(nlp), (step(other), vectors(other))


@pytest.mark.parametrize("host", HOSTS)
def test_a_pipeline_of_before_predicts_the_same(plain, host):
    _, nlp, wanted, chances, _ = plain
    with HOSTS[host]():
        assert found(nlp) == wanted
        assert probabilities(nlp) == pytest.approx(chances, abs=1e-6)
        paths = nlp.get_pipe("bert_crf").nbest([nlp.make_doc(STRINGS[0])], 3)[0]
    assert len(paths) == 3 and paths[0].probability > paths[2].probability


@pytest.mark.parametrize("host", HOSTS)
def test_loading_and_an_update_are_the_same(plain, host):
    folder, _, wanted, _, (loss, rows) = plain
    with HOSTS[host]():
        nlp = spacy.load(folder)
        assert dtypes(nlp) == {torch.float32}
        assert found(nlp) == wanted
        got = step(nlp)
    assert got == pytest.approx(loss, rel=1e-5)
    assert np.abs(vectors(nlp) - rows).max() < 1e-3
    assert np.isfinite(step(nlp))  # and training goes on afterwards


@pytest.mark.parametrize("host", HOSTS)
def test_a_training_from_the_start(encoder_path, plain, host):
    with HOSTS[host]():
        nlp = train_toy(encoder_path, updates=15)
        nlp.get_pipe("bert_crf").quantize = "int8"
        assert len(found(nlp)) == len(STRINGS)
        nlp.get_pipe("bert_crf").quantize = ""
    assert dtypes(nlp) == {torch.float32}
    assert found(nlp) == plain[2]


@pytest.mark.parametrize("host", ["bfloat16", "another device", "inference_mode", "autocast"])
def test_exports_and_imports(plain, tmp_path, host):
    """The formats are compared with the component's emissions when they are written."""
    pytest.importorskip("onnxruntime")
    folder, _, wanted, _, _ = plain
    formats = ["bert4torch", "huggingface", "torchscript", "torch-int8", "onnx", "onnx-int8"]
    with HOSTS[host]():
        export_pipeline(spacy.load(folder), tmp_path / "out", formats=formats)
        for source in (tmp_path / "out", tmp_path / "out" / "bert4torch"):
            nlp = import_model(source, tmp_path / f"back-{source.name}").nlp
            assert found(nlp) == wanted and dtypes(nlp) == {torch.float32}


@pytest.mark.parametrize("host", ["float64", "another device", "inference_mode"])
def test_several_threads_at_once(plain, host):
    """Each thread loads a pipeline and predicts, and all share one."""
    folder, shared, wanted, _, _ = plain
    results, errors = [], []

    def work():
        try:
            with plain_torch() if host == "float64" else HOSTS[host]():
                results.append((found(spacy.load(folder)), found(shared)))
        except Exception as err:
            errors.append(err)

    threads = [threading.Thread(target=work) for _ in range(4)]
    # The default dtype is of the process, the others are of a thread.
    with HOSTS["float64"]() if host == "float64" else one_thread():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not errors
    assert results == [(wanted, wanted)] * 4


def test_the_default_dtype_comes_back_after_nested_use():
    with default_dtype(torch.float64):
        with float32_default():
            with float32_default():
                assert torch.get_default_dtype() is torch.float32
            assert torch.get_default_dtype() is torch.float32
        with pytest.raises(ZeroDivisionError), float32_default():
            _ = 1 / 0
        assert torch.get_default_dtype() is torch.float64
