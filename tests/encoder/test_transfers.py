"""Arrays to a device: one buffer for all of them, with the shapes and numbers of each."""

import numpy as np
import pytest
import torch

from spacy_bert_crf.encoder.transfers import ALIGNMENT, pack, to_device, unpack

ARRAYS = [
    np.arange(15, dtype=np.int64).reshape(3, 5),
    np.array([True, False, True]),
    np.zeros((0, 7), dtype=np.float32),
    np.array(3.5, dtype=np.float64),
    np.arange(24, dtype=np.int32).reshape(2, 3, 4).transpose(2, 0, 1),  # not contiguous
    np.array([[True, False]]),
    np.linspace(-1, 1, 5, dtype=np.float16),
]


def same(tensors, arrays):
    assert len(tensors) == len(arrays)
    for tensor, array in zip(tensors, arrays, strict=True):
        assert tensor.shape == array.shape
        assert tensor.numpy().dtype == array.dtype
        assert np.array_equal(tensor.numpy(), array)


def test_arrays_on_the_cpu_share_their_memory():
    tensors = to_device(ARRAYS, torch.device("cpu"))
    same(tensors, ARRAYS)
    assert tensors[0].data_ptr() == ARRAYS[0].ctypes.data


def test_what_is_packed_is_unpacked():
    buffer = pack(ARRAYS)
    assert buffer.dtype is torch.uint8 and buffer.dim() == 1
    tensors = unpack(buffer, ARRAYS)
    same(tensors, ARRAYS)
    begin = buffer.data_ptr()
    for tensor in tensors:
        if tensor.numel():
            place = tensor.data_ptr() - begin
            assert place % ALIGNMENT == 0 and 0 <= place < len(buffer)


def test_unpacked_arrays_keep_their_own_bytes():
    """No array writes into the bytes of another."""
    arrays = [np.full(n, n, dtype=np.uint8) for n in range(1, 40)]
    same(unpack(pack(arrays), arrays), arrays)


def test_no_array_at_all():
    assert to_device([], torch.device("cpu")) == []
    assert unpack(pack([]), []) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_arrays_on_a_gpu_come_by_one_buffer():
    tensors = to_device(ARRAYS, torch.device("cuda"))
    same([tensor.cpu() for tensor in tensors], ARRAYS)
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == 1
