"""Exports of a trained pipeline, and pipelines that are imported from them."""

import shutil
from pathlib import Path
from typing import Any

import torch

from reliability.families.outcomes import (
    PREDICTED,
    TOLERANCE,
    TOLERANCE_INT8,
    WrongResult,
    entities,
    same,
)
from reliability.toys import sentences


class Exports:
    """What is done with a trained pipeline.

    work: the folder for all that is written.
    nlp: the pipeline.
    gold: docs with annotation, and a long one.
    """

    work: Path
    nlp: Any
    gold: list[Any]

    def export(self, name: str) -> None:
        from spacy_bert_crf.export.folder import export_pipeline

        # Weights of 7 bits are right on every CPU, so that the results do not depend on this one.
        more: dict[str, Any] = {"any_cpu": True}
        if name == "onnx-int8-static":
            more |= {"calibration": 4, "calibration_texts": [text for text, _ in sentences(20)]}
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
            mine, theirs = entities(self.nlp(text)), entities(other(text))
            if mine != theirs:
                raise WrongResult(f"{text[:20]!r} has {theirs[:3]}, expected {mine[:3]}")
        same("emissions", self.emissions(list(map(other.make_doc, texts)), other),
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
                same("logits", self.emissions([doc], nlp), right)

    def shim(self) -> Any:
        from spacy_bert_crf.model.layers import own_encoder_of

        return own_encoder_of(self.nlp.get_pipe("bert_crf").model)

    def emissions(self, texts: list[Any], nlp: Any = None) -> Any:
        """Emissions of all tokens of some docs. [tokens, K]"""
        import numpy as np

        pipe = (nlp or self.nlp).get_pipe("bert_crf")
        return torch.from_numpy(np.concatenate(pipe.model.predict(texts)))
