"""thinc's CupyOps on the pretend device: computed by NumpyOps."""

from typing import Any

from .arrays import call_on_numbers

#: These make or convert arrays, and do so by the stand-in for CuPy.
_KEPT = {"asarray", "xp", "name", "gemm"}


def patch_thinc() -> None:
    """Let CupyOps compute by NumpyOps."""
    from thinc.backends import CupyOps, NumpyOps
    from thinc.backends.ops import Ops

    numpy_ops = NumpyOps()
    for name in {*vars(NumpyOps), *vars(CupyOps), *vars(Ops)} - _KEPT:
        is_kept = name.startswith(("_", "as", "to_"))
        if not is_kept and callable(getattr(numpy_ops, name, None)):
            setattr(CupyOps, name, _method(numpy_ops, name))


def _method(numpy_ops: Any, name: str) -> Any:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return call_on_numbers(getattr(numpy_ops, name), f"CupyOps.{name}", args, kwargs)

    return method
