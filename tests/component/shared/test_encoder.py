"""Components that share an encoder of the package: training, prediction, files, spaCy's tools."""

import copy
import pickle

import numpy as np
import pytest
import spacy
import torch
from spacy.tokens import DocBin
from spacy.training import Example
from spacy.training.initialize import init_nlp
from spacy.training.loop import train as spacy_train
from thinc.api import Adam

from spacy_bert_crf.component.pipelines import find_encoder
from spacy_bert_crf.encoder.cpu.int8 import has_vnni
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.model.layers import encoder_of, head_of, own_encoder_of
from spacy_bert_crf.training.loop import train
from support.sharing import TWO, adamw, initialised, listener_config, own_shared_pipeline
from support.toys import (
    ENGLISH,
    TEXTS,
    characters,
    make_examples,
    need_shared,
    own_config,
    shared_config,
    transformer_config,
)

ENCODER = "bert_crf_encoder"
LISTENER = listener_config()["model"]["tok2vec"]
TAGGER = {"model": {"@architectures": "spacy.Tagger.v2", "tok2vec": LISTENER}}


def as_spacy_trains(nlp, examples, optimizer, **settings):
    """An update as in the loops of `spacy train` and `bert-crf train`."""
    losses = nlp.update(examples, sgd=False, **settings)
    for name, pipe in nlp.pipeline:
        if name not in settings.get("exclude", ()):
            pipe.finish_update(optimizer)
    optimizer.step_schedules()
    return losses


def as_a_loop(nlp, examples, optimizer, **settings):
    return nlp.update(examples, sgd=optimizer, **settings)


def gold():
    return [spans for _, spans in TEXTS]


def found(nlp, **settings):
    return [characters(doc) for doc in nlp.pipe((text for text, _ in TEXTS), **settings)]


def weights(pipe):
    return {k: v.clone() for k, v in encoder_of(pipe.model).module.state_dict().items()}


# Training


@pytest.mark.parametrize("update", [as_a_loop, as_spacy_trains])
@pytest.mark.parametrize("make", [adamw, lambda: adamw(averaging=0.9), lambda: Adam(0.01)])
@pytest.mark.parametrize("drop", [0.0, 0.2])
def test_one_component_learns_as_with_an_encoder_of_its_own(encoder_path, update, make, drop):
    losses, ends = [], []
    for shared in (False, True):
        spacy.util.fix_random_seed(0)
        nlp = own_shared_pipeline(encoder_path) if shared else spacy.blank("zh")
        if not shared:
            nlp.add_pipe("bert_crf", config=own_config(encoder_path))
        examples, optimizer = initialised(nlp), make()
        losses.append([update(nlp, examples, optimizer, drop=drop)["bert_crf"] for _ in range(5)])
        averages = getattr(optimizer, "averages", None) or {}
        with nlp.use_params(averages):
            ends.append(weights(nlp.get_pipe("bert_crf")))
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert losses[0][-1] < losses[0][0]
    for name, tensor in ends[0].items():
        torch.testing.assert_close(ends[1][name], tensor, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch_pieces", [32, 96])
def test_a_batch_of_several_passes_learns_as_with_an_own_encoder(encoder_path, batch_pieces):
    """An own encoder learns from it in parts. A shared one computes some activations again."""
    losses = []
    settings = {"batch_pieces": batch_pieces, "mixed_precision": False}
    for shared in (False, True):
        spacy.util.fix_random_seed(0)
        nlp = own_shared_pipeline(encoder_path, **settings) if shared else spacy.blank("zh")
        if not shared:
            nlp.add_pipe("bert_crf", config=own_config(encoder_path, **settings))
        # With a small eps, Adam makes steps of full size out of rounding.
        examples, optimizer = initialised(nlp), adamw(eps=1e-3)
        losses.append([nlp.update(examples, sgd=optimizer)["bert_crf"] for _ in range(5)])
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert losses[0][-1] < losses[0][0] - 0.1


def test_gradients_of_two_components_are_summed_in_one_backward_pass(encoder_path):
    """They are those that each component gives alone."""
    grads, runs = {}, []
    for names in (["people"], ["rest"], ["people", "rest"]):
        nlp = own_shared_pipeline(encoder_path, TWO, mixed_precision=False)
        examples = initialised(nlp)
        for name in set(TWO) - set(names):
            nlp.remove_pipe(name)
        module = nlp.get_pipe(ENCODER).encoder.module
        runs.clear()
        handle = module.embeddings.register_full_backward_hook(lambda *_: runs.append(1))
        nlp.update(examples, sgd=False)
        handle.remove()
        assert len(runs) == 1
        grads[tuple(names)] = {k: p.grad for k, p in module.named_parameters()}
    for key, grad in grads["people", "rest"].items():
        summed = grads["people",][key] + grads["rest",][key]
        torch.testing.assert_close(grad, summed, rtol=1e-4, atol=1e-6)
    assert any(grad.abs().max() > 0.01 for grad in grads["people", "rest"].values())


@pytest.mark.parametrize("update", [as_a_loop, as_spacy_trains])
def test_two_components_train_together(encoder_path, update):
    nlp = own_shared_pipeline(encoder_path, TWO)
    examples, optimizer = initialised(nlp), adamw()
    for _ in range(60):
        update(nlp, examples, optimizer)
    assert [nlp.get_pipe(name).labels for name in TWO] == [("PER",), ("LOC", "ORG")]
    assert found(nlp) == gold()
    assert len({id(encoder_of(nlp.get_pipe(name).model)) for name in TWO}) == 1


@pytest.mark.parametrize("order", [("bert_crf", "tagger"), ("tagger", "bert_crf")])
def test_a_tagger_of_spacy_listens_too(encoder_path, tmp_path, order):
    nlp = own_shared_pipeline(encoder_path, (), "en")
    for name in order:
        nlp.add_pipe(name, config=TAGGER if name == "tagger" else listener_config())
    examples = make_examples(nlp, ENGLISH)
    for example in examples:
        for token in example.reference:
            token.tag_ = "NN" if token.text[0].isupper() else "XX"
    nlp.initialize(lambda: examples)
    before, optimizer = weights(nlp.get_pipe("bert_crf")), adamw()
    losses = as_a_loop(nlp, examples, optimizer)
    assert {ENCODER, *order} <= set(losses)
    for _ in range(60):
        as_spacy_trains(nlp, examples, optimizer)
    after = weights(nlp.get_pipe("bert_crf"))
    assert any(not torch.equal(before[key], after[key]) for key in before)
    nlp.to_disk(tmp_path / "p")
    for pipeline in (nlp, spacy.load(tmp_path / "p")):
        docs = list(pipeline.pipe(text for text, _ in ENGLISH))
        assert [characters(doc) for doc in docs] == [spans for _, spans in ENGLISH]
        assert [t.tag_ for t in docs[0]] == ["NN", "NN", "XX", "NN", "XX"]


def test_a_component_that_is_disabled_does_not_keep_the_encoder_from_learning(encoder_path):
    nlp = own_shared_pipeline(encoder_path, TWO)
    examples, optimizer = initialised(nlp), adamw()
    before = weights(nlp.get_pipe("people"))
    with nlp.select_pipes(disable=["rest"]):
        for _ in range(2):
            as_spacy_trains(nlp, examples, optimizer)
        after = weights(nlp.get_pipe("people"))
    assert any(not torch.equal(before[key], after[key]) for key in before)
    for _ in range(2):
        nlp.update(examples, sgd=optimizer)


def test_frozen_with_the_components_of_another_pipeline(two_path):
    source, nlp = spacy.load(two_path), spacy.blank("zh")
    nlp.add_pipe(ENCODER, source=source)
    nlp.add_pipe("people", source=source)
    nlp.add_pipe("bert_crf", name="new", config=listener_config())
    examples = make_examples(nlp)
    nlp.config["initialize"]["components"] = {"new": {"labels": ["LOC", "ORG"]}}
    with nlp.select_pipes(disable=[ENCODER, "people"]):
        nlp.initialize(lambda: examples)
    want, before = found(nlp), nlp.get_pipe(ENCODER).model.to_bytes()
    frozen = {"exclude": [ENCODER, "people"], "annotates": [ENCODER]}
    optimizer = adamw()
    first = as_spacy_trains(nlp, examples, optimizer, **frozen)["new"]
    losses = [as_spacy_trains(nlp, examples, optimizer, **frozen)["new"] for _ in range(100)]
    assert losses[-1] < first / 2
    assert nlp.get_pipe(ENCODER).model.to_bytes() == before
    people = [[e for e in row if e[2] == "PER"] for row in want]
    assert [[e for e in row if e[2] == "PER"] for row in found(nlp)] == people
    # Without annotation the encoder reads the docs for each component, with the same loss.
    alone = nlp.update(examples, sgd=False, exclude=frozen["exclude"])["new"]
    annotated = nlp.update(examples, sgd=False, **frozen)["new"]
    assert alone == pytest.approx(annotated, abs=1e-5)


def test_an_encoder_with_a_factor_of_0_does_not_learn(encoder_path):
    nlp = own_shared_pipeline(encoder_path, grad_factor=0.0)
    examples, optimizer = initialised(nlp), adamw()
    before = weights(nlp.get_pipe("bert_crf"))
    for _ in range(3):
        nlp.update(examples, sgd=optimizer)
    after = weights(nlp.get_pipe("bert_crf"))
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_empty_docs(encoder_path):
    nlp = own_shared_pipeline(encoder_path, TWO)
    examples, optimizer = initialised(nlp), adamw()
    docs = list(nlp.pipe(["", TEXTS[0][0], "\n", ""]))
    assert [doc.tensor.shape for doc in docs] == [(0, 16), (len(TEXTS[0][0]), 16), (1, 16), (0, 16)]
    assert [doc.tensor.shape for doc in nlp.pipe(["", ""])] == [(0, 16), (0, 16)]
    empty = Example(nlp.make_doc(""), nlp.make_doc(""))
    for batch in ([empty, *examples], [empty], examples):
        nlp.update(batch, sgd=optimizer)


def test_other_docs_than_the_encoder_read_are_refused(encoder_path):
    nlp = own_shared_pipeline(encoder_path)
    examples = initialised(nlp)
    nlp.get_pipe(ENCODER).update(examples)
    with pytest.raises(BertCrfError, match="not those that the shared encoder read"):
        nlp.get_pipe("bert_crf").update(examples[::-1])
    nlp.get_pipe(ENCODER).update(examples)
    with pytest.raises(BertCrfError, match="not those that the shared encoder read"):
        nlp.get_pipe("bert_crf").update(examples[:2])


# The training commands


@pytest.fixture
def config(encoder_path, tmp_path):
    """A training config of two components; four epochs of four updates."""
    nlp = own_shared_pipeline(encoder_path, TWO)
    docs = [eg.reference for eg in make_examples(nlp)]
    DocBin(docs=docs).to_disk(tmp_path / "docs.spacy")
    made = nlp.config.copy()
    made["initialize"]["components"] = {n: {"labels": own} for n, own in TWO.items()}
    for part in ("train", "dev"):
        made["corpora"][part]["path"] = str(tmp_path / "docs.spacy")
    made["training"] |= {
        "max_epochs": 4, "max_steps": 0, "eval_frequency": 4, "dropout": 0.1, "seed": 1,
        "batcher": {"@batchers": "spacy.batch_by_sequence.v1", "size": 2},
        "optimizer": {
            "@optimizers": "spacy_bert_crf.AdamW.v1", "encoder_lr": 5e-3, "averaging": 0.5,
        },
    }  # fmt: skip
    return spacy.util.load_config_from_str(made.to_str(), interpolate=False)


def test_the_training_command_resumes(config, tmp_path):
    train(config, tmp_path / "whole")
    nlp = spacy.load(tmp_path / "whole" / "model-last")

    class Killed(Exception):
        pass

    def kill(nlp, info):
        if info["step"] == 9:
            raise Killed

    stopped = config.copy()
    stopped["training"]["before_update"] = {"@callbacks": "toy.kill"}
    spacy.registry.callbacks("toy.kill", func=lambda: kill)
    with pytest.raises(Killed):
        train(stopped, tmp_path / "parts")
    stopped["training"]["before_update"] = {"@callbacks": "toy.kill"}
    spacy.registry.callbacks("toy.kill", func=lambda: lambda nlp, info: None)
    train(stopped, tmp_path / "parts", resume=True)
    again = spacy.load(tmp_path / "parts" / "model-last")
    for name in (ENCODER, *TWO):
        assert again.get_pipe(name).model.to_bytes() == nlp.get_pipe(name).model.to_bytes()


def test_spacy_train(config, tmp_path):
    nlp = init_nlp(config)
    (tmp_path / "out").mkdir()
    spacy_train(nlp, tmp_path / "out")
    trained = spacy.load(tmp_path / "out" / "model-last")
    assert own_encoder_of(trained.get_pipe("people").model) is None
    assert encoder_of(trained.get_pipe("people").model) is not None


def test_a_filled_config_has_all_settings(encoder_path):
    text = """
[nlp]
lang = "zh"
pipeline = ["bert_crf_encoder","bert_crf"]
[components]
[components.bert_crf_encoder]
factory = "bert_crf_encoder"
[components.bert_crf]
factory = "bert_crf"
[components.bert_crf.model]
@architectures = "spacy_bert_crf.BertCrf.v1"
[components.bert_crf.model.tok2vec]
@architectures = "spacy_bert_crf.EncoderListener.v1"
"""
    config = spacy.util.load_config_from_str(text, interpolate=False)
    filled = spacy.util.load_model_from_config(config, auto_fill=True).config["components"]
    assert filled[ENCODER]["model"]["@architectures"] == "spacy_bert_crf.Encoder.v1"
    assert filled[ENCODER]["model"]["context"] == "auto" and filled[ENCODER]["quantize"] == ""
    assert filled["bert_crf"]["model"]["tok2vec"] == {
        "@architectures": "spacy_bert_crf.EncoderListener.v1", "upstream": "*",
    }  # fmt: skip


# Prediction


def test_long_texts_and_batches_give_the_same_vectors(two_path):
    nlp = spacy.load(two_path)
    long = nlp("".join(text for text, _ in TEXTS) * 12)
    assert len(long) > 512 and long.tensor.shape == (len(long), 16)
    apart = np.concatenate([doc.tensor for doc in nlp.pipe(text for text, _ in TEXTS)] * 12)
    np.testing.assert_allclose(long.tensor, apart, atol=1e-5)
    assert found(nlp, batch_size=1) == found(nlp, batch_size=3) == gold()


@pytest.mark.parametrize("how", ["n_process", "pickle", "deepcopy", "bytes"])
def test_processes_and_copies(two_path, how):
    nlp = spacy.load(two_path)
    settings = {}
    if how == "n_process":
        settings = {"n_process": 2, "batch_size": 2}
    elif how == "pickle":
        nlp = pickle.loads(pickle.dumps(nlp))
    elif how == "deepcopy":
        nlp = copy.deepcopy(nlp)
    else:
        nlp = spacy.util.load_model_from_config(nlp.config).from_bytes(nlp.to_bytes())
    assert found(nlp, **settings) == gold()
    assert len({id(encoder_of(nlp.get_pipe(name).model)) for name in TWO}) == 1


def test_docs_without_vectors_are_read_by_the_encoder(two_path):
    """spaCy's listener would give zeros."""
    nlp = spacy.load(two_path)
    with nlp.select_pipes(disable=[ENCODER]):
        assert found(nlp) == gold()
    other = spacy.load(two_path)
    other.add_pipe("bert_crf_widths", name="widths", after=ENCODER)
    assert found(other) == gold()


@spacy.Language.component("bert_crf_widths")
def other_widths(doc):
    """As a `tok2vec` does that comes after the encoder."""
    doc.tensor = np.ones((len(doc), 5), dtype="float32")
    return doc


def test_without_an_encoder_before_it_the_message_names_the_component(two_path, encoder_path):
    nlp = spacy.load(two_path, exclude=[ENCODER])
    with pytest.raises(BertCrfError, match=r"put a component `bert_crf_encoder` before it"):
        nlp(TEXTS[0][0])
    nlp = spacy.blank("zh")
    nlp.add_pipe("bert_crf", config=listener_config())
    nlp.add_pipe(ENCODER, config={"model": {"name": str(encoder_path)}})
    with pytest.raises(BertCrfError, match=r"\[bert_crf\] the width .* before it"):
        nlp.initialize(lambda: make_examples(nlp))


def test_8_bit_integers_are_a_setting_of_the_encoder(two_path, tmp_path):
    with pytest.raises(BertCrfError, match="component bert_crf_encoder has a setting quantize"):
        spacy.load(two_path, config={"components": {"people": {"quantize": "int8"}}})
    nlp = spacy.load(two_path, config={"components": {ENCODER: {"quantize": "int8"}}})
    plain = spacy.load(two_path)(TEXTS[0][0]).tensor
    assert nlp.get_pipe("people").quantize == "int8" == nlp.get_pipe(ENCODER).quantize
    assert found(nlp) == gold()
    most = 0.2 if has_vnni() else 0.4  # weights of 7 bits
    assert 0 < np.abs(nlp(TEXTS[0][0]).tensor - plain).max() < most
    nlp.to_disk(tmp_path / "p")
    assert spacy.load(tmp_path / "p").get_pipe(ENCODER).quantize == "int8"


# Parts of pipelines


def test_replaced_listeners(two_path, tmp_path):
    nlp = spacy.load(two_path)
    nlp.replace_listeners(ENCODER, "people", ["model.tok2vec"])
    assert own_encoder_of(nlp.get_pipe("people").model) is not None
    assert nlp.get_pipe(ENCODER).listening_components == ["rest"]
    assert found(nlp) == gold()
    nlp.replace_listeners(ENCODER, "rest", ["model.tok2vec"])
    nlp.remove_pipe(ENCODER)
    assert found(nlp) == gold()
    nlp.to_disk(tmp_path / "alone")
    assert found(spacy.load(tmp_path / "alone")) == gold()
    examples, optimizer = make_examples(nlp), adamw()
    nlp.update(examples, sgd=optimizer)


def test_sourced_with_replaced_listeners(two_path):
    config = spacy.util.load_config(two_path / "config.cfg")
    config["nlp"]["pipeline"] = ["people"]
    config["components"] = {
        "people": {"source": str(two_path), "replace_listeners": ["model.tok2vec"]}
    }
    nlp = spacy.util.load_model_from_config(config)
    assert own_encoder_of(nlp.get_pipe("people").model) is not None
    people = [[e for e in row if e[2] == "PER"] for row in gold()]
    assert found(nlp) == people


def test_two_encoders_in_one_pipeline(two_path, encoder_path):
    """A listener takes the last encoder before it."""
    nlp = spacy.load(two_path, exclude=["rest"])
    nlp.add_pipe(ENCODER, name="second", config={"model": {"name": str(encoder_path)}})
    nlp.add_pipe("bert_crf", name="new", config=listener_config())
    examples = make_examples(nlp)
    nlp.config["initialize"]["components"] = {"new": {"labels": ["LOC", "ORG"]}}
    with nlp.select_pipes(disable=[ENCODER, "people"]):
        nlp.initialize(lambda: examples)
    first, second = (nlp.get_pipe(name).encoder for name in (ENCODER, "second"))
    assert encoder_of(nlp.get_pipe("people").model) is first
    assert encoder_of(nlp.get_pipe("new").model) is second
    optimizer = adamw()
    losses = [as_spacy_trains(nlp, examples, optimizer)["new"] for _ in range(20)]
    assert losses[-1] < losses[0] / 2
    people = [[e for e in row if e[2] == "PER"] for row in gold()]
    assert [[e for e in row if e[2] == "PER"] for row in found(nlp)] == people


def test_the_encoder_is_found_and_its_files_are_named_if_damaged(two_path, tmp_path):
    nlp = spacy.load(two_path)
    loaded = [find_encoder(nlp, nlp.get_pipe(name)) for name in TWO]
    assert loaded[0].model is loaded[1].model
    nlp.to_disk(tmp_path / "p")
    file = tmp_path / "p" / ENCODER / "encoder.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(BertCrfError, match=rf"\[{ENCODER}\] .*encoder.safetensors is damaged"):
        spacy.load(tmp_path / "p")
    nlp.to_disk(tmp_path / "q")
    (tmp_path / "q" / ENCODER / "model").write_bytes(b"x")
    with pytest.raises(BertCrfError, match=rf"\[{ENCODER}\] .*{ENCODER}.model is damaged"):
        spacy.load(tmp_path / "q")


def test_settings_that_a_shared_encoder_can_not_have(encoder_path):
    with pytest.raises(BertCrfError, match=r"\[bert_crf_encoder\] adversarial = 0"):
        own_shared_pipeline(encoder_path, adversarial=1.0)
    cnn = {
        "@architectures": "spacy.HashEmbedCNN.v2", "pretrained_vectors": None, "width": 8,
        "depth": 1, "embed_size": 8, "window_size": 1, "maxout_pieces": 1, "subword_features": True,
    }  # fmt: skip
    with pytest.raises(BertCrfError, match="use the architecture spacy_bert_crf.Encoder.v1"):
        spacy.blank("zh").add_pipe(ENCODER, config={"model": cnn})
    with pytest.raises(BertCrfError, match="quantize = 'int4' is not known"):
        spacy.blank("zh").add_pipe(ENCODER, config={"quantize": "int4"})


def test_the_optimizer_knows_the_groups(encoder_path):
    nlp = own_shared_pipeline(encoder_path)
    examples, optimizer = initialised(nlp), adamw(encoder_lr=0.0)
    encoder, head = nlp.get_pipe(ENCODER).encoder, head_of(nlp.get_pipe("bert_crf").model)
    nlp.update(examples, sgd=optimizer)
    assert set(optimizer.encoder_rates) == {encoder.id}
    assert {owner for owner, _ in optimizer.state} == {encoder.id, head.id}


# Beside spacy-transformers


def test_updates_are_those_of_a_shared_transformer(encoder_path):
    """With texts of one sentence, without dropout, and with the same heads."""
    need_shared()
    losses, vectors, heads = [], [], {}
    without = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    for ours in (True, False):
        nlp = own_shared_pipeline(encoder_path, TWO, mixed_precision=False)
        if not ours:
            nlp = spacy.blank("zh")
            transformer = transformer_config(encoder_path)
            transformer["model"]["transformer_config"] = without  # it keeps its own rates
            nlp.add_pipe("transformer", config=transformer)
            for name in TWO:
                nlp.add_pipe("bert_crf", name=name, config={**shared_config(), "scheme": "BIO"})
        examples, optimizer = initialised(nlp), adamw(eps=1e-3)
        for name in TWO:
            head = nlp.get_pipe(name).model.get_ref("head")
            heads.setdefault(name, head.to_bytes())
            head.from_bytes(heads[name])
        found = [as_spacy_trains(nlp, examples, optimizer) for _ in range(5)]
        losses.append([[each[name] for name in TWO] for each in found])
        docs = list(nlp.pipe(text for text, _ in TEXTS))
        listener = nlp.get_pipe("people").model.get_ref("tok2vec")
        vectors.append(np.concatenate(listener.predict(docs)))
    np.testing.assert_allclose(losses[0], losses[1], atol=1e-3)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-3)
