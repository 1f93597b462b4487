"""Registered model architectures. A published name never changes its meaning."""

import math
import warnings
from typing import Any, Literal, Optional

from spacy.tokens import Doc
from spacy.util import registry
from thinc.api import Model
from thinc.types import Floats2d

from ..encoder.precision import MixedPrecision
from ..errors import BertCrfError
from .layers import bert_crf_layer, encoder_layer
from .shared.listener import EncoderListener
from .shims import EncoderShim


@registry.architectures("spacy_bert_crf.BertCrf.v1")
def create_bert_crf(tok2vec: Model[list[Doc], list[Floats2d]]) -> Model:
    """Encoder, linear classifier and CRF.

    tok2vec: token vectors, list of Doc to list of [tokens, width]. It is an own encoder
        (`spacy_bert_crf.Encoder.v1`) or a listener to a shared one
        (`spacy_bert_crf.EncoderListener.v1`, `spacy-transformers.TransformerListener.v1`). The
        parameter has this name because `nlp.replace_listeners` looks for it.
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
    mixed_precision: MixedPrecision = "auto",
    grad_scaler_config: dict[str, Any] = {},  # noqa: B006
    max_length: int = 0,
    overlap: int = 128,
    batch_pieces: int = 0,
    allow_download: bool = False,
    context: Literal["auto", "sentences", "fit"] = "auto",
    long_texts: Optional[Literal["sentences", "windows"]] = None,
    adversarial: float = 0.0,
    frozen_layers: int = 0,
) -> Model[list[Doc], list[Floats2d]]:
    """An encoder of the component's own.

    It has the arguments of `spacy-transformers.Tok2VecTransformer.v3`, and more after them.
    A pass reads a sentence, or as many sentences of a text as fit (`context`). What is longer than
    a window is covered by overlapping ones, so that nothing is cut off. The vector of a token is
    the mean of its wordpieces, or zeros if it has none.

    name: folder of a Hugging Face encoder with a fast tokenizer; "packaged" for the one that comes
        through pip; or a name on the hub, such as "hfl/chinese-lert-base", with "@revision" to pin
        it. It is read when the pipeline is initialised. A trained pipeline holds the encoder and
        needs neither the folder nor the hub.
    get_spans: not used, with a warning, since windows are planned in wordpieces.
    tokenizer_config: arguments for the tokenizer.
    pooling: null or `reduce_mean.v1`. The mean is taken in either case.
    grad_factor: factor on the gradient that reaches the encoder.
    transformer_config: settings for the model's config.
    mixed_precision: dtype of the encoder's products. "auto": bfloat16 on a GPU that has it, and in
        updates on a CPU that multiplies matrices in it (AMX or AVX512-BF16), else float32. true:
        also in predictions on such a CPU, and float16 with gradient scaling on an older GPU.
        false: float32. The CRF stays in float32.
    grad_scaler_config: arguments of thinc's PyTorchGradScaler, for float16.
    max_length: largest number of wordpieces of a window, special ones included. 0 for what the
        encoder takes, at most 8,192.
    overlap: smallest number of wordpieces that neighbouring windows share.
    batch_pieces: largest number of wordpieces of one pass, padding included. 0 for 768 on a CPU,
        and on CUDA for what fits in 0.4 of the card's memory, at most 65,536. A larger update is
        done in parts whose gradients are summed, which needs the memory of one part. The default
        part has 512 on a CPU.
    allow_download: fetch `name` from the hub at initialisation if it is not there.
    context: what a pass sees, in training and in prediction. "sentences": one sentence. "fit": as
        many sentences of a text as fit in a window. "auto": one sentence, but whole texts in a
        pipeline that was saved before this setting, since it was trained with them. Sentences are
        those annotated on the doc, else those that the rule of sentences.py finds.
    long_texts: not used. Pipelines from before `context` have it.
    adversarial: length of a step of the word embeddings that makes the loss higher. An update
        then learns a second time, from the embeddings after that step. 0 for none.
    frozen_layers: number of the lowest layers that do not learn, and with them the embeddings.
        An update is faster then. 0: all layers and the embeddings learn.
    Raises BertCrfError for settings out of range.
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
    is_possible = 0 <= overlap <= max_length // 2 if max_length else overlap >= 0
    if not is_possible or 0 < max_length < 8 or batch_pieces < 0:
        raise BertCrfError(
            f"encoder settings max_length = {max_length}, overlap = {overlap}, batch_pieces = "
            f"{batch_pieces}. max_length must be 8 or more, and overlap at most half of it; 0 is "
            "what the encoder takes. batch_pieces must be 1 or more, or 0 for the default of the "
            "device."
        )
    if not 0 <= adversarial < math.inf:
        raise BertCrfError(f"encoder setting adversarial = {adversarial}: it must be 0 or more.")
    if frozen_layers < 0 or (frozen_layers and adversarial):
        raise BertCrfError(
            f"encoder settings frozen_layers = {frozen_layers}, adversarial = {adversarial}: "
            "frozen_layers must be 0 or more, and 0 with adversarial, which needs the gradient of "
            "the embeddings."
        )
    shim = EncoderShim(
        {
            "max_length": max_length,
            "overlap": overlap,
            "context": context,
            "batch_pieces": batch_pieces,
            "mixed_precision": mixed_precision,
            "grad_scaler_config": dict(grad_scaler_config),
            "adversarial": adversarial,
            "frozen_layers": frozen_layers,
            "source": {
                "name": name,
                "tokenizer_config": dict(tokenizer_config),
                "transformer_config": dict(transformer_config),
                "allow_download": allow_download,
            },
        }
    )
    return encoder_layer(shim, grad_factor)


@registry.architectures("spacy_bert_crf.EncoderListener.v1")
def create_encoder_listener(upstream: str = "*") -> Model[list[Doc], list[Floats2d]]:
    """A listener to the encoder of a component `bert_crf_encoder`, which several may share.

    It gives token vectors to any component whose architecture has a `tok2vec`, such as spaCy's
    tagger. The width of the vectors is that of the encoder.

    upstream: name of the component with the encoder. "*" for the last one before this component.
    RETURNS: list of Doc to list of [tokens, width].
    """
    return EncoderListener(upstream)
