"""The shim of the tag head: classifier and CRF."""

from typing import Any

import safetensors.torch
from thinc.util import get_torch_default_device

from ..crf.tag_head import TagHead
from ..errors import BertCrfError
from .shims import TorchShim


class HeadShim(TorchShim):
    """Holds a TagHead."""

    def build(self, width: int, n_tags: int) -> None:
        """Make a new head of this size, or room for more tags in the present one."""
        if self._model is None or self.module.classifier.in_features != width:
            self._model = TagHead(width, n_tags)
        elif self.module.crf.n_tags != n_tags:
            self.module.extend(n_tags)
        self.module.to(get_torch_default_device()).eval()

    def _pack(self) -> dict[str, Any]:
        classifier = self.module.classifier
        weights = {k: v.cpu().contiguous() for k, v in self.module.state_dict().items()}
        return {
            "width": classifier.in_features,
            "n_tags": classifier.out_features,
            "weights": safetensors.torch.save(weights),
        }

    def _unpack(self, saved: dict[str, Any]) -> None:
        weights = safetensors.torch.load(saved["weights"])
        n_tags, width = weights["classifier.weight"].shape
        if (width, n_tags) != (saved["width"], saved["n_tags"]):
            raise BertCrfError("the weights of its head have another size than was saved.")
        self._model = TagHead(width, n_tags)
        self._model.load_state_dict(weights)
