"""Updates and trainings on a GPU."""

import numpy as np
import pytest
import spacy
import torch
from spacy.tokens import DocBin
from spacy.util import load_config
from thinc.api import require_cpu

from benchmarks.cuda.measure import Device
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.model.layers import head_of, own_encoder_of
from spacy_bert_crf.model.optimizer import create_adamw
from spacy_bert_crf.training.loop import train
from support.paths import CONFIG
from support.stopper import STOPPER
from support.toys import TEXTS, entities, make_examples, own_config, train_toy

#: Most waits of the host that torch warns of, in one update of one pass.
WAITS_OF_AN_UPDATE = 2


def weights_of(nlp):
    """All weights of the component, on the host."""
    model = nlp.get_pipe("bert_crf").model
    modules = own_encoder_of(model).module, head_of(model).module
    return {
        f"{i} {name}": p.detach().cpu()
        for i, m in enumerate(modules)
        for name, p in m.named_parameters()
    }


def blank(encoder_path, mixed_precision=False, data=TEXTS, **settings):
    """An initialised pipeline without dropout, and its examples."""
    spacy.util.fix_random_seed(0)
    nlp = spacy.blank("zh")
    model = own_config(encoder_path, mixed_precision=mixed_precision, **settings)
    nlp.add_pipe("bert_crf", config=model)
    examples = make_examples(nlp, data)
    nlp.initialize(lambda: examples)
    return nlp, examples


@pytest.mark.parametrize("batch_pieces", [0, 64])
def test_updates_equal_the_cpus(encoder_path, batch_pieces):
    out = []
    for start in (require_cpu, lambda: spacy.require_gpu(0)):
        start()
        nlp, examples = blank(encoder_path, batch_pieces=batch_pieces)
        if out:
            state = out[0][2]
            head_of(nlp.get_pipe("bert_crf").model).module.load_state_dict(state)
        else:
            head = head_of(nlp.get_pipe("bert_crf").model).module
            state = {name: value.clone() for name, value in head.state_dict().items()}
        optimizer = create_adamw(encoder_lr=1e-3, head_lr=1e-3, crf_lr=1e-3, warmup=0)
        losses = [nlp.update(examples, sgd=optimizer, drop=0.0)["bert_crf"] for _ in range(5)]
        out.append((losses, weights_of(nlp), state))
    np.testing.assert_allclose(out[1][0], out[0][0], rtol=1e-3)
    for name, want in out[0][1].items():
        # Adam's step is as long as the rate whatever the gradient, so a gradient near 0 may differ.
        away = (out[1][1][name] - want).abs()
        assert away.mean() < 5e-4 and away.max() < 1.1e-2, name


def f_score(nlp, examples):
    return nlp.evaluate(examples)["ents_f"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, None])
def test_the_toy_is_learned(encoder_path, dtype, monkeypatch):
    """float16 is forced, as on a GPU without bfloat16. Each loss and weight is finite."""
    nlp, examples = blank(encoder_path, mixed_precision=True)
    own = own_encoder_of(nlp.get_pipe("bert_crf").model)
    monkeypatch.setattr(own, "autocast", lambda is_train=True: dtype, raising=False)
    optimizer = create_adamw(encoder_lr=5e-3, head_lr=2e-2, crf_lr=2e-2, warmup=0)
    for _ in range(60):
        loss = nlp.update(examples, sgd=optimizer, drop=0.0)["bert_crf"]
        assert np.isfinite(loss)
    assert all(value.isfinite().all() for value in weights_of(nlp).values())
    assert f_score(nlp, examples) == 1.0


def test_partial_annotation_is_learned(encoder_path):
    nlp, examples = blank(encoder_path)
    for example in examples:
        example.reference.set_ents(list(example.reference.ents), default="missing")
    optimizer = create_adamw(encoder_lr=5e-3, head_lr=2e-2, crf_lr=2e-2, warmup=0)
    losses = [nlp.update(examples, sgd=optimizer)["bert_crf"] for _ in range(20)]
    assert np.isfinite(losses).all() and losses[-1] < 0.5 * losses[0]


def test_the_host_waits_rarely(encoder_path):
    nlp, examples = blank(encoder_path, mixed_precision="auto")
    optimizer = create_adamw()
    waits = Device(0).waits(lambda: nlp.update(examples, sgd=optimizer, drop=0.1))
    assert sum(waits.values()) <= WAITS_OF_AN_UPDATE, f"by file and line: {waits}"


@pytest.fixture
def config(encoder_path, tmp_path):
    """The shipped config for the toy texts; stop_at: the update after which it is stopped."""
    nlp = spacy.blank("zh")
    DocBin(docs=[eg.reference for eg in make_examples(nlp)]).to_disk(tmp_path / "docs.spacy")

    def of(stop_at=0):
        settings = {
            "paths.train": str(tmp_path / "docs.spacy"),
            "paths.dev": str(tmp_path / "docs.spacy"),
            "components.bert_crf.model.tok2vec.name": str(encoder_path),
            "training.batcher.size": 3,
            "training.max_epochs": 4,
        }
        config = load_config(CONFIG, overrides=settings, interpolate=False)
        config["training"]["logger"] = {"@loggers": STOPPER, "stop_at": stop_at}
        return config

    return of


def test_train_and_resume(config, tmp_path):
    """Not bit for bit: torch adds gradients in a varying order on a GPU."""
    whole = train(config(), tmp_path / "whole", use_gpu=0)
    with pytest.raises(BertCrfError, match="SIGTERM after step 5"):
        train(config(stop_at=5), tmp_path / "parts", use_gpu=0)
    history = train(config(), tmp_path / "parts", use_gpu=0, resume=True)
    assert history["complete"] and history["steps"] == whole["steps"]
    ours, theirs = (
        weights_of(spacy.load(tmp_path / run / "model-last")) for run in ("parts", "whole")
    )
    for name, want in theirs.items():
        torch.testing.assert_close(ours[name], want, rtol=0.02, atol=2e-3, msg=name)


def test_a_trained_pipeline_loads_on_the_cpu(config, tmp_path):
    train(config(), tmp_path / "out", use_gpu=0)
    texts = [text for text, _ in TEXTS]
    there = [entities(d) for d in spacy.load(tmp_path / "out" / "model-last").pipe(texts)]
    require_cpu()
    here = [entities(d) for d in spacy.load(tmp_path / "out" / "model-last").pipe(texts)]
    assert len(here) == len(there) == len(texts)


def test_quantize_is_refused_before_the_first_update(config, tmp_path):
    settings = config()
    settings["components"]["bert_crf"]["quantize"] = "int8"
    with pytest.raises(BertCrfError, match="runs on the CPU"):
        train(settings, tmp_path / "out", use_gpu=0)
    assert not list((tmp_path / "out").glob("*"))


def test_a_gpu_that_is_not_there_is_refused(config, tmp_path):
    with pytest.raises(BertCrfError, match="gpu_id 99 can't be used"):
        train(config(), tmp_path / "out", use_gpu=99)


def test_a_component_trained_on_the_cpu_learns_on_on_the_gpu(encoder_path):
    require_cpu()
    nlp = train_toy(encoder_path, updates=5)
    data = nlp.to_bytes()
    spacy.require_gpu(0)
    again, examples = blank(encoder_path)
    again.from_bytes(data)
    optimizer = create_adamw(encoder_lr=5e-3, head_lr=2e-2, crf_lr=2e-2, warmup=0)
    losses = [again.update(examples, sgd=optimizer)["bert_crf"] for _ in range(30)]
    assert losses[-1] < 0.3 * losses[0]
