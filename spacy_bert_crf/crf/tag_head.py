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
    def extend(self, n_tags: int) -> None:
        """Add tags after the present ones, which keep their weights.

        n_tags: the number of tags afterwards.
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
        self.classifier, self.crf = new.classifier, new.crf
