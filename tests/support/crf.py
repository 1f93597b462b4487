"""Small random CRFs, and all their tag paths by enumeration."""

import itertools
import math

import torch

from spacy_bert_crf.annotation.schemes import TagSet
from spacy_bert_crf.crf.linear_chain import LinearChainCRF


def path_score(crf, emissions, path):
    start, end = crf.start_transitions.tolist(), crf.end_transitions.tolist()
    pairs, rows = crf.transitions.tolist(), emissions.tolist()
    score = start[path[0]] + end[path[-1]] + sum(rows[i][tag] for i, tag in enumerate(path))
    return score + sum(pairs[a][b] for a, b in itertools.pairwise(path))


def all_paths(n_tags, length):
    return list(itertools.product(range(n_tags), repeat=length))


def is_legal(crf, path):
    return (
        bool(crf.legal_start[path[0]])
        and bool(crf.legal_end[path[-1]])
        and all(bool(crf.legal_transitions[a, b]) for a, b in itertools.pairwise(path))
    )


def lse(values):
    top = max(values)
    return top + math.log(sum(math.exp(v - top) for v in values))


def make(scheme="BIO", labels=("X", "Y"), seed=0, scale=1.0, dtype=torch.float64):
    torch.manual_seed(seed)
    tags = TagSet(labels, scheme)
    crf = LinearChainCRF(len(tags.tags), *tags.legal())
    with torch.no_grad():
        for param in crf.parameters():
            param.copy_(torch.randn_like(param) * scale)
    return crf.to(dtype)


def batch(n_tags, lengths, seed=0, scale=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    steps = max(lengths)
    emissions = torch.randn(len(lengths), steps, n_tags, generator=generator, dtype=dtype) * scale
    mask = torch.arange(steps)[None, :] < torch.tensor(lengths)[:, None]
    tags = torch.randint(n_tags, (len(lengths), steps), generator=generator)
    return emissions, mask, tags


LENGTHS = [4, 1, 3, 2]


class Enumeration:
    """All paths of one sequence that are legal and keep to the sets, with probabilities.

    paths: [P, T]. log_p: float64 [P].
    """

    def __init__(self, crf, emissions, length, constrain, allowed=None, temperature=1.0):
        paths = torch.cartesian_prod(*[torch.arange(crf.n_tags)] * length).view(-1, length)
        before, after, steps = paths[:, :-1], paths[:, 1:], torch.arange(length)
        start, end, pairs = (p.detach().double() for p in crf.parameters())
        score = emissions.double()[steps, paths].sum(1) + pairs[before, after].sum(1)
        score = (score + start[paths[:, 0]] + end[paths[:, -1]]) / temperature
        keep = torch.ones_like(score, dtype=torch.bool)
        if constrain:
            keep &= crf.legal_start[paths[:, 0]] & crf.legal_end[paths[:, -1]]
            keep &= crf.legal_transitions[before, after].all(1)
        if allowed is not None:
            keep &= allowed[steps, paths].all(1)
        self.paths, score = paths[keep], score[keep]
        self.log_z = torch.logsumexp(score, 0)
        self.log_p = score - self.log_z

    def probability(self, which):
        return float(self.log_p[which].exp().sum())
