"""A smaller encoder of some of the layers of another one, of many families."""

import pytest
import torch

from reliability.families.encoders import FAMILIES
from reliability.families.encoders import make_folder as build
from spacy_bert_crf.encoder.hf import load_encoder
from spacy_bert_crf.encoder.smaller.layers import (
    chosen_layers,
    count_layers,
    with_layers,
)
from spacy_bert_crf.errors import BertCrfError
from support.toys import write_encoder

#: Whose layers have another kind of list, or weights that not all layers have.
MANY = ["bert", "distilbert", "roberta", "gpt2", "llama", "longformer", "deberta", "modernbert"]
MANY += ["mobilebert", "xlnet"]


@pytest.mark.parametrize(
    ("layers", "of", "want"),
    [
        (4, 12, [2, 5, 8, 11]), (3, 12, [3, 7, 11]), (6, 12, [1, 3, 5, 7, 9, 11]),
        (5, 12, [1, 3, 6, 8, 11]), (1, 12, [11]), (12, 12, list(range(12))), (2, 3, [0, 2]),
    ],
)  # fmt: skip
def test_layers_are_chosen_evenly_and_the_last_is_one_of_them(layers, of, want):
    assert chosen_layers(layers, of) == want
    assert chosen_layers(layers, of, "first") == list(range(layers))


@pytest.mark.parametrize("layers", [0, 13, -1])
def test_other_numbers_of_layers_are_refused(layers):
    with pytest.raises(BertCrfError, match=f"{layers} layers requested, the encoder has 12"):
        chosen_layers(layers, 12)


def test_the_layers_are_those_of_the_other_encoder(tmp_path):
    encoder = load_encoder(str(write_encoder(tmp_path / "e", layers=6)), {}, {})
    chosen = chosen_layers(3, 6)
    small = with_layers(encoder, chosen)
    assert count_layers(small) == small.model.config.num_hidden_layers == 3
    assert count_layers(encoder) == 6
    before, after = encoder.model.state_dict(), small.model.state_dict()
    for name, value in after.items():
        if name.startswith("encoder.layer."):
            number, rest = name.removeprefix("encoder.layer.").split(".", 1)
            name = f"encoder.layer.{chosen[int(number)]}.{rest}"
        assert torch.equal(value, before[name])
    # It has memory of its own.
    with torch.no_grad():
        for param in small.model.parameters():
            param.zero_()
    assert all(torch.equal(value, before[name]) for name, value in encoder.model.named_parameters())


@pytest.mark.parametrize("family", MANY)
def test_families(family, tmp_path):
    encoder = load_encoder(str(build(tmp_path / "e", FAMILIES[family])), {}, {})
    n_layers = count_layers(encoder)
    small = with_layers(encoder, chosen_layers(1, n_layers))
    all_layers = with_layers(encoder, range(n_layers))
    ids = torch.arange(5, 12)[None]
    with torch.inference_mode():
        whole, last, same = (
            each.model(input_ids=ids).last_hidden_state for each in (encoder, small, all_layers)
        )
    assert last.shape == whole.shape and bool(last.isfinite().all())
    assert not torch.allclose(last, whole)
    torch.testing.assert_close(same, whole)
    assert small.model.num_parameters() < encoder.model.num_parameters()


def test_layers_that_share_their_weights(tmp_path):
    encoder = load_encoder(str(build(tmp_path / "e", FAMILIES["albert"])), {}, {})
    small = with_layers(encoder, [1])
    assert count_layers(small) == 1
    assert small.model.num_parameters() == encoder.model.num_parameters()


def test_layers_in_blocks_are_refused(tmp_path):
    encoder = load_encoder(str(build(tmp_path / "e", FAMILIES["funnel"])), {}, {})
    with pytest.raises(BertCrfError, match="layers of a funnel model can't be chosen"):
        with_layers(encoder, [0])
