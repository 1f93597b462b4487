"""Adversarial training by the fast gradient method.

Miyato, Dai & Goodfellow 2017, "Adversarial Training Methods for Semi-Supervised Text
Classification". As is common for BERT, the step is one of the whole matrix of word embeddings.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


def learn_twice(embeddings: nn.Parameter, eps: float, learn: Callable[[], T]) -> T:
    """Add gradients, and add those at embeddings that have moved to where the loss is higher.

    Gradients that the parameters have already stay, and do not decide the direction. Nothing is
    learned twice where the embeddings get no gradient.

    embeddings: the word embeddings. [vocabulary, width]
    eps: length of the step, as the norm of the whole matrix.
    learn: runs a batch forward and backward, and adds to the gradients.
    RETURNS: what the first `learn` returns.
    """
    before, embeddings.grad = embeddings.grad, None
    result = learn()
    if embeddings.grad is not None:
        with moved(embeddings, eps * direction(embeddings.grad)):
            learn()
    if before is not None:
        embeddings.grad = before if embeddings.grad is None else before + embeddings.grad
    return result


def direction(grad: Tensor) -> Tensor:
    """A gradient divided by its norm; zeros where it is zero. The host reads nothing."""
    norm = torch.linalg.vector_norm(grad)
    return grad / torch.where(norm > 0, norm, 1.0)


@contextmanager
def moved(parameter: nn.Parameter, step: Tensor) -> Iterator[None]:
    """Within the block, a parameter is moved. Afterwards it has the same values as before.

    parameter: the parameter.
    step: what is added to it; of its shape.
    """
    held = parameter.data
    parameter.data = held + step
    try:
        yield
    finally:
        parameter.data = held
