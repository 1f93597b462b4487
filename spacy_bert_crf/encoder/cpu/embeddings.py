"""What predictions by rows need to know of the embeddings of BERT and its relatives."""

from typing import Any, Optional

from torch import Tensor

#: Classes of embeddings that add a word, a position and a token type, and normalise.
_EMBEDDINGS = {
    "BertEmbeddings", "CamembertEmbeddings", "ElectraEmbeddings", "ErnieEmbeddings",
    "RobertaEmbeddings", "XLMRobertaEmbeddings",
}  # fmt: skip
#: Classes whose positions start behind the number of the padding id, and leave padding ids out.
_OFFSET_POSITIONS = {"CamembertEmbeddings", "RobertaEmbeddings", "XLMRobertaEmbeddings"}


def embeds_by_rows(model: Any) -> bool:
    """Whether an encoder's embedding of an id depends on the id and its position only."""
    embeddings = getattr(model, "embeddings", None)
    return (
        type(embeddings).__name__ in _EMBEDDINGS
        and getattr(embeddings, "position_embedding_type", "absolute") == "absolute"
        and not getattr(embeddings, "use_task_id", False)  # ERNIE adds a fourth table
    )


def padding_of(embeddings: Any) -> Optional[int]:
    """The padding id where positions are counted from it, None where they are from 0."""
    is_offset = type(embeddings).__name__ in _OFFSET_POSITIONS
    return int(embeddings.padding_idx) if is_offset else None


def position_table(embeddings: Any) -> Tensor:
    """What is added to the embedding of a word: position and token type 0. [positions, width]"""
    types = embeddings.token_type_embeddings.weight.detach()
    table: Tensor = embeddings.position_embeddings.weight.detach() + types[0]
    return table
