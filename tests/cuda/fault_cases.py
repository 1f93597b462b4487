"""Faults that only a GPU shows, on the pretend device. `test_faults.py` runs this as a program.

Usage: python fault_cases.py ENCODER FOLDER [--gpu]. Prints a line of JSON for each case: its name,
and the last line of its error or "". With --gpu it runs on the one GPU of this machine. The pretend
device must be installed before spaCy is imported.
"""

import json
import sys
import threading
import traceback
from pathlib import Path

from cuda.pretend import install

if __name__ == "__main__" and "--gpu" not in sys.argv:
    install()

import spacy
import torch
from spacy.tokens import DocBin
from spacy.util import load_config
from thinc.api import require_cpu

from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.model.layers import head_of, own_encoder_of
from spacy_bert_crf.model.optimizer import create_adamw
from spacy_bert_crf.training.loop import train
from support.paths import CONFIG
from support.toys import TEXTS, entities, make_examples, train_toy

STRINGS = [text for text, _ in TEXTS]


def found(nlp):
    return [entities(doc) for doc in nlp.pipe(STRINGS)]


def devices(nlp):
    model = nlp.get_pipe("bert_crf").model
    return {own_encoder_of(model).device.type, head_of(model).device.type}


class Cases:
    """Each method is a case. `folder` holds a trained pipeline, `want` its entities."""

    def __init__(self, encoder: Path, folder: Path) -> None:
        self.encoder, self.folder = encoder, folder
        require_cpu()
        nlp = train_toy(encoder)
        nlp.to_disk(folder / "pipeline")
        self.want = found(nlp)
        DocBin(docs=[eg.reference for eg in make_examples(nlp)]).to_disk(folder / "docs.spacy")

    def on_cpu(self):
        """A pipeline that was loaded on the CPU, before the GPU was required."""
        require_cpu()
        nlp = spacy.load(self.folder / "pipeline")
        spacy.require_gpu()
        return nlp

    def on_gpu(self):
        spacy.require_gpu()
        return spacy.load(self.folder / "pipeline")

    def config(self, **settings):
        names = {"paths.train": str(self.folder / "docs.spacy"), "training.batcher.size": 3}
        names |= {"paths.dev": names["paths.train"], "training.max_epochs": 1}
        names["components.bert_crf.model.tok2vec.name"] = str(self.encoder)
        return load_config(CONFIG, overrides={**names, **settings}, interpolate=False)

    def predict_after_loading_on_the_cpu(self):
        nlp = self.on_cpu()
        assert found(nlp) == self.want
        nlp.get_pipe("bert_crf").scores = True
        assert found(nlp) == self.want and devices(nlp) == {"cpu"}

    def update_after_loading_on_the_cpu(self):
        nlp = self.on_cpu()
        assert nlp.update(make_examples(nlp), sgd=create_adamw())["bert_crf"] > 0

    def predict_on_the_gpu_after_require_cpu(self):
        nlp = self.on_gpu()
        require_cpu()
        assert found(nlp) == self.want and devices(nlp) == {"cuda"}

    def add_label_after_loading_on_the_cpu(self):
        nlp = self.on_cpu()
        nlp.get_pipe("bert_crf").add_label("NEW")
        assert devices(nlp) == {"cpu"}
        nlp(STRINGS[0])

    def add_label_in_a_thread(self):
        nlp = self.on_gpu()
        thread = threading.Thread(target=lambda: nlp.get_pipe("bert_crf").add_label("NEW"))
        thread.start()
        thread.join()
        assert "NEW" in nlp.get_pipe("bert_crf").labels and devices(nlp) == {"cuda"}
        assert head_of(nlp.get_pipe("bert_crf").model).module.crf.n_tags == 9
        nlp(STRINGS[0])

    def move_to_the_gpu(self):
        require_cpu()
        nlp = spacy.load(self.folder / "pipeline")
        nlp.get_pipe("bert_crf").model.to_gpu(0)
        assert devices(nlp) == {"cuda"} and found(nlp) == self.want

    def train_with_the_shipped_config(self):
        history = train(self.config(), self.folder / "trained", use_gpu=0)
        assert history["complete"]

    def refuse_8_bit_integers(self):
        config = self.config(**{"components.bert_crf.quantize": "int8"})
        try:
            train(config, self.folder / "int8", use_gpu=0)
        except BertCrfError as err:
            assert "runs on the CPU, and this training is on cuda:0" in str(err)
            assert not list((self.folder / "int8").iterdir())
        else:
            raise AssertionError("not refused")

    def refuse_the_second_gpu(self):
        try:
            train(self.config(), self.folder / "second", use_gpu=1)
        except BertCrfError as err:
            assert "gpu_id 1 can't be used: there is one GPU, with the number 0." in str(err)
        else:
            raise AssertionError("not refused")

    def resume_a_state_of_four_gpus(self):
        from spacy_bert_crf.training import state

        spacy.require_gpu()
        states = json.loads(json.dumps(state.random_states()))
        assert len(states["cuda"]) == 1
        state.set_random_states(states | {"cuda": states["cuda"] * 4})

    def rows_are_joined_without_a_copy(self):
        from spacy_bert_crf.model.crf_batches import join_rows, split_rows

        rows = torch.ones(5, 4, device="cuda")
        parts = split_rows(rows, [2, 0, 3])
        join_rows(parts, rows.device).add_(1)
        assert rows.cpu().eq(2).all()
        assert join_rows(list(parts), rows.device).cpu().eq(2).all()
        assert join_rows([part.get() for part in parts], rows.device).is_cuda


def main(encoder: Path, folder: Path) -> None:
    cases = Cases(encoder, folder)
    helpers = {"on_cpu", "on_gpu", "config"}
    for name in [n for n in vars(Cases) if not n.startswith("_") and n not in helpers]:
        try:
            getattr(cases, name)()
            wrong = ""
        except Exception:
            wrong = traceback.format_exc().strip().splitlines()[-1]
        print(json.dumps([name, wrong]), flush=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
