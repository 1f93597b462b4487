"""Writes an export: best_model.pt and its companions, and the folders of further formats.

docs/best_model.md and docs/export.md describe the files.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from string import Template
from typing import Any, Optional

import numpy as np
import torch
from spacy.language import Language
from tqdm import tqdm

from .._files import atomic_folder
from .._host import float32_default, plain_torch
from .._provenance import versions
from .._transformers import save_tokenizer
from ..component.pipelines import find_component
from ..component.score_map import ScoreMap
from ..encoder.hf import LoadedEncoder
from ..encoder.passes import special_ids
from ..errors import BertCrfError, first_line
from ..model.layers import encoder_of
from .calibration_inputs import FOLDER as CALIBRATION
from .calibration_inputs import save_calibration, write_calibration
from .formats import FORMATS, best_model
from .formats.best_model import WEIGHTS
from .formats.format import NEEDS, TRANSITIONS, Format, Options, is_reader, write_readers
from .graphs import example_inputs, tiny_encoder
from .open import SIDECAR, open_export
from .trained import METRICS, Trained, gather

#: Files that an export may hold, and that a new one replaces.
OURS = {WEIGHTS, SIDECAR, TRANSITIONS, "config.json", "vocab.txt", "tokenizer.json"}
OURS |= {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"}
OURS |= {"merges.txt", "sentencepiece.bpe.model", "spiece.model"}

#: Batch and length of calibration inputs without the argument `shape`.
_DEFAULT_SHAPE = (1, 256)

#: What READMEs say about the passes of a text, and about words.
_CONTEXTS = {
    "sentences": "Each sentence is an encoder pass of its own. A sentence ends at the end of each "
    "match of `sentence_end` in `best_model.json` (a regular expression of Python's `re`).",
    "fit": "A text that fits is one encoder pass. A longer text is cut at ends of sentences, into "
    "as few passes as fit. A sentence ends at the end of each match of `sentence_end` in "
    "`best_model.json` (a regular expression of Python's `re`).",
}
_WHOLE = (
    "Between two tokens of one character inside a match of `whole_words` (in `best_model.json`), "
    "transitions that begin or end an entity are minus infinity, too."
)


@plain_torch()
@float32_default()
def export_pipeline(
    nlp: Language,
    dst: Path,
    *,
    component: str = "",
    metrics: Optional[dict[str, Any]] = None,
    formats: Sequence[str] = (),
    shape: Optional[tuple[int, int]] = None,
    calibration: int = 0,
    calibration_texts: Sequence[str] = (),
    any_cpu: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Write best_model.pt, best_model.json, config.json and tokenizer files into a folder.

    nlp: a trained pipeline.
    dst: the folder. An export that is there is replaced.
    component: name of the `bert_crf` component; needed only where there are several.
    metrics: figures to record in best_model.json. Without them, those that are known stay: of the
        export in `dst`, if it has the same weights, or else `performance` in meta.json.
    formats: names of FORMATS, to be written into folders of their own below `dst`.
    shape: batch and length, for a TorchScript graph of a fixed shape and for calibration inputs.
    calibration: number of calibration inputs to write.
    calibration_texts: texts for the calibration inputs.
    any_cpu: int8 weights of 7 bits, so that no product overflows on a CPU without VNNI.
    progress: show a progress bar of the formats on stderr, if that is a terminal.
    RETURNS: the content of best_model.json, and two keys more. "stale" names the formats in `dst`
        that were made of other weights. "notes" has a line for each thing of the pipeline that the
        export leaves out, changes or rounds.
    Raises BertCrfError if there is no such component, it is untrained, a format can't represent
    it, or it can't be written. `dst` is then unchanged.
    """
    _check_options(formats, shape, calibration > 0)
    trained = gather(nlp, component, metrics or {})
    if metrics is None:
        trained.info.update(_recorded(dst, trained.info["weights_sha256"]) or _measured(nlp))
    longest = int(trained.info["max_length"])
    if shape is not None and not (shape[0] >= 1 and 8 <= shape[1] <= longest):
        raise BertCrfError(
            f"shape {shape[0]}x{shape[1]}: the batch must be 1 or more, the length from 8 to "
            f"{longest}."
        )
    _check_folder(dst)
    options = Options(shape=shape, any_cpu=any_cpu)
    try_formats(formats, trained, options)
    notes = _notes(nlp, component, trained)
    with atomic_folder(dst) as folder:
        best_model.FORMAT.write(folder, trained, Options())
        (folder / SIDECAR).write_text(_to_json(trained.info), encoding="utf8")
        _write_companions(folder, trained, best_model.FORMAT)
        inputs = None
        if calibration:
            inputs = folder / CALIBRATION
            batch, length = shape or (_DEFAULT_SHAPE[0], min(_DEFAULT_SHAPE[1], longest))
            write_calibration(inputs, trained, calibration_texts, calibration, (batch, length))
        options = replace(options, calibration=inputs)
        names = list(dict.fromkeys(formats))
        bar = tqdm(names, "formats", disable=None if progress and names else True)
        for name in bar:
            values = _write_format(name, folder / name, trained, options)
            notes += _format_notes(name, values)
        _keep_others(dst, folder)
        stale = _made_of_others(folder, trained)
    return {**trained.info, "stale": stale, "notes": notes}


def _recorded(dst: Path, weights: str) -> dict[str, Any]:
    """Figures and seed in the export that is replaced; nothing if it has other weights.

    weights: weights_sha256 of the new one.
    """
    try:
        former = json.loads((dst / SIDECAR).read_text(encoding="utf8"))
        if former["weights_sha256"] == weights and former["metrics"]:
            return {key: former[key] for key in ("seed", "metrics")}
    except (OSError, ValueError, KeyError, TypeError):  # none, or not one that can be read
        pass
    return {}


def _measured(nlp: Language) -> dict[str, Any]:
    """What the training measured on dev, or what the maker of a package wrote into meta.json."""
    known = nlp.meta.get("performance") or {}
    figures = {key: known[key] for key in METRICS if known.get(key) is not None}
    if "ents_f" not in figures:
        return {}
    return {"metrics": {**figures, "source": "performance in meta.json"}}


def _check_options(
    names: Sequence[str], shape: Optional[tuple[int, int]], has_calibration: bool
) -> None:
    """Raise BertCrfError for a format that is not known or can't be written."""
    for name in names:
        if name not in FORMATS:
            raise BertCrfError(f"unknown format {name!r}: use one of {', '.join(FORMATS)}.")
        FORMATS[name].check(has_calibration)
    if shape is not None and "torchscript" not in names and not has_calibration:
        raise BertCrfError("--shape is for --to torchscript and --calibration: give one of them.")


def _write_companions(folder: Path, trained: Trained, written: Format) -> None:
    """What a folder holds beside its model and description.

    These are config.json with the tags as id2label, the tokenizer's files, the two files that read
    a text, and transitions.npz. It holds the scores as trained in float32: `start` [K], `end` [K]
    and `transitions` [K, K] (from, to). It holds their masks `legal_start`, `legal_end` and
    `legal_transitions`, and `bias` [K], the emissions of a token without wordpieces.
    """
    write_readers(folder, written.reader)
    arrays: dict[str, Any] = {**trained.chain.to_npz(), "bias": trained.bias.numpy()}
    np.savez(folder / TRANSITIONS, **arrays)
    (folder / "config.json").write_text(_to_json(trained.hf_config()), encoding="utf8")
    tokenizer = trained.encoder.tokenizer
    save_tokenizer(tokenizer, folder)
    if not (folder / "vocab.txt").exists():
        vocab = tokenizer.get_vocab()
        ordered = sorted(vocab, key=lambda piece: vocab[piece])
        if not any("\n" in piece for piece in ordered):
            (folder / "vocab.txt").write_text("\n".join(ordered) + "\n", encoding="utf8")


def try_formats(names: Sequence[str], trained: Trained, options: Options) -> None:
    """Write each format of an encoder with one layer, and run it on a tiny input.

    So a format that can't hold the model is refused before anything long begins. An encoder of one
    or two layers is not tried, since the export itself is as short.
    Raises BertCrfError that names all formats that fail, and why.
    """
    if not names or getattr(trained.config, "num_hidden_layers", 0) <= 2:
        return
    try:
        tokenizer = trained.encoder.tokenizer
        prefix, suffix, pad = special_ids(tokenizer)
        model = tiny_encoder(trained.config, [*prefix, *suffix, pad])
        small = replace(trained, encoder=LoadedEncoder(model, tokenizer))
    except Exception:  # no such encoder: the export itself shows what fails
        return
    faults = []
    inputs = example_inputs(2, 16, small.config.vocab_size)
    with tempfile.TemporaryDirectory() as path:
        calibration = Path(path) / CALIBRATION
        save_calibration(calibration, [[tensor.numpy() for tensor in inputs]])
        shape = options.shape and (options.shape[0], 8)
        options = replace(options, calibration=calibration, shape=shape)
        for name in dict.fromkeys(names):
            folder = Path(path) / name
            folder.mkdir()
            (folder / "config.json").write_text(_to_json(small.hf_config()), encoding="utf8")
            try:
                with _named(name):
                    FORMATS[name].write(folder, small, options)
                    run = FORMATS[name].open(folder, FORMATS[name].emissions)
                    run(*(tensor.numpy() for tensor in inputs))
            except BertCrfError as err:
                faults.append(str(err))
    if faults:
        raise BertCrfError("\n".join(faults))


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Make any error of writing a format a BertCrfError that names the format."""
    try:
        yield
    except (BertCrfError, OSError, MemoryError):
        raise
    except Exception as err:  # each exporter raises whatever it happens to raise
        raise BertCrfError(
            f"the format {name} can't hold this encoder ({type(err).__name__}: "
            f"{first_line(err)}): choose another format."
        ) from err


def _notes(nlp: Language, component: str, trained: Trained) -> list[str]:
    """What of the pipeline no format holds."""
    pipe = find_component(nlp, component)
    others = [name for name in nlp.pipe_names if name != pipe.name]
    notes = []
    if others:
        notes.append(f"only {pipe.name} is exported, left out: {', '.join(others)}")
    if pipe.threshold:
        notes.append(f"threshold {pipe.threshold:g} is left out: the files give all entities")
    if pipe.score_map != ScoreMap():
        notes.append("the correction of probabilities by calibrate is left out")
    encoder = encoder_of(pipe.model)
    if encoder is not None and encoder.cfg["max_length"] > trained.info["max_length"]:
        notes.append(
            f"max_length is {trained.info['max_length']}, as the encoder takes no more than that, "
            f"not {encoder.cfg['max_length']}"
        )
    if any("\n" in piece for piece in trained.encoder.tokenizer.get_vocab()):
        notes.append("vocab.txt is left out, for a wordpiece holds a line break: tokenizer.json")
    return notes


def _format_notes(name: str, values: dict[str, str]) -> list[str]:
    """What of the pipeline a format does not hold. values: those of its README."""
    layers = values.get("left", "").count("\n")  # the last line is the classifier
    kept = f"; {layers} linear layers stay in float32, see its README" if layers else ""
    return [f"{name}: {FORMATS[name].lacks}{kept}"] if FORMATS[name].lacks else []


def _write_format(name: str, folder: Path, trained: Trained, options: Options) -> dict[str, str]:
    """Write a further format, run it, and compare it with the component's own emissions.

    RETURNS: values for its README.
    Raises BertCrfError if the format can't represent the component, or the result is not equal.
    """
    folder.mkdir()
    _write_companions(folder, trained, FORMATS[name])
    (folder / SIDECAR).write_text(_to_json({"format": name, **trained.info}), encoding="utf8")
    with _named(name):
        values = FORMATS[name].write(folder, trained, options)
    _write_readme(folder, trained, name, values)
    if FORMATS[name].tolerance:
        _check_equal(name, folder, trained)
    return values


def _write_readme(folder: Path, trained: Trained, name: str, values: dict[str, str]) -> None:
    """README.md of a format's folder, from the texts in export/readme.

    values: of the placeholders of this format.
    """
    texts = Path(__file__).parent / "readme"
    tags = list(trained.tag_set.tags)
    values = {
        "tags": ", ".join(tags),
        "needs": NEEDS[FORMATS[name].reader],
        "about": "" if FORMATS[name].exact else ", but for what rounding changes",
        "tag_list": json.dumps(tags, ensure_ascii=False),
        "n_tags": str(len(tags)),
        "scheme": trained.tag_set.scheme,
        "max_length": str(trained.info["max_length"]),
        "versions": ", ".join(f"{k} {v}" for k, v in versions().items()),
        "context": _CONTEXTS[trained.info["context"]],
        "words": _WHOLE if trained.info["whole_words"] else "Words may be cut.",
        "constraints": "on" if trained.constraints else "off (all transitions are legal)",
        **values,
    }
    parts = [texts / f"{name}.md", texts / "common.md"]
    text = "\n".join(Template(part.read_text(encoding="utf8")).substitute(values) for part in parts)
    (folder / "README.md").write_text(text, encoding="utf8")


def _check_equal(name: str, folder: Path, trained: Trained) -> None:
    """Run a written format on two texts of different length.

    Raises BertCrfError if emissions differ by more than the tolerance of the format, or tags of a
    float32 format differ.
    """
    vocab = trained.config.vocab_size
    length = min(24, int(trained.info["max_length"]))
    ids = torch.randint(0, vocab, (2, length), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, length // 2 :] = 0
    with torch.inference_mode():
        expected = trained.emission_model("eager")(ids, mask, torch.zeros_like(ids))
    export = open_export(folder)
    found = torch.from_numpy(export.open_emissions()(ids.numpy(), mask.numpy()))
    on = mask.bool()
    largest = float((found[on] - expected[on]).abs().max())
    if not largest <= FORMATS[name].tolerance * max(1.0, float(expected[on].abs().max())):
        raise _not_equal(name, f"its emissions differ by up to {largest:.2g}")
    if export.decode_file is None or not FORMATS[name].exact:
        return
    # One token for each wordpiece but the special ones, two to a word. shape: (B, S, 3)
    first = torch.arange(1, length - 1)
    pieces = torch.stack([first, first + 1, (first + 1) % 2], dim=1)
    pieces = pieces.repeat(2, 1, 1)
    pieces[1, length // 2 - 2 :] = 0
    with torch.inference_mode():
        expected_tags = trained.decoder()(expected, pieces)
    tags = export.open_decode()(ids.numpy(), mask.numpy(), pieces.numpy())
    if not torch.equal(torch.as_tensor(tags), expected_tags):
        raise _not_equal(name, f"{export.decode_file.name} returns other tags")


def _not_equal(name: str, why: str) -> BertCrfError:
    return BertCrfError(
        f"the format {name} does not keep this model: {why}. Nothing was written; please report "
        "it with the versions in use."
    )


def _check_folder(dst: Path) -> None:
    """Raise BertCrfError if `dst`, which is replaced as a whole, holds files of no export."""
    if not dst.is_dir():
        return
    other = sorted(
        item.name
        for item in dst.iterdir()
        if item.is_file() and item.name not in OURS and not is_reader(item)
    )
    if other:
        raise BertCrfError(
            f"{dst} holds files that are no export ({', '.join(other[:5])}): they would be lost. "
            "Choose an empty or new folder."
        )


def _keep_others(dst: Path, folder: Path) -> None:
    """Copy the folders of other formats from `dst`, which is about to be replaced by `folder`."""
    for item in dst.iterdir() if dst.is_dir() else ():
        is_cache = item.name == "__pycache__"  # of reader.py
        if item.is_dir() and not is_cache and not (folder / item.name).exists():
            shutil.copytree(item, folder / item.name)


def _made_of_others(folder: Path, trained: Trained) -> list[str]:
    """Formats in `folder` that were made of other weights than these."""
    current, out = trained.info["weights_sha256"], []
    for path in sorted(folder.glob(f"*/{SIDECAR}")):
        try:
            made_of = json.loads(path.read_text(encoding="utf8")).get("weights_sha256")
        except (OSError, ValueError, AttributeError):
            continue
        if made_of != current:
            out.append(path.parent.name)
    return out


def _to_json(data: Any) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
