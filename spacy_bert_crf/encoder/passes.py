"""Plans the encoder passes of texts, and runs them.

A plan says which wordpieces each pass takes, and which rows a token reads; it is made in numpy.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Optional, Union

import numpy as np
import torch
from numpy.typing import NDArray
from spacy.tokens import Doc
from torch import Tensor, nn

from .texts.doc_texts import joined_token_pieces, read_texts, sentence_cuts
from .texts.windows import joined_windows
from .texts.wordpieces import IntArray as IntArray
from .texts.wordpieces import backend, tokenize_joined
from .transfers import to_device

#: An attention mask.
Mask = NDArray[Union[np.int64, np.bool_]]
#: A pass of more wordpieces takes no window shorter than half of its longest. It is large enough to
#: keep a GPU busy, so that padding would cost more than another pass. On a CPU passes are smaller.
DENSE = 4096


def padded_batches(
    lengths: Union[Sequence[int], IntArray], limit: int, padding: bool = True, dense: int = 0
) -> list[list[int]]:
    """Batches of indices of similar length, the longest first.

    lengths: length of each member.
    limit: largest size of a batch, that is its number of members × its longest. A member that is
        longer than the limit is a batch of its own.
    padding: whether members of a batch may differ in length.
    dense: size beyond which a batch takes no member shorter than half of its longest; 0 for none.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    sizes = np.maximum(sizes[order], 1)
    members = order.tolist()
    batches: list[list[int]] = []
    at = 0
    while at < len(members):
        end = at + max(1, limit // int(sizes[at]))
        if not padding:
            end = min(end, int(np.searchsorted(-sizes, -sizes[at], side="right")))
        elif dense:
            half = int(np.searchsorted(-sizes, -sizes[at] / 2, side="right"))
            end = min(end, max(half, at + dense // int(sizes[at])))
        batches.append(members[at:end])
        at = end
    return batches


@dataclass(frozen=True)
class WindowBatch:
    """Windows of similar length for one encoder pass.

    ids: input ids with special tokens, padded. [W, L]
    mask: attention mask, 1 on real ids. [W, L], or None if nothing is padded
    """

    ids: IntArray
    mask: IntArray | None


@dataclass(frozen=True)
class Plan:
    """All passes of a list of texts, and the rows that each token reads.

    The passes' outputs are flattened to [W * L, width] and concatenated. Rows are counted in that.

    batches: the passes.
    rows: the rows that each token averages, token after token. [sum of counts]
    counts: number of rows of each token, 0 for a token without wordpieces. [N]
    """

    batches: list[WindowBatch]
    rows: IntArray
    counts: IntArray

    def offsets(self) -> Optional[IntArray]:
        """Where the rows of each token begin in `rows`. [N], None if each token has one row"""
        if len(self.rows) == len(self.counts) and bool((self.counts == 1).all()):
            return None
        begins: IntArray = np.cumsum(self.counts) - self.counts
        return begins


def plan_batches(
    pieces: Sequence[IntArray],
    ranges: Sequence[IntArray],
    cuts: Sequence[Sequence[int]],
    *,
    prefix: Sequence[int],
    suffix: Sequence[int],
    pad_id: int,
    size: int,
    overlap: int,
    limit: int,
    padding: bool = True,
    context: str = "fit",
) -> Plan:
    """Plan the encoder passes of texts.

    pieces: wordpiece ids of each text. [n] each
    ranges: token_pieces of each text. [S, 2] each
    cuts: the wordpieces before which a sentence of each text ends.
    prefix: ids of the special tokens before each window.
    suffix: ids of the special tokens after each window.
    pad_id: the id that pads.
    size: see plan_windows.
    overlap: see plan_windows.
    limit: largest number of input ids of one pass, padding included.
    padding: whether windows of one pass may differ in length.
    context: what a window sees, "sentences" or "fit"; see joined_windows.
    """
    counts = np.fromiter(map(len, pieces), np.int64, len(pieces))
    begins = np.cumsum(counts) - counts
    none = np.zeros((0, 2), dtype=np.int64)
    shifted = [own + begin for own, begin in zip(ranges, begins.tolist(), strict=True)]
    # shape: (N, 2)
    joined_ranges = np.concatenate([none, *shifted])
    ids = np.concatenate([none[:, 0], *pieces])
    inside = [
        [begin + cut for cut in own if 0 < cut < count]
        for begin, count, own in zip(begins.tolist(), counts.tolist(), cuts, strict=True)
    ]
    joined_cuts = np.unique(np.fromiter(chain.from_iterable(inside), np.int64))
    kept = np.full(len(joined_cuts), context == "sentences")
    windows = joined_windows(counts, joined_cuts, kept, size, overlap)
    return _plan(ids, joined_ranges, begins, windows, prefix, suffix, pad_id, limit, padding)


def _plan(
    ids: IntArray,
    ranges: IntArray,
    begins: IntArray,
    windows: IntArray,
    prefix: Sequence[int],
    suffix: Sequence[int],
    pad_id: int,
    limit: int,
    padding: bool,
) -> Plan:
    """Plan the passes of windows.

    ids: the wordpieces of all texts, text after text. [P]
    ranges: first wordpiece of each token and last + 1, counted in `ids`. [N, 2]
    begins: the first wordpiece of each text. [texts]
    windows: see joined_windows. [W, 5]

    For the others, see plan_batches.
    """
    extra = len(prefix) + len(suffix)
    lengths = windows[:, 2] - windows[:, 1] + extra
    groups = padded_batches(lengths, limit, padding, DENSE)
    longest = np.array([lengths[group[0]] for group in groups], dtype=np.int64)
    order = np.fromiter(chain.from_iterable(groups), np.int64, len(windows))
    text, begin, end, own_begin, own_end = windows[order].T
    # All passes are made as one array. The row of a window begins at `row`.
    width = np.repeat(longest, [len(group) for group in groups])
    row = np.cumsum(width) - width
    flat = np.full(int(width.sum()), pad_id, dtype=np.int64)
    piece, place = begins[text] + begin, row + len(prefix)
    source, target = _runs(piece, end - begin), _runs(place, end - begin)
    flat[target] = ids[source]
    for i, special in enumerate(prefix):
        flat[row + i] = special
    for i, special in enumerate(suffix):
        flat[place + end - begin + i] = special
    batches, at = [], 0
    for group, length in zip(groups, longest.tolist(), strict=True):
        batch = flat[at : at + len(group) * length].reshape(len(group), length)
        at += batch.size
        mask = None
        if lengths[group[-1]] < length:
            mask = (np.arange(length)[None, :] < lengths[group][:, None]).astype(np.int64)
        batches.append(WindowBatch(batch, mask))
    if len(source) > len(ids):  # windows overlap
        skip = own_begin - begin
        owned = own_end - own_begin
        source, target = _runs(piece + skip, owned), _runs(place + skip, owned)
    row_of_piece = np.zeros(len(ids), dtype=np.int64)
    row_of_piece[source] = target
    counts = ranges[:, 1] - ranges[:, 0]
    return Plan(batches, row_of_piece[_runs(ranges[:, 0], counts)], counts)


def _runs(firsts: IntArray, counts: IntArray) -> IntArray:
    """Runs of consecutive numbers, joined. [sum of counts]

    firsts: the first number of each run. [runs]
    counts: length of each run. [runs]
    """
    before = np.cumsum(counts) - counts
    return np.repeat(firsts - before, counts) + np.arange(int(counts.sum()))


#: Model types that take a mask for the keys alone: [W, 1, L] before transformers 5, as in its
#: `get_extended_attention_mask`, and bool [W, 1, 1, L] since.
_MASKS_OF_KEYS = ("bert", "camembert", "electra", "ernie", "roberta", "xlm-roberta")


def plan_docs(
    tokenizer: Any,
    docs: list[Doc],
    *,
    longest: int,
    overlap: int,
    context: str,
    limit: int,
    padding: bool = True,
) -> Plan:
    """Plan the encoder passes of docs.

    docs: the docs.
    tokenizer: a fast tokenizer of transformers.
    longest: largest number of input ids of a window, special ones included.
    overlap: see plan_windows.
    context: what a window sees, "sentences" or "fit"; see joined_windows.
    limit: largest number of input ids of one pass, padding included.
    padding: whether windows of one pass may differ in length.
    """
    tokens = read_texts(docs)
    pieces = tokenize_joined(tokenizer, tokens.texts)
    prefix, suffix, pad = special_ids(tokenizer)
    size = longest - len(prefix) - len(suffix)
    begins = np.cumsum(pieces.counts) - pieces.counts
    cuts = begins[:0]
    if context != "fit" or (pieces.counts > size).any():
        cuts = sentence_cuts(docs, tokens.texts, pieces.starts)
    kept = np.full(len(cuts), context == "sentences")
    windows = joined_windows(pieces.counts, cuts, kept, size, min(overlap, size - 1))
    ranges = joined_token_pieces(tokens, pieces)
    return _plan(pieces.ids, ranges, begins, windows, prefix, suffix, pad, limit, padding)


def special_ids(tokenizer: Any) -> tuple[list[int], list[int], int]:
    """Ids of the special tokens before and after a text, and the id that pads (0 if there is none).

    They are those that the tokenizer itself adds, by its post-processor (Hugging Face tokenizers).
    If it has none, they are those that the tokenizer's class adds.
    """
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    fast = backend(tokenizer)
    # Any vocabulary has a wordpiece for one of these texts.
    for text in filter(None, (tokenizer.unk_token, "a", "0", "。")):
        encoding = fast.encode(text)
        own = [i for i, special in enumerate(encoding.special_tokens_mask) if not special]
        if own and len(own) < len(encoding.ids):
            return encoding.ids[: own[0]], encoding.ids[own[-1] + 1 :], pad
    probe = tokenizer.unk_token_id if tokenizer.unk_token_id is not None else 0
    add = getattr(tokenizer, "build_inputs_with_special_tokens", None)
    if add is None:  # From transformers 5 on, classes leave it to the Rust tokenizer.
        return [], [], pad
    ids = add([probe])
    at = ids.index(probe)
    return ids[:at], ids[at + 1 :], pad


def run(
    model: Any,
    plan: Plan,
    device: torch.device,
    project: Optional[tuple[Tensor, Tensor]] = None,
    autocast: Optional[torch.dtype] = None,
    forward: Optional[Callable[..., Any]] = None,
) -> Tensor:
    """Vectors of all tokens of a plan: the mean of the rows of their wordpieces.

    model: the encoder, on `device`.
    plan: the passes, and the rows that each of N tokens averages.
    device: where the encoder is.
    project: weight [K, width] and bias [K] of a linear layer, which is applied to each pass.
        Mean and linear map commute, so the result differs by rounding only. The hidden states of
        a long text are then never held together.
    autocast: dtype of mixed precision, None for float32.
    forward: runs the model in a pass; None for the model itself.
    RETURNS: float32 [N, width], or [N, K] with `project`. A token without wordpieces gets zeros
        (with `project`, the bias).
    """
    offsets = plan.offsets()
    first = [plan.rows] if offsets is None else [plan.rows, offsets]
    masks = [_mask(batch, model, device) for batch in plan.batches]
    arrays = [*first, *(batch.ids for batch in plan.batches), *(m for m in masks if m is not None)]
    tensors = to_device(arrays, device)
    n_ids = len(first) + len(plan.batches)
    mask_on = iter(tensors[n_ids:])
    outputs = []
    try:
        # Autocast keeps the weights that it has cast for all passes.
        with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
            for ids, mask in zip(tensors[len(first) : n_ids], masks, strict=True):
                on = None if mask is None else next(mask_on)
                # shape: (W, L, width)
                out = (forward or model)(input_ids=ids, attention_mask=on, return_dict=True)
                states = out.last_hidden_state
                with torch.autocast(device.type, enabled=False):
                    # shape: (W * L, width)
                    rows = states.flatten(0, 1).float()
                    outputs.append(rows if project is None else projected(rows, project[0]))
    finally:
        # torch would keep them longer inside of a block of the host program.
        torch.clear_autocast_cache()
    if outputs:
        rows = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        out = pool(rows, *tensors[: len(first)])
    else:
        width = model.config.hidden_size if project is None else project[0].shape[0]
        out = torch.zeros(len(plan.counts), width, dtype=torch.float32, device=device)
    return out if project is None else out + project[1]


def projected(rows: Tensor, weight: Tensor) -> Tensor:
    """`rows @ weight.T`, computed as the transpose of the other product: K is small. [M, K]

    rows: [M, width]. weight: [K, width]
    """
    return (weight @ rows.T).T.contiguous()


def pool(rows: Tensor, index: Tensor, offsets: Optional[Tensor] = None) -> Tensor:
    """The mean of the rows of each token. [N, width]

    rows: hidden states. [M, width]
    index: the rows of each token, token after token.
    offsets: see `Plan.offsets`.
    """
    if offsets is None:
        return rows.index_select(0, index)
    return nn.functional.embedding_bag(index, rows, offsets, mode="mean")


def set_dropout(model: nn.Module, rate: float) -> None:
    """Set the rate of every dropout of a model, in place.

    Some layers keep their rate as a number, under names such as `dropout`, `attention_dropout` or
    `dropout_prob`. Whole layers are never dropped (`layerdrop`).

    model: the model.
    rate: dropout rate, from 0 to 1.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = rate
        for name, value in list(vars(module).items()):
            if isinstance(value, float) and "drop" in name:
                setattr(module, name, 0.0 if "layer" in name else rate)


def _mask(batch: WindowBatch, model: Any, device: torch.device) -> Optional[Mask]:
    """The attention mask of a pass, None for none. [W, L], or one of the keys where that is better.

    transformers checks on the device whether a mask [W, L] is all ones, and whether ids without a
    mask hold padding. On CUDA each check makes the host wait. It takes a mask of the keys as it is.
    """
    if device.type == "cpu" or model.config.model_type not in _MASKS_OF_KEYS:
        return batch.mask
    mask = np.ones_like(batch.ids) if batch.mask is None else batch.mask
    # From transformers 5 on, the modules of models take this function from one place.
    if not hasattr(sys.modules[type(model).__module__], "create_bidirectional_mask"):
        return mask[:, None, :]
    if model.config._attn_implementation != "sdpa":
        return batch.mask
    return mask[:, None, None, :].astype(bool)
