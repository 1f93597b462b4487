"""All commands on one encoder: each works, is refused with one message, or shows a fault."""

import shutil
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from reliability.common import ROOT
from reliability.families.encoders import Family, NotInTransformers, make_folder
from reliability.families.exports import Exports
from reliability.families.outcomes import (
    ABSENT,
    EXACT,
    FAULT,
    IMPORTED,
    INT8,
    NONE,
    PREDICTED,
    REFUSED,
    TOLERANCE_INT8,
    WORKS,
    Outcome,
    WrongResult,
    entities,
    plain,
    same,
)
from reliability.toys import docs, sentences

#: Docs that train.
TRAINED = 6
_STOP_AT = 3


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


class _Run(Exports):
    """The commands on one encoder, one after the other. Each uses what the former ones wrote."""

    def __init__(self, family: Family, work: Path) -> None:
        self.family = family
        self.work = work
        self.nlp: Any = None
        self.gold: list[Any] = []
        self.outcomes: dict[str, Outcome] = {}
        self.seconds: dict[str, float] = {}

    def all(self, formats: tuple[str, ...]) -> None:
        try:
            make_folder(self.work / "published", self.family)
        except NotInTransformers as err:
            self.outcomes["convert-checkpoint"] = Outcome(ABSENT, str(err))
            return
        self.do("convert-checkpoint", self.convert)
        if not (self.work / "encoder").is_dir():
            # An encoder that can't be converted may still be trained as it is.
            shutil.copytree(self.work / "published", self.work / "encoder")
        else:
            self.do("convert-checkpoint --layers 1", self.convert_one)
        if not self.do("train", self.train):
            return
        self.do("resume", self.resume)
        self.do("save and load", self.save)
        self.do("long text", self.long_text)
        self.do("batch and alone", self.alone)
        # Last, since the mode of training changes running averages of some encoders (I-BERT).
        self.do("dropout 0", self.dropout)
        self.prepare()
        self.do("evaluate", self.evaluate)
        self.do("fast path", self.fast_path)
        self.do("quantize int8", self.quantize)
        done = [name for name in formats if self.do(f"export {name}", self.export, name)]
        self.do("compare-exports", self.compare)
        for name in IMPORTED:
            if not name or name in done:
                self.do(f"import-model {name or 'best_model.pt'}", self.import_back, name)
        if "huggingface" in done:
            self.do("import-model foreign", self.import_foreign)

    def do(self, command: str, function: Callable[..., Any], *arguments: Any) -> bool:
        """Run a command and keep its outcome. RETURNS: whether it works.

        function: it may return an Outcome of its own.
        """
        from spacy_bert_crf.errors import BertCrfError

        began = time.process_time()
        try:
            with _quiet():
                outcome = function(*arguments) or Outcome(WORKS)
        except BertCrfError as err:
            # A message that asks for a report is no refusal.
            state = FAULT if "please report" in str(err) else REFUSED
            outcome = Outcome(state, plain(str(err), self.work))
        except WrongResult as err:
            outcome = Outcome(FAULT, str(err))
        except Exception as err:
            outcome = Outcome(FAULT, plain(f"{type(err).__name__}: {err}", self.work))
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

    def convert_one(self) -> None:
        """The first layer alone, with its own weights."""
        from safetensors.torch import load_file

        from spacy_bert_crf.encoder.checkpoint import convert_checkpoint
        from spacy_bert_crf.encoder.hf import load_encoder, weights_of

        convert_checkpoint(self.work / "published", self.work / "one", layers=1)
        encoder = load_encoder(str(self.work / "one"), {}, {})
        published = load_file(self.work / "published" / "model.safetensors")
        if encoder.model.config.num_hidden_layers != 1:
            raise WrongResult(f"{encoder.model.config.num_hidden_layers} layers")
        for name, tensor in weights_of(encoder).items():
            if not name.endswith("position_ids") and not torch.equal(published[name], tensor):
                raise WrongResult(f"the weight {name} is another one")

    def train(self) -> Outcome:
        """Two updates, and the saved pipeline predicts as its own weights say.

        RETURNS: WORKS, with the warning of a causal encoder.
        """
        import spacy

        from spacy_bert_crf.training.loop import train

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            history = train(self.config(), self.work / "trained", keep_state=False)
        found = [str(each.message) for each in caught if "is causal" in str(each.message)]
        if bool(found) != self.family.tokenizer.startswith("causal"):
            raise WrongResult(f"warnings of a causal encoder: {found}")
        if history["steps"] != 4 or not all(
            row["loss"] == row["loss"] < 1e6 for row in history["epochs"]
        ):
            raise WrongResult(f"losses {[row['loss'] for row in history['epochs']]}")
        self.nlp = spacy.load(self.work / "trained" / "model-last")
        return Outcome(WORKS, plain(" ".join(found[:1]), self.work))

    def save(self) -> None:
        """A pipeline that is saved, to disk or to bytes, gives the same emissions to the bit."""
        import spacy

        texts = [text for text, _ in sentences(PREDICTED, seed=3)]
        right = self.emissions([self.nlp.make_doc(text) for text in texts])
        self.nlp.to_disk(self.work / "saved")
        again = spacy.blank("zh").from_config(self.nlp.config).from_bytes(self.nlp.to_bytes())
        for nlp in (spacy.load(self.work / "saved"), again):
            if not torch.equal(self.emissions([nlp.make_doc(text) for text in texts], nlp), right):
                raise WrongResult("a loaded pipeline has other emissions")

    def long_text(self) -> None:
        """A sentence longer than a window: at its beginning, the vectors are those of the window.

        Its middle and end have finite vectors.
        """
        shim = self.shim()
        characters = "东风钢厂在武汉招工" * (shim.longest // 3)
        doc = self.nlp.make_doc(characters)
        # All windows of a sentence have one length.
        shape = (1, shim.plan([doc]).batches[0].ids.shape[1])
        parts = (self.nlp.make_doc(characters[:n]) for n in range(len(characters)))
        window = next(
            part for part in parts if [b.ids.shape for b in shim.plan([part]).batches] == [shape]
        )
        found, own = shim.predict_vectors([doc]), len(window) // 4
        if len(found) != len(doc) or not bool(found.isfinite().all()):
            raise WrongResult(f"{len(found)} vectors for {len(doc)} tokens, or infinite ones")
        same("vectors of a long text", found[:own], shim.predict_vectors([window])[:own])

    def fast_path(self) -> Outcome:
        """Whether prediction on a CPU has layers of its own, which give the same vectors."""
        from spacy_bert_crf.encoder.cpu.fused import packed_encoder
        from spacy_bert_crf.encoder.passes import run

        shim = self.shim()
        fast = packed_encoder(shim.module)
        if fast is shim.module:
            return Outcome(NONE)
        plan = shim.plan([self.nlp.make_doc(doc.text) for doc in self.gold])
        with torch.inference_mode():
            right, found = (run(model, plan, shim.device) for model in (shim.module, fast))
        same("vectors of the fast path", found, right)
        return Outcome(WORKS)

    def dropout(self) -> None:
        """With dropout 0, a vector of an update is that of a prediction, both in float32."""
        shim = self.shim()
        texts = [self.nlp.make_doc(text) for text, _ in sentences(4)]
        before, shim.cfg["mixed_precision"] = shim.cfg["mixed_precision"], False
        found, _ = shim.update_vectors(texts, 0.0)
        shim.cfg["mixed_precision"] = before
        same("vectors of an update without dropout", found.detach(), shim.predict_vectors(texts))

    def alone(self) -> None:
        """A text has the same vectors in a batch as alone."""
        texts = [self.nlp.make_doc(text) for text, _ in sentences(PREDICTED, seed=3)]
        single = [self.shim().predict_vectors([doc]) for doc in texts]
        same("vectors in a batch", self.shim().predict_vectors(texts), torch.cat(single))

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
        same("int8 emissions", found, right, TOLERANCE_INT8)

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
        if not any(entities(self.nlp(doc.text)) for doc in self.gold):
            raise RuntimeError("the toy pipeline finds no entity: choose another seed")


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
