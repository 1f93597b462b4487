"""The pretend device itself: it refuses what CUDA refuses, and counts what it should."""

import importlib.util
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention.varlen import varlen_attn

from tests.cuda.pretend import LOG, torch_cuda

DEVICE = torch.device("cuda")


def noise(like):
    """What the host reads where numbers have not arrived."""
    return torch.full_like(like.view(torch.uint8), 0x5A).view(like.dtype)


def test_mixed_devices_are_refused():
    ours, plain = torch.ones(3, device=DEVICE), torch.ones(3)
    for mix in (
        lambda: ours + plain,
        lambda: torch.cat([ours, plain]),
        lambda: F.linear(ours, torch.ones(3, 3)),
        lambda: torch.where(plain > 0, ours, ours),
        lambda: ours.index_select(0, torch.tensor([0])),
    ):
        with pytest.raises(RuntimeError, match="all tensors to be on the same device"):
            mix()
    assert (ours + torch.tensor(2.0)).tolist() == [3, 3, 3]  # a number may come from the CPU


def test_numpy_reads_no_array_of_the_device():
    import cupy

    with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
        torch.ones(3, device=DEVICE).numpy()
    array = cupy.asarray(np.ones(3, dtype="f"))
    with pytest.raises(TypeError, match="Implicit conversion to a NumPy array"):
        np.asarray(array)
    with pytest.raises(TypeError, match="Only cupy arrays can be concatenated"):
        cupy.concatenate([array, np.ones(3, dtype="f")])
    assert array.get().tolist() == [1, 1, 1]


WAITS = {
    "item": lambda x: x[0].item(),
    "float": lambda x: float(x.sum()),
    "an if": lambda x: bool((x > 0).all()),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "nonzero": lambda x: x.nonzero(),
    "a boolean index": lambda x: x[x > 0],
    "a list as an index": lambda x: x[[0, 1]],
    "new_tensor": lambda x: x.new_tensor([1.0]),
    "torch.tensor": lambda x: torch.tensor([1.0], device=DEVICE),
    "a blocking copy to it": lambda x: torch.ones(2).to(DEVICE),
    "a large copy of unpinned memory": lambda x: torch.ones(20_000).to(DEVICE, non_blocking=True),
    "a copy to unpinned memory": lambda x: torch.empty(3).copy_(x, non_blocking=True),
    "synchronize": lambda x: torch.cuda.synchronize(),
    "an event": lambda x: torch.cuda.Event().synchronize(),
}


@pytest.mark.parametrize("what", WAITS)
def test_a_wait_is_seen_with_its_line(what):
    x = torch.ones(3, device=DEVICE)
    LOG.reset()
    WAITS[what](x)
    assert len(LOG.waits) == 1
    assert f"{__file__}:" in LOG.places("waits")


FREE = {
    "arithmetic": lambda x: (x * 2 + 1).softmax(0),
    "a copy of pinned memory": lambda x: torch.ones(9).pin_memory().to(DEVICE, non_blocking=True),
    "a small copy that does not block": lambda x: torch.ones(9).to(DEVICE, non_blocking=True),
    "a copy to the CPU that does not block": lambda x: x.to("cpu", non_blocking=True),
    "a slice": lambda x: x[1:],
    "a tensor of its own": lambda x: torch.arange(5, device=DEVICE),
    "recording an event": lambda x: torch.cuda.Event().record(),
}


@pytest.mark.parametrize("what", FREE)
def test_no_wait(what):
    x = torch.ones(3, device=DEVICE)
    LOG.reset()
    FREE[what](x)
    assert LOG.waits == []


def test_launches_and_copies_are_counted():
    x = torch.ones(4, 4).to(DEVICE)
    LOG.reset()
    y = torch.relu(x @ x)[1:].t()  # two kernels; the views are none
    z = torch.ones(2).to(DEVICE, non_blocking=True)
    y.cpu()
    found = LOG.counts()
    assert z.device.type == "cuda"
    assert (found["launches"], found["copies in"], found["copies out"]) == (2, 1, 1)
    assert LOG.copies_out[0][1] == 3 * 4 * 4


def test_pinned_memory():
    assert torch.empty(4, pin_memory=True).is_pinned()
    pinned = torch.ones(4).pin_memory()
    assert pinned.is_pinned() and pinned[2:].is_pinned() and pinned.tolist() == [1] * 4
    assert not torch.ones(4).is_pinned()


def test_numbers_arrive_with_the_event():
    first, second = (torch.empty(3, pin_memory=True) for _ in range(2))
    event = torch.cuda.Event()
    first.copy_(torch.ones(3, device=DEVICE), non_blocking=True)
    event.record(torch.cuda.current_stream(DEVICE))
    second.copy_(torch.ones(3, device=DEVICE), non_blocking=True)
    assert first.equal(noise(first))
    event.synchronize()
    assert first.tolist() == [1, 1, 1]
    assert second.equal(noise(second))  # it was copied after the event
    torch.cuda.synchronize()
    assert second.tolist() == [1, 1, 1]


def test_a_question_to_an_event_is_no_wait():
    target, event = torch.empty(3, pin_memory=True), torch.cuda.Event()
    assert event.query()  # there is nothing to wait for
    target.copy_(torch.ones(3, device=DEVICE), non_blocking=True)
    event.record()
    LOG.reset()
    assert not event.query() and target.equal(noise(target))
    assert event.query() and target.tolist() == [1, 1, 1]
    assert LOG.waits == []


def test_a_kernel_after_a_copy_does_not_change_it():
    source, target = torch.ones(3, device=DEVICE), torch.empty(3, pin_memory=True)
    target.copy_(source, non_blocking=True)
    source.add_(1)
    torch.cuda.synchronize()
    assert target.tolist() == [1, 1, 1]


def test_a_pinned_buffer_must_not_be_overwritten_too_early():
    pinned = torch.ones(3).pin_memory()
    pinned.to(DEVICE, non_blocking=True)
    torch.cuda.synchronize()
    pinned.fill_(2)  # after the wait: allowed
    pinned.to(DEVICE, non_blocking=True)
    pinned.fill_(3)
    with pytest.raises(RuntimeError, match=r"pinned buffer of shape \(3,\) was overwritten"):
        torch.cuda.synchronize()


def attention_inputs(dtype=torch.bfloat16):
    torch.manual_seed(0)
    x = torch.randn(7, 2, 8).to(DEVICE, dtype).requires_grad_()
    return x, torch.tensor([0, 3, 7], dtype=torch.int32, device=DEVICE)


def test_unpadded_attention_is_attention_by_sequence():
    x, starts = attention_inputs()
    LOG.reset()
    out = varlen_attn(x, x, x, starts, starts, 4, 4)
    assert LOG.counts()["launches"] == 1 and not LOG.waits
    out.sum().backward()
    for start, end in ((0, 3), (3, 7)):
        part = x.inner[start:end].float().transpose(0, 1)
        want = F.scaled_dot_product_attention(part, part, part).transpose(0, 1)
        torch.testing.assert_close(out.inner[start:end].float(), want, rtol=0.01, atol=0.01)
    assert x.grad.abs().sum().item() > 0


def test_unpadded_attention_refuses_what_flash_attention_refuses():
    x, starts = attention_inputs(torch.float32)
    with pytest.raises(RuntimeError, match="fp16 and bf16"):
        varlen_attn(x, x, x, starts, starts, 4, 4)
    x, starts = attention_inputs()
    with pytest.raises(RuntimeError, match="int32"):
        varlen_attn(x, x, x, starts.long(), starts.long(), 4, 4)
    with pytest.raises(RuntimeError, match="do not fit"):
        varlen_attn(x, x, x, starts, starts, 3, 3)


def test_the_card():
    assert torch.cuda.get_device_capability() == (8, 0) and torch.cuda.is_bf16_supported()
    assert torch.cuda.get_device_properties(0).total_memory == 80 * 2**30
    torch_cuda.use_card(torch_cuda.T4)
    assert torch.cuda.get_device_capability() == (7, 5) and not torch.cuda.is_bf16_supported()
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        torch.cuda.set_device(1)


def test_there_is_no_triton():
    assert importlib.util.find_spec("triton") is None
    with pytest.raises(ImportError):
        import triton  # noqa: F401


def test_new_threads_have_the_device():
    out = []
    thread = threading.Thread(target=lambda: out.append(torch.ones(3, device=DEVICE).sum().item()))
    thread.start()
    thread.join()
    assert out == [3]


def test_saving_tensors(tmp_path):
    torch.save({"x": torch.ones(3, device=DEVICE)}, tmp_path / "x.pt")
    plain = torch.load(tmp_path / "x.pt", weights_only=True, map_location="cpu")
    ours = torch.load(tmp_path / "x.pt", weights_only=True, map_location="cuda:0")
    assert plain["x"].device.type == "cpu" and ours["x"].device.type == "cuda"
    assert ours["x"].tolist() == plain["x"].tolist() == [1, 1, 1]
