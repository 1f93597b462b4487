"""A student and its teacher on the device."""

import pytest
import spacy
from spacy.tokens import DocBin
from spacy.util import load_config

from spacy_bert_crf import distill
from spacy_bert_crf.training.distillation.settings import Distillation
from spacy_bert_crf.training.distillation.teacher import Teacher
from support.paths import CONFIG
from support.toys import make_examples, train_toy
from tests.cuda.pretend import counted


@pytest.fixture
def teacher(encoder_path, tmp_path):
    """Folder of a trained pipeline. Its encoder has two layers."""
    spacy.require_gpu()
    train_toy(encoder_path).to_disk(tmp_path / "teacher")
    return tmp_path / "teacher"


def run(teacher, folder, use_gpu, **more):
    corpus = folder / "docs.spacy"
    nlp = spacy.blank("zh")
    DocBin(docs=[eg.reference for eg in make_examples(nlp)]).to_disk(corpus)
    (folder / "texts.txt").write_text("王小明在北京。\n李四去南京。\n", encoding="utf8")
    overrides = {
        "paths.train": str(corpus), "paths.dev": str(corpus), "training.batcher.size": 3,
        "components.bert_crf.scheme": "BIO", "training.max_epochs": 2, "training.dropout": 0.0,
        "components.bert_crf.model.tok2vec.mixed_precision": False,
    }  # fmt: skip
    config = load_config(CONFIG, overrides=overrides, interpolate=False)
    settings = {"layers": 1, "texts": str(folder / "texts.txt"), "temperature": 2.0, **more}
    return distill(teacher, config, folder / f"out{use_gpu}", settings=settings, use_gpu=use_gpu)


@pytest.mark.parametrize("inner_width", [0, 16])
def test_losses_equal_those_of_the_cpu(teacher, tmp_path, inner_width):
    gpu, cpu = (run(teacher, tmp_path, use_gpu, inner_width=inner_width) for use_gpu in (0, -1))
    spacy.require_gpu()
    losses = [[epoch["loss"] for epoch in each["epochs"]] for each in (gpu, cpu)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02) and losses[0][0] > 0
    assert gpu["complete"]


def test_an_update_from_memory_waits_no_more_than_one_of_gold(teacher):
    """What the teacher says comes with each CRF batch, by one copy and without a wait."""
    from spacy_bert_crf.model.optimizer import create_adamw

    nlp = spacy.load(teacher)
    examples, pipe, optimizer = make_examples(nlp), nlp.get_pipe("bert_crf"), create_adamw()
    expert = Teacher(spacy.load(teacher).get_pipe("bert_crf"), Distillation(gold_weight=0.0), False)
    expert.read(examples)
    waits, copies = [], []
    for each in (None, expert):
        pipe.teacher = each
        nlp.update(examples, sgd=optimizer)
        with counted() as log:
            nlp.update(examples, sgd=optimizer)
        waits.append(len(log.waits))
        copies.append(len(log.copies_in))
    assert waits[1] <= waits[0] and copies[1] <= copies[0] + 1
