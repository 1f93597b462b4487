"""Training with a bound on the memory of activations: those beyond it are computed twice."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Optional

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Bounded:
    """Runs an encoder in training, and keeps the activations of its first wordpieces only.

    Backpropagation computes those of the other passes again, with the same dropout.

    model: the encoder.
    kept: number of wordpieces whose activations are kept, padding included.
    context: gives the context in which the encoder runs.
    """

    def __init__(
        self, model: nn.Module, kept: int, context: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        self._model, self._kept, self._context = model, kept, context

    def __call__(self, *, input_ids: Tensor, attention_mask: Optional[Tensor], **other: Any) -> Any:
        """The output of the encoder. [W, L] ids to hidden states [W, L, width]"""

        def run(ids: Tensor, mask: Optional[Tensor]) -> Any:
            return self._model(input_ids=ids, attention_mask=mask, **other)

        def run_in_training(ids: Tensor, mask: Optional[Tensor]) -> Any:
            was_training = self._model.training  # False in backpropagation
            self._model.train()
            try:
                with self._context():
                    return run(ids, mask)
            finally:
                self._model.train(was_training)

        self._kept -= input_ids.numel()
        if self._kept >= 0:
            return run(input_ids, attention_mask)
        # Only of devices of positional arguments are the random states kept.
        return checkpoint(run_in_training, input_ids, attention_mask, use_reentrant=False)
