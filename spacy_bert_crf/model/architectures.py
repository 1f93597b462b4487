"""Registered model architectures. A published name never changes its meaning."""

import warnings
from typing import Any, Literal, Optional

from spacy.tokens import Doc
from spacy.util import registry
from thinc.api import Model
from thinc.types import Floats2d

from ..errors import BertCrfError
from .encoder_shim import EncoderShim
from .layers import bert_crf_layer, encoder_layer


@registry.architectures("spacy_bert_crf.BertCrf.v1")
def create_bert_crf(tok2vec: Model[list[Doc], list[Floats2d]]) -> Model:
    """Encoder, linear classifier and CRF.

    tok2vec: token vectors, list of Doc to list of [tokens, width]: an own encoder
        (`spacy_bert_crf.Encoder.v1`) or a listener to a shared one
        (`spacy-transformers.TransformerListener.v1`). The parameter has this name because
        `nlp.replace_listeners` looks for it.
    RETURNS: list of Doc to list of emissions [tokens, n_tags].
    """
    return bert_crf_layer(tok2vec)


@registry.architectures("spacy_bert_crf.Encoder.v1")
def create_encoder(
    name: str,
    get_spans: Any = None,
    tokenizer_config: dict[str, Any] = {},  # noqa: B006 (registered settings need plain defaults)
    pooling: Any = None,
    grad_factor: float = 1.0,
    transformer_config: dict[str, Any] = {},  # noqa: B006
    mixed_precision: bool = False,
    grad_scaler_config: dict[str, Any] = {},  # noqa: B006
    max_length: int = 512,
    overlap: int = 128,
    long_texts: Literal["sentences", "windows"] = "windows",
    batch_pieces: int = 0,
    allow_download: bool = False,
) -> Model[list[Doc], list[Floats2d]]:
    """An encoder of the component's own, with the signature of
    `spacy-transformers.Tok2VecTransformer.v3` and more settings after it.

    A text of at most `max_length` wordpieces is one pass; longer ones are parted into sentences
    or overlapping windows, counted in wordpieces, so that nothing is cut off. A token's vector is
    the mean of its wordpieces, zeros if it has none.

    name: folder of a Hugging Face encoder with a fast tokenizer, read when the pipeline is
        initialised. A trained pipeline holds the encoder and needs the folder no more.
    get_spans: not used, for windows are planned in wordpieces; a warning says so.
    tokenizer_config, transformer_config: settings for the tokenizer and the model's config.
    pooling: null or `reduce_mean.v1`, which is what is done.
    grad_factor: scales the gradient that reaches the encoder.
    mixed_precision: on CUDA, bfloat16 where the GPU has it, else float16 with gradient scaling
        (`grad_scaler_config`). On a CPU, bfloat16 where it multiplies matrices in it (AMX), else
        float32. The CRF stays in float32.
    max_length: most wordpieces of a window, special ones included; at most what the encoder has.
    long_texts: how a text is covered that is longer than a window. "windows": overlapping windows
        over all of it. "sentences": each of its sentences is a pass of its own, as in a training
        on sentences; those that are too long get overlapping windows. Sentences are those that
        are annotated on the doc, otherwise those that 。！？… or a line break ends.
    overlap: least number of wordpieces that neighbouring windows share.
    batch_pieces: most wordpieces of one encoder pass, padding included. 0: what suits the device,
        768 on a CPU and 4096 elsewhere. An update that needs more is done in parts, whose gradients
        are summed, by default of 512 on a CPU: it needs the memory of one part.
    allow_download: let `name` be fetched from the hub at initialisation.
    Raises BertCrfError for settings that can't be met.
    """
    if get_spans is not None:
        warnings.warn(
            "spacy_bert_crf.Encoder.v1 plans its windows in wordpieces: get_spans is not used. "
            "Set max_length and overlap, and leave get_spans out.",
            stacklevel=2,
        )
    pooling_name: Optional[str] = getattr(pooling, "name", None)
    if pooling is not None and pooling_name != "reduce_mean":
        raise BertCrfError(
            f"spacy_bert_crf.Encoder.v1 averages the wordpieces of a token; pooling "
            f"{pooling_name or pooling!r} is not supported. Leave it out, or use reduce_mean.v1."
        )
    if not max_length >= 8 or not 0 <= overlap <= max_length // 2 or batch_pieces < 0:
        raise BertCrfError(
            f"encoder settings max_length = {max_length}, overlap = {overlap}, batch_pieces = "
            f"{batch_pieces}: max_length must be at least 8, overlap at most half of it, "
            "batch_pieces at least 1, or 0 for what suits the device."
        )
    shim = EncoderShim(
        {
            "max_length": max_length,
            "overlap": overlap,
            "long_texts": long_texts,
            "batch_pieces": batch_pieces,
            "mixed_precision": mixed_precision,
            "grad_scaler_config": dict(grad_scaler_config),
            "source": {
                "name": name,
                "tokenizer_config": dict(tokenizer_config),
                "transformer_config": dict(transformer_config),
                "allow_download": allow_download,
            },
        }
    )
    return encoder_layer(shim, grad_factor)
