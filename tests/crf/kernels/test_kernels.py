"""The Triton kernels against the torch code on random batches.

On a GPU they are compiled. Elsewhere they need TRITON_INTERPRET=1, which must be set before Triton
is imported, so it is set outside: `TRITON_INTERPRET=1 python -m pytest tests/crf/kernels`.
"""

import importlib.util
import os

import pytest
import torch

from spacy_bert_crf.crf.kernels import availability
from spacy_bert_crf.crf.linear_chain import LinearChainCRF
from spacy_bert_crf.crf.viterbi import viterbi
from spacy_bert_crf.crf.viterbi_blocks import viterbi_one_by_one

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton"),
    pytest.mark.skipif(
        not INTERPRETED and not torch.cuda.is_available(),
        reason="needs a GPU or TRITON_INTERPRET=1",
    ),
    # numpy, by which Triton interprets, warns of log(0) and of scores that are not numbers.
    pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:All-NaN slice:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning"),
]
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
SCALES = [0.1, 1.0, 30.0, 1e3, 1e4]
DTYPES = [torch.float64, torch.float32, torch.bfloat16]
TAG_COUNTS = [1, 2, 3, 5, 7, 8, 9, 17]
#: Largest relative difference of results that are rounded to a dtype in the end.
ROUNDING = {torch.float64: 1e-10, torch.float32: 3e-7, torch.bfloat16: 1e-2}


@pytest.fixture
def switch(monkeypatch):
    """Function that switches the kernels on or off."""

    def switch(on):
        monkeypatch.setattr(availability, "has_kernels", lambda device: on)

    return switch


class Problem:
    """A random batch with a CRF: lengths, allowed tags, excluded transitions, scales, dtype."""

    def __init__(self, seed):
        generator = torch.Generator().manual_seed(seed)
        self.with_posterior = seed % 5 == 0

        def pick(values):
            return values[int(torch.randint(len(values), (1,), generator=generator))]

        n_tags, n_batch, n_steps = pick(TAG_COUNTS), pick([1, 2, 3]), pick([1, 2, 3, 7])
        self.dtype, scale, weight_scale = pick(DTYPES), pick(SCALES), pick([0.1, 1.0, 10.0])
        self.constrain, share = pick([False, True]), pick([0.0, 0.4, 1.0])
        shape = n_batch, n_steps, n_tags
        self.crf = LinearChainCRF(n_tags)
        with torch.no_grad():
            for param in self.crf.parameters():
                param.copy_(torch.randn(param.shape, generator=generator) * weight_scale)
        if self.dtype is torch.float64:
            self.crf.double()
        legal = [torch.rand(p.shape, generator=generator) < 0.8 for p in self.crf.parameters()]
        self.crf.set_legal(legal[0].tolist(), legal[1].tolist(), legal[2].tolist())
        self.crf.to(DEVICE)
        emissions = torch.randn(shape, generator=generator) * scale
        self.emissions = emissions.to(DEVICE, self.dtype)
        lengths = torch.randint(1, n_steps + 1, (n_batch,), generator=generator)
        lengths[0] = n_steps
        self.mask = (torch.arange(n_steps) < lengths.unsqueeze(1)).to(DEVICE)
        gold = torch.randint(n_tags, shape[:2], generator=generator)
        more = torch.rand(shape, generator=generator) < share
        self.allowed = (torch.nn.functional.one_hot(gold, n_tags).bool() | more).to(DEVICE)
        # Some steps may have no tag at all, so that there is no path.
        self.sparse = torch.rand(shape, generator=generator).to(DEVICE) < 0.6

    def compute(self):
        """All results, by name. Those of training come with their gradients."""
        crf, mask, dtype = self.crf, self.mask, self.dtype
        emissions = self.emissions.clone().requires_grad_()
        loss = crf(emissions, self.allowed, mask, self.constrain)
        names = [f"gradient {name}" for name, _ in crf.named_parameters()]
        weight = torch.linspace(0.5, 2.0, len(loss)).to(loss)
        gradients = torch.autograd.grad((loss * weight).sum(), [emissions, *crf.parameters()])
        out = {"loss": loss.detach(), "log Z": crf.log_partition(self.emissions, mask)}
        out |= dict(zip(["gradient emissions", *names], gradients, strict=True))
        out["tags"], out["score"] = crf.viterbi(self.emissions, mask, self.allowed)
        out["tags 2"], out["score 2"] = crf.viterbi(self.emissions, mask, self.sparse)
        if not self.with_posterior:
            return out
        for name, allowed in (("", None), (" allowed", self.allowed), (" sparse", self.sparse)):
            found = crf.posterior(self.emissions, mask, self.constrain, allowed)
            out[f"marginals{name}"] = found.marginals()
            out[f"pairs{name}"] = found.pair_counts()
            out[f"log Z{name} of posterior"] = found.log_z
            out[f"log p{name}"] = found.log_probability(out["tags"])
            rows = torch.arange(len(mask), device=DEVICE)
            begin, length = torch.zeros_like(rows), mask.sum(1)
            for end in (length, torch.ones_like(rows)):
                spans = rows, begin, end, out["tags"]
                out[f"p{name} of spans {len(out)}"] = found.span_probability(*spans)
            if dtype is torch.float64:  # It is a difference of large sums.
                out[f"entropy{name}"] = found.entropy()
        _, out["log p of n best"] = crf.nbest(self.emissions, mask, 2, self.constrain)
        return out


@pytest.mark.parametrize("tens", range(100))
def test_equal_the_torch_code_on_random_batches(tens, switch):
    for seed in range(10 * tens, 10 * tens + 10):
        problem = Problem(seed)
        switch(False)
        wanted = problem.compute()
        switch(True)
        found = problem.compute()
        assert wanted.keys() == found.keys()
        for name, want in wanted.items():
            got, message = found[name], f"{name} of problem {seed}"
            assert got.dtype == want.dtype and got.shape == want.shape, message
            if name.startswith(("tags", "score")):
                assert torch.equal(got, want), message
                continue
            # Entropies are differences of sums, whose rounding grows with the scores.
            size = float(problem.emissions.abs().max()) * problem.mask.shape[1]
            atol = max(1e-12, 1e-15 * size) * (100 if name.startswith("entropy") else 1)
            rtol = ROUNDING[problem.dtype]
            torch.testing.assert_close(
                got, want, rtol=rtol, atol=atol, equal_nan=True,
                msg=lambda text, message=message: f"{message}: {text}",
            )  # fmt: skip


@pytest.mark.parametrize("constrain", [False, True])
def test_gradcheck(constrain, switch):
    switch(True)
    generator = torch.Generator().manual_seed(1)
    crf = LinearChainCRF(3, None, None, [[True, True, False], [True] * 3, [True] * 3])
    crf.double().to(DEVICE)
    mask = torch.tensor([[True, True, True], [True, False, False]], device=DEVICE)
    emissions = torch.randn(2, 3, 3, generator=generator, dtype=torch.float64).to(DEVICE)
    allowed = torch.ones_like(emissions, dtype=torch.bool)
    allowed[0, 1, 2] = False
    names = [name for name, _ in crf.named_parameters()]

    def loss(emissions, *params):
        state = dict(zip(names, params, strict=True))
        arguments = emissions, allowed, mask, constrain
        return torch.func.functional_call(crf, state, arguments)

    inputs = [emissions.requires_grad_(), *crf.parameters()]
    assert torch.autograd.gradcheck(loss, inputs)


def test_excluded_paths_have_probability_0_exactly(switch):
    switch(True)
    crf = LinearChainCRF(4, None, None, (torch.eye(4) < 1).tolist()).to(DEVICE)
    emissions = 5 * torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(2)).to(DEVICE)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2], device=DEVICE)
    allowed = torch.ones_like(emissions, dtype=torch.bool)
    allowed[:, 2, 1] = False
    marginals = crf.posterior(emissions, mask, True, allowed).marginals()
    assert (marginals[:, 2, 1] == 0).all() and (marginals[1, 4:] == 0).all()
    gold = torch.zeros_like(mask, dtype=torch.int64)
    gold[:, 1::2] = 1
    loss = crf(emissions, gold, mask, True)
    (d_pairs,) = torch.autograd.grad(loss.sum(), [crf.transitions])
    assert (d_pairs.diagonal() == 0).all() and (d_pairs != 0).any()


def test_marginals_do_not_depend_on_padding(switch):
    """Padding may hold any numbers, also those that are not finite."""
    switch(True)
    crf = LinearChainCRF(3).to(DEVICE)
    emissions = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(3)).to(DEVICE)
    mask = torch.tensor([[True] * 3 + [False] * 2], device=DEVICE)
    want = crf.posterior(emissions[:, :3], mask[:, :3]).marginals()
    emissions[:, 3:] = torch.nan
    assert torch.equal(crf.posterior(emissions, mask).marginals()[:, :3], want)
    assert crf.viterbi(emissions, mask)[1].isfinite().all()


def test_ties_go_to_the_lower_tag(switch):
    crf = LinearChainCRF(3).to(DEVICE)
    with torch.no_grad():
        for param in crf.parameters():
            param.zero_()
    generator = torch.Generator().manual_seed(4)
    emissions = torch.randint(2, (6, 5, 3), generator=generator).float().to(DEVICE)
    mask = torch.ones((6, 5), dtype=torch.bool, device=DEVICE)
    switch(True)
    tags, score = crf.viterbi(emissions, mask)
    assert torch.equal(tags, emissions.argmax(2))
    assert torch.equal(score, emissions.amax(2).sum(1))


def test_long_sequences_are_summed_in_float64(monkeypatch, switch):
    monkeypatch.setattr("spacy_bert_crf.crf.viterbi.LONG", 4)
    switch(True)
    crf = LinearChainCRF(5).to(DEVICE)
    emissions = 1e4 * torch.randn(3, 9, 5, generator=torch.Generator().manual_seed(5)).to(DEVICE)
    mask = torch.arange(9, device=DEVICE) < torch.tensor([[9], [4], [1]], device=DEVICE)
    weights = [p.detach() for p in crf.parameters()]
    want_tags, want_score = viterbi_one_by_one(emissions, *weights, mask)
    tags, score = crf.viterbi(emissions, mask)
    assert torch.equal(tags, want_tags)
    assert torch.equal(score, want_score)


def test_scores_that_are_not_numbers_end(switch):
    switch(True)
    crf = LinearChainCRF(3).to(DEVICE)
    emissions = torch.full((2, 4, 3), torch.nan, device=DEVICE, requires_grad=True)
    mask = torch.ones((2, 4), dtype=torch.bool, device=DEVICE)
    tags, _ = crf.viterbi(emissions, mask)
    assert ((tags >= 0) & (tags < 3)).all()
    loss = crf.log_partition(emissions, mask)
    (gradient,) = torch.autograd.grad(loss.sum(), [emissions])
    assert loss.isnan().all() and gradient.isnan().any()


def test_a_batch_of_many_tags(switch):
    generator = torch.Generator().manual_seed(6)
    crf = LinearChainCRF(availability.MAX_TAGS).to(DEVICE)
    emissions = torch.randn(1, 3, crf.n_tags, generator=generator).to(DEVICE)
    mask = torch.ones((1, 3), dtype=torch.bool, device=DEVICE)
    weights = [p.detach() for p in crf.parameters()]
    switch(True)
    tags, score = crf.viterbi(emissions, mask)
    log_z = crf.log_partition(emissions, mask)
    want_tags, want_score = viterbi(emissions, *weights, mask)
    assert torch.equal(tags, want_tags) and torch.equal(score, want_score)
    switch(False)
    torch.testing.assert_close(log_z, crf.log_partition(emissions, mask))
