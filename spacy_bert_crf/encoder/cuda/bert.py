"""BERT for prediction on CUDA, with few launches and no wait of the host.

Query, key and value are one product. The embeddings of positions and of token type 0 are one table.
In 16 bits the rows of all windows stand one after the other without padding, and attention keeps to
each window (FlashAttention, Dao 2023, by `torch.nn.attention.varlen`). In float32, and on GPUs
without that kernel, windows are padded to one length.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from ..cpu.embeddings import embeds_by_rows, padding_of, position_table
from ..cpu.fused import computes_as_bert, joined

#: Oldest compute capability that has FlashAttention.
_FLASH_CAPABILITY = (8, 0)

#: Query, key and value [N, heads, width of a head] to the attended rows of the same shape.
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


class _Norm(NamedTuple):
    """A normalisation layer. [width] each"""

    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, rows: Tensor) -> Tensor:
        """[..., width] to [..., width]"""
        return F.layer_norm(rows, rows.shape[-1:], self.weight, self.bias, self.eps)


class _Linear(NamedTuple):
    """A linear layer. [out, in], [out]"""

    weight: Tensor
    bias: Tensor

    def __call__(self, rows: Tensor) -> Tensor:
        """[..., in] to [..., out]"""
        return F.linear(rows, self.weight, self.bias)


class _Layer(NamedTuple):
    """A BERT layer (Devlin et al. 2019)."""

    n_heads: int
    qkv: _Linear
    attended: _Linear
    attended_norm: _Norm
    inner: _Linear
    activation: Callable[[Tensor], Tensor]
    outer: _Linear
    norm: _Norm

    def __call__(self, rows: Tensor, attend: Attend) -> Tensor:
        """[N, width] to [N, width]"""
        n, width = rows.shape
        # shape: (N, 3, heads, width of a head)
        heads = self.qkv(rows).view(n, 3, self.n_heads, width // self.n_heads)
        context = attend(*heads.unbind(1)).reshape(n, width)
        rows = self.attended_norm(self.attended(context) + rows)
        inner = self.activation(self.inner(rows))
        return self.norm(self.outer(inner) + rows)


class CudaBert:
    """The weights of a BERT encoder, ready for prediction. Safe from several threads.

    model: a Hugging Face encoder for which `can_run` is true, on a CUDA device.
    dtype: dtype of the products; float32 for no reduced precision.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        embeddings = model.embeddings

        def cast(tensor: Tensor) -> Tensor:
            return tensor.detach().to(dtype)

        def linear(*modules: Any) -> _Linear:
            return _Linear(*(cast(tensor) for tensor in joined(list(modules))))

        def norm(module: Any) -> _Norm:
            return _Norm(cast(module.weight), cast(module.bias), module.eps)

        self.dtype = dtype
        self.device: torch.device = embeddings.word_embeddings.weight.device
        self.padding = padding_of(embeddings)
        # Embeddings stay in float32: they cost one launch, whatever the number of layers.
        self._words = embeddings.word_embeddings.weight.detach()
        self._positions = position_table(embeddings)
        first = embeddings.LayerNorm
        self._first_norm = _Norm(first.weight.detach(), first.bias.detach(), first.eps)
        project = getattr(model, "embeddings_project", None)  # ELECTRA
        self._project = None if project is None else linear(project)
        self._layers = []
        for layer in model.encoder.layer:
            own, after = layer.attention.self, layer.attention.output
            self._layers.append(
                _Layer(
                    own.num_attention_heads,
                    linear(own.query, own.key, own.value),
                    linear(after.dense),
                    norm(after.LayerNorm),
                    linear(layer.intermediate.dense),
                    layer.intermediate.intermediate_act_fn,
                    linear(layer.output.dense),
                    norm(layer.output.LayerNorm),
                )
            )
        heads = self._layers[0].n_heads
        #: Whether rows without padding can be attended.
        self.is_unpadded = _has_flash(self.device, dtype, model.config.hidden_size // heads)

    def unpadded(self, ids: Tensor, positions: Tensor, borders: Tensor, longest: int) -> Tensor:
        """Hidden states of windows that stand one after the other.

        ids: input ids of all windows. int32 or int64 [N]
        positions: position of each id. [N]
        borders: first row of each window, and N. int32 [W + 1]
        longest: length of the longest window.
        RETURNS: [N, width]
        """
        from torch.nn.attention.varlen import varlen_attn

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            out = varlen_attn(query, key, value, borders, borders, longest, longest)
            return out if isinstance(out, Tensor) else out[0]

        return self._run(ids, positions, attend)

    def padded(self, ids: Tensor, positions: Tensor, mask: Optional[Tensor]) -> Tensor:
        """Hidden states of windows of one length.

        ids: input ids. int32 or int64 [W, L]
        positions: position of each id. [W, L]
        mask: True on real ids. bool [W, L], None if nothing is padded
        RETURNS: [W * L, width]
        """
        n_windows, length = ids.shape
        # shape: (W, 1, 1, L)
        keys = None if mask is None else mask[:, None, None, :]

        def attend(*rows: Tensor) -> Tensor:
            # shape: (W, heads, L, width of a head)
            query, key, value = (
                each.view(n_windows, length, *each.shape[1:]).transpose(1, 2) for each in rows
            )
            context = F.scaled_dot_product_attention(query, key, value, attn_mask=keys)
            return context.transpose(1, 2)

        return self._run(ids.flatten(), positions.flatten(), attend)

    def _run(self, ids: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """[N] to [N, width]"""
        embedded = F.embedding(ids, self._words) + F.embedding(positions, self._positions)
        rows = self._first_norm(embedded).to(self.dtype)
        if self._project is not None:
            rows = self._project(rows)
        for layer in self._layers:
            rows = layer(rows, attend)
        return rows


def can_run(model: Any) -> bool:
    """Whether CudaBert computes the same as a Hugging Face encoder, in evaluation mode."""
    layers: Any = getattr(getattr(model, "encoder", None), "layer", None)
    return bool(layers) and embeds_by_rows(model) and all(map(computes_as_bert, layers))


def _has_flash(device: torch.device, dtype: torch.dtype, head_width: int) -> bool:
    """Whether attention over rows without padding runs on a device."""
    if device.type != "cuda" or dtype is torch.float32 or head_width % 8 or head_width > 256:
        return False
    try:
        from torch.nn.attention import varlen  # noqa: F401
    except ImportError:  # torch before 2.10
        return False
    return torch.cuda.get_device_capability(device) >= _FLASH_CAPABILITY
