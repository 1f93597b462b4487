"""All commands on one encoder: each works, is refused with one message, or shows a fault."""

import shutil
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from reliability.common import ROOT
from reliability.families.encoders import Family, make_folder
from reliability.toys import docs, sentences

WORKS, REFUSED, FAULT = "works", "refused", "FAULT"
#: Formats whose entities must be those of the pipeline, and those that round.
EXACT = ("huggingface", "bert4torch", "torchscript", "onnx")
INT8 = ("torch-int8", "onnx-int8", "onnx-int8-static")
#: Formats that import-model reads; the empty one is best_model.pt.
IMPORTED = ("", "huggingface", "bert4torch")
COMMANDS = [
    "convert-checkpoint", "train", "resume", "batch and alone", "dropout 0", "evaluate",
    "quantize int8",
    *(f"export {name}" for name in (*EXACT, *INT8)),
    "compare-exports",
    *(f"import-model {name or 'best_model.pt'}" for name in IMPORTED),
    "import-model foreign",
]  # fmt: skip
#: Largest difference of emissions, relative to the largest one: exact ways, and int8.
TOLERANCE, TOLERANCE_INT8 = 1e-4, 0.5
#: Docs that train, and those that are predicted.
TRAINED, PREDICTED = 6, 8
_STOP_AT = 3


class Outcome(NamedTuple):
    """What a command did with an encoder.

    state: WORKS, REFUSED, FAULT, or empty where the command was not reached.
    note: the message of a refusal or a fault.
    """

    state: str
    note: str = ""


class WrongResult(Exception):
    """A command ended well with a result that is wrong."""


def run_family(
    family: Family, work: Path, formats: tuple[str, ...] = (*EXACT, *INT8)
) -> dict[str, Outcome]:
    """The outcome of each command.

    work: a folder for everything that is written. It is emptied first.
    formats: those that are exported.
    """
    shutil.rmtree(work, ignore_errors=True)
    run = _Run(family, work)
    run.all(formats)
    return run.outcomes


class _Run:
    """The commands on one encoder, one after the other. Each uses what the former ones wrote."""

    def __init__(self, family: Family, work: Path) -> None:
        self.family = family
        self.work = work
        self.outcomes: dict[str, Outcome] = {}
        self.seconds: dict[str, float] = {}
        self.nlp: Any = None
        self.gold: list[Any] = []

    def all(self, formats: tuple[str, ...]) -> None:
        make_folder(self.work / "published", self.family)
        self.do("convert-checkpoint", self.convert)
        if not (self.work / "encoder").is_dir():
            # An encoder that can't be converted may still be trained as it is.
            shutil.copytree(self.work / "published", self.work / "encoder")
        if not self.do("train", self.train):
            return
        self.do("resume", self.resume)
        self.do("batch and alone", self.alone)
        # Last, since the mode of training changes running averages of some encoders (I-BERT).
        self.do("dropout 0", self.dropout)
        self.prepare()
        self.do("evaluate", self.evaluate)
        self.do("quantize int8", self.quantize)
        done = [name for name in formats if self.do(f"export {name}", self.export, name)]
        self.do("compare-exports", self.compare)
        for name in IMPORTED:
            if not name or name in done:
                self.do(f"import-model {name or 'best_model.pt'}", self.import_back, name)
        if "huggingface" in done:
            self.do("import-model foreign", self.import_foreign)

    def do(self, command: str, function: Callable[..., None], *arguments: Any) -> bool:
        """Run a command and keep its outcome. RETURNS: whether it works."""
        from spacy_bert_crf.errors import BertCrfError

        began = time.process_time()
        try:
            with _quiet():
                function(*arguments)
            outcome = Outcome(WORKS)
        except BertCrfError as err:
            # A message that asks for a report is no refusal.
            state = FAULT if "please report" in str(err) else REFUSED
            outcome = Outcome(state, _plain(str(err), self.work))
        except WrongResult as err:
            outcome = Outcome(FAULT, str(err))
        except Exception as err:
            outcome = Outcome(FAULT, _plain(f"{type(err).__name__}: {err}", self.work))
        self.outcomes[command] = outcome
        self.seconds[command] = time.process_time() - began
        return outcome.state == WORKS

    # The commands

    def convert(self) -> None:
        from safetensors.torch import load_file

        from spacy_bert_crf.encoder.checkpoint import convert_checkpoint

        convert_checkpoint(self.work / "published", self.work / "encoder")
        file = "model.safetensors"
        published, converted = (
            load_file(self.work / name / file) for name in ("published", "encoder")
        )
        for name, tensor in converted.items():
            if name not in published or not torch.equal(published[name], tensor):
                raise WrongResult(f"the weight {name} is another one")

    def train(self) -> None:
        """Two updates, and the saved pipeline predicts as its own weights say."""
        import spacy

        from spacy_bert_crf.training.loop import train

        history = train(self.config(), self.work / "trained", keep_state=False)
        if history["steps"] != 4 or not all(
            row["loss"] == row["loss"] < 1e6 for row in history["epochs"]
        ):
            raise WrongResult(f"losses {[row['loss'] for row in history['epochs']]}")
        self.nlp = spacy.load(self.work / "trained" / "model-last")

    def dropout(self) -> None:
        """With dropout 0, a vector of an update is that of a prediction, both in float32."""
        shim = self.shim()
        texts = [self.nlp.make_doc(text) for text, _ in sentences(4)]
        before, shim.cfg["mixed_precision"] = shim.cfg["mixed_precision"], False
        found, _ = shim.update_vectors(texts, 0.0)
        shim.cfg["mixed_precision"] = before
        _same("vectors of an update without dropout", found.detach(), shim.predict_vectors(texts))

    def alone(self) -> None:
        """A text has the same vectors in a batch as alone."""
        texts = [self.nlp.make_doc(text) for text, _ in sentences(PREDICTED, seed=3)]
        single = [self.shim().predict_vectors([doc]) for doc in texts]
        _same("vectors in a batch", self.shim().predict_vectors(texts), torch.cat(single))

    def resume(self) -> None:
        """An interrupted training ends with the weights of an undisturbed one."""
        import spacy

        from spacy_bert_crf.errors import BertCrfError
        from spacy_bert_crf.training.loop import train

        config = self.config()
        config["training"]["logger"] = {"@loggers": "reliability.families.stop.v1"}
        try:
            train(config, self.work / "resumed")
        except BertCrfError as err:
            if not (self.work / "resumed" / "state").is_dir():
                raise
            if "resume" not in str(err):
                raise
        else:
            raise WrongResult("the training was not interrupted")
        train(self.config(), self.work / "resumed", resume=True)
        resumed = spacy.load(self.work / "resumed" / "model-last")
        whole, again = (nlp.get_pipe("bert_crf").to_bytes(exclude=["vocab"]) for nlp in (
            self.nlp, resumed))  # fmt: skip
        if whole != again:
            raise WrongResult("the weights are not those of an undisturbed training")

    def evaluate(self) -> None:
        from spacy_bert_crf.evaluation.evaluate import evaluate, metrics

        metrics(evaluate(self.nlp, self.gold, confusion=True), seconds=1.0)

    def quantize(self) -> None:
        pipe = self.nlp.get_pipe("bert_crf")
        texts = [self.nlp.make_doc(doc.text) for doc in self.gold]
        right = self.emissions(texts)
        pipe.quantize = "int8"
        try:
            found = self.emissions(texts)
        finally:
            pipe.quantize = ""
        _same("int8 emissions", found, right, TOLERANCE_INT8)

    def export(self, name: str) -> None:
        from spacy_bert_crf.export.folder import export_pipeline

        more: dict[str, Any] = {}
        if name == "onnx-int8-static":
            more = {"calibration": 4, "calibration_texts": [text for text, _ in sentences(20)]}
        export_pipeline(self.nlp, self.work / "export", formats=[name], **more)

    def compare(self) -> None:
        from spacy_bert_crf.export.compare import compare_exports
        from spacy_bert_crf.export.compare_table import markdown
        from spacy_bert_crf.export.folder import export_pipeline
        from spacy_bert_crf.export.open import find_exports

        export_pipeline(self.nlp, self.work / "export")
        self.nlp.to_disk(self.work / "pipeline")
        found = find_exports(self.work / "export")
        table = compare_exports(self.work / "pipeline", self.nlp, self.gold, found)
        markdown(table)
        largest = float(self.emissions([self.nlp.make_doc(d.text) for d in self.gold]).abs().max())
        for row in table["rows"]:
            is_int8 = "int8" in row["format"]
            bound = TOLERANCE_INT8 if is_int8 else TOLERANCE
            difference = row.get("largest_difference")
            if difference is not None and difference > bound * max(1.0, largest):
                raise WrongResult(f"{row['format']}: emissions differ by {difference:.2g}")
            if not is_int8 and row["same"] < 1.0 and difference is not None:
                raise WrongResult(f"{row['format']}: other entities")

    def import_back(self, name: str) -> None:
        """The imported pipeline has the emissions and the entities of the exported one."""
        import spacy

        from spacy_bert_crf.export.import_model import import_model

        import_model(self.work / "export" / name, self.work / "imported")
        other = spacy.load(self.work / "imported")
        texts = [doc.text for doc in self.gold]
        for text in texts:
            mine, theirs = _entities(self.nlp(text)), _entities(other(text))
            if mine != theirs:
                raise WrongResult(f"{text[:20]!r} has {theirs[:3]}, expected {mine[:3]}")
        _same("emissions", self.emissions(list(map(other.make_doc, texts)), other),
              self.emissions(list(map(self.nlp.make_doc, texts))))  # fmt: skip

    def import_foreign(self) -> None:
        """A Hugging Face folder without companions of this package; see WholePieces."""
        import spacy
        from transformers import AutoModelForTokenClassification

        from spacy_bert_crf.export.import_model import import_model

        foreign = self.work / "foreign"
        shutil.copytree(self.work / "export" / "huggingface", foreign)
        for name in ("best_model.json", "transitions.npz", "README.md"):
            (foreign / name).unlink()
        import_model(foreign, self.work / "imported")
        nlp = spacy.load(self.work / "imported")
        model = AutoModelForTokenClassification.from_pretrained(foreign).eval()
        tokenizer = self.shim().loaded.tokenizer
        for text, _ in sentences(PREDICTED, seed=3):
            encoded = tokenizer(text, return_tensors="pt", return_special_tokens_mask=True)
            inner = encoded.special_tokens_mask[0] == 0
            ids, mask = encoded.input_ids, torch.ones_like(encoded.input_ids)
            with torch.inference_mode():
                right = model(input_ids=ids, attention_mask=mask).logits[0][inner]
            doc = nlp.make_doc(text)
            # Tokens that share a wordpiece are one. A piece of white space has no token.
            if len(doc) == len(right):
                _same("logits", self.emissions([doc], nlp), right)

    # What they share

    def config(self) -> Any:
        """A training config of two epochs of two updates."""
        import spacy
        from spacy.tokens import DocBin
        from spacy.util import load_config

        nlp = spacy.blank("zh")
        for name, seed in (("train", 1), ("dev", 2)):
            DocBin(docs=docs(nlp, TRAINED, seed)).to_disk(self.work / f"{name}.spacy")
        overrides = {
            "paths.train": str(self.work / "train.spacy"),
            "paths.dev": str(self.work / "dev.spacy"),
            "components.bert_crf.model.tok2vec.name": str(self.work / "encoder"),
            "training.batcher.size": TRAINED // 2,
            "training.optimizer.encoder_lr": 1e-3,
            "training.max_epochs": 2,
        }
        path = ROOT / "configs" / "bert_crf.cfg"
        config = load_config(path, overrides=overrides, interpolate=False)
        config["training"]["logger"] = {"@loggers": "reliability.families.quiet.v1"}
        return config

    def prepare(self) -> None:
        """Give the pipeline random scores, so that it finds entities, and texts for them."""
        from spacy_bert_crf.model.layers import head_of

        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in head_of(self.nlp.get_pipe("bert_crf").model).module.parameters():
                parameter.normal_()
        self.gold = docs(self.nlp, PREDICTED, seed=3)
        # One text that is longer than the positions of the encoder.
        long = self.nlp.make_doc("".join(text for text, _ in sentences(8, seed=4)))
        long.ents = []
        self.gold.append(long)
        if not any(_entities(self.nlp(doc.text)) for doc in self.gold):
            raise RuntimeError("the toy pipeline finds no entity: choose another seed")

    def shim(self) -> Any:
        from spacy_bert_crf.model.layers import own_encoder_of

        return own_encoder_of(self.nlp.get_pipe("bert_crf").model)

    def emissions(self, texts: list[Any], nlp: Any = None) -> Any:
        """Emissions of all tokens of some docs. [tokens, K]"""
        import numpy as np

        pipe = (nlp or self.nlp).get_pipe("bert_crf")
        return torch.from_numpy(np.concatenate(pipe.model.predict(texts)))


def _same(what: str, found: Any, right: Any, bound: float = TOLERANCE) -> None:
    if found.shape != right.shape:
        raise WrongResult(f"{what}: shape {list(found.shape)}, expected {list(right.shape)}")
    difference = float((found - right).abs().max())
    if not difference <= bound * max(1.0, float(right.abs().max())):
        raise WrongResult(f"{what}: they differ by {difference:.2g}")


def _entities(doc: Any) -> list[tuple[int, int, str]]:
    return [(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents]


def _plain(message: str, work: Path) -> str:
    """A message in one line, without the name of the scratch folder."""
    return " ".join(message.replace(str(work), "WORK").split())


@contextmanager
def _quiet() -> Iterator[None]:
    import transformers

    transformers.logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def register() -> None:
    """Register the loggers that the configs name."""
    from spacy.util import registry

    def setup(stop_at: int) -> Any:
        steps: list[Any] = []

        def log_step(info: Any) -> None:
            steps.append(info)
            if len(steps) == stop_at:
                signal.raise_signal(signal.SIGTERM)

        return lambda nlp, stdout, stderr: (log_step, lambda: None)

    registry.loggers("reliability.families.quiet.v1", func=lambda: setup(0))
    registry.loggers("reliability.families.stop.v1", func=lambda: setup(_STOP_AT))
