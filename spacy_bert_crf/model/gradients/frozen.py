"""Which parameters of an encoder have no gradient."""

from typing import Any

from ...errors import BertCrfError
from ..parameter_groups import layer_of


def freeze_lowest(model: Any, n_layers: int) -> None:
    """Let the lowest layers and the embeddings of an encoder not learn.

    They get no gradient, so that backpropagation ends above them and the optimizer leaves them
    out. The lower layers of a pretrained encoder need fine-tuning least (Lee, Tang & Lin 2019,
    "What would Elsa do? Freezing layers during transformer fine-tuning").

    model: the encoder, of Hugging Face.
    n_layers: number of layers that do not learn; 0 lets all layers and the embeddings learn.
    Raises BertCrfError if it has no more layers than that, or its layers share their weights.
    """
    frozen: set[str] = set()
    if n_layers:
        parameters = dict(model.named_parameters())
        total = model.config.num_hidden_layers
        if n_layers >= total:
            raise BertCrfError(
                f"frozen_layers = {n_layers}, and the encoder has {total} layers: use less than "
                f"{total}, or grad_factor = 0 so that none learns."
            )
        if max(map(layer_of, parameters)) != total - 1:
            raise BertCrfError(
                f"frozen_layers = {n_layers}, and the {total} layers of the encoder "
                f"({model.config.model_type}) share weights or have no numbers: use 0."
            )
        inputs = {id(param) for param in model.get_input_embeddings().parameters()}
        frozen = {
            name
            for name, param in parameters.items()
            if id(param) in inputs
            or name.startswith("embeddings.")
            or 0 <= layer_of(name) < n_layers
        }
    for name, param in model.named_parameters():
        param.requires_grad_(name not in frozen)
