"""Tiny random encoders of many families: each works, or is refused when it is loaded."""

import numpy as np
import pytest
import spacy
import torch
import transformers as T

from reliability.families.encoders import FAMILIES
from reliability.families.encoders import make_folder as build
from spacy_bert_crf._transformers import bert_tokenizer
from spacy_bert_crf.encoder.checkpoint import convert_checkpoint
from spacy_bert_crf.encoder.cpu.fused import packed_encoder
from spacy_bert_crf.encoder.cpu.int8 import int8_encoder
from spacy_bert_crf.encoder.hf import (
    load_encoder,
    longest_input,
    pack,
    takes_padding,
    unpack,
    weights_of,
)
from spacy_bert_crf.encoder.passes import plan_docs, run, set_dropout, special_ids
from spacy_bert_crf.errors import BertCrfError

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = list("abcdefghijklmnopqrstuvwxyz")
PIECES = [*SPECIAL, *"东风钢厂在武汉招工。", *LETTERS, *(f"##{c}" for c in LETTERS)]
#: Families that are refused when they are loaded.
REFUSED = {
    **{name: FAMILIES[name].config for name in ("t5", "fnet", "bart")},
    "pad beyond the vocabulary": lambda n, pad: FAMILIES["bert"].config(3, pad),
}
#: The others but decoders, all with a tokenizer of single characters.
USABLE = {
    name: family.config
    for name, family in FAMILIES.items()
    if not family.tokenizer.startswith("causal")
    and name not in (*REFUSED, "mt5", "reformer", "nystromformer", "xlnet", "bigbird")
}


def make_folder(path, make_config, generic=False):
    """An encoder folder with a tokenizer of single characters.

    generic: a plain PreTrainedTokenizerFast, which leaves [CLS] and [SEP] to its post-processor.
    """
    path.mkdir(exist_ok=True)
    (path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf8")
    tokenizer = bert_tokenizer(path / "vocab.txt", model_max_length=512)
    if generic:
        names = {"unk": 1, "cls": 2, "sep": 3, "pad": 0, "mask": 4}
        special = {f"{name}_token": SPECIAL[i] for name, i in names.items()}
        tokenizer = T.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer.backend_tokenizer, model_max_length=512, **special
        )
    tokenizer.save_pretrained(path)
    torch.manual_seed(0)
    try:
        config = make_config(len(PIECES), 0)
    except AttributeError as err:  # transformers 5 is without NEZHA
        pytest.skip(str(err))
    model = T.AutoModel.from_config(config)
    if getattr(config, "position_embedding_type", "absolute") == "relative_key" and not any(
        hasattr(module, "distance_embedding") for module in model.modules()
    ):
        pytest.skip("transformers 5 leaves relative positions out: such an encoder is refused")
    model.save_pretrained(path)
    return str(path)


def vectors(encoder, model, texts, limit=10_000):
    docs = [spacy.blank("zh").make_doc(text) for text in texts]
    longest = longest_input(encoder, 512)
    plan = plan_docs(
        encoder.tokenizer, docs, longest=longest, overlap=8, context="fit", limit=limit,
        padding=takes_padding(encoder.model),
    )  # fmt: skip
    with torch.inference_mode():
        return run(model, plan, torch.device("cpu"))


@pytest.mark.parametrize("generic", [False, True], ids=["BertTokenizerFast", "plain tokenizer"])
@pytest.mark.parametrize("family", USABLE)
def test_an_encoder_that_is_loaded_predicts(family, generic, tmp_path):
    """Its vectors are those of the model itself, whatever computes them; long texts fit."""
    folder = make_folder(tmp_path / "encoder", USABLE[family], generic)
    encoder = load_encoder(folder, {}, {})
    text = "东风钢厂在武汉招工。"
    # The wordpieces of the text are its characters, one of each token.
    ids = torch.tensor([encoder.tokenizer(text).input_ids])
    assert ids.shape == (1, len(text) + 2)
    with torch.inference_mode():
        right = encoder.model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0, 1:-1]
    scale = float(right.abs().max())
    packed = packed_encoder(encoder.model)
    restored = unpack(pack(encoder), weights_of(encoder)).model
    for model in (encoder.model, packed, restored):
        found = vectors(encoder, model, [text])
        np.testing.assert_allclose(found.numpy(), right.numpy(), atol=1e-4 * max(scale, 1.0))
    # Longer than the position embeddings, together with a short one: windows and padding.
    texts = [text * 12, "武汉"]
    several = vectors(encoder, packed, texts)
    assert several.shape == (122, right.shape[1]) and bool(several.isfinite().all())
    one_by_one = vectors(encoder, encoder.model, texts, limit=1)
    np.testing.assert_allclose(several.numpy(), one_by_one.numpy(), atol=1e-3 * max(scale, 1.0))


@pytest.mark.parametrize("family", ["bert", "longformer", "deberta", "modernbert", "xlnet"])
def test_dropout_is_that_of_the_update(family, tmp_path):
    """Layers that keep their rate as a number have it too: with 0 nothing is random."""
    encoder = load_encoder(str(build(tmp_path / "encoder", FAMILIES[family])), {}, {})
    model, ids = encoder.model.train(), torch.arange(5, 12)[None]
    set_dropout(model, 0.0)
    with torch.inference_mode():
        same = [model(input_ids=ids).last_hidden_state for _ in range(2)]
        set_dropout(model, 0.5)
        others = [model(input_ids=ids).last_hidden_state for _ in range(2)]
    assert torch.equal(*same) and not torch.equal(*others)


@pytest.mark.parametrize("family", ["convbert", "funnel", "nystromformer", "yoso"])
def test_encoders_that_read_padding_get_none(family, tmp_path):
    encoder = load_encoder(str(build(tmp_path / "encoder", FAMILIES[family])), {}, {})
    texts = ["东风钢厂在武汉招工。", "武汉", "李伟在北京"]
    assert not takes_padding(encoder.model)
    together = vectors(encoder, encoder.model, texts)
    alone = torch.cat([vectors(encoder, encoder.model, [text]) for text in texts])
    np.testing.assert_allclose(together.numpy(), alone.numpy(), atol=1e-4)


#: Their layers are convolutions, or linear layers of another class.
NO_LINEAR = ("squeezebert", "ibert")


@pytest.mark.parametrize("family", [name for name in USABLE if name not in NO_LINEAR])
def test_an_encoder_in_integers_predicts(family, tmp_path):
    encoder = load_encoder(make_folder(tmp_path / "e", USABLE[family], True), {}, {})
    before, after, _ = special_ids(encoder.tokenizer)
    model = int8_encoder(encoder.model, before, after, longest_input(encoder, 512))
    text = "东风钢厂在武汉招工。"
    right, found = (vectors(encoder, m, [text]) for m in (encoder.model, model))
    assert found.shape == right.shape
    cosine = torch.nn.functional.cosine_similarity(found, right)
    assert float(cosine.min()) > 0.95


@pytest.mark.parametrize("family", NO_LINEAR)
def test_an_encoder_without_linear_layers_is_refused_in_integers(family, tmp_path):
    encoder = load_encoder(make_folder(tmp_path / "e", USABLE[family]), {}, {})
    before, after, _ = special_ids(encoder.tokenizer)
    with pytest.raises(BertCrfError, match="int8 would change nothing"):
        int8_encoder(encoder.model, before, after, 40)


@pytest.mark.parametrize("family", REFUSED)
def test_an_encoder_that_gives_no_vectors_is_refused_when_loaded(family, tmp_path):
    folder = make_folder(tmp_path / "encoder", REFUSED[family])
    with pytest.raises(BertCrfError, match="can't be used .*choose another one") as caught:
        load_encoder(folder, {}, {})
    assert len(str(caught.value)) < 700 and "\n" not in str(caught.value)


def test_bigbird_does_not_depend_on_what_it_read_before(tmp_path):
    encoder = load_encoder(str(build(tmp_path / "e", FAMILIES["bigbird"])), {}, {})
    texts = ["李伟在北京开会。" * 4, "武汉"]
    before = vectors(encoder, encoder.model, texts[:1])
    vectors(encoder, encoder.model, texts[1:])
    assert torch.equal(vectors(encoder, encoder.model, texts[:1]), before)


def test_an_encoder_without_a_limit_of_positions(tmp_path):
    build(tmp_path / "published", FAMILIES["xlnet"])
    convert_checkpoint(tmp_path / "published", tmp_path / "e")
    encoder = load_encoder(str(tmp_path / "e"), {}, {})
    assert longest_input(encoder, 512) == longest_input(encoder, 10_000) == 512
