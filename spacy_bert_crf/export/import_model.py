"""Makes a spaCy pipeline of trained weights.

It reads exports of this package, best_model.pt of bert4torch's CRF example, and folders of Hugging
Face models for token classification.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Optional

import spacy
import torch
from spacy.language import Language
from torch import Tensor

from .._files import atomic_folder
from .._host import float32_default, plain_torch
from ..annotation.schemes import SCHEMES, TagSet
from ..annotation.tag_rows import IO, TagRows, tag_rows
from ..crf.chain_weights import STATE_NAMES, ChainWeights
from ..encoder.checkpoint import check_complete, check_finite, is_lower_case, rename_tensors
from ..encoder.checkpoint_files import (
    find_weights,
    read_config,
    read_json,
    read_tensors,
    read_vocab,
)
from ..encoder.hf import LONGEST, LoadedEncoder, load_weights, without_pooler
from ..encoder.piece_tokenizer import NAME as PIECE_TOKENIZER
from ..errors import BertCrfError, first_line
from .formats.bert4torch import (
    CONFIG_FILE,
    from_bert4torch,
    is_bert4torch,
    with_scores,
    without_special_tokens,
)
from .formats.best_model import WEIGHTS
from .formats.format import TRANSITIONS, read_chain
from .import_notes import BERT4TORCH, UNUSED, Source, import_notes
from .open import SIDECAR

_HEAD = ("classifier.weight", "classifier.bias")
_CRF = tuple(f"crf.{name}" for name in STATE_NAMES)
#: Score of a tag or a transition that the source does not have.
_NEVER = -1e4
#: Names that transformers gives to tags without names.
_NAMELESS = re.compile(r"LABEL_\d+$")


class Imported(NamedTuple):
    """An imported pipeline.

    nlp: the pipeline.
    summary: a line that describes the source.
    notes: a line for each thing that was left out, changed or added.
    """

    nlp: Language
    summary: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Requested:
    """Properties of a model that the user requests; empty or None leaves them to the files.

    labels: entity types in the order of their tags.
    scheme: a key of SCHEMES, or IO.
    constraints: whether decoding keeps to the scheme.
    lang: language of the pipeline.
    """

    labels: Sequence[str] = ()
    scheme: str = ""
    constraints: Optional[bool] = None
    lang: str = ""


@plain_torch()
def import_model(
    src: Path,
    dst: Path,
    *,
    labels: Sequence[str] = (),
    scheme: str = "",
    constraints: Optional[bool] = None,
    lang: str = "",
) -> Imported:
    """Write the pipeline of a trained model to a folder.

    A foreign model assigns one tag to each wordpiece. Its pipeline joins tokens that share a
    wordpiece (see PieceTokenizer), so that it finds the entities of the foreign model.

    src: a folder, or the weights in it.
    dst: folder of the pipeline; a pipeline that is there is replaced.
    labels: entity types in the order of their tags; empty if the files name them.
    scheme: BIO, BIOES, BMES, BILUO, or IO for models with one tag for each label. Empty if the
        files or the tags show it. IO becomes BIO.
    constraints: whether decoding keeps to the scheme. None for the value in the files, else True
        for a model with a CRF. A model without one then decodes as it did: the best tag of each
        token.
    lang: language of the pipeline. Empty for the one in the files, else `zh` for a vocabulary with
        Chinese and `xx` for others.
    RETURNS: the pipeline, and a line that describes the source.
    Raises BertCrfError for files that are missing, damaged or do not fit each other or the
    arguments. `dst` is then unchanged.
    """
    is_pipeline = (dst / "meta.json").is_file() and (dst / "config.cfg").is_file()
    if dst.exists() and not is_pipeline and (not dst.is_dir() or any(dst.iterdir())):
        raise BertCrfError(f"{dst} exists and is no pipeline folder: name a new one.")
    source = read_source(src)
    nlp, rows = make_pipeline(source, Requested(labels, scheme, constraints, lang))
    with atomic_folder(dst) as folder:
        nlp.to_disk(folder)
    pipe: Any = nlp.get_pipe("bert_crf")
    tags = ", ".join(pipe.tag_set.tags)
    summary = f"{source.kind}, scheme {pipe.scheme}, tags {tags}, language {nlp.lang}"
    return Imported(nlp, summary, tuple(import_notes(source, pipe, rows)))


def read_source(src: Path) -> Source:
    """Recognise the kind of a folder or file, and read it.

    src: a folder, or the weights in it.
    Raises BertCrfError if it is missing, damaged or of no known kind.
    """
    folder = src if src.is_dir() else src.parent
    if not src.exists():
        raise BertCrfError(f"there is no {src}: name a folder with weights, or the weights in it.")
    weights = folder / WEIGHTS if src.is_dir() else src
    if src.is_dir() and not weights.is_file():
        weights = find_weights(src)
    info = read_json(folder / SIDECAR) if (folder / SIDECAR).is_file() else {}
    config_path = folder / "config.json"
    if not config_path.is_file() and (folder / CONFIG_FILE).is_file():
        config_path = folder / CONFIG_FILE
    config = read_config(config_path)
    tensors = rename_tensors(read_tensors(weights), weights)
    has_types = any("segment_embeddings" in name for name in tensors)
    if is_bert4torch(tensors):
        kind = BERT4TORCH
        tensors = from_bert4torch(tensors, weights)
    elif set(_CRF) <= tensors.keys():
        kind = WEIGHTS
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
            "fc.weight), nor a token classification model (no classifier.weight): use one of these."
        )
    if (folder / TRANSITIONS).is_file():
        tensors = with_scores(tensors, read_chain(folder / TRANSITIONS))
    return Source(kind, weights, tensors, config, info, folder, has_types)


def make_pipeline(source: Source, requested: Requested) -> tuple[Language, TagRows]:
    """The pipeline of a source, and where its tags are in the source.

    Raises BertCrfError if its parts do not fit each other.
    """
    tensors = dict(source.tensors)
    lacking = [name for name in _HEAD if name not in tensors]
    if lacking:
        raise BertCrfError(
            f"{source.weights} lacks {', '.join(lacking)}: use weights with a linear classifier."
        )
    head = {name: tensors.pop(name) for name in (*_HEAD, *_CRF) if name in tensors}
    tags = read_tags(source, requested, int(head["classifier.weight"].shape[0]))
    state = _head(source, head, tags)
    encoder = _encoder(source, tensors, int(head["classifier.weight"].shape[1]))
    constraints = requested.constraints
    if constraints is None:
        constraints = bool(source.info.get("constraints", "crf.transitions" in head))
    nlp = _blank(source, requested, encoder.tokenizer)
    whole_words = bool(source.info.get("whole_words"))  # models from before the setting cut words
    config = {"scheme": tags.tag_set.scheme, "constraints": constraints, "whole_words": whole_words}
    config["model"] = {"tok2vec": _windows(source.info)}
    if type(source.info.get("temperature")) in (int, float):
        config["temperature"] = float(source.info["temperature"])
    pipe: Any = nlp.add_pipe("bert_crf", config=config)
    pipe.adopt(encoder, list(tags.tag_set.labels), state)
    nlp("一 a")  # a pipeline that can't run is not written
    return nlp, tags


def _windows(info: dict[str, Any]) -> dict[str, Any]:
    """The settings of the encoder that say what a pass sees.

    info: the content of best_model.json. Earlier versions wrote max_length only.
    """
    tok2vec: dict[str, Any] = {"name": ""}
    if type(info.get("max_length")) is int:
        tok2vec["max_length"] = max(8, min(LONGEST, info["max_length"]))
        tok2vec["overlap"] = min(128, tok2vec["max_length"] // 4)
    found = info.get("windows")
    own: dict[str, Any] = found if isinstance(found, dict) else {}
    tok2vec |= {key: own[key] for key in ("max_length", "overlap") if type(own.get(key)) is int}
    # Earlier versions passed whole texts.
    tok2vec["context"] = "sentences" if info.get("context") == "sentences" else "fit"
    return tok2vec


def _blank(source: Source, requested: Requested, tokenizer: Any) -> Language:
    """A pipeline without components.

    tokenizer: of the encoder. Its wordpieces join tokens where the source decodes wordpieces.
    """
    lang = requested.lang or str(source.info.get("lang", "")) or _guess_language(tokenizer)
    try:
        nlp = spacy.blank(lang)
    except ImportError as err:
        raise BertCrfError(f"spaCy has no language {lang!r}: give another --lang.") from err
    # Models of this package decode tokens, and were trained so even where tokens share wordpieces.
    if source.info and not source.info.get("whole_pieces"):
        return nlp
    joining = {"@tokenizers": PIECE_TOKENIZER, "base": nlp.config["nlp"]["tokenizer"]}
    nlp = spacy.blank(lang, config={"nlp": {"tokenizer": joining}})
    joined: Any = nlp.tokenizer
    joined.set_wordpieces(tokenizer)
    return nlp


def _guess_language(tokenizer: Any) -> str:
    """`zh` if one wordpiece in twenty or more has a Chinese character, else `xx`."""
    pieces = list(tokenizer.get_vocab())
    decoder = tokenizer.backend_tokenizer.decoder
    # Byte-level vocabularies spell characters in bytes, which only their decoder can read.
    for texts in (pieces, (decoder.decode([piece]) for piece in pieces) if decoder else ()):
        chinese = sum(any("\u4e00" <= char <= "\u9fff" for char in text) for text in texts)
        if chinese * 20 >= len(pieces):
            return "zh"
    return "xx"


def read_tags(source: Source, requested: Requested, n_rows: int) -> TagRows:
    """The tags of the rows of a classifier.

    source: the model as read.
    requested: properties that the user requests.
    n_rows: number of rows.
    Raises BertCrfError if they are not known, or are not those of a scheme.
    """
    scheme = (requested.scheme or str(source.info.get("scheme", ""))).upper()
    scheme = "BILUO" if scheme == "BILU" else scheme
    if scheme and scheme not in (*SCHEMES, IO):
        raise BertCrfError(f"unknown tag scheme {scheme!r}: use one of {', '.join(SCHEMES)}, {IO}.")
    tags, where = _tag_names(source, requested, scheme, n_rows)
    if len(tags) != n_rows:
        raise BertCrfError(
            f"{where} has {len(tags)} tags ({', '.join(tags)}), but {source.weights} has "
            f"{n_rows}: they do not belong together. Give the right --labels and --scheme."
        )
    try:
        return tag_rows(tags, scheme)
    except BertCrfError as err:
        raise BertCrfError(f"{source.folder}: {err}") from err


def _tag_names(
    source: Source, requested: Requested, scheme: str, n_rows: int
) -> tuple[list[str], str]:
    """The names of the tags in the order of the rows, and where they come from."""
    names = source.config.get("id2label")
    if requested.labels:
        scheme = scheme or "BIO"
        where = f"--labels {','.join(requested.labels)} under {scheme}"
        own = TagSet(tuple(requested.labels), "BIO" if scheme == IO else scheme)
        return ["O", *requested.labels] if scheme == IO else list(own.tags), where
    if isinstance(source.info.get("tags"), list):
        return [str(tag) for tag in source.info["tags"]], SIDECAR
    if isinstance(names, dict) and not all(_NAMELESS.match(str(n)) for n in names.values()):
        try:
            tags = [str(names[key]) for key in sorted(names, key=int)]
        except ValueError as err:
            raise BertCrfError(
                f"{source.folder}: id2label has a key that is no number: correct its config.json."
            ) from err
        return tags, "id2label in config.json"
    raise BertCrfError(
        f"{source.folder} does not name the {n_rows} tags: give --labels (entity types in the "
        "order of their tags, as LOC,PER,ORG) and --scheme."
    )


def _head(source: Source, head: dict[str, Tensor], tags: TagRows) -> dict[str, Tensor]:
    """The state of a TagHead, its rows in the order of the TagSet.

    head: the tensors of classifier and CRF in the order of the source; those of the CRF may be
        missing.
    """
    weight, bias = head["classifier.weight"], head["classifier.bias"]
    n = len(weight)
    shapes = ((n, int(weight.shape[-1])), (n,), (n,), (n,), (n, n))
    has_crf = any(name in head for name in _CRF)
    for name, shape in zip((*_HEAD, *(_CRF if has_crf else ())), shapes, strict=False):
        if name not in head:
            raise BertCrfError(f"{source.weights} lacks {name}.")
        tensor = head[name]
        if tuple(tensor.shape) != shape:
            raise BertCrfError(
                f"{source.weights}: {name} is {list(tensor.shape)}, expected {list(shape)}."
            )
        if not tensor.is_floating_point() or bool(torch.isnan(tensor).any()):
            raise BertCrfError(f"{source.weights}: {name} has values that are no numbers.")
    chain = ChainWeights.of(*(torch.zeros(shape, dtype=torch.float32) for shape in shapes[2:]))
    if has_crf:
        chain = ChainWeights.from_state({name: head[name].float() for name in _CRF})
    if source.kind == BERT4TORCH and not source.info:
        chain = without_special_tokens(chain, tags.outside)
    index = torch.tensor([max(row, 0) for row in tags.rows])
    known = torch.tensor([row >= 0 for row in tags.rows])
    transitions = chain.transitions[index][:, index] * known[:, None] * known
    for before, after in tags.never:
        transitions[before, after] = _NEVER
    ordered = ChainWeights.of(chain.start[index] * known, chain.end[index] * known, transitions)
    return {
        "classifier.weight": weight.float()[index] * known[:, None],
        "classifier.bias": bias.float()[index].masked_fill(~known, _NEVER),
        **ordered.to_state(),
    }


def _encoder(source: Source, tensors: dict[str, Tensor], width: int) -> LoadedEncoder:
    """The encoder of the remaining tensors, with the tokenizer in the folder.

    width: of the vectors that the classifier takes.
    Raises BertCrfError if they do not fit each other, or a tensor belongs to no part of a pipeline.
    """
    from .._transformers import model_from_config

    raw = {k: v for k, v in source.config.items() if k not in ("model", "id2label", "label2id")}
    base, config = check_complete(tensors, raw, source.weights)
    check_finite(base, source.weights)
    if config.hidden_size != width:
        raise BertCrfError(
            f"{source.weights}: the classifier takes vectors of {width}, the encoder returns "
            f"{config.hidden_size}: use weights and config.json of one model."
        )
    config._name_or_path = ""
    with float32_default():
        model = model_from_config(config, **without_pooler(config))
    # check_complete is for checkpoints, whose heads do not matter. Here a layer that is left out
    # changes the entities.
    prefix = f"{model.base_model_prefix}."
    left = [n for n in tensors if n.removeprefix(prefix) not in base and not UNUSED.search(n)]
    if left:
        raise BertCrfError(
            f"{source.weights}: there is no place in a pipeline for {', '.join(left[:8])}"
            f"{' …' if len(left) > 8 else ''}: it has an encoder, a linear classifier and a CRF, "
            "and no layer between them. Without these tensors its entities would be others."
        )
    load_weights(model, base)
    tokenizer = _tokenizer(source, config)
    if len(tokenizer) > config.vocab_size:
        raise BertCrfError(
            f"{source.folder}: the tokenizer has {len(tokenizer)} pieces, the embedding of "
            f"{source.weights.name} {config.vocab_size} rows: they do not belong together."
        )
    return LoadedEncoder(model.float().eval(), tokenizer)


def _tokenizer(source: Source, config: Any) -> Any:
    """The fast tokenizer in the folder. Raises BertCrfError if there is none."""
    from .._transformers import bert_tokenizer, load_tokenizer

    folder, vocab = source.folder, source.folder / "vocab.txt"
    has_files = any((folder / n).is_file() for n in ("tokenizer.json", "tokenizer_config.json"))
    try:
        if has_files or config.model_type != "bert":
            tokenizer = load_tokenizer(
                str(folder), local_files_only=True, trust_remote_code=False, use_fast=True
            )
        elif vocab.is_file():
            tokenizer = bert_tokenizer(
                vocab,
                do_lower_case=is_lower_case(folder, read_vocab(vocab), "auto"),
                model_max_length=config.max_position_embeddings,
            )
        else:
            raise BertCrfError(f"{folder} has no tokenizer: put vocab.txt into it.")
    except BertCrfError:
        raise
    except Exception as err:  # missing files, missing packages, broken JSON
        raise BertCrfError(
            f"{folder}: its tokenizer can't be loaded ({first_line(err)}): copy the tokenizer's "
            "files of the model again."
        ) from err
    if not tokenizer.is_fast:
        raise BertCrfError(f"{folder} has no fast tokenizer: add a tokenizer.json.")
    return tokenizer
