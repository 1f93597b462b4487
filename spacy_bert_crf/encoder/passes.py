"""Plans the encoder passes of texts, and runs them.

A plan says which wordpieces each pass takes, and which rows a token reads; it is made in numpy.

A text of at most `max_length` wordpieces, special ones included, is one window. A longer
text may be cut at the ends of its sentences. A part that is still too long is covered by as few
overlapping windows as possible, all of one length. Each wordpiece is read from the window in which
it is most central. So each window owns one run of wordpieces, and all runs together are the text.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from numpy.typing import NDArray
from spacy.tokens import Doc
from torch import Tensor, nn

from .transfers import to_device

IntArray = NDArray[np.int64]


class Pieces(NamedTuple):
    """The wordpieces of a text without special tokens: ids, and character offsets. [n] each"""

    ids: IntArray
    starts: IntArray
    ends: IntArray


class Window(NamedTuple):
    """A window of wordpieces. Those that it owns are read from this window.

    begin: its first wordpiece.
    end: the wordpiece after its last one.
    own_begin: the first wordpiece that it owns.
    own_end: the wordpiece after the last one that it owns.
    """

    begin: int
    end: int
    own_begin: int
    own_end: int


def plan_windows(n_pieces: int, size: int, overlap: int) -> list[Window]:
    """Windows over a text. All numbers count wordpieces, without special ones.

    n_pieces: length of the text.
    size: largest length of a window.
    overlap: smallest number of wordpieces that two neighbouring windows share.
    Raises ValueError if overlap is not in 0 .. size - 1.
    """
    if not 0 <= overlap < size:
        raise ValueError(f"overlap {overlap} is not in 0 .. {size - 1} (window size {size}).")
    if n_pieces <= size:
        return [Window(0, n_pieces, 0, n_pieces)] if n_pieces else []
    count = -(-(n_pieces - overlap) // (size - overlap))
    length = -(-(n_pieces + (count - 1) * overlap) // count)
    begins = [round(i * (n_pieces - length) / (count - 1)) for i in range(count)]
    # The border between what two neighbours own is the middle of their overlap.
    cuts = [(a + length + b) // 2 for a, b in zip(begins[:-1], begins[1:], strict=True)]
    edges = [0, *cuts, n_pieces]
    return [Window(b, b + length, edges[i], edges[i + 1]) for i, b in enumerate(begins)]


def plan_text(n_pieces: int, cuts: Sequence[int], size: int, overlap: int) -> list[Window]:
    """Windows over a text that may be cut if it is too long for one window.

    n_pieces: see plan_windows.
    cuts: wordpieces before which it may be cut, ascending.
    size: see plan_windows.
    overlap: see plan_windows.
    """
    if n_pieces <= size:
        return plan_windows(n_pieces, size, overlap)
    edges = sorted({0, n_pieces, *(cut for cut in cuts if 0 < cut < n_pieces)})
    return [
        Window(*(begin + place for place in window))
        for begin, end in zip(edges[:-1], edges[1:], strict=True)
        for window in plan_windows(end - begin, size, overlap)
    ]


def padded_batches(lengths: Sequence[int], limit: int, padding: bool = True) -> list[list[int]]:
    """Batches of indices of similar length, the longest first.

    lengths: length of each member.
    limit: largest size of a batch, that is its number of members × its longest. A member that is
        longer than the limit is a batch of its own.
    padding: whether members of a batch may differ in length.
    """
    batches: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        other = not padding and max(lengths[index], 1) != longest
        if not batches or other or (len(batches[-1]) + 1) * longest > limit:
            batches.append([])
            longest = max(lengths[index], 1)
        batches[-1].append(index)
    return batches


def token_pieces(
    token_starts: IntArray, token_ends: IntArray, piece_starts: IntArray, piece_ends: IntArray
) -> IntArray:
    """First wordpiece and last + 1 of each token, (0, 0) for none. [S, 2]

    A wordpiece that covers several tokens belongs to each of them.

    token_starts: offset of the first character of each token. [S]
    token_ends: offset after the last character of each token. [S]
    piece_starts: offset of the first character of each wordpiece. [n]
    piece_ends: offset after the last character of each wordpiece. [n]
    """
    first = np.searchsorted(piece_ends, token_starts, side="right")
    last = np.searchsorted(piece_starts, token_ends, side="left")
    out = np.stack([first, last], axis=1).astype(np.int64)
    out[last <= first] = 0
    return out


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
) -> Plan:
    """Plan the encoder passes of texts.

    pieces: wordpiece ids of each text. [n] each
    ranges: token_pieces of each text. [S, 2] each
    cuts: where each text may be cut, see plan_text.
    prefix: ids of the special tokens before each window.
    suffix: ids of the special tokens after each window.
    pad_id: the id that pads.
    size: see plan_windows.
    overlap: see plan_windows.
    limit: largest number of input ids of one pass, padding included.
    padding: whether windows of one pass may differ in length.
    """
    owners: list[tuple[int, Window]] = []
    for text, ids in enumerate(pieces):
        windows = plan_text(len(ids), cuts[text], size, overlap)
        owners += [(text, window) for window in windows]
    extra = len(prefix) + len(suffix)
    lengths = [window.end - window.begin + extra for _, window in owners]
    begins = np.cumsum([0, *(len(ids) for ids in pieces)])
    row_of_piece = np.zeros(int(begins[-1]), dtype=np.int64)
    batches, base = [], 0
    for members in padded_batches(lengths, limit, padding):
        longest = lengths[members[0]]
        batch = np.full((len(members), longest), pad_id, dtype=np.int64)
        for row, member in enumerate(members):
            text, window = owners[member]
            batch[row, : lengths[member]] = [
                *prefix, *pieces[text][window.begin : window.end], *suffix,
            ]  # fmt: skip
            at = base + row * longest + len(prefix) - window.begin
            own = np.arange(window.own_begin, window.own_end)
            row_of_piece[begins[text] + own] = at + own
        mask = None
        if lengths[members[-1]] < longest:
            widths = np.array([lengths[member] for member in members])
            mask = (np.arange(longest)[None, :] < widths[:, None]).astype(np.int64)
        batches.append(WindowBatch(batch, mask))
        base += batch.size
    if not ranges:
        return Plan(batches, np.zeros(0, np.int64), np.zeros(0, np.int64))
    counts = np.concatenate([r[:, 1] - r[:, 0] for r in ranges])
    firsts = np.concatenate([r[:, 0] + begins[i] for i, r in enumerate(ranges)])
    before = np.cumsum(counts) - counts
    flat = np.repeat(firsts - before, counts) + np.arange(int(counts.sum()))
    return Plan(batches, row_of_piece[flat], counts)


#: Model types that take a mask [W, 1, L], as in `get_extended_attention_mask` of transformers.
_MASKS_OF_KEYS = ("bert", "camembert", "electra", "ernie", "roberta", "xlm-roberta")

_SENTENCE_END = re.compile(r"[。！？!?…\n]+[”’」』）》)\]\"']*")


def plan_docs(
    tokenizer: Any,
    docs: list[Doc],
    *,
    longest: int,
    overlap: int,
    by_sentences: bool,
    limit: int,
    padding: bool = True,
) -> Plan:
    """Plan the encoder passes of docs.

    docs: the docs.
    tokenizer: a fast tokenizer of transformers.
    longest: largest number of input ids of a window, special ones included.
    overlap: see plan_windows.
    by_sentences: whether texts that are too long are cut at the ends of their sentences.
    limit: largest number of input ids of one pass, padding included.
    padding: whether windows of one pass may differ in length.
    """
    pieces = tokenize(tokenizer, [doc.text for doc in docs])
    prefix, suffix, pad = special_ids(tokenizer)
    size = longest - len(prefix) - len(suffix)
    ranges, cuts = [], []
    for doc, text_pieces in zip(docs, pieces, strict=True):
        ranges.append(doc_pieces(doc, text_pieces))
        is_long = len(text_pieces.ids) > size and by_sentences
        borders = sentence_starts(doc) if is_long else []
        cuts.append(np.searchsorted(text_pieces.starts, borders).tolist())
    return plan_batches(
        [p.ids for p in pieces],
        ranges,
        cuts,
        prefix=prefix,
        suffix=suffix,
        pad_id=pad,
        size=size,
        overlap=min(overlap, size - 1),
        limit=limit,
        padding=padding,
    )


def doc_pieces(doc: Doc, pieces: Pieces) -> IntArray:
    """First wordpiece and last + 1 of each token of a doc, see token_pieces. [S, 2]"""
    starts, lengths = doc.to_array(["IDX", "LENGTH"]).astype(np.int64).T
    return token_pieces(starts, starts + lengths, pieces.starts, pieces.ends)


def sentence_starts(doc: Doc) -> list[int]:
    """Character offsets at which the sentences of a doc start, without the first.

    Annotated sentences count if there are any. Otherwise a sentence ends with 。！？!?… or a line
    break, and the quotes and brackets that close after it. A full stop does not count, because it
    may belong to an abbreviation.
    """
    if doc.has_annotation("SENT_START"):
        return [sent.start_char for sent in doc.sents][1:]
    return [match.end() for match in _SENTENCE_END.finditer(doc.text)]


def special_ids(tokenizer: Any) -> tuple[list[int], list[int], int]:
    """Ids of the special tokens before and after a text, and the id that pads (0 if there is none).

    They are those that the tokenizer itself adds, by its post-processor (Hugging Face tokenizers).
    If it has none, they are those that the tokenizer's class adds.
    """
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    fast = _backend(tokenizer)
    # Any vocabulary has a wordpiece for one of these texts.
    for text in filter(None, (tokenizer.unk_token, "a", "0", "。")):
        encoding = fast.encode(text)
        own = [i for i, special in enumerate(encoding.special_tokens_mask) if not special]
        if own and len(own) < len(encoding.ids):
            return encoding.ids[: own[0]], encoding.ids[own[-1] + 1 :], pad
    probe = tokenizer.unk_token_id if tokenizer.unk_token_id is not None else 0
    ids = tokenizer.build_inputs_with_special_tokens([probe])
    at = ids.index(probe)
    return ids[:at], ids[at + 1 :], pad


def tokenize(tokenizer: Any, texts: Sequence[str]) -> list[Pieces]:
    """Wordpieces of whole texts, without special tokens and without truncation.

    tokenizer: a fast tokenizer of transformers.
    """
    out = []
    for encoding in _backend(tokenizer).encode_batch(list(texts), add_special_tokens=False):
        offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        ids = np.array(encoding.ids, dtype=np.int64)
        out.append(Pieces(ids, offsets[:, 0], offsets[:, 1]))
    return out


def _backend(tokenizer: Any) -> Any:
    """The Rust tokenizer of a fast one, set to neither truncate nor pad."""
    fast = tokenizer.backend_tokenizer
    if fast.truncation is not None:
        fast.no_truncation()
    if fast.padding is not None:
        fast.no_padding()
    return fast


def run(
    model: Any,
    plan: Plan,
    device: torch.device,
    project: Optional[tuple[Tensor, Tensor]] = None,
    autocast: Optional[torch.dtype] = None,
) -> Tensor:
    """Vectors of all tokens of a plan: the mean of the rows of their wordpieces.

    model: the encoder, on `device`.
    plan: the passes, and the rows that each of N tokens averages.
    device: where the encoder is.
    project: weight [K, width] and bias [K] of a linear layer, which is applied to each pass.
        Mean and linear map commute, so the result differs by rounding only. The hidden states of
        a long text are then never held together.
    autocast: dtype of mixed precision, None for float32.
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
    # Autocast keeps the weights that it has cast until the end of the outer block.
    with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
        for ids, mask in zip(tensors[len(first) : n_ids], masks, strict=True):
            on = None if mask is None else next(mask_on)
            # shape: (W, L, width)
            hidden = model(input_ids=ids, attention_mask=on, return_dict=True).last_hidden_state
            with torch.autocast(device.type, enabled=False):
                # shape: (W * L, width)
                rows = hidden.flatten(0, 1).float()
                outputs.append(rows if project is None else rows @ project[0].T)
    if outputs:
        rows = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        out = pool(rows, *tensors[: len(first)])
    else:
        width = model.config.hidden_size if project is None else project[0].shape[0]
        out = torch.zeros(len(plan.counts), width, dtype=torch.float32, device=device)
    return out if project is None else out + project[1]


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


def _mask(batch: WindowBatch, model: Any, device: torch.device) -> Optional[IntArray]:
    """The attention mask of a pass, None for none. [W, L], or [W, 1, L] where that is better.

    transformers checks on the device whether a mask [W, L] is all ones, and whether ids without a
    mask hold padding. On CUDA each check makes the host wait. It takes a mask [W, 1, L] as it is.
    """
    if device.type == "cpu" or model.config.model_type not in _MASKS_OF_KEYS:
        return batch.mask
    mask = np.ones_like(batch.ids) if batch.mask is None else batch.mask
    return mask[:, None, :]
