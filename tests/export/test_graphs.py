"""The computation of the exported graphs: the Viterbi, which steps count, the mean of pieces."""

import io
import itertools

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from spacy_bert_crf.annotation.schemes import SCHEMES, TagSet
from spacy_bert_crf.crf.chain_weights import ChainWeights
from spacy_bert_crf.crf.linear_chain import LinearChainCRF
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.export.graphs import (
    FORBIDDEN,
    TagDecoder,
    best_paths,
    check_other_shapes,
    joined_steps,
    token_emissions,
    token_mask,
)
from spacy_bert_crf.export.trained import gather


def random_crf(tag_set, seed, constraints=True):
    torch.manual_seed(seed)
    crf = LinearChainCRF(len(tag_set.tags))
    if constraints:
        crf.set_legal(*tag_set.legal())
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.normal_(std=2.0)
    return crf


def chain(crf):
    """The scores and masks of a CRF."""
    weights = ChainWeights.from_state(crf.state_dict(), "")
    return weights.with_legal(crf.legal_start, crf.legal_end, crf.legal_transitions)


def baked(crf):
    """The scores as exported graphs have them, and none for borders."""
    return (
        crf.start_transitions.detach().masked_fill(~crf.legal_start, FORBIDDEN),
        crf.end_transitions.detach().masked_fill(~crf.legal_end, FORBIDDEN),
        crf.transitions.detach().masked_fill(~crf.legal_transitions, FORBIDDEN),
        torch.zeros_like(crf.transitions),
    )


def apart(mask):
    """No step continues the word of the step before. [B, S]"""
    return torch.zeros_like(mask, dtype=torch.int64)


@st.composite
def batches(draw, schemes=tuple(SCHEMES)):
    """A CRF under a scheme, emissions, and a mask of ragged texts."""
    n_labels, scheme = draw(st.integers(1, 4)), draw(st.sampled_from(schemes))
    tag_set = TagSet(tuple(f"L{i}" for i in range(n_labels)), scheme)
    seed = draw(st.integers(0, 2**20))
    crf = random_crf(tag_set, seed, draw(st.booleans()))
    lengths = draw(st.lists(st.integers(1, 30), min_size=1, max_size=5))
    emissions = torch.randn(len(lengths), max(lengths), len(tag_set.tags)) * 3
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return crf, emissions, mask


@settings(max_examples=120)
@given(batches())
def test_the_viterbi_is_that_of_the_component(batch):
    crf, emissions, mask = batch
    want, score = crf.viterbi(emissions, mask)
    got = best_paths(emissions, mask, apart(mask), *baked(crf))
    assert got.dtype is torch.int64 and got.shape == mask.shape
    assert bool((got[~mask] == 0).all())
    if not torch.equal(got, want):  # only where two paths are as good
        torch.testing.assert_close(crf.score(emissions, got, mask), score, atol=1e-4, rtol=0)
        assert bool(crf.legal_start[got[:, 0]].all())


@settings(max_examples=30)
@given(batches(("BIOES", "BIO")))
def test_no_step_behind_the_end_changes_a_text(batch):
    crf, emissions, mask = batch
    together = best_paths(emissions, mask, apart(mask), *baked(crf))
    for row, on in enumerate(mask):
        n = int(on.sum())
        alone = best_paths(
            emissions[row : row + 1, :n], on[None, :n], apart(on[None, :n]), *baked(crf)
        )
        assert torch.equal(alone[0], together[row, :n])


@st.composite
def words(draw):
    """A scheme, a CRF, and emissions of one short text with words of several tokens."""
    tag_set = TagSet(tuple("AB"[: draw(st.integers(1, 2))]), draw(st.sampled_from(tuple(SCHEMES))))
    constraints = draw(st.booleans())
    crf = random_crf(tag_set, draw(st.integers(0, 2**20)), constraints)
    length = draw(st.integers(1, 5 if len(tag_set.tags) < 6 else 4))
    joined = [draw(st.booleans()) for _ in range(length)]
    return tag_set, crf, torch.randn(1, length, crf.n_tags) * 3, torch.tensor([joined])


@settings(max_examples=100)
@given(words())
def test_words_stay_whole_as_in_all_paths(drawn):
    """The best of all legal paths without a border of an entity inside of a word."""
    tag_set, crf, emissions, joined = drawn
    held = {i for i in range(1, joined.shape[1]) if joined[0, i]}
    mask = torch.ones_like(joined)
    best, found = -torch.inf, None
    for path in itertools.product(range(crf.n_tags), repeat=joined.shape[1]):
        legal = crf.legal_start[path[0]] and crf.legal_end[path[-1]]
        legal = legal and all(crf.legal_transitions[a, b] for a, b in itertools.pairwise(path))
        borders = {edge for span in tag_set.decode(path) for edge in (span.start, span.end)}
        if not legal or borders & held:
            continue
        score = crf.score(emissions, torch.tensor([path]), mask).item()
        if score > best:
            best, found = score, path
    first = torch.arange(1, joined.shape[1] + 1)
    pieces = torch.stack([first, first + 1, joined[0].long()], dim=1)[None]
    around = torch.nn.functional.pad(emissions, (0, 0, 1, 1))
    decoder = TagDecoder(torch.zeros(crf.n_tags), chain(crf), torch.tensor(tag_set.inside()))
    got = decoder(around, pieces)
    assert tuple(got[0].tolist()) == found or crf.score(emissions, got, mask).item() == (
        pytest.approx(best, abs=1e-4)
    )
    borders = {edge for span in tag_set.decode(got[0].tolist()) for edge in (span[0], span[1])}
    assert not borders & held


def test_token_pieces_of_two_columns_join_no_steps():
    pieces = torch.tensor([[[1, 2], [2, 3]], [[1, 2], [0, 0]]])
    assert joined_steps(pieces).tolist() == [[0, 0], [0, 0]]
    flags = torch.tensor([[[0], [1]], [[0], [1]]])
    flagged = torch.cat([pieces, flags], dim=2)
    assert joined_steps(flagged).tolist() == [[0, 1], [0, 1]]
    assert torch.equal(token_mask(flagged), token_mask(pieces))


def test_the_viterbi_is_scripted_and_survives_its_file():
    assert isinstance(best_paths, torch.jit.ScriptFunction)
    tag_set = TagSet(("A", "B"), "BIOES")
    crf = random_crf(tag_set, 3)
    bias = torch.randn(crf.n_tags)
    decoder = TagDecoder(bias, chain(crf), torch.tensor(tag_set.inside())).eval()
    pieces = torch.tensor([[[1, 2], [2, 4], [4, 5]], [[1, 2], [0, 0], [0, 0]]])
    traced = torch.jit.trace(decoder, (torch.randn(2, 6, crf.n_tags), pieces), check_trace=False)
    buffer = io.BytesIO()
    torch.jit.save(traced, buffer)
    buffer.seek(0)
    loaded = torch.jit.load(buffer)
    for n_batch, length, n_tokens in [(1, 4, 1), (3, 40, 25), (2, 9, 7)]:
        emissions = torch.randn(n_batch, length, crf.n_tags)
        first = torch.arange(n_tokens) % (length - 2) + 1
        ranges = torch.stack([first, first + 1], dim=1).repeat(n_batch, 1, 1)
        assert torch.equal(loaded(emissions, ranges), decoder(emissions, ranges))
        want, _ = crf.viterbi(emissions[:, first], torch.ones(n_batch, n_tokens).bool())
        assert torch.equal(loaded(emissions, ranges), want)


def test_a_text_without_a_legal_path_has_a_result():
    crf = random_crf(TagSet(("A",), "BIOES"), 0)
    scores = [torch.full_like(score, FORBIDDEN) for score in baked(crf)]
    mask = torch.ones(2, 5).bool()
    got = best_paths(torch.randn(2, 5, crf.n_tags), mask, apart(mask), *scores)
    assert got.shape == (2, 5) and int(got.min()) >= 0 and int(got.max()) < crf.n_tags


def place(rows):
    """token_pieces of texts, padded with 0, 0."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[(0, 0)] * (longest - len(row))] for row in rows])


MASKS = {
    "ragged": ([[(1, 2), (2, 3), (3, 4)], [(1, 2)]], [[1, 1, 1], [1, 0, 0]]),
    "a token without pieces inside": ([[(1, 2), (0, 0), (2, 3)], [(1, 2)]], [[1, 1, 1], [1, 0, 0]]),
    "and at the end of a text alone": ([[(1, 2), (0, 0)]], [[1, 1]]),
    "nothing but such": ([[(0, 0), (0, 0)]], [[1, 1]]),
    "an empty range that differs from padding": (
        [[(1, 2), (2, 3), (3, 4)], [(1, 2), (1, 1)]],
        [[1, 1, 1], [1, 1, 0]],
    ),
    "at the start": ([[(0, 0), (1, 2)], [(1, 1), (1, 2)]], [[1, 1], [1, 1]]),
    "an empty text of a batch": ([[(1, 2), (2, 3)], []], [[1, 1], [0, 0]]),
}


@pytest.mark.parametrize("name", MASKS)
def test_which_steps_are_tokens(name):
    rows, want = MASKS[name]
    assert token_mask(place(rows)).int().tolist() == want


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.data())
def test_with_1_1_for_tokens_without_pieces_the_mask_is_that_of_the_lengths(lengths, data):
    """The rule that holds for any batch."""
    rows = []
    for length in lengths:
        has = data.draw(st.lists(st.booleans(), min_size=length, max_size=length))
        rows.append([(i + 1, i + 2) if on else (1, 1) for i, on in enumerate(has)])
    want = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    assert torch.equal(token_mask(place(rows)), want)


@settings(max_examples=60)
@given(st.data())
def test_emissions_of_tokens_are_means_over_their_pieces(data):
    n_batch, n_pieces = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 12))
    n_tokens, n_tags = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 5))
    torch.manual_seed(data.draw(st.integers(0, 999)))
    pieces, bias = torch.randn(n_batch, n_pieces, n_tags), torch.randn(n_tags)
    bounds = st.tuples(st.integers(0, n_pieces), st.integers(0, n_pieces)).map(sorted)
    ranges = torch.tensor([[data.draw(bounds) for _ in range(n_tokens)] for _ in range(n_batch)])
    got = token_emissions(pieces, ranges, bias)
    for row in range(n_batch):
        for token in range(n_tokens):
            first, last = ranges[row, token].tolist()
            want = pieces[row, first:last].mean(0) if last > first else bias
            torch.testing.assert_close(got[row, token], want, atol=1e-5, rtol=1e-5)


@given(batches())
@settings(max_examples=40)
def test_the_decoder_reads_ragged_batches(batch):
    """Emissions of pieces at their places, and zeros behind the end of shorter texts."""
    crf, emissions, mask = batch
    assume(emissions.shape[1] > 1)
    around = torch.nn.functional.pad(emissions, (0, 0, 1, 1), value=9.0)  # [CLS] and [SEP]
    first = torch.arange(1, emissions.shape[1] + 1)
    ranges = torch.stack([first, first + 1], dim=1) * mask.int()[:, :, None]
    bias = torch.full((crf.n_tags,), np.pi)
    never = torch.zeros(crf.n_tags, crf.n_tags).bool()
    got = TagDecoder(bias, chain(crf), never)(around, ranges)
    assert torch.equal(got, best_paths(emissions, mask, apart(mask), *baked(crf)))


def test_a_graph_that_is_right_for_one_length_only_is_refused(toys):
    """As of an encoder that chooses its operations by the length of the text."""
    model = gather(toys["zh"].nlp, "", {}).emission_model("eager")
    check_other_shapes(model, model, 512)
    with pytest.raises(BertCrfError, match="type bert does not fit .* wrong for 33 wordpieces"):
        check_other_shapes(
            lambda ids, mask, types: model(ids % 19 if ids.shape[1] > 19 else ids, mask, types),
            model,
            512,
        )

    def broken(*inputs):
        raise RuntimeError("no such length")

    with pytest.raises(BertCrfError, match="type bert does not fit .*no such length"):
        check_other_shapes(broken, model, 512)
