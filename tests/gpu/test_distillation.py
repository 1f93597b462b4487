"""A student and its teacher on a GPU."""

import pytest
import spacy
import torch
from thinc.api import require_cpu

from spacy_bert_crf.crf.losses.cross_entropy import cross_entropy
from spacy_bert_crf.model.optimizer import create_adamw
from spacy_bert_crf.training.distillation.settings import Distillation
from spacy_bert_crf.training.distillation.teacher import Teacher
from support.crf import batch, make
from support.toys import TEXTS, load_pipeline, make_examples


@pytest.mark.parametrize("lengths", [[4, 1, 3], [600, 2]])
def test_loss_and_gradients_equal_the_cpus(lengths):
    teacher, student = make("BIOES", seed=1), make("BIOES", seed=2)
    its, mask, _ = batch(teacher.n_tags, lengths, seed=3)
    own, _, _ = batch(teacher.n_tags, lengths, seed=4)
    out = []
    for device in ("cpu", "cuda"):
        for crf in (teacher, student):
            crf.to(device)
        found = teacher.posterior(its.to(device), mask.to(device))
        rows = own.to(device).requires_grad_()
        loss = cross_entropy(
            student, rows, mask.to(device), found.marginals(), found.pair_counts(), temperature=2.0
        )
        params = [rows, *student.parameters()]
        out.append([each.cpu() for each in (loss, *torch.autograd.grad(loss.sum(), params))])
    for a, b in zip(*out, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_updates_equal_the_cpus(trained_path):
    losses = []
    for start in (require_cpu, lambda: spacy.require_gpu(0)):
        start()
        nlp, other = load_pipeline(trained_path), load_pipeline(trained_path)
        examples = make_examples(nlp, TEXTS)
        nlp.get_pipe("bert_crf").teacher = teacher = Teacher(
            other.get_pipe("bert_crf"), Distillation(temperature=2.0), False
        )
        teacher.read(examples)
        optimizer = create_adamw(encoder_lr=1e-3, head_lr=1e-3, crf_lr=1e-3, warmup=0)
        losses.append([nlp.update(examples, sgd=optimizer)["bert_crf"] for _ in range(4)])
    require_cpu()
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
