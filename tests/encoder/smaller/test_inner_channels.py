"""A narrower encoder: fewer channels inside of its feed-forward networks, of many families."""

import pytest
import torch

from reliability.families.encoders import FAMILIES
from reliability.families.encoders import make_folder as build
from spacy_bert_crf.encoder.hf import load_encoder
from spacy_bert_crf.encoder.smaller.inner_channels import check_inner_width, with_inner_width
from spacy_bert_crf.errors import BertCrfError
from support.toys import TEXTS, write_encoder

ALL_TEXTS = [text for text, _ in TEXTS]


@pytest.fixture
def encoder(tmp_path):
    return load_encoder(str(write_encoder(tmp_path / "e")), {}, {})


@torch.inference_mode()
def vectors(encoder, text=ALL_TEXTS[0]):
    return encoder.model(**encoder.tokenizer(text, return_tensors="pt")).last_hidden_state


def networks(encoder):
    return [(layer.intermediate.dense, layer.output.dense) for layer in encoder.model.encoder.layer]


@torch.no_grad()
def test_channels_that_add_nothing_are_left_out(encoder):
    silent = [torch.randperm(32, generator=torch.manual_seed(i))[:20] for i in range(2)]
    for (inner, outer), channels in zip(networks(encoder), silent, strict=True):
        # Loud channels that the output does not read, and one that is read and silent.
        outer.weight[:, channels[1:]] = 0
        inner.weight[channels[1:]] *= 100
        inner.weight[channels[:1]], inner.bias[channels[:1]] = 0, 0
        outer.weight[:, channels[:1]] *= 100
    narrow = with_inner_width(encoder, 12, ALL_TEXTS)
    torch.testing.assert_close(vectors(narrow), vectors(encoder))
    assert narrow.model.config.intermediate_size == 12
    assert [tuple(inner.weight.shape) for inner, _ in networks(narrow)] == [(12, 16)] * 2
    assert encoder.model.config.intermediate_size == 32
    for (inner, _), (whole, _), channels in zip(
        networks(narrow), networks(encoder), silent, strict=True
    ):
        others = sorted(set(range(32)) - set(channels.tolist()))
        assert torch.equal(inner.weight, whole.weight[others])  # in their order


def test_the_most_important_ones_stay(encoder):
    """The smallest error that leaving out one channel at a time can have, by brute force."""
    inner, outer = networks(encoder)[0]
    seen = []
    hook = inner.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][0]))
    for text in ALL_TEXTS:
        vectors(encoder, text)
    hook.remove()
    activation = encoder.model.encoder.layer[0].intermediate.intermediate_act_fn
    with torch.no_grad():
        activations = activation(inner(torch.cat(seen)))
        errors = [
            (activations[:, i, None] * outer.weight[:, i]).square().sum().item() for i in range(32)
        ]
    kept = sorted(sorted(range(32), key=lambda i: -errors[i])[:5])
    narrow = with_inner_width(encoder, 5, ALL_TEXTS)
    assert torch.equal(networks(narrow)[0][0].weight, inner.weight[kept])


def test_it_has_memory_of_its_own(encoder):
    before = vectors(encoder)
    narrow = with_inner_width(encoder, 8, ALL_TEXTS)
    with torch.no_grad():
        for param in narrow.model.parameters():
            param.zero_()
    assert torch.equal(vectors(encoder), before)


@pytest.mark.parametrize("width", [0, 32])
def test_all_channels(encoder, width):
    assert with_inner_width(encoder, width, []) is encoder


@pytest.mark.parametrize("width", [-1, 33])
def test_other_widths_are_refused(encoder, width):
    with pytest.raises(BertCrfError, match=f"{width} inner channels requested, the encoder has 32"):
        check_inner_width(encoder, width)


@pytest.mark.parametrize("texts", [[], iter(())])
def test_without_a_text(encoder, texts):
    with pytest.raises(BertCrfError, match="no text by which to choose"):
        with_inner_width(encoder, 8, texts)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_another_default_device(encoder, device):
    """After `require_gpu`, new tensors are on the GPU and the encoder is on the CPU."""
    with torch.device(device):
        narrow = with_inner_width(encoder, 8, ALL_TEXTS)
    assert torch.equal(vectors(narrow), vectors(with_inner_width(encoder, 8, ALL_TEXTS)))


#: Whose networks can be made narrower, besides BERT's.
NARROW = ["distilbert", "roberta", "electra", "deberta", "longformer", "ernie", "camembert"]


@pytest.mark.parametrize("family", NARROW)
def test_families(family, tmp_path):
    encoder = load_encoder(str(build(tmp_path / "e", FAMILIES[family])), {}, {})
    narrow = with_inner_width(encoder, 8, ["a text", "another one"])
    assert narrow.model.num_parameters() < encoder.model.num_parameters()
    ids = torch.arange(5, 12)[None]
    with torch.inference_mode():
        whole, found = (each.model(input_ids=ids).last_hidden_state for each in (encoder, narrow))
    assert found.shape == whole.shape and bool(found.isfinite().all())


@pytest.mark.parametrize("family", ["gpt2", "llama", "xlnet", "albert", "modernbert"])
def test_other_families_are_refused(family, tmp_path):
    encoder = load_encoder(str(build(tmp_path / "e", FAMILIES[family])), {}, {})
    with pytest.raises(BertCrfError, match=f"of a {family} model can't be made narrower"):
        with_inner_width(encoder, 4, ["a text"])
