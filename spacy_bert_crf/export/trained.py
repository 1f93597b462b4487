"""What is exported of a trained pipeline: its encoder, its head, and how to read them."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from spacy.language import Language
from torch import Tensor

from .._provenance import META, config_hash, settings_of, versions
from ..annotation.schemes import TagSet
from ..component.pipe import BertCrf
from ..component.pipelines import find_component, find_encoder
from ..encoder import hf as enc
from ..encoder.cpu.smoothing import probe_inputs, smooth
from ..encoder.passes import special_ids
from ..model import layers
from .graphs import FORBIDDEN, EmissionModel, TagDecoder, plain_encoder


@dataclass(frozen=True)
class Trained:
    """A trained component outside its pipeline. All tensors are float32 on the CPU.

    encoder: the Hugging Face model and its tokenizer.
    weight, bias: of the classifier. [K, width], [K]
    start, end, transitions: of the CRF, as trained. [K], [K], [K, K] (from, to)
    tag_set: the tags in id order. constraints: whether decoding keeps to the scheme.
    info: what best_model.json says.
    """

    encoder: enc.LoadedEncoder
    weight: Tensor
    bias: Tensor
    start: Tensor
    end: Tensor
    transitions: Tensor
    tag_set: TagSet
    constraints: bool
    info: dict[str, Any]

    @property
    def config(self) -> Any:
        """The encoder's Hugging Face config."""
        return self.encoder.model.config

    @property
    def prefix(self) -> str:
        """What the encoder's tensors are called by, `bert` for BERT."""
        return str(self.encoder.model.base_model_prefix or self.config.model_type)

    def encoder_tensors(self) -> dict[str, Tensor]:
        """The encoder's weights without pooler, under the names of its own model class."""
        return {
            name: _plain(tensor)
            for name, tensor in self.encoder.model.state_dict().items()
            if not name.startswith("pooler.") and not name.endswith("position_ids")
        }

    def tensors(self) -> dict[str, Tensor]:
        """All weights under the names of a best_model.pt."""
        return {
            **{f"{self.prefix}.{name}": t for name, t in self.encoder_tensors().items()},
            "classifier.weight": self.weight,
            "classifier.bias": self.bias,
            "crf.start_transitions": self.start,
            "crf.end_transitions": self.end,
            "crf.transitions": self.transitions,
        }

    def legal(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """What decoding allows: start, end, transitions. [K], [K], [K, K]"""
        tags, n = self.tag_set, len(self.tag_set.tags)
        if not self.constraints:
            return np.ones(n, bool), np.ones(n, bool), np.ones((n, n), bool)
        rows = (tags.legal_start(), tags.legal_end(), tags.legal_transitions())
        start, end, transitions = (np.array(row, dtype=bool) for row in rows)
        return start, end, transitions

    def baked(self) -> tuple[Tensor, Tensor, Tensor]:
        """Start, end and transition scores, with what is not legal at FORBIDDEN."""
        scores = (self.start, self.end, self.transitions)
        start, end, transitions = (
            score.masked_fill(~torch.from_numpy(legal), FORBIDDEN)
            for score, legal in zip(scores, self.legal(), strict=True)
        )
        return start, end, transitions

    def emission_model(self, attention: str = "eager") -> EmissionModel:
        """A new graph from input ids to emissions; see graphs.plain_encoder."""
        encoder = plain_encoder(self.encoder.model, attention)
        return EmissionModel(encoder, self.weight, self.bias).eval()

    def probes(self) -> list[tuple[Tensor, Tensor]]:
        """Ids and masks that show what the encoder's layers hold."""
        before, after, _ = special_ids(self.encoder.tokenizer)
        longest = int(self.info["max_length"])
        return probe_inputs(self.config.vocab_size, before, after, longest)

    def smoothed_model(self, attention: str) -> EmissionModel:
        """An emission_model with the same results, made fit for 8-bit inputs (see smoothing)."""
        model = self.emission_model(attention)
        smooth(model.encoder, self.probes())
        return model

    def decoder(self) -> TagDecoder:
        """A new graph from emissions to tags."""
        return TagDecoder(self.bias, *self.baked()).eval()


def gather(nlp: Language, component: str, metrics: dict[str, Any]) -> Trained:
    """What is exported of a pipeline's component; see export_pipeline.

    Raises BertCrfError if there is no such component, or it is untrained.
    """
    pipe = find_component(nlp, component)
    encoder = find_encoder(nlp, pipe)
    head = {k: _plain(v) for k, v in layers.head_of(pipe.model).module.state_dict().items()}
    trained = Trained(
        encoder,
        head["classifier.weight"],
        head["classifier.bias"],
        head["crf.start_transitions"],
        head["crf.end_transitions"],
        head["crf.transitions"],
        pipe.tag_set,
        pipe.constraints,
        describe(nlp, pipe, encoder, metrics),
    )
    trained.info["weights_sha256"] = digest(trained.tensors())
    return trained


def digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, shapes and values: the same for whatever file they are written to."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(f"{name} {list(tensors[name].shape)}\n".encode())
        total.update(tensors[name].numpy().tobytes())
    return total.hexdigest()


def describe(
    nlp: Language, pipe: BertCrf, encoder: enc.LoadedEncoder, metrics: dict[str, Any]
) -> dict[str, Any]:
    """What best_model.json says."""
    config = nlp.config.interpolate()
    # What our own training recorded; of others only the config is known.
    made = nlp.meta.get(META) or {}
    seed = metrics.get("seed", (config.get("training") or {}).get("seed"))
    # What convert-checkpoint was told of where the encoder comes from travels on.
    said = {key: getattr(encoder.model.config, key, None) for key in ("origin", "license")}
    return {
        "scheme": pipe.scheme,
        "labels": list(pipe.labels),
        "tags": list(pipe.tag_set.tags),
        "pooling": "mean",
        "max_length": enc.longest_input(encoder, longest_window(nlp, pipe, encoder)),
        "constraints": pipe.constraints,
        "temperature": pipe.temperature,
        "lang": nlp.lang,
        "seed": seed,
        **({"encoder": said} if any(said.values()) else {}),
        "weights_sha256": "",  # known when the tensors are gathered
        "config_sha256": made.get("config_sha256") or config_hash(settings_of(config)),
        "data_sha256": made.get("data_sha256") or {},
        "versions": versions(),
        **({"training_versions": made["versions"]} if made.get("versions") else {}),
        "metrics": {
            key: metrics[key]
            for key in ("ents_p", "ents_r", "ents_f", "ents_per_type", "best_epoch")
            if key in metrics
        },
    }


def longest_window(nlp: Language, pipe: BertCrf, encoder: enc.LoadedEncoder) -> int:
    """Most input ids that the pipeline itself gives to its encoder in one pass."""
    own = layers.own_encoder_of(pipe.model)
    if own is not None:
        return int(own.cfg["max_length"])
    prefix, suffix, _ = special_ids(encoder.tokenizer)
    windows = [
        # spacy-transformers counts windows in tokens, of which each has a wordpiece or more.
        spans["window"] + len(prefix) + len(suffix)
        for name in nlp.pipe_names
        for spans in _spans_settings(nlp.get_pipe_config(name).get("model", {}))
    ]
    return min([512, *windows])


def _spans_settings(section: Any) -> Iterator[dict[str, Any]]:
    if isinstance(section, dict):
        if isinstance(section.get("window"), int):
            yield section
        for value in section.values():
            yield from _spans_settings(value)


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32).contiguous()
