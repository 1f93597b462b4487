"""The parts of a trained pipeline that are exported: encoder, head, and their description."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from spacy.language import Language
from torch import Tensor

from .._provenance import META, config_hash, settings_of, versions
from .._transformers import without_dtype
from ..annotation.schemes import TagSet
from ..annotation.word_runs import WORD
from ..component.meta.keys import is_encoder
from ..component.pipelines import find_component, find_encoder
from ..crf.chain_weights import ChainWeights
from ..encoder import hf as enc
from ..encoder.cpu.smoothing import probe_inputs, smooth
from ..encoder.passes import special_ids
from ..encoder.piece_tokenizer import PieceTokenizer
from ..encoder.texts.sentences import SENTENCE_END
from ..model import layers
from .graphs import EmissionModel, TagDecoder, plain_encoder

if TYPE_CHECKING:
    from ..component.pipe import BertCrf

#: What best_model.json keeps of metrics.json.
METRICS = ("ents_p", "ents_r", "ents_f", "ents_per_type", "best_epoch")


@dataclass(frozen=True)
class Trained:
    """A trained component outside its pipeline. All tensors are float32 on the CPU.

    encoder: the Hugging Face model and its tokenizer.
    weight: weight of the classifier. [K, width]
    bias: bias of the classifier. [K]
    chain: scores of the CRF as trained; the masks are all True without constraints.
    tag_set: the tags in id order.
    constraints: whether decoding keeps to the scheme.
    info: the content of best_model.json.
    """

    encoder: enc.LoadedEncoder
    weight: Tensor
    bias: Tensor
    chain: ChainWeights
    tag_set: TagSet
    constraints: bool
    info: dict[str, Any]

    @property
    def config(self) -> Any:
        """The encoder's Hugging Face config."""
        return self.encoder.model.config

    @property
    def prefix(self) -> str:
        """The first part of the names of the encoder's tensors, `bert` for BERT."""
        return str(self.encoder.model.base_model_prefix or self.config.model_type)

    def encoder_tensors(self) -> dict[str, Tensor]:
        """The encoder's weights without pooler, under the names of its own model class."""
        return {
            name: _plain(tensor)
            for name, tensor in enc.state_of(self.encoder.model).items()
            if not name.startswith("pooler.") and not name.endswith("position_ids")
        }

    def tensors(self) -> dict[str, Tensor]:
        """All weights under the names of a best_model.pt."""
        return {
            **{f"{self.prefix}.{name}": t for name, t in self.encoder_tensors().items()},
            "classifier.weight": self.weight,
            "classifier.bias": self.bias,
            **self.chain.to_state(),
        }

    def hf_config(self) -> dict[str, Any]:
        """The encoder's Hugging Face config with the tags as id2label and label2id."""
        config = without_dtype(self.config.to_dict())
        tags = self.tag_set.tags
        config["id2label"] = {str(i): tag for i, tag in enumerate(tags)}
        config["label2id"] = {tag: i for i, tag in enumerate(tags)}
        for key in ("_name_or_path", "_attn_implementation_autoset"):
            config.pop(key, None)
        return config

    def emission_model(
        self, attention: str = "eager", dtype: torch.dtype = torch.float32
    ) -> EmissionModel:
        """A new model from input ids to emissions, which are float32.

        attention: see graphs.plain_encoder.
        dtype: of the encoder; the classifier is in float32.
        """
        encoder = plain_encoder(self.encoder.model, attention).to(dtype)
        return EmissionModel(encoder, self.weight, self.bias).eval()

    def probes(self) -> list[tuple[Tensor, Tensor]]:
        """Ids and masks of random texts, to measure the inputs of the encoder's layers."""
        before, after, _ = special_ids(self.encoder.tokenizer)
        longest = int(self.info["max_length"])
        return probe_inputs(self.config.vocab_size, before, after, longest)

    def smoothed_model(self, attention: str) -> EmissionModel:
        """An emission_model with the same results, prepared for int8 (see smoothing).

        attention: see graphs.plain_encoder.
        """
        model = self.emission_model(attention)
        smooth(model.encoder, self.probes())
        return model

    def decoder(self) -> TagDecoder:
        """A new model from emissions to tags."""
        return TagDecoder(self.bias, self.chain, torch.tensor(self.tag_set.inside())).eval()


def gather(nlp: Language, component: str, metrics: dict[str, Any]) -> Trained:
    """The parts of a pipeline's component.

    nlp: the pipeline.
    component: name of the `bert_crf` component; empty if there is only one.
    metrics: figures to record.
    Raises BertCrfError if there is no such component, or it is untrained.
    """
    pipe = find_component(nlp, component)
    encoder = find_encoder(nlp, pipe)
    head = {k: _plain(v) for k, v in layers.head_of(pipe.model).module.state_dict().items()}
    chain = ChainWeights.from_state(head)
    if pipe.constraints:
        tags = pipe.tag_set
        chain = chain.with_legal(*tags.legal())
    trained = Trained(
        encoder,
        head["classifier.weight"],
        head["classifier.bias"],
        chain,
        pipe.tag_set,
        pipe.constraints,
        describe(nlp, pipe, encoder, metrics),
    )
    trained.info["weights_sha256"] = digest(trained.tensors())
    return trained


def digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, shapes and values: it does not depend on the format of the file."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(f"{name} {list(tensors[name].shape)}\n".encode())
        total.update(tensors[name].numpy().tobytes())
    return total.hexdigest()


def describe(
    nlp: Language, pipe: "BertCrf", encoder: enc.LoadedEncoder, metrics: dict[str, Any]
) -> dict[str, Any]:
    """The content of best_model.json; `weights_sha256` is filled in by `gather`."""
    config = nlp.config.interpolate()
    # The training commands of this package record data and versions; others leave the config.
    made = nlp.meta.get(META) or {}
    seed = metrics.get("seed", (config.get("training") or {}).get("seed"))
    # Origin and license of the encoder, from the config.json of its checkpoint.
    source = {key: getattr(encoder.model.config, key, None) for key in ("origin", "license")}
    sources = nlp.meta.get("sources") or []
    texts = [s for s in sources if not (isinstance(s, dict) and is_encoder(s))]
    return {
        "scheme": pipe.scheme,
        "labels": list(pipe.labels),
        "tags": list(pipe.tag_set.tags),
        "pooling": "mean",
        "max_length": enc.longest_input(encoder, longest_window(nlp, pipe, encoder)),
        **_rules(pipe),
        "constraints": pipe.constraints,
        "temperature": pipe.temperature,
        "lang": nlp.lang,
        "seed": seed,
        **({"whole_pieces": True} if isinstance(nlp.tokenizer, PieceTokenizer) else {}),
        **({"encoder": source} if any(source.values()) else {}),
        # Origin and license of the training texts.
        **({"sources": texts} if texts else {}),
        "weights_sha256": "",
        "config_sha256": made.get("config_sha256") or config_hash(settings_of(config)),
        "data_sha256": made.get("data_sha256") or {},
        "versions": versions(),
        **({"training_versions": made["versions"]} if made.get("versions") else {}),
        "metrics": {key: metrics[key] for key in METRICS if key in metrics},
    }


def longest_window(nlp: Language, pipe: "BertCrf", encoder: enc.LoadedEncoder) -> int:
    """Largest number of input ids that the pipeline itself passes to its encoder in one window.

    nlp: the pipeline.
    pipe: its component.
    encoder: the encoder of the component.
    """
    known = layers.encoder_of(pipe.model)
    if known is not None:
        return int(known.cfg["max_length"])
    prefix, suffix, _ = special_ids(encoder.tokenizer)
    windows = [
        # spacy-transformers counts windows in tokens, each of one wordpiece or more.
        spans["window"] + len(prefix) + len(suffix)
        for name in nlp.pipe_names
        for spans in _spans_settings(nlp.get_pipe_config(name).get("model", {}))
    ]
    return min([512, *windows])


def _rules(pipe: "BertCrf") -> dict[str, Any]:
    """What a pass of the encoder sees, and which words stay whole.

    `sentence_end` and `whole_words` are regular expressions of Python's `re`. The end of each match
    of the first is the end of a sentence. No entity begins or ends within a match of the second;
    it is empty if words may be cut.
    """
    encoder = layers.encoder_of(pipe.model)
    rules: dict[str, Any] = {"context": "fit"}
    if encoder is not None:
        overlap = encoder.cfg["overlap"]
        # Readers of before know no 0 for what the encoder takes, and no overlap above half of it.
        longest = encoder.cfg["max_length"] or max(encoder.longest, 2 * overlap)
        sizes = {"max_length": longest, "overlap": overlap}
        rules = {"context": encoder.context, "windows": sizes}
    whole = WORD if pipe.chains.keeps else ""
    return {**rules, "sentence_end": SENTENCE_END, "whole_words": whole}


def _spans_settings(section: Any) -> Iterator[dict[str, Any]]:
    if isinstance(section, dict):
        if isinstance(section.get("window"), int):
            yield section
        for value in section.values():
            yield from _spans_settings(value)


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32).contiguous()
