"""Forward-backward of a batch by the Triton kernels, with the interface of the scans of torch."""

from typing import TYPE_CHECKING, Optional

import torch
from torch import Tensor

from ..log_scan import LogScan, Order
from .availability import on_device_of, padded, warps

if TYPE_CHECKING:
    from ..forward_backward import Weights

#: Number of steps that a program of the gradient takes at a time.
_SIZE = 16
#: Largest number of elements of the sums of all programs of the gradient. It bounds their memory.
_MAX_SUMS = 4_000_000


class KernelScan(LogScan):
    """`LogScan` by kernels. The host reads nothing.

    Padding of alpha, gamma and incoming holds any numbers. Unless the scan is `whole`, there are
    only `log_z` and `input_gradients`.
    """

    def __init__(
        self,
        emissions: Tensor,
        weights: "Weights",
        mask: Tensor,
        allowed: Optional[Tensor],
        both: bool,
        whole: bool = False,
    ) -> None:
        """Run the scan.

        emissions: [B, T, K]
        weights: scores of start, end and transitions.
        mask: True on real steps. bool [B, T]
        allowed: tags that each step may have. bool [B, T, K], None for all
        both: whether to compute the backward variables too. Only `log_z` does not need them.
        whole: whether to keep what the methods of LogScan need.
        """
        from .forward_backward import scan_kernel

        n_batch, n_steps, n_tags = emissions.shape
        self._weights, self._dtype = weights, emissions.dtype
        self._lengths = mask.sum(1)
        self._allowed = None if allowed is None else allowed.contiguous().view(torch.uint8)
        emissions = emissions.detach().contiguous()
        new = weights.transitions.new_empty
        self.log_z = new(n_batch)
        # shape: (directions, B, T, K)
        self._states = new((2, *emissions.shape)) if both else self.log_z
        incoming = new(emissions.shape) if whole else self.log_z
        # Scales of padding are 0, because they are summed up.
        scale = self.log_z.new_zeros((n_batch, n_steps)) if whole else self.log_z
        with on_device_of(emissions):
            scan_kernel[(n_batch, 2 if both else 1)](
                emissions, emissions if self._allowed is None else self._allowed,
                weights.start.contiguous(), weights.end.contiguous(),
                weights.transitions.contiguous(), self._lengths, weights.excluded,
                self._states, incoming, scale, self.log_z, n_batch, n_steps, n_tags,
                HAS_ALLOWED=allowed is not None, STORE_STATES=both, STORE_ALL=whole,
                K=padded(n_tags), num_warps=warps(n_tags),
            )  # fmt: skip
        if whole:
            self.order = Order(mask)
            # shape: (T, B, K)
            self.alpha, self.gamma = self._states.transpose(1, 2).unbind()
            self.incoming = incoming.transpose(0, 1)
            self.log_scale = scale.T

    def input_gradients(self, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradients of log Z by emissions, start, end and transitions. [B, T, K], [K], [K], [K, K]

        The first has the dtype of the emissions. Tags that are not allowed have no gradient there.
        Each run gives the same bits.

        grad: the weight of each sequence. [B]
        """
        from .forward_backward import gradient_kernel

        _, n_batch, n_steps, n_tags = self._states.shape
        n_parts = -(-n_steps // _SIZE)
        n_sums = n_tags * (n_tags + 2)
        programs = max(1, min(n_batch * n_parts, _MAX_SUMS // n_sums))
        d_emissions = self.log_z.new_zeros(self._states.shape[1:], dtype=self._dtype)
        sums = self.log_z.new_empty((programs, n_sums))
        weights = self._weights
        with on_device_of(d_emissions):
            gradient_kernel[(programs,)](
                self._states, self._states if self._allowed is None else self._allowed,
                weights.start.contiguous(), weights.transitions.contiguous(), self._lengths,
                grad.to(sums.dtype).contiguous(), d_emissions, sums,
                n_batch, n_steps, n_tags, n_parts,
                HAS_ALLOWED=self._allowed is not None,
                K=padded(n_tags), SIZE=_SIZE, num_warps=warps(n_tags),
            )  # fmt: skip
        # shape: (K + 2, K)
        rows = sums.sum(0).view(n_tags + 2, n_tags)
        return d_emissions, rows[-2], rows[-1], rows[:-2]
