"""The choice of the device: what is missing is named, with what to install."""

import numpy as np
import pytest
import thinc.compat
import torch
from thinc.api import NumpyOps, get_current_ops, require_cpu, set_current_ops
from thinc.backends import CupyOps, MPSOps

from spacy_bert_crf import _devices
from spacy_bert_crf._devices import as_tensor, default_device, use_allocator, use_device
from spacy_bert_crf.errors import BertCrfError

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.fixture
def cpu_after():
    yield
    require_cpu()


@pytest.fixture
def machine(monkeypatch):
    """Sets what torch and CuPy find on this machine."""

    def set_up(gpus=0, cuda=None, mps=False, cupy=None, cupy_gpu=True):
        def find(name):
            assert name == "cupy"
            if cupy is not None:
                raise cupy

        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(_devices, "import_module", find)
        monkeypatch.setattr(thinc.compat, "has_cupy_gpu", cupy_gpu)

    return set_up


@pytest.mark.parametrize(
    "found, gpu_id, message",
    [
        ({}, 0, "is a build for the CPU. Install a build of torch for CUDA"),
        ({"cuda": "12.8"}, 0, "built for CUDA 12.8, but finds no GPU. See whether nvidia-smi"),
        ({"mps": True}, 0, "Apple's GPU (MPS) is not supported."),
        ({"gpus": 1, "cuda": "12.8"}, 1, "there is one GPU, with the number 0."),
        ({"gpus": 4, "cuda": "12.8"}, 4, "the numbers of the 4 GPUs are 0 to 3."),
        (
            {"gpus": 1, "cuda": "12.8", "cupy": ModuleNotFoundError("no", name="cupy")},
            0,
            'CuPy is not installed: pip install "cupy-cuda12x[ctk]>=14".',
        ),
        (
            {"gpus": 1, "cuda": "13.0", "cupy": ImportError("libcudart.so.12\nhelp")},
            0,
            'CuPy can\'t be imported (libcudart.so.12): pip install "cupy-cuda13x[ctk]>=14".',
        ),
        (
            {"gpus": 1, "cuda": "13.0", "cupy_gpu": False},
            0,
            'for torch\'s CUDA: pip install "cupy-cuda13x[ctk]>=14".',
        ),
    ],
)
def test_what_is_missing_is_named(machine, found, gpu_id, message):
    machine(**found)
    before = get_current_ops()
    with pytest.raises(BertCrfError) as caught:
        use_device(gpu_id)
    text = str(caught.value)
    assert text.startswith(f"gpu_id {gpu_id} can't be used: ") and message in text
    assert text.endswith("Use -1 for the CPU.") and "\n" not in text
    assert get_current_ops() is before


def test_nothing_is_missing_where_torch_and_cupy_find_the_gpu(machine):
    machine(gpus=2, cuda="12.8")
    assert _devices.missing(1) == ""


def test_a_gpu_that_does_not_start_leaves_the_cpu(machine, monkeypatch, cpu_after):
    def start(gpu_id):
        set_current_ops(NumpyOps())
        raise RuntimeError(f"CUDA error: no kernel image for device {gpu_id}\nhelp")

    machine(gpus=2, cuda="12.8")
    monkeypatch.setattr(_devices, "require_gpu", start)
    before = get_current_ops()
    with pytest.raises(BertCrfError, match=r"used: CUDA error: no kernel image for device 1\. Use"):
        use_device(1)
    assert get_current_ops() is before


def test_no_message_names_spacys_extras():
    assert "spacy[" not in _devices.cupy_command()


@no_gpu
def test_the_allocator_of_a_config_is_known_to_thinc():
    use_allocator("pytorch")  # does nothing on the CPU
    with pytest.raises(BertCrfError, match="gpu_allocator = 'other' can't be used"):
        use_allocator("other")


def test_on_apples_gpu_weights_stay_on_the_cpu(encoder_path, cpu_after):
    from support.toys import entities, train_toy

    set_current_ops(MPSOps())
    _devices._warn_mps.cache_clear()
    with pytest.warns(UserWarning, match="does not support Apple's GPU"):
        assert default_device() == torch.device("cpu")
    nlp = train_toy(encoder_path, updates=2)
    assert list(map(entities, nlp.pipe(["北京"]))) == list(map(entities, [nlp("北京")]))


@no_gpu
def test_thinc_on_a_gpu_that_torch_can_not_use(machine, cpu_after):
    """As after require_gpu() with a torch for the CPU beside a CuPy that finds the GPU."""
    machine()
    set_current_ops(CupyOps())
    with pytest.raises(BertCrfError, match="torch can't use: torch .* is a build for the CPU"):
        default_device()


def test_arrays_become_tensors_without_a_copy():
    array = np.zeros((2, 3), np.float32)
    as_tensor(array)[0, 0] = 1
    assert array[0, 0] == 1
    array.flags.writeable = False
    as_tensor(array)[0, 0] = 2
    assert array[0, 0] == 1
