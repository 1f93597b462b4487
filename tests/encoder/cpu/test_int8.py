"""The int8 encoder: its arithmetic by hand, its layers, its life beside the float one."""

import copy
import math
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import spacy
import torch
from torch import nn
from transformers import DistilBertConfig, DistilBertModel, RobertaConfig, RobertaModel

from spacy_bert_crf.encoder.cpu import int8
from spacy_bert_crf.encoder.hf import load_encoder
from spacy_bert_crf.encoder.passes import special_ids
from spacy_bert_crf.encoder.texts.doc_texts import doc_pieces
from spacy_bert_crf.encoder.texts.wordpieces import tokenize
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.export.open import open_export
from spacy_bert_crf.model.layers import own_encoder_of
from spacy_bert_crf.model.optimizer import create_adamw
from support.exports import ZH_TEXTS  # fmt: skip
from support.toys import (
    TEXTS,
    entities,
    make_examples,
    own_config,
    shared_config,
    train_toy,
    transformer_config,
)

#: Bits of a weight on this CPU.
BITS = 8 if int8.has_vnni() else 7


@pytest.fixture(autouse=True)
def kernels():
    try:
        int8.check_kernels()
    except BertCrfError as err:
        pytest.skip(str(err))


@pytest.fixture
def encoder(encoder_path):
    return load_encoder(own_config(encoder_path)["model"]["tok2vec"]["name"], {}, {}).model


def by_hand(linear, rows):
    """Round weights and inputs as documented, multiply in float64."""
    weight = linear.weight.detach()
    scales = weight.abs().amax(1).clamp(min=1e-9) / 127.5
    zeros = torch.zeros(len(weight), dtype=torch.int64)
    weight = torch.quantize_per_channel(weight, scales.double(), zeros, 0, torch.qint8)
    low, high = min(float(rows.min()), 0.0), max(float(rows.max()), 0.0)
    step = (high - low) / 255
    zero = round(-low / step)
    rounded = ((rows.double() / step).round() + zero).clamp(0, 255) - zero
    product = (rounded * step) @ weight.dequantize().double().T
    return product + linear.bias.detach().double()


@pytest.mark.skipif(not int8.has_vnni(), reason="weights of 7 bits on this CPU")
def test_arithmetic():
    torch.manual_seed(0)
    linear, rows = nn.Linear(64, 24), torch.randn(5, 7, 64) * 3 + 1
    with torch.no_grad():
        linear.weight[3] = 0
    out = int8.Int8Linear([linear])(rows)
    assert out.shape == (5, 7, 24)
    assert torch.allclose(out.double(), by_hand(linear, rows), atol=1e-4)
    assert not torch.allclose(out, linear(rows), atol=1e-4)  # it is rounded
    assert torch.allclose(out, linear(rows), atol=0.15)


@pytest.mark.parametrize("rows", [torch.zeros(3, 16), torch.full((3, 16), 2.5), -torch.ones(1, 16)])
def test_inputs_without_a_range(rows):
    linear = nn.Linear(16, 8)
    out = int8.Int8Linear([linear], bits=BITS)(rows)
    assert torch.allclose(out, linear(rows), atol=0.02 if BITS == 8 else 0.04)


def test_several_linears_factors_and_activation():
    torch.manual_seed(0)
    linears, rows = [nn.Linear(16, 8), nn.Linear(16, 4, bias=False)], torch.randn(9, 16)
    factors = torch.rand(16) + 0.5
    one = int8.Int8Linear(linears, "gelu", factors)(rows)
    parts = [nn.functional.gelu(int8.Int8Linear([linear])(rows * factors)) for linear in linears]
    assert torch.allclose(one, torch.cat(parts, 1), atol=1e-5)


def test_seven_bits():
    torch.manual_seed(0)
    linear, rows = nn.Linear(32, 8), torch.randn(9, 32)
    errors = {
        bits: float((int8.Int8Linear([linear], bits=bits)(rows) - linear(rows)).square().mean())
        for bits in (8, 7)
    }
    assert errors[8] > 0 and 0 < errors[7] < 1e-3
    # Without VNNI, sums of products with 8 bits overflow.
    assert errors[8] < errors[7] if int8.has_vnni() else errors[8] > 10 * errors[7]


def test_sum_inside_of_the_product(monkeypatch):
    torch.manual_seed(0)
    linear, rows, to = nn.Linear(16, 8).requires_grad_(False), torch.randn(9, 16), torch.randn(9, 8)
    layer = int8.Int8Linear([linear])
    want = layer(rows) + to
    assert torch.allclose(layer.add(rows, to.clone()), want, atol=1e-5)
    monkeypatch.setattr(int8, "_has_sums", lambda: False)
    assert torch.equal(layer.add(rows, to.clone()), want)


def test_activations_in_8_bits(encoder):
    made = int8.int8_encoder(encoder, [2], [3], 64)
    inner, outer = made.encoder.layer[0].inner, made.encoder.layer[0].outer
    rows = torch.randn(24, encoder.config.hidden_size, generator=torch.Generator().manual_seed(1))
    (scale, zero), plain = inner.output, copy.copy(inner)
    plain.output = None
    want, rounded = plain(rows), inner(rows)
    inside = (want < (254 - zero) * scale) & (want > -zero * scale)
    assert rounded.integers.dtype == torch.uint8 and inside.all()
    error = (rounded.integers.int() - zero) * scale - want
    assert float(error.abs().max()) <= 0.51 * scale
    assert torch.allclose(outer(rounded), outer(want), atol=0.05 * float(outer(want).abs().max()))
    # A range that is too small is not used.
    inner.output = (scale / 50, zero)
    assert torch.equal(inner(rows), want)


def run(model, config):
    ids = torch.randint(5, config.vocab_size, (4, 12), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[2:, 9:] = 0
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()]


def is_near(model, made, config):
    want, got = run(model, config), run(made, config)
    most = 0.05 if BITS == 8 else 0.1
    return 1e-5 < float((got - want).norm() / want.norm()) < most


def test_bert(encoder):
    before = {name: weight.clone() for name, weight in encoder.state_dict().items()}
    made = int8.int8_encoder(encoder, [2], [3], 64)
    assert [type(layer).__name__ for layer in made.encoder.layer] == ["FusedBertLayer"] * 2
    assert is_near(encoder, made, encoder.config)
    assert all(torch.equal(w, before[name]) for name, w in encoder.state_dict().items())


def test_roberta():
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=70, hidden_act="gelu_new",
    )  # fmt: skip
    model = RobertaModel(config, add_pooling_layer=False).eval()
    made = int8.int8_encoder(model, [2], [3], 64)
    assert type(made.encoder.layer[0]).__name__ == "FusedBertLayer"
    assert is_near(model, made, config)


def test_other_kinds_keep_their_layers():
    torch.manual_seed(0)
    config = DistilBertConfig(vocab_size=60, dim=16, hidden_dim=32, n_layers=2, n_heads=2)
    model = DistilBertModel(config).eval()
    made = int8.int8_encoder(model, [2], [3], 64)
    kinds = [type(module).__name__ for module in made.modules()]
    assert kinds.count("Int8Linear") == 12 and "FusedBertLayer" not in kinds
    assert is_near(model, made, config)


def test_unknown_activation(encoder):
    encoder = copy.deepcopy(encoder)
    encoder.config.hidden_act = "tanh"
    for layer in encoder.encoder.layer:
        layer.intermediate.intermediate_act_fn = nn.Tanh()
    made = int8.int8_encoder(encoder, [2], [3], 64)
    assert is_near(encoder, made, encoder.config)


def test_smoothed_layers_and_layers_left_in_float(encoder, monkeypatch):
    encoder = copy.deepcopy(encoder).requires_grad_(False)
    for layer in encoder.encoder.layer:
        layer.attention.self.value.bias[3] = 40.0
        layer.attention.output.dense.weight[:, 3] *= 0.02
        layer.output.LayerNorm.weight[5] = 30.0
    made = int8.int8_encoder(encoder, [2], [3], 64)
    assert made.encoder.layer[1].qkv.factors is not None
    assert made.encoder.layer[1].attended.factors is None  # the values carry them
    assert is_near(encoder, made, encoder.config)
    monkeypatch.setattr(int8, "MIN_SNR", 1000.0)
    floating = int8.int8_encoder(encoder, [2], [3], 64)
    assert not any(isinstance(module, int8.Int8Linear) for module in floating.modules())
    want = run(encoder, encoder.config)
    assert torch.allclose(run(floating, encoder.config), want, atol=1e-4 * float(want.abs().max()))


def test_the_kernels_are_missing(encoder, monkeypatch):
    def missing(*args):
        raise NotImplementedError("no such operator\nand more")

    monkeypatch.setattr(int8.Int8Linear, "forward", missing)
    with pytest.raises(BertCrfError, match="needs oneDNN.*no such operator"):
        int8.int8_encoder(encoder, [2], [3], 64)


def test_setting_at_load(trained_path):
    plain = spacy.load(trained_path)
    small = spacy.load(trained_path, config={"components": {"bert_crf": {"quantize": "int8"}}})
    assert plain.get_pipe("bert_crf").quantize == ""
    assert small.get_pipe("bert_crf").quantize == "int8"
    assert small.config["components"]["bert_crf"]["quantize"] == "int8"
    texts = [text for text, _ in TEXTS]
    want = [entities(doc) for doc in plain.pipe(texts)]
    assert [entities(doc) for doc in small.pipe(texts)] == want and any(want)
    assert own_encoder_of(small.get_pipe("bert_crf").model).fast.is_made


@pytest.mark.parametrize("enough, share", [(math.inf, 0.2), (int8.ENOUGH_SNR, 1.0)])
def test_emissions_of_the_export(toys, monkeypatch, enough, share):
    """One text a pass: the range of the inputs is the pass's. What rounding in another order makes
    of it is far less than what 8 bits make of float32. Activations that come out in 8 bits have a
    range of their own. They differ from the export no more than the export from float32.
    """
    monkeypatch.setattr(int8, "ENOUGH_SNR", enough)
    toy = toys["zh"]
    whole = {"model": {"tok2vec": {"context": "fit"}}}
    pipes = [
        spacy.load(toy.path, config={"components": {"bert_crf": {**whole, **more}}}).get_pipe(
            "bert_crf"
        )
        for more in ({"quantize": "int8"}, {})
    ]
    run = open_export(toy.out / "torch-int8").open_emissions()
    tokenizer = own_encoder_of(pipes[0].model).loaded.tokenizer
    before, after, _ = special_ids(tokenizer)
    apart, lost = [], []
    for text in [text for text in toy.texts if text.strip()]:
        doc = toy.nlp.make_doc(text)
        (pieces,) = tokenize(tokenizer, [text])
        first, last = doc_pieces(doc, pieces).T
        single = np.flatnonzero(last - first == 1)
        ids = np.array([[*before, *pieces.ids, *after]])
        export = run(ids, np.ones_like(ids))[0][first[single] + len(before)]
        small, plain = (pipe.model.predict([doc])[0][single] for pipe in pipes)
        apart.append(np.abs(small - export).ravel())
        lost.append(np.abs(plain - export).ravel())
    assert 0 < np.concatenate(apart).mean() < share * np.concatenate(lost).mean()


def test_it_is_made_again_when_the_weights_change(encoder_path):
    nlp = train_toy(encoder_path, updates=2, quantize="int8")
    pipe = nlp.get_pipe("bert_crf")
    own = own_encoder_of(pipe.model)
    docs = [nlp.make_doc(text) for text, _ in TEXTS]
    before = pipe.model.predict(docs)[0]
    made = own.fast.get(own.loaded, None, own.longest)
    assert made is not own.module and pipe.model.predict(docs) is not None
    assert own.fast.get(own.loaded, None, own.longest) is made
    nlp.update(make_examples(nlp), sgd=create_adamw(encoder_lr=5e-3, warmup=0))
    assert not own.fast.is_made
    after = pipe.model.predict(docs)[0]
    assert abs(after - before).max() > 1e-2
    average = {
        (own.id, name): torch.zeros_like(param) for name, param in own.module.named_parameters()
    }
    with nlp.use_params(average):
        assert abs(pipe.model.predict(docs)[0] - after).max() > 1e-2
    assert (pipe.model.predict(docs)[0] == after).all()
    pipe.quantize = ""
    assert abs(pipe.model.predict(docs)[0] - after).max() > 1e-6


def test_copies_bytes_and_threads(trained_path):
    nlp = spacy.load(trained_path, config={"components": {"bert_crf": {"quantize": "int8"}}})
    want = [entities(doc) for doc in nlp.pipe(ZH_TEXTS)]
    texts = [[text] for text in ZH_TEXTS]
    alone = [entities(nlp(text)) for text in ZH_TEXTS]
    pipe = nlp.get_pipe("bert_crf")
    pipe.quantize = "int8"  # made again, by eight threads at once
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda one: entities(next(nlp.pipe(one))), texts * 4))
    assert got == alone * 4
    for other in (copy.deepcopy(nlp), pickle.loads(pickle.dumps(nlp))):
        assert other.get_pipe("bert_crf").quantize == "int8"
        assert [entities(doc) for doc in other.pipe(ZH_TEXTS)] == want
    again = spacy.blank("zh")
    again.add_pipe("bert_crf", config={"scheme": "BIO", "quantize": "int8"}).from_bytes(
        pipe.to_bytes()
    )
    assert [entities(doc) for doc in again.pipe(ZH_TEXTS)] == want


def test_unknown_value(trained_path, encoder_path):
    with pytest.raises(BertCrfError, match="quantize = 'int4' is not known"):
        spacy.load(trained_path, config={"components": {"bert_crf": {"quantize": "int4"}}})
    nlp = spacy.blank("zh")
    nlp.add_pipe("transformer", config=transformer_config(encoder_path))
    with pytest.raises(BertCrfError, match="an encoder of the component's own"):
        nlp.add_pipe("bert_crf", config={**shared_config(), "quantize": "int8"})
