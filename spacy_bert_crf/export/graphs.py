"""The computation of the exported graphs, in torch operations that can be traced and scripted.

Uses no spaCy. B texts, T wordpieces, S tokens, K tags.
"""

import copy
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .._host import float32_default
from .._transformers import model_from_config
from ..crf.chain_weights import ChainWeights
from ..encoder.hf import load_weights, takes_types, without_pooler
from ..errors import BertCrfError, first_line

#: Score of a tag or transition that the constraints forbid. It is finite, so that a text without a
#: legal path has a result.
FORBIDDEN = -1e4
#: Batch and length of the inputs for tracing. No other dimension of the graph has this length, so
#: that no dimension looks constant by accident.
TRACED = (2, 19)
_TRACED_TOKENS = 13
#: Batches and lengths at which a recorded graph is compared with its model, and the largest
#: difference by the dtype of the encoder, relative to the largest emission.
_OTHER_SHAPES = ((1, 6), (3, 33))
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}


class EmissionModel(nn.Module):
    """Input ids to the emissions of each wordpiece, special ones included.

    encoder: a Hugging Face encoder.
    weight: weight of the classifier. [K, width]
    bias: bias of the classifier. [K]
    """

    def __init__(self, encoder: Any, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.classifier = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float32)
        self.classifier.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
        self.classifier.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.has_types = takes_types(encoder)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """int64 [B, T] each to float32 [B, T, K]"""
        more = {"token_type_ids": token_type_ids} if self.has_types else {}
        out = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, return_dict=True, **more
        )
        states = out.last_hidden_state
        # The classifier and all that follows it is in float32.
        wide = states if states.dtype is torch.float32 else states.float()
        emissions: Tensor = self.classifier(wide)
        return emissions


class TagDecoder(nn.Module):
    """Emissions of wordpieces to the best tags of tokens under the constraints.

    bias: bias of the classifier, which is the emissions of a token without wordpieces. [K]
    chain: scores of the CRF; those that are not legal become FORBIDDEN.
    inside: transitions [from, to] at which no entity begins or ends. bool [K, K]
    """

    bias: Tensor
    start: Tensor
    end: Tensor
    transitions: Tensor
    border: Tensor

    def __init__(self, bias: Tensor, chain: ChainWeights, inside: Tensor) -> None:
        super().__init__()
        border = torch.zeros_like(chain.transitions).masked_fill(~inside, FORBIDDEN)
        names = ("bias", "start", "end", "transitions", "border")
        for name, value in zip(names, (bias, *chain.masked(FORBIDDEN), border), strict=True):
            self.register_buffer(name, value.detach().clone())

    def forward(self, emissions: Tensor, token_pieces: Tensor) -> Tensor:
        """float32 [B, T, K] and int64 [B, S, 2] or [B, S, 3] to int64 [B, S]

        emissions: those of the wordpieces of each encoder pass. A text may have P passes, which are
            P rows one after another: [B * P, T, K].
        token_pieces: first wordpiece of each token and last + 1, counted over the passes of the
            text in `input_ids`, where the first [CLS] is 0 and the next pass begins at T.
            Both are 0 for a token without wordpieces, and after the end of a text.
            The third column is optional. It is 1 where a token continues the word of the token
            before it: no entity begins or ends between the two.
        """
        emissions = emissions.reshape(token_pieces.shape[0], -1, emissions.shape[2])
        rows = token_emissions(emissions, token_pieces, self.bias)
        mask, joined = token_mask(token_pieces), joined_steps(token_pieces)
        tags: Tensor = best_paths(
            rows, mask, joined, self.start, self.end, self.transitions, self.border
        )
        return tags


class DecodeModel(nn.Module):
    """Input ids and the wordpieces of each token to the best tags.

    emissions: an EmissionModel, or one whose encoder has int8 layers.
    decoder: from emissions to tags.
    """

    def __init__(self, emissions: nn.Module, decoder: TagDecoder) -> None:
        super().__init__()
        self.emissions = emissions
        self.decoder = decoder

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor,
        token_pieces: Tensor,
    ) -> Tensor:
        """int64 [B * P, T] three times and [B, S, 2 or 3] to int64 [B, S], see TagDecoder"""
        pieces = self.emissions(input_ids, attention_mask, token_type_ids)
        tags: Tensor = self.decoder(pieces, token_pieces)
        return tags


def token_emissions(pieces: Tensor, token_pieces: Tensor, bias: Tensor) -> Tensor:
    """The mean of the emissions of each token's wordpieces; the bias if it has none. [B, S, K]

    pieces: emissions of the wordpieces. [B, T, K]
    token_pieces: first wordpiece and last + 1 of each token, see TagDecoder. [B, S, 2 or 3]
    bias: emissions of a token without wordpieces. [K]
    """
    places = torch.arange(pieces.shape[1], device=pieces.device)
    first, last = token_pieces[:, :, 0:1], token_pieces[:, :, 1:2]
    # shape: (B, S, T)
    share = ((places >= first) & (places < last)).to(pieces.dtype)
    count = (last - first).to(pieces.dtype)
    mean = torch.matmul(share, pieces) / count.clamp(min=1.0)
    return torch.where(count > 0, mean, bias)


def token_mask(token_pieces: Tensor) -> Tensor:
    """Which steps are tokens: those up to the last step of their text that is not 0, 0. [B, S]

    In a batch of one text all steps are tokens, as there is no padding.
    """
    used = (token_pieces[:, :, :2].sum(2) > 0).to(torch.int64)
    # The number of used steps from each one to the end. shape: (B, S)
    behind = used.sum(1, keepdim=True) - used.cumsum(1) + used
    alone = torch.ones_like(used[:, :1]).sum(0, keepdim=True) == 1
    return (behind > 0) | alone


def joined_steps(token_pieces: Tensor) -> Tensor:
    """Which steps continue the word of the step before: 1 there, else 0. int64 [B, S]

    They are the third column of token_pieces. Without that column all are 0.
    """
    none = torch.zeros_like(token_pieces[:, :, :1])
    return torch.cat([token_pieces, none], dim=2)[:, :, 2]


@torch.jit.script  # a loop that depends on the length, which tracing would unroll
def best_paths(
    emissions: Tensor,
    mask: Tensor,
    joined: Tensor,
    start: Tensor,
    end: Tensor,
    transitions: Tensor,
    border: Tensor,
) -> Tensor:
    """Viterbi in one loop: each step keeps the whole best path to each tag. [B, S]

    So there is no second loop back over the steps, and only operations that every runtime has.

    emissions: [B, S, K]
    mask: which steps are tokens. [B, S]
    joined: 1 for a step that continues the word of the step before, else 0. [B, S]
    start: score of each tag at the first step, finite. [K]
    end: score of each tag at the last step, finite. [K]
    transitions: [from, to], finite. [K, K]
    border: score, at joined steps only, of each transition: [from, to], finite. [K, K]
    """
    n_tags, n_steps = emissions.shape[2], emissions.shape[1]
    tags = torch.arange(n_tags, device=emissions.device)
    places = torch.arange(n_steps, device=emissions.device)
    best = start + emissions[:, 0]
    # shape: (B, K, S)
    first = (tags.unsqueeze(1) * (places == 0).to(torch.int64)).unsqueeze(0)
    paths = first + torch.zeros_like(best, dtype=torch.int64).unsqueeze(2)
    held = joined.to(emissions.dtype).unsqueeze(2).unsqueeze(3)
    for step in range(1, n_steps):
        scores = transitions + held[:, step] * border
        value, source = (best.unsqueeze(2) + scores).max(dim=1)
        on = mask[:, step].unsqueeze(1)
        best = torch.where(on, value + emissions[:, step], best)
        extended = paths.gather(1, source.unsqueeze(2).expand_as(paths))
        extended = extended + tags.unsqueeze(1) * (places == step).to(torch.int64)
        paths = torch.where(on.unsqueeze(2), extended, paths)
    last = (best + end).argmax(dim=1)
    path = paths.gather(1, last.unsqueeze(1).unsqueeze(2).expand(-1, 1, n_steps))[:, 0]
    return path * mask.to(torch.int64)


def plain_encoder(model: Any, attention: str) -> Any:
    """A copy of an encoder on the CPU, in evaluation mode.

    attention: "eager" for plain matrix products (other runtimes), "sdpa" for torch's kernel. An
        encoder without this implementation gets the one that it has.
    Raises BertCrfError if the class of the encoder can't be made from its config.
    """
    more = without_pooler(model.config)
    copied: Any = None
    for arguments in ({"attn_implementation": attention}, {"attn_implementation": "eager"}, {}):
        try:
            # A config of its own for each attempt, which writes its choice into it.
            config = copy.deepcopy(model.config)
            with float32_default():
                copied = model_from_config(config, **arguments, **more)
        # transformers checks the name (ValueError, ImportError) or looks it up (KeyError).
        except (ValueError, ImportError, KeyError):
            continue
        break
    if type(copied) is not type(model):
        raise BertCrfError(
            f"an encoder of type {type(model).__name__} can't be exported: transformers' AutoModel "
            "makes another class from its config. Use an encoder that AutoModel knows."
        )
    load_weights(copied, model.state_dict())
    copied.requires_grad_(False)
    return copied.float().cpu().eval()


def tiny_encoder(config: Any, special: Sequence[int]) -> Any:
    """An encoder of one layer and few wordpieces with random weights, else as in the config.

    It has the operations of the whole encoder, so that an export of it shows what fails.

    special: ids of special tokens, which it must know.
    Raises whatever transformers raises if the config allows no such encoder.
    """
    small = copy.deepcopy(config)
    small.num_hidden_layers = 1
    own = [getattr(config, f"{name}_token_id", None) or 0 for name in ("pad", "bos", "eos")]
    small.vocab_size = min(config.vocab_size, max(64, *(number + 1 for number in [*own, *special])))
    with float32_default():
        return model_from_config(small, **without_pooler(small)).eval()


def example_inputs(batch: int, length: int, vocab_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs for tracing, the second text shorter than the first. int64 [B, T] each"""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(min(5, vocab_size - 1), vocab_size, (batch, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[1:, length - length // 3 :] = 0
    return ids, mask, torch.zeros_like(ids)


def example_pieces() -> Tensor:
    """token_pieces for tracing, where the second text has fewer tokens. [2, tokens, 3]"""
    first = torch.arange(1, _TRACED_TOKENS + 1)
    pieces = torch.stack([first, first + 1, first % 2], dim=1).repeat(TRACED[0], 1, 1)
    pieces[1, _TRACED_TOKENS // 2 :] = 0
    return pieces


@contextmanager
def recorded(encoder: Any) -> Iterator[None]:
    """Within, the graph of an encoder is recorded. Raises BertCrfError if it can't be."""
    try:
        yield
    except (BertCrfError, OSError, MemoryError):
        raise
    except Exception as err:  # torch and each runtime raise exceptions of their own
        raise _no_graph(encoder, textwrap.shorten(_reason(err), 200, placeholder=" …")) from err


@torch.inference_mode()
def check_other_shapes(run: Callable[..., Any], model: Any, longest: int) -> None:
    """Compare a recorded graph with its model at batches and lengths other than the recorded one.

    run: ids, mask and types [B, T] to emissions [B, T, K].
    model: an EmissionModel.
    longest: largest number of input ids of a window.
    Raises BertCrfError if the model gives no numbers, or if they differ: a graph holds the
        operations of one run, and some encoders choose theirs by the length of the text.
    """
    encoder = model.encoder
    dtype = getattr(encoder, "dtype", torch.float32)
    for batch, length in _OTHER_SHAPES:
        inputs = example_inputs(batch, min(length, longest), encoder.config.vocab_size)
        right, on = model(*inputs), inputs[1].bool()
        if not bool(right[on].isfinite().all()):
            name = str(dtype).removeprefix("torch.")
            raise BertCrfError(
                f"the encoder has values outside of the range of {name}: choose a format in "
                "float32 or bfloat16."
            )
        with recorded(encoder):
            found = torch.as_tensor(run(*inputs))
        bound = _TOLERANCE[dtype] * max(1.0, float(right[on].abs().max()))
        if found.shape != right.shape or not float((found - right)[on].abs().max()) <= bound:
            raise _no_graph(encoder, f"recorded at one length, it is wrong for {length} wordpieces")


def _reason(err: Exception) -> str:
    """What an error says in one line. Errors within TorchScript say it after a trace of it."""
    lines = str(err).strip().splitlines()
    return lines[-1] if lines and "TorchScript" in lines[0] else first_line(err)


def _no_graph(encoder: Any, reason: str) -> BertCrfError:
    return BertCrfError(
        f"an encoder of type {encoder.config.model_type} does not fit into a graph of this format "
        f"({reason}): choose huggingface, or best_model.pt alone."
    )
