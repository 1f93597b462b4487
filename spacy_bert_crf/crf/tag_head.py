"""The tag head: dropout, linear classifier and CRF over token vectors."""

import torch
from torch import Tensor, nn

from .linear_chain import LinearChainCRF


class TagHead(nn.Module):
    """Token vectors to emissions, and the CRF over them.

    width: size of a token vector.
    n_tags: K.
    The state dict has the names of a best_model.pt: `classifier.{weight,bias}` and `crf.*`.
    """

    def __init__(self, width: int, n_tags: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.0)
        self.classifier = nn.Linear(width, n_tags, dtype=torch.float32)
        self.crf = LinearChainCRF(n_tags)
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, vectors: Tensor) -> Tensor:
        """Emissions of token vectors. [N, width] -> [N, K], float32"""
        with torch.autocast(vectors.device.type, enabled=False):
            emissions: Tensor = self.classifier(self.dropout(vectors.float()))
        return emissions

    @torch.no_grad()
    def extend(self, n_tags: int, per_label: int = 0) -> None:
        """Add tags after the present ones, which keep their weights.

        n_tags: the number of tags afterwards.
        per_label: number of tags of a label, which come one after the other, after O. A new label
            then begins with the emissions of O and with the mean transitions of the others, so that
            what was outside may become an entity of it (Cermelli et al. 2020, "Modeling the
            Background"). 0 for random weights.
        Raises ValueError if it is smaller than now.
        """
        old = self.crf.n_tags
        if n_tags < old:
            raise ValueError(f"the head has {old} tags, so it can't be extended to {n_tags}.")
        device = self.classifier.weight.device
        new = TagHead(self.classifier.in_features, n_tags).to(device)
        new.classifier.weight[:old] = self.classifier.weight
        new.classifier.bias[:old] = self.classifier.bias
        for wide, score in zip(new.crf.weights().scores, self.crf.weights().scores, strict=True):
            wide[tuple(slice(size) for size in score.shape)] = score
        if per_label and old > 1:
            new._begin_labels(old, per_label)
        self.classifier, self.crf = new.classifier, new.crf

    def _begin_labels(self, old: int, size: int) -> None:
        """Set the weights of the labels after the first `old` tags; see `extend`.

        size: number of tags of a label.
        """
        crf = self.crf.weights()
        blocks = [slice(i, i + size) for i in range(1, old, size)]
        pairs = [(a, b) for a in blocks for b in blocks]
        same = torch.stack([crf.transitions[a, a] for a in blocks]).mean(0)
        others = [crf.transitions[a, b] for a, b in pairs if a is not b]
        other = torch.stack(others).mean(0) if others else same
        rows, bias = self.classifier.weight, self.classifier.bias
        for new in (slice(i, i + size) for i in range(old, self.crf.n_tags, size)):
            rows[new] += rows[0]
            bias[new] = bias[0]
            for each in (crf.start, crf.end):
                each[new] = torch.stack([each[block] for block in blocks]).mean(0)
            crf.transitions[0, new] = torch.stack([crf.transitions[0, b] for b in blocks]).mean(0)
            crf.transitions[new, 0] = torch.stack([crf.transitions[b, 0] for b in blocks]).mean(0)
            for before in [*blocks, *_after(old, new.start, size)]:
                crf.transitions[before, new] = other
                crf.transitions[new, before] = other
            crf.transitions[new, new] = same


def _after(first: int, last: int, size: int) -> list[slice]:
    """The blocks of `size` from `first` to before `last`."""
    return [slice(i, i + size) for i in range(first, last, size)]
