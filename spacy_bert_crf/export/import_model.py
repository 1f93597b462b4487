"""Trained weights from elsewhere to a spaCy pipeline.

Three kinds: our own exports, best_model.pt of bert4torch's CRF example, and Hugging Face token
classification folders.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
import spacy
import torch
from spacy.language import Language
from torch import Tensor

from .._files import atomic_folder
from ..annotation.schemes import SCHEMES, Role, TagSet, split_tag
from ..encoder.checkpoint import check_complete, check_finite, rename_tensors
from ..encoder.checkpoint_files import find_weights, read_config, read_json, read_tensors
from ..encoder.hf import LoadedEncoder, without_pooler
from ..errors import BertCrfError, first_line
from .folder import SIDECAR, TRANSITIONS, WEIGHTS
from .formats.bert4torch import CONFIG_FILE, from_bert4torch, is_bert4torch

_HEAD = ("classifier.weight", "classifier.bias")
_CRF = ("crf.start_transitions", "crf.end_transitions", "crf.transitions")
#: Emission of a tag that the foreign model does not have.
_NEVER = -1e4
_BERT4TORCH = "weights of bert4torch"
#: What transformers calls tags without names.
_NAMELESS = re.compile(r"LABEL_\d+$")


@dataclass(frozen=True)
class Asked:
    """What the user says, for what the files do not: empty or None means not said."""

    labels: Sequence[str] = ()
    scheme: str = ""
    constraints: Optional[bool] = None
    lang: str = ""


@dataclass
class Source:
    """A trained model as read.

    kind: what it is, for people. weights: the file. tensors: under the names of our
    best_model.pt; the CRF's may be missing. config: the Hugging Face config as read. info: what a
    best_model.json says, or empty. folder: where tokenizer and config lie.
    """

    kind: str
    weights: Path
    tensors: dict[str, Tensor]
    config: dict[str, Any]
    info: dict[str, Any]
    folder: Path


def import_model(src: Path, dst: Path, asked: Asked) -> tuple[Language, str]:
    """Write the pipeline of `src` to the folder `dst`.

    src: a folder, or the weights in it.
    RETURNS: the pipeline, and what was read, in a line.
    Raises BertCrfError for files that are missing, damaged or do not fit each other or `asked`;
        `dst` is then as it was.
    """
    is_pipeline = (dst / "meta.json").is_file() and (dst / "config.cfg").is_file()
    if dst.exists() and not is_pipeline and (not dst.is_dir() or any(dst.iterdir())):
        raise BertCrfError(f"{dst} exists and is no pipeline folder: name a new one.")
    source = read_source(src)
    nlp = make_pipeline(source, asked)
    with atomic_folder(dst) as folder:
        nlp.to_disk(folder)
    pipe: Any = nlp.get_pipe("bert_crf")
    tags = ", ".join(pipe.tag_set.tags)
    return nlp, f"{source.kind}, scheme {pipe.scheme}, tags {tags}"


def read_source(src: Path) -> Source:
    """Find out what a folder or file is, and read it."""
    folder = src if src.is_dir() else src.parent
    if not src.exists():
        raise BertCrfError(f"there is no {src}.")
    weights = folder / WEIGHTS if src.is_dir() else src
    if src.is_dir() and not weights.is_file():
        weights = find_weights(src)
    info = read_json(folder / SIDECAR) if (folder / SIDECAR).is_file() else {}
    config_path = folder / "config.json"
    if not config_path.is_file() and (folder / CONFIG_FILE).is_file():
        config_path = folder / CONFIG_FILE
    config = read_config(config_path)
    tensors = rename_tensors(read_tensors(weights), weights)
    scores = _read_transitions(folder / TRANSITIONS)
    if is_bert4torch(tensors):
        kind = _BERT4TORCH
        tensors = from_bert4torch(tensors, weights)
    elif set(_CRF) <= tensors.keys():
        kind = "best_model.pt"
        if not info:
            raise BertCrfError(
                f"{folder} lacks {SIDECAR}, which says how to read {weights.name}: it is written "
                "beside it by `spacy bert-crf export`."
            )
    elif set(_HEAD) <= tensors.keys():
        kind = "a Hugging Face token classification model"
    else:
        raise BertCrfError(
            f"{weights} is neither a best_model.pt (no crf.transitions), nor bert4torch's (no "
            "fc.weight), nor a token classification model (no classifier.weight)."
        )
    tensors |= scores
    return Source(kind, weights, tensors, config, info, folder)


def make_pipeline(source: Source, asked: Asked) -> Language:
    """The pipeline of a source. Raises BertCrfError if its parts do not fit each other."""
    tensors = dict(source.tensors)
    lacking = [name for name in _HEAD if name not in tensors]
    if lacking:
        raise BertCrfError(f"{source.weights} lacks {', '.join(lacking)}.")
    weight, bias = (tensors.pop(name) for name in _HEAD)
    crf = {name: tensors.pop(name) for name in _CRF if name in tensors}
    tags, scheme = _tags(source, asked, int(weight.shape[0]))
    tag_set = _tag_set(tags, scheme, source)
    if source.kind == _BERT4TORCH and not source.info:
        _fold_special_tokens(crf, tags.index("O"))
    head = _head(weight, bias, crf, tags, tag_set, source.weights)
    encoder = _encoder(source, tensors, int(weight.shape[1]))
    constraints = asked.constraints
    if constraints is None:
        constraints = bool(source.info.get("constraints", True))
    lang = asked.lang or str(source.info.get("lang", "zh"))
    try:
        nlp = spacy.blank(lang)
    except ImportError as err:
        raise BertCrfError(f"spaCy has no language {lang!r}: give another --lang.") from err
    tok2vec: dict[str, Any] = {"name": ""}
    if type(source.info.get("max_length")) is int:
        tok2vec["max_length"] = max(8, min(512, source.info["max_length"]))
        tok2vec["overlap"] = min(128, tok2vec["max_length"] // 4)
    config = {"scheme": scheme, "constraints": constraints, "model": {"tok2vec": tok2vec}}
    if type(source.info.get("temperature")) in (int, float):
        config["temperature"] = float(source.info["temperature"])
    pipe: Any = nlp.add_pipe("bert_crf", config=config)
    pipe.adopt(encoder, list(tag_set.labels), head)
    nlp("一 a")  # a pipeline that can't run is not written
    return nlp


def _tags(source: Source, asked: Asked, n_tags: int) -> tuple[list[str], str]:
    """The tags of the classifier's rows, and their scheme."""
    info, config = source.info, source.config
    scheme = (asked.scheme or str(info.get("scheme", ""))).upper()
    scheme = "BILUO" if scheme == "BILU" else scheme
    if scheme and scheme not in SCHEMES:
        raise BertCrfError(f"unknown tag scheme {scheme!r}: use one of {', '.join(SCHEMES)}.")
    names = config.get("id2label")
    if asked.labels:
        if not scheme:
            scheme = "BIO"
        tags = list(TagSet(tuple(asked.labels), scheme).tags)
        where = f"--labels {','.join(asked.labels)} under {scheme}"
    elif isinstance(info.get("tags"), list):
        tags, where = [str(tag) for tag in info["tags"]], SIDECAR
    elif isinstance(names, dict) and not all(_NAMELESS.match(str(n)) for n in names.values()):
        try:
            tags = [str(names[key]) for key in sorted(names, key=int)]
        except ValueError as err:
            raise BertCrfError(f"{source.folder}: id2label has a key that is no number.") from err
        where = "id2label in config.json"
    else:
        raise BertCrfError(
            f"{source.folder} does not say what the {n_tags} tags are: give --labels (entity "
            "types in the order of their tags, as LOC,PER,ORG) and --scheme."
        )
    if len(tags) != n_tags:
        raise BertCrfError(
            f"{where} gives {len(tags)} tags ({', '.join(tags)}), but {source.weights} has "
            f"{n_tags}: they do not belong together."
        )
    return tags, scheme or _guess_scheme(tags)


def _guess_scheme(tags: Sequence[str]) -> str:
    prefixes = {split_tag(tag)[0] for tag in tags if tag != "O"}
    for scheme, roles in SCHEMES.items():
        if prefixes == set(roles):
            return scheme
    for scheme, roles in SCHEMES.items():
        if prefixes <= set(roles):
            return scheme
    raise BertCrfError(
        f"the tags {', '.join(tags)} are of no scheme known ({', '.join(SCHEMES)}): "
        "say which with --labels and --scheme."
    )


def _tag_set(tags: list[str], scheme: str, source: Source) -> TagSet:
    """The TagSet that has all of these tags; it may have more."""
    if "O" not in tags:
        raise BertCrfError(f"{source.folder}: there is no tag O among {', '.join(tags)}.")
    labels = tuple(dict.fromkeys(split_tag(tag)[1] for tag in tags if tag != "O"))
    tag_set = TagSet(labels, scheme)
    odd = [tag for tag in tags if tag not in tag_set.tags]
    if odd or len(set(tags)) != len(tags):
        raise BertCrfError(
            f"{source.folder}: tags {', '.join(odd or tags)} are not those of the scheme {scheme} "
            f"({', '.join(SCHEMES[scheme])}), or occur twice."
        )
    needed = [(Role.BEGIN, "begins"), *([(Role.LAST, "ends")] if tag_set.has_last else [])]
    for label in labels:
        for role, what in needed:
            if tag_set.tags[tag_set.ids[role, label]] not in tags:
                raise BertCrfError(
                    f"{source.folder}: no tag {what} an entity {label!r} ({', '.join(tags)}): "
                    f"the scheme {scheme} needs one."
                )
    return tag_set


def _head(
    weight: Tensor,
    bias: Tensor,
    crf: dict[str, Tensor],
    tags: list[str],
    tag_set: TagSet,
    path: Path,
) -> dict[str, Tensor]:
    """The state of a TagHead, its rows in the order of the TagSet."""
    n = len(tags)
    wanted = {
        "classifier.weight": (n, int(weight.shape[-1])), "classifier.bias": (n,),
        "crf.start_transitions": (n,), "crf.end_transitions": (n,), "crf.transitions": (n, n),
    }  # fmt: skip
    given = {"classifier.weight": weight, "classifier.bias": bias, **crf}
    for name in _CRF if crf else ():
        if name not in crf:
            raise BertCrfError(f"{path} lacks {name}.")
    for name, tensor in given.items():
        if tuple(tensor.shape) != wanted[name]:
            raise BertCrfError(
                f"{path}: {name} is {list(tensor.shape)}, expected {list(wanted[name])}."
            )
        if not tensor.is_floating_point() or bool(torch.isnan(tensor).any()):
            raise BertCrfError(f"{path}: {name} holds what is no number.")
    # Row of each of our tags in the source, -1 for none.
    rows = [tags.index(tag) if tag in tags else -1 for tag in tag_set.tags]
    index = torch.tensor([max(row, 0) for row in rows])
    here = torch.tensor([row >= 0 for row in rows])
    zeros = torch.zeros(n)
    start = crf.get("crf.start_transitions", zeros).float()
    end = crf.get("crf.end_transitions", zeros).float()
    transitions = crf.get("crf.transitions", torch.zeros(n, n)).float()
    return {
        "classifier.weight": weight.float()[index] * here[:, None],
        "classifier.bias": torch.where(here, bias.float()[index], torch.tensor(_NEVER)),
        "crf.start_transitions": start[index] * here,
        "crf.end_transitions": end[index] * here,
        "crf.transitions": transitions[index][:, index] * here[:, None] * here,
    }


def _encoder(source: Source, tensors: dict[str, Tensor], width: int) -> LoadedEncoder:
    """The encoder of the remaining tensors, with the tokenizer in the folder."""
    from transformers import AutoModel, AutoTokenizer, BertTokenizerFast

    raw = {k: v for k, v in source.config.items() if k not in ("model", "id2label", "label2id")}
    base, config = check_complete(tensors, raw, source.weights)
    check_finite(base, source.weights)
    if config.hidden_size != width:
        raise BertCrfError(
            f"{source.weights}: the classifier takes vectors of {width}, the encoder gives "
            f"{config.hidden_size}."
        )
    config._name_or_path = ""
    model = AutoModel.from_config(config, **without_pooler(config))
    weights = {k: t for k, t in base.items() if not k.startswith("pooler.")}
    model.load_state_dict(weights)
    vocab = source.folder / "vocab.txt"
    has_files = any(
        (source.folder / n).is_file() for n in ("tokenizer.json", "tokenizer_config.json")
    )
    try:
        if has_files or config.model_type != "bert":
            tokenizer = AutoTokenizer.from_pretrained(
                str(source.folder), local_files_only=True, trust_remote_code=False, use_fast=True
            )
        elif vocab.is_file():
            tokenizer = BertTokenizerFast(
                vocab_file=str(vocab),
                do_lower_case=_is_lower(vocab),
                model_max_length=config.max_position_embeddings,
            )
        else:
            raise BertCrfError(f"{source.folder} has no tokenizer: put vocab.txt into it.")
    except BertCrfError:
        raise
    except Exception as err:  # missing files, missing packages, broken JSON
        reason = first_line(err)
        raise BertCrfError(f"{source.folder}: its tokenizer can't be loaded ({reason}).") from err
    if not tokenizer.is_fast:
        raise BertCrfError(f"{source.folder} has no fast tokenizer: add a tokenizer.json.")
    if len(tokenizer) > config.vocab_size:
        raise BertCrfError(
            f"{source.folder}: the tokenizer has {len(tokenizer)} pieces, the embedding of "
            f"{source.weights.name} {config.vocab_size} rows: they do not belong together."
        )
    return LoadedEncoder(model.float().eval(), tokenizer)


def _is_lower(vocab: Path) -> bool:
    from ..encoder.checkpoint import is_lower_case
    from ..encoder.checkpoint_files import read_vocab

    return is_lower_case(vocab.parent, read_vocab(vocab), "auto")


def _fold_special_tokens(tensors: dict[str, Tensor], outside: int) -> None:
    """Scores for texts without [CLS] and [SEP], of a CRF that was trained over both.

    Their tag is O, so a text begins with a transition from O and ends with one to O.

    outside: the id of O.
    """
    transitions = tensors.get("crf.transitions")
    if transitions is not None and transitions.dim() == 2 and outside < min(transitions.shape):
        tensors["crf.start_transitions"] = transitions[outside].clone()
        tensors["crf.end_transitions"] = transitions[:, outside].clone()


def _read_transitions(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as data:
            names = zip(_CRF, ("start", "end", "transitions"), strict=True)
            return {ours: torch.from_numpy(data[theirs]) for ours, theirs in names}
    except Exception as err:  # what a damaged file raises depends on where it is damaged
        raise BertCrfError(f"{path} is damaged ({type(err).__name__}): export again.") from err
