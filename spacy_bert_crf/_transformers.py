"""What differs between the versions of transformers, from 4.48 to 5.

What a version has is looked up here, and its number never is. So a later version works as long as
it has the same.
"""

import inspect
import json
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from transformers import (
    AutoModel,
    AutoModelForTextEncoding,
    AutoTokenizer,
    BertTokenizerFast,
    PretrainedConfig,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING
from transformers.utils import logging as transformers_logging

try:  # from transformers 5 on
    from transformers.initialization import no_init_weights
except ImportError:
    from transformers.modeling_utils import no_init_weights

#: Names of the dtype in a config. The first is that of transformers 4.56 and later.
DTYPE_KEYS = ("dtype", "torch_dtype")
#: The one that this transformers uses.
_DTYPE = next(key for key in DTYPE_KEYS if key in vars(PretrainedConfig()))
#: The class of most tokenizers in transformers 5. Its classes build the Rust tokenizer themselves.
_BACKEND = "TokenizersBackend"
#: Its name in transformers 4, which transformers 5 reads as well.
_PORTABLE = "PreTrainedTokenizerFast"
#: Settings of a tokenizer that only transformers 5 writes.
_OF_VERSION_5 = ("backend", "is_local", "local_files_only")
#: Building a model changes functions of torch for all threads, so only one thread does at a time.
_building = threading.RLock()


@contextmanager
def built_alone() -> Iterator[None]:
    """Within, no other thread builds a model here.

    transformers 5 replaces the functions of `torch.nn.init` while it builds a model. Two threads
    could each take the functions of the other for the real ones, and leave them in place.
    """
    with _building:
        yield


@contextmanager
def without_init() -> Iterator[None]:
    """Within, models are built without random weights. No other thread builds one meanwhile."""
    with _building, no_init_weights():
        yield


def auto_class(config: Any) -> Any:
    """The auto class of transformers that reads a text.

    It is AutoModel, and AutoModelForTextEncoding for models such as T5, whose encoder has a class
    of its own.

    config: a transformers config.
    """
    half = MODEL_FOR_TEXT_ENCODING_MAPPING.get(type(config), None)
    whole = MODEL_MAPPING.get(type(config), None)
    return AutoModel if half is None or half is whole else AutoModelForTextEncoding


def hub_name(name: str) -> tuple[str, Optional[str]]:
    """The name of a model on the hub, and its revision, of `name@revision`.

    RETURNS: the name and the revision, which is None if there is no `@`.
    """
    model, _, revision = name.partition("@")
    return model, revision or None


def converts_names(model_type: str) -> bool:
    """Whether transformers saves the weights of a model under other names than it has them.

    It does so from version 5 on, for some models, such as NomicBERT.
    """
    try:
        from transformers.conversion_mapping import get_checkpoint_conversion_mapping
    except ImportError:
        return False
    return bool(get_checkpoint_conversion_mapping(model_type))


def leave_out_attentions(config: Any) -> None:
    """Let models of this config return the vectors alone, in place, since nothing else is read.

    Attention weights need memory, and transformers' fast attention does not give them. So the
    layers for CPUs do not either.

    config: a transformers config.
    """
    config.output_attentions = config.output_hidden_states = False


def model_from_config(config: Any, **arguments: Any) -> Any:
    """A model that reads text, in float32, whatever dtype the config names.

    config: a transformers config. Its dtype becomes float32, and it asks for no attention weights.
    arguments: further arguments of `from_config` of its auto_class.
    Raises whatever transformers raises.
    """
    setattr(config, _DTYPE, torch.float32)
    leave_out_attentions(config)
    with _building:
        return auto_class(config).from_config(config, **arguments)


def float32_argument() -> dict[str, Any]:
    """The argument with which `from_pretrained` reads weights as float32.

    Without it, transformers 5 keeps the dtype of the file, such as bfloat16.
    """
    return {_DTYPE: torch.float32}


def load_tokenizer(name: str, **settings: Any) -> Any:
    """AutoTokenizer, with the Rust tokenizer of the file tokenizer.json.

    In transformers 5 the class of a tokenizer builds the Rust tokenizer anew. It takes only the
    vocabulary and the special tokens from the file. The file's other parts are put back here. A
    BERT normalizer follows the settings in tokenizer_config.json, in all versions.

    name: a folder, or a name on the hub.
    settings: arguments of AutoTokenizer.from_pretrained.
    Raises ValueError if there is no vocabulary. transformers 5 would take special tokens alone.
    Raises whatever else transformers raises.
    """
    tokenizer = AutoTokenizer.from_pretrained(name, **settings)
    if all(piece[:1] in "<[" or piece == "▁" for piece in tokenizer.get_vocab()):
        raise ValueError("there is no vocabulary, such as vocab.txt or tokenizer.json")
    path = Path(name) / "tokenizer.json"
    if hasattr(transformers, _BACKEND) and tokenizer.is_fast and path.is_file():
        normalizer = tokenizer.backend_tokenizer.normalizer
        saved = Tokenizer.from_file(str(path))
        if isinstance(saved.normalizer, BertNormalizer) and isinstance(normalizer, BertNormalizer):
            saved.normalizer = normalizer
        tokenizer._tokenizer = saved
    return tokenizer


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Save a fast tokenizer so that every supported transformers loads it.

    tokenizer: a fast tokenizer of transformers.
    folder: an existing folder.
    """
    tokenizer.save_pretrained(str(folder))
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf8"))
    if not settings.keys().isdisjoint(_OF_VERSION_5):
        for key in _OF_VERSION_5:
            settings.pop(key, None)
        if settings.get("tokenizer_class") == _BACKEND:
            settings["tokenizer_class"] = _PORTABLE
        text = json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf8")
    # Version 5 leaves this file out. Other readers of BERT need it.
    name = getattr(tokenizer, "vocab_files_names", {}).get("vocab_file")
    model = tokenizer.backend_tokenizer.model
    if name == "vocab.txt" and isinstance(model, WordPiece) and not (folder / name).exists():
        model.save(str(folder))


def bert_tokenizer(vocab: Path, **settings: Any) -> Any:
    """BERT's fast tokenizer of a vocabulary.

    vocab: a file with one wordpiece a line, in UTF-8.
    settings: arguments of BertTokenizerFast, such as do_lower_case.
    """
    if "vocab_file" in inspect.signature(BertTokenizerFast.__init__).parameters:
        return BertTokenizerFast(vocab_file=str(vocab), **settings)
    return BertTokenizerFast(vocab=WordPiece.read_file(str(vocab)), **settings)


def without_dtype(config: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a config.json without the dtype of its weights."""
    return {key: value for key, value in config.items() if key not in DTYPE_KEYS}


@contextmanager
def quiet(show_progress: bool = False) -> Iterator[None]:
    """Within, transformers logs errors only.

    show_progress: whether it shows the progress of downloads and of reading weights.
    """
    logger = logging.getLogger("transformers")
    level = logger.level
    has_bars = not show_progress and transformers_logging.is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    if has_bars:
        transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if has_bars:
            transformers_logging.enable_progress_bar()
