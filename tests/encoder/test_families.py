"""Tiny random encoders of many families: each works, or is refused when it is loaded."""

import numpy as np
import pytest
import spacy
import torch
import transformers as T

from reliability.families.encoders import FAMILIES, NotInTransformers
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
    **{name: FAMILIES[name].config for name in ("fnet", "bart")},
    "pad beyond the vocabulary": lambda n, pad: FAMILIES["bert"].config(3, pad),
}
#: Of these, another family has the same model.
SAME = ("bert, slow tokenizer", "bert, SentencePiece", "modernbert, byte fallback", "mt5")
#: The others but decoders, all with a tokenizer of single characters.
USABLE = {
    name: family.config
    for name, family in FAMILIES.items()
    if not family.tokenizer.startswith("causal")
    and name not in (*REFUSED, *SAME, "reformer", "nystromformer", "xlnet", "bigbird")
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
    except NotInTransformers as err:  # 5 is without NEZHA, 4 without EuroBERT
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
def test_an_encoder_that_is_loaded_predicts(family, generic, tmp_path, recwarn):
    """Its vectors are those of the model itself, whatever computes them; long texts fit."""
    folder = make_folder(tmp_path / "encoder", USABLE[family], generic)
    encoder = load_encoder(folder, {}, {})
    assert not any("causal" in str(each.message) for each in recwarn)
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


@pytest.mark.parametrize("family", ["gpt2", "opt", "bloom", "llama", "qwen2", "qwen3"])
def test_a_causal_encoder_is_named(family, tmp_path):
    try:
        folder = build(tmp_path / "e", FAMILIES[family])
    except NotInTransformers as err:
        pytest.skip(str(err))
    with pytest.warns(UserWarning, match="is causal: .* the text before it alone") as caught:
        load_encoder(str(folder), {}, {})
    assert sum("causal" in str(each.message) for each in caught) == 1


@pytest.mark.parametrize(
    ("family", "positions", "longest"),
    [
        ("bert", 512, 512), ("roberta", 513, 512), ("modernbert", 8192, 8192),
        ("llama", 131_072, 8192), ("t5", None, 512), ("xlnet", None, 512),
    ],
)  # fmt: skip
@pytest.mark.parametrize("of_tokenizer", [10**30, 100])
def test_windows_are_as_long_as_the_encoder_takes(
    family, positions, longest, of_tokenizer, tmp_path
):
    def config(n, pad):
        made = FAMILIES[family].config(n, pad)
        if positions:
            made.max_position_embeddings = positions
        return made

    encoder = load_encoder(make_folder(tmp_path / "e", config), {}, {})
    encoder.tokenizer.model_max_length = of_tokenizer
    expected = min(longest, of_tokenizer)
    assert longest_input(encoder, 0) == expected
    assert longest_input(encoder, 64) == min(64, expected)
    # What the settings say counts also beyond the default.
    if family == "llama" and of_tokenizer > 100:
        assert longest_input(encoder, 20_000) == 20_000


@pytest.mark.parametrize("family", ["t5", "umt5"])
def test_the_embeddings_of_t5_are_one_weight(family, tmp_path):
    """They have two names. They are saved once, and stay one weight when they are loaded."""
    build(tmp_path / "published", FAMILIES[family])
    report = convert_checkpoint(tmp_path / "published", tmp_path / "e")
    assert "without the" in report.text()  # the decoder
    encoder = load_encoder(str(tmp_path / "e"), {}, {})
    weights = weights_of(encoder)
    assert "shared.weight" in weights and "encoder.embed_tokens.weight" not in weights
    restored = unpack(pack(encoder), weights).model
    assert restored.shared.weight is restored.encoder.embed_tokens.weight
    ids = torch.arange(5, 20)[None]
    with torch.inference_mode():
        right, found = (m(input_ids=ids).last_hidden_state for m in (encoder.model, restored))
    assert torch.equal(right, found)


def test_a_tokenizer_without_a_fast_form_is_refused(tmp_path):
    folder = build(tmp_path / "published", FAMILIES["bert, slow tokenizer"])
    for refused in (
        lambda: convert_checkpoint(folder, tmp_path / "e"),
        lambda: load_encoder(str(folder), {}, {}),
    ):
        with pytest.raises(BertCrfError, match="BertJapaneseTokenizer.* has no fast form"):
            refused()
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize("family", ["bert, SentencePiece", "bert"])
def test_a_bert_without_vocab_txt_has_the_tokenizer_of_its_folder(family, tmp_path):
    """As multilingual-e5-small, and as transformers 5 may save a BERT."""
    folder = build(tmp_path / "published", FAMILIES[family])
    (folder / "vocab.txt").unlink(missing_ok=True)
    convert_checkpoint(folder, tmp_path / "e")
    text = "王小明在北京 iphone。"
    before, after = (
        load_encoder(str(path), {}, {}).tokenizer(text).input_ids
        for path in (folder, tmp_path / "e")
    )
    assert before == after and len(after) > 5


#: Their names in the files, of the list of layers.
LAYERS = ["bert", "distilbert", "albert", "roberta", "modernbert", "t5", "gpt2", "xlnet"]


@pytest.mark.parametrize("family", LAYERS)
def test_the_first_layers_of_a_checkpoint(family, tmp_path):
    build(tmp_path / "published", FAMILIES[family])
    convert_checkpoint(tmp_path / "published", tmp_path / "all")
    report = convert_checkpoint(tmp_path / "published", tmp_path / "one", layers=1)
    whole, one = (load_encoder(str(tmp_path / name), {}, {}) for name in ("all", "one"))
    n_layers = whole.model.config.num_hidden_layers
    assert (report.layers, report.dropped_layers) == (1, n_layers - 1)
    assert one.model.config.num_hidden_layers == 1
    everything = weights_of(whole)
    own = weights_of(one)
    assert all(torch.equal(everything[name], tensor) for name, tensor in own.items())
    assert (len(own) < len(everything)) == (family != "albert")
    with pytest.raises(BertCrfError, match=f"has {n_layers}: use 1 to {n_layers}"):
        convert_checkpoint(tmp_path / "published", tmp_path / "more", layers=n_layers + 1)


def test_blocks_of_layers_cannot_be_cut(tmp_path):
    build(tmp_path / "published", FAMILIES["funnel"])
    with pytest.raises(BertCrfError, match="the layers of a funnel model can't be chosen"):
        convert_checkpoint(tmp_path / "published", tmp_path / "one", layers=1)


@pytest.mark.parametrize("family", ["bert", "distilbert", "electra", "ernie", "deberta", "t5"])
def test_a_config_that_asks_for_attentions_changes_nothing(family, tmp_path):
    """Attention weights are never read, and the layers for CPUs do not give them."""

    def asking(n, pad):
        config = USABLE[family](n, pad)
        config._attn_implementation = "eager"
        config.output_attentions = config.output_hidden_states = True
        return config

    make_folder(tmp_path / "plain", USABLE[family])
    make_folder(tmp_path / "asking", asking)
    texts = ["东风钢厂在武汉招工。", "武汉"]
    plain = load_encoder(str(tmp_path / "plain"), {}, {})
    right = vectors(plain, plain.model, texts)
    for settings in ({}, {"output_attentions": True, "attn_implementation": "eager"}):
        encoder = load_encoder(str(tmp_path / "asking"), {}, settings)
        restored = unpack(pack(encoder), weights_of(encoder)).model
        for model in (encoder.model, packed_encoder(encoder.model), restored):
            torch.testing.assert_close(vectors(encoder, model, texts), right)
