"""A training on a GPU: the whole path with stand-ins for the GPU, and the GPU's part of a state."""

import json
import signal

import pytest
import spacy
import torch
from spacy.tokens import DocBin
from spacy.util import load_config, registry

from spacy_bert_crf import _devices
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.model.layers import own_encoder_of
from spacy_bert_crf.training import checks, state
from spacy_bert_crf.training.loop import train
from support.paths import CONFIG
from support.toys import make_examples, train_toy


@pytest.fixture
def settings(encoder_path, tmp_path):
    nlp = spacy.blank("zh")
    DocBin(docs=[eg.reference for eg in make_examples(nlp)]).to_disk(tmp_path / "docs.spacy")
    return {
        "paths.train": str(tmp_path / "docs.spacy"),
        "paths.dev": str(tmp_path / "docs.spacy"),
        "components.bert_crf.model.tok2vec.name": str(encoder_path),
        "training.batcher.size": 3,
        "training.max_epochs": 2,
    }


@pytest.fixture
def gpu(monkeypatch):
    """A GPU that computes on the CPU. The numbers of the GPUs that were required."""
    required = []
    monkeypatch.setattr(_devices, "missing", lambda gpu_id: "")
    monkeypatch.setattr(_devices, "require_gpu", required.append)
    return required


def run(settings, output, **options):
    return train(load_config(CONFIG, overrides=settings, interpolate=False), output, **options)


def test_a_training_on_a_gpu_runs_to_its_end(settings, tmp_path, gpu):
    """With the allocator of the shipped config, which is thinc's own here."""
    assert load_config(CONFIG).interpolate()["training"]["gpu_allocator"] == "pytorch"
    history = run(settings, tmp_path / "out", use_gpu=1)
    assert gpu == [1] and history["complete"] and len(history["epochs"]) == 2


def test_the_allocator_of_the_config_is_set(settings, tmp_path, gpu, monkeypatch):
    names = []
    monkeypatch.setattr(_devices, "set_gpu_allocator", names.append)
    run({**settings, "training.max_epochs": 1}, tmp_path / "gpu", use_gpu=0)
    assert names == ["pytorch"]
    run({**settings, "training.max_epochs": 1}, tmp_path / "cpu")
    assert names == ["pytorch"]


@registry.loggers("test_device_state.Stop.v1")
def create_stop():
    """A logger that stops the training after its first update."""
    return lambda nlp, *files: (lambda info: signal.raise_signal(signal.SIGTERM), lambda: None)


def interrupt(settings, output, **options):
    stopping = load_config(CONFIG, overrides=settings, interpolate=False)
    stopping["training"]["logger"] = {"@loggers": "test_device_state.Stop.v1"}
    with pytest.raises(BertCrfError, match="Go on with --resume"):
        train(stopping, output, **options)


def test_a_training_goes_on_with_smaller_passes(settings, tmp_path):
    """As after full memory."""
    interrupt(settings, tmp_path / "out")
    settings |= {"components.bert_crf.model.tok2vec.batch_pieces": 32}
    assert run(settings, tmp_path / "out", resume=True)["complete"]
    nlp = spacy.load(tmp_path / "out" / "model-last")
    assert nlp.config["components"]["bert_crf"]["model"]["tok2vec"]["batch_pieces"] == 32
    assert own_encoder_of(nlp.get_pipe("bert_crf").model).pass_size(is_train=True) == 32


def test_another_setting_of_the_encoder_is_refused(settings, tmp_path):
    interrupt(settings, tmp_path / "out")
    settings |= {"components.bert_crf.model.tok2vec.max_length": 64}
    with pytest.raises(BertCrfError, match="tok2vec.max_length = 0, the config has 64"):
        run(settings, tmp_path / "out", resume=True)


def test_a_resumed_training_on_a_gpu_sets_the_allocator(settings, tmp_path, gpu, monkeypatch):
    interrupt(settings, tmp_path / "out", use_gpu=0)
    names = []
    monkeypatch.setattr(_devices, "set_gpu_allocator", names.append)
    assert run(settings, tmp_path / "out", use_gpu=0, resume=True)["complete"]
    assert names == ["pytorch"]


def test_8_bit_integers_on_a_gpu_are_refused_before_the_first_update(
    settings, tmp_path, gpu, monkeypatch
):
    monkeypatch.setattr(checks, "default_device", lambda: torch.device("cuda", 0))
    settings |= {"components.bert_crf.quantize": "int8"}
    with pytest.raises(BertCrfError, match=r"\[components.bert_crf\] quantize = 'int8' runs on"):
        run(settings, tmp_path / "out", use_gpu=0)
    assert not list((tmp_path / "out").iterdir())


def test_8_bit_integers_on_the_cpu_are_not_refused(encoder_path):
    nlp = train_toy(encoder_path, updates=0)
    nlp.get_pipe("bert_crf").quantize = "int8"
    checks.check_quantize(nlp)


def test_full_memory_ends_a_training_with_what_to_lower(settings, tmp_path, monkeypatch):
    """Also where another component than this package's raises it."""

    def fail(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(spacy.language.Language, "update", fail)
    with pytest.raises(BertCrfError, match=r"Tried to allocate 2.00 GiB\). Lower batch_pieces"):
        run(settings, tmp_path / "out")


class Generators:
    """The random states of some GPUs. States are numbers in tensors of one element."""

    def __init__(self, monkeypatch, count, number):
        self.states = [torch.tensor([10 + i], dtype=torch.uint8) for i in range(count)]
        monkeypatch.setattr(state, "default_device", lambda: torch.device("cuda", number))
        monkeypatch.setattr(torch.cuda, "get_rng_state", lambda d: self.states[d.index])
        monkeypatch.setattr(torch.cuda, "set_rng_state", self.put)

    def put(self, value, device):
        self.states[device.index] = value

    @property
    def numbers(self):
        return [int(each) for each in self.states]


def saved_and_read(states):
    return json.loads(json.dumps(states))


def test_a_state_holds_the_gpu_in_use_only(monkeypatch):
    Generators(monkeypatch, count=4, number=2)
    states = saved_and_read(state.random_states())
    assert states["cuda"] == [[12]]
    for count, number, after in [(1, 0, [12]), (2, 1, [10, 12])]:
        other = Generators(monkeypatch, count, number)
        state.set_random_states(states)
        assert other.numbers == after


def test_old_states_with_all_gpus_can_be_set_on_fewer(monkeypatch):
    Generators(monkeypatch, count=1, number=0)
    states = saved_and_read(state.random_states()) | {"cuda": [[20], [21], [22]]}
    for count, number, after in [
        (4, 1, [10, 21, 12, 13]),
        (1, 0, [20]),
        (5, 4, [10, 11, 12, 13, 20]),
    ]:
        other = Generators(monkeypatch, count, number)
        state.set_random_states(states)
        assert other.numbers == after


def test_a_training_on_the_cpu_leaves_the_gpus_alone(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("a context on a GPU")

    for name in ("get_rng_state", "get_rng_state_all", "set_rng_state", "set_rng_state_all"):
        monkeypatch.setattr(torch.cuda, name, fail)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    states = saved_and_read(state.random_states())
    assert states["cuda"] == []
    state.set_random_states(states | {"cuda": [[20]]})


def saved_with(nlp, output):
    optimizer = registry.optimizers.get("spacy_bert_crf.AdamW.v1")()
    state.save_state(output, state.TrainingState(), nlp, optimizer, {"config": {}, "data": ""})
    data = state.read_state(output, {"config": {}, "data": "", "files": {}})
    return optimizer, data


def test_the_scale_of_float16_gradients_is_part_of_a_state(encoder_path, tmp_path):
    nlp = train_toy(encoder_path, updates=0)
    scaler = own_encoder_of(nlp.get_pipe("bert_crf").model).grad_scaler
    scaler.load_state({"scale": 4096.0, "growth_tracker": 7})
    optimizer, data = saved_with(nlp, tmp_path)
    again = state.load_nlp(tmp_path, nlp.config)
    state.restore_state(tmp_path, data, again, optimizer)
    restored = own_encoder_of(again.get_pipe("bert_crf").model).grad_scaler
    assert restored.state() == {"scale": 4096.0, "growth_tracker": 7}


def thincs_scaler(nlp):
    """The gradient scaler of a shared transformer, as it is on a GPU."""
    model = nlp.get_pipe("transformer").model
    (shim,) = [shim for node in model.walk() for shim in node.shims]
    shim._grad_scaler._enabled = True
    return shim._grad_scaler


def test_the_scale_of_a_shared_transformer_is_part_of_a_state(encoder_path, tmp_path):
    from support.toys import shared_config, transformer_config

    nlp = spacy.blank("zh")
    nlp.add_pipe("transformer", config=transformer_config(encoder_path))
    nlp.add_pipe("bert_crf", config=shared_config())
    nlp.initialize(lambda: make_examples(nlp))
    scaler = thincs_scaler(nlp)
    scaler._scale.fill_(512.0)
    scaler._growth_tracker.fill_(3)
    optimizer, data = saved_with(nlp, tmp_path)
    again = state.load_nlp(tmp_path, nlp.config)
    restored = thincs_scaler(again)
    state.restore_state(tmp_path, data, again, optimizer)
    assert (float(restored._scale), int(restored._growth_tracker)) == (512.0, 3)


def test_a_state_without_scales_can_be_restored(encoder_path, tmp_path):
    nlp = train_toy(encoder_path, updates=0)
    optimizer, data = saved_with(nlp, tmp_path)
    del data["grad_scalers"]
    state.restore_state(tmp_path, data, state.load_nlp(tmp_path, nlp.config), optimizer)
