"""Where the memory of a device is full, the message says what to lower."""

import pytest
import torch

from spacy_bert_crf._memory import OutOfMemory, explained_memory, is_out_of_memory
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.model import layers
from support.toys import TEXTS, make_examples

CUDA = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB."
)
CPU = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ...")
CUBLAS = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
CuPy = type("OutOfMemoryError", (MemoryError,), {"__module__": "cupy.cuda.memory"})


@pytest.mark.parametrize("err", [CUDA, CPU, CUBLAS, CuPy("Out of memory allocating 512 bytes")])
def test_an_error_of_full_memory_is_explained(err):
    with pytest.raises(OutOfMemory, match="Lower batch_pieces") as caught, explained_memory():
        raise err
    assert caught.value.__cause__ is err and "79.10" not in str(caught.value)
    assert isinstance(caught.value, BertCrfError | torch.OutOfMemoryError)


@pytest.mark.parametrize("err", [RuntimeError("shapes"), MemoryError(), KeyError("out of memory")])
def test_other_errors_stay(err):
    assert not is_out_of_memory(err)
    with pytest.raises(type(err)) as caught, explained_memory():
        raise err
    assert caught.value is err


def test_an_explained_error_is_not_explained_again():
    with pytest.raises(OutOfMemory) as caught, explained_memory(), explained_memory():
        raise CUDA
    assert str(caught.value).count("not enough memory") == 1


@pytest.fixture
def full(monkeypatch):
    """An encoder whose device has no memory."""

    def fail(*args, **kwargs):
        raise CUDA

    monkeypatch.setattr(layers.EncoderShim, "predict_vectors", fail)
    monkeypatch.setattr(layers.EncoderShim, "update_vectors", fail)


def test_updates_and_predictions_explain_it(trained, full):
    with pytest.raises(BertCrfError, match="Tried to allocate 2.00 GiB"):
        trained.update(make_examples(trained))
    with pytest.raises(torch.OutOfMemoryError, match="batch_size of nlp.pipe"):
        list(trained.pipe([TEXTS[0][0]]))
