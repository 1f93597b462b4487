"""How an operation runs on the pretend device, and what it counts."""

from typing import Any, Optional

import torch
import torch.utils._pytree as pytree

from .log import LOG
from .tensors import PretendTensor, size_in_bytes, to_device
from .transfers import from_host_later, to_host_later, wait

aten = torch.ops.aten

#: Operations that take index tensors of the CPU: these are copied, and the host waits.
_TAKE_CPU_INDEX = {
    aten.index.Tensor,
    aten.index_put_.default,
    aten.index_put.default,
    aten._index_put_impl_.default,
    aten._unsafe_index.Tensor,
}
#: Operations that take no tensor of the CPU at all. Others take one without dimensions.
_TAKE_NO_SCALAR = {
    *("cat", "stack", "index_select", "gather", "scatter_", "index_add_"),
    *("embedding", "mm", "addmm", "bmm"),
}
_VIEWS = {
    *("detach", "alias", "lift_fresh", "_unsafe_view", "view", "_reshape_alias", "t", "transpose"),
    *("permute", "expand", "slice", "select", "squeeze", "unsqueeze", "unbind", "split"),
    *("split_with_sizes", "as_strided", "diagonal", "unfold", "view_as_real"),
}
_ALLOCATIONS = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
_QUESTIONS = {
    *("_has_compatible_shallow_copy_type", "is_same_size", "sym_size", "sym_stride", "is_pinned"),
    *("_to_dlpack", "record_stream"),
}
_NO_LAUNCH = _VIEWS | _ALLOCATIONS | _QUESTIONS
#: Operations whose shape or result the host has to read.
_WAITED_FOR = {
    *("nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal"),
    "repeat_interleave",
}
#: Kernels of an operation that is more than one on CUDA (about, from torch's sources).
_KERNELS = {
    "nonzero": 3,
    "masked_select": 4,
    "sort": 3,
    "topk": 2,
    "_embedding_bag": 3,
    "_embedding_bag_forward_only": 3,
    "embedding_dense_backward": 4,
    "_embedding_bag_dense_backward": 5,
    "native_layer_norm_backward": 2,
    "index_put_": 3,
}
#: cudaMemcpyAsync returns before the copy of ordinary memory has ended up to this size. [bytes]
_STAGED = 64 * 1024


def run(func: Any, args: Any, kwargs: Any) -> Any:
    """Run an operation: for the device if a tensor or the wished device is its, else plainly.

    Raises RuntimeError, as torch does, if tensors of the device and of the CPU are mixed.
    """
    flat, spec = pytree.tree_flatten((args, kwargs))
    ours = [x for x in flat if isinstance(x, PretendTensor)]
    wanted = None if kwargs.get("device") is None else torch.device(kwargs["device"])
    if not ours and (wanted is None or wanted.type != "cuda"):
        return func(*args, **kwargs)
    name = func._schema.name.split("::")[-1]
    if name == "_local_scalar_dense":
        wait("item")
        LOG.copy_out(size_in_bytes(args[0]))
        return func(args[0].inner)
    if name in ("_to_copy", "to"):
        return _to_copy(func, args, kwargs, wanted)
    if name in ("copy_", "_copy_from"):
        return _copy(args[0], args[1], _is_non_blocking(args[2:], kwargs))
    plain = [x for x in flat if isinstance(x, torch.Tensor) and not isinstance(x, PretendTensor)]
    _refuse_mixed(func, name, args, plain)
    if name in _WAITED_FOR:
        wait(name)
    if name not in _NO_LAUNCH:
        LOG.launch(name, _KERNELS.get(name, 1))
    inner = [x.inner if isinstance(x, PretendTensor) else x for x in flat]
    inner_args, inner_kwargs = pytree.tree_unflatten(inner, spec)
    if wanted is not None:
        inner_kwargs = {**inner_kwargs, "device": torch.device("cpu")}
    out = func(*inner_args, **inner_kwargs)
    if name in ("equal", "is_pinned"):
        return out
    known = {id(x.inner): x for x in ours}  # of operations in place
    return pytree.tree_map(lambda x: _wrap(x, known), out)


def _wrap(value: Any, known: dict[int, PretendTensor]) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    if id(value) in known:
        return known[id(value)]
    if not value.is_inference() and torch.is_inference_mode_enabled():
        with torch.inference_mode(False):  # a view of a tensor from outside
            return PretendTensor(value)
    return PretendTensor(value)


def _refuse_mixed(func: Any, name: str, args: Any, plain: list[torch.Tensor]) -> None:
    """Refuse tensors of the CPU, where CUDA refuses them; note copies of indices."""
    loose = [x for x in plain if x.dim() > 0 or name in _TAKE_NO_SCALAR]
    if func in _TAKE_CPU_INDEX:
        indices = [x for x in args[1] if isinstance(x, torch.Tensor)]
        if isinstance(args[0], PretendTensor):
            for index in indices:
                if not isinstance(index, PretendTensor):
                    to_device(index, "index from the CPU")
            loose = [x for x in loose if not any(x is index for index in indices)]
        if any(x.dtype in (torch.bool, torch.uint8) for x in indices):
            wait("boolean index")
    if loose:
        raise mixed_devices(name, loose)


def mixed_devices(name: str, tensors: list[torch.Tensor]) -> RuntimeError:
    """The error of torch for tensors of two devices. tensors: those of the CPU."""
    shapes = [tuple(t.shape) for t in tensors]
    return RuntimeError(
        f"{name}: Expected all tensors to be on the same device, but found at least two devices, "
        f"cuda:0 and cpu! (of the CPU: shapes {shapes})"
    )


def _is_non_blocking(rest: Any, kwargs: Any) -> bool:
    return bool(rest[0] if rest else kwargs.get("non_blocking", False))


def _copy(target: torch.Tensor, source: torch.Tensor, non_blocking: bool) -> torch.Tensor:
    """`target.copy_(source)` on the device, to it, or from it."""
    if not isinstance(target, PretendTensor):
        assert isinstance(source, PretendTensor)
        LOG.copy_out(size_in_bytes(target))
        if non_blocking and target.is_pinned():
            to_host_later(target, source.inner)
        else:
            wait("copy to the CPU")
            target.copy_(source.inner)
    elif isinstance(source, PretendTensor):
        LOG.launch("copy_")
        target.inner.copy_(source.inner)
    else:
        _note_copy_in(source, non_blocking)
        target.inner.copy_(source)
    return target


def _to_copy(func: Any, args: Any, kwargs: Any, wanted: Optional[torch.device]) -> torch.Tensor:
    """`tensor.to(...)` on the device, to it, or from it."""
    source = args[0]
    non_blocking = bool(kwargs.get("non_blocking"))
    rest = {k: v for k, v in kwargs.items() if k not in ("device", "pin_memory", "non_blocking")}
    if not isinstance(source, PretendTensor):
        _note_copy_in(source, non_blocking)
        return PretendTensor(func(source, *args[1:], **rest))
    if wanted is None or wanted.type != "cpu":
        LOG.launch("_to_copy")
        return PretendTensor(func(source.inner, *args[1:], **rest))
    LOG.copy_out(size_in_bytes(source))
    if not non_blocking:
        wait("copy to the CPU")
        return func(source.inner, *args[1:], **rest)
    made = func(source.inner, *args[1:], **rest).pin_memory()  # as torch: it pins what it makes
    to_host_later(made, made.clone())
    return made


def _note_copy_in(source: torch.Tensor, non_blocking: bool) -> None:
    """Count a copy to the device; the host waits for it unless it is said not to.

    A copy that does not block needs pinned memory, or a size that the driver stages.
    """
    size = size_in_bytes(source)
    LOG.copy_in(size)
    if not non_blocking:
        wait("copy to the device")
    elif source.is_pinned():
        from_host_later(source)
    elif size > _STAGED:
        wait("copy of unpinned memory to the device")
