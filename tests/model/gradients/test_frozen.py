"""The setting frozen_layers: the lowest layers and the embeddings stay as they are."""

import re

import pytest
import spacy
import torch

from reliability.families.encoders import FAMILIES
from reliability.families.encoders import make_folder as build
from spacy_bert_crf.encoder.hf import load_encoder
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.model.gradients.frozen import freeze_lowest
from spacy_bert_crf.model.layers import own_encoder_of
from spacy_bert_crf.model.optimizer import create_adamw
from support.toys import make_examples, own_config, write_encoder

LAYERS = 4
MANY = ["bert", "distilbert", "roberta", "gpt2", "llama", "longformer", "deberta", "modernbert"]
MANY += ["mobilebert", "xlnet"]


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("deep") / "e", layers=LAYERS)


def pipeline(deep, **encoder):
    nlp = spacy.blank("zh")
    nlp.add_pipe("bert_crf", config=own_config(deep, **encoder))
    nlp.initialize(lambda: make_examples(nlp))
    return nlp


def module_of(nlp):
    return own_encoder_of(nlp.get_pipe("bert_crf").model).module


def changed_by_training(nlp, **optimizer):
    """Names of the encoder's parameters that three updates change."""
    before = {name: value.clone() for name, value in module_of(nlp).state_dict().items()}
    sgd = create_adamw(total_steps=10, **optimizer)
    for _ in range(3):
        nlp.update(make_examples(nlp), sgd=sgd, drop=0.1)
    after = module_of(nlp).state_dict()
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def is_low(name, n_layers):
    return name.startswith(("embeddings.", *(f"encoder.layer.{i}." for i in range(n_layers))))


@pytest.mark.parametrize("optimizer", [{"encoder_lr": 1e-3}, {"averaging": 0.9}])
def test_only_upper_layers_learn(deep, optimizer):
    changed = changed_by_training(pipeline(deep, frozen_layers=3), **optimizer)
    assert changed and not any(is_low(name, 3) for name in changed)
    assert all(name.startswith("encoder.layer.3.") for name in changed)


def test_all_learn_by_default(deep):
    changed = changed_by_training(pipeline(deep), encoder_lr=1e-3)
    assert {0, 1, 2, 3} <= {int(n.split(".")[2]) for n in changed if n.startswith("encoder.layer")}
    assert "embeddings.word_embeddings.weight" in changed


def test_upper_layers_have_the_gradients_that_they_have_when_all_learn(deep):
    whole, part = pipeline(deep), pipeline(deep, frozen_layers=2)
    part.get_pipe("bert_crf").from_bytes(whole.get_pipe("bert_crf").to_bytes())
    for nlp in (whole, part):
        nlp.get_pipe("bert_crf").update(make_examples(nlp), drop=0.0)
    wanted = dict(module_of(whole).named_parameters())
    for name, param in module_of(part).named_parameters():
        if is_low(name, 2):
            assert param.grad is None and wanted[name].grad is not None, name
        else:
            torch.testing.assert_close(param.grad, wanted[name].grad, rtol=1e-4, atol=1e-6)


def test_it_is_kept_by_copies_on_disk(deep, tmp_path):
    nlp = pipeline(deep, frozen_layers=1)
    nlp.to_disk(tmp_path / "p")
    loaded = spacy.load(tmp_path / "p")
    changed = changed_by_training(loaded, encoder_lr=1e-3)
    assert changed and not any(is_low(name, 1) for name in changed)


@pytest.mark.parametrize("n_layers", [LAYERS, 99])
def test_a_layer_must_be_left(deep, n_layers):
    with pytest.raises(BertCrfError, match=f"frozen_layers = {n_layers}, and the encoder has 4"):
        pipeline(deep, frozen_layers=n_layers)


@pytest.mark.parametrize("settings", [{"frozen_layers": -1}, {"adversarial": 1.0}])
def test_settings_that_do_not_go_together(deep, settings):
    with pytest.raises(BertCrfError, match="frozen_layers must be 0 or more"):
        pipeline(deep, **{"frozen_layers": 1, **settings})


@pytest.mark.parametrize("family", MANY)
def test_the_lowest_layers_of_families_do_not_learn(family, tmp_path):
    model = load_encoder(str(build(tmp_path / "e", FAMILIES[family])), {}, {}).model
    n_layers = model.config.num_hidden_layers
    with pytest.raises(BertCrfError, match=f"the encoder has {n_layers} layers"):
        freeze_lowest(model, n_layers)
    if n_layers > 1:
        freeze_lowest(model, 1)
        assert not any(p.requires_grad for p in model.get_input_embeddings().parameters())
        learn = {name for name, param in model.named_parameters() if param.requires_grad}
        assert any(re.search(rf"\.{n_layers - 1}\.", name) for name in learn)
        assert not any(re.search(r"\.0\.", name) for name in learn), sorted(learn)
    freeze_lowest(model, 0)
    assert all(param.requires_grad for param in model.parameters())


def test_layers_that_share_their_weights_all_learn(tmp_path):
    model = load_encoder(str(build(tmp_path / "e", FAMILIES["albert"])), {}, {}).model
    with pytest.raises(BertCrfError, match="share weights"):
        freeze_lowest(model, 1)
