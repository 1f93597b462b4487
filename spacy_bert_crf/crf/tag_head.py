"""The tag head in torch: dropout, linear classifier, CRF. Knows nothing of spaCy."""

import torch
from torch import Tensor, nn

from .linear_chain import LinearChainCRF


class TagHead(nn.Module):
    """Token vectors to emissions, and the CRF over them.

    width: size of a token vector. n_tags: K.
    Its state dict holds `classifier.{weight,bias}` and `crf.*`, the names of a best_model.pt.
    """

    def __init__(self, width: int, n_tags: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.0)
        self.classifier = nn.Linear(width, n_tags)
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
        """Make room for more tags after the present ones, whose weights stay.

        Raises ValueError if there would be fewer.
        """
        old = self.crf.n_tags
        if n_tags < old:
            raise ValueError(f"the head has {old} tags, {n_tags} are fewer.")
        device = self.classifier.weight.device
        new = TagHead(self.classifier.in_features, n_tags).to(device)
        new.classifier.weight[:old] = self.classifier.weight
        new.classifier.bias[:old] = self.classifier.bias
        new.crf.start_transitions[:old] = self.crf.start_transitions
        new.crf.end_transitions[:old] = self.crf.end_transitions
        new.crf.transitions[:old, :old] = self.crf.transitions
        self.classifier, self.crf = new.classifier, new.crf
