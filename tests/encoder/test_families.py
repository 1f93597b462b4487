"""Tiny random encoders of many families: each works, or is refused when it is loaded."""

import numpy as np
import pytest
import spacy
import torch
import transformers as T

from spacy_bert_crf.encoder.cpu.fused import packed_encoder
from spacy_bert_crf.encoder.cpu.int8 import int8_encoder
from spacy_bert_crf.encoder.hf import load_encoder, longest_input, pack, unpack, weights_of
from spacy_bert_crf.encoder.passes import plan_docs, run, special_ids
from spacy_bert_crf.errors import BertCrfError

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = list("abcdefghijklmnopqrstuvwxyz")
PIECES = [*SPECIAL, *"东风钢厂在武汉招工。", *LETTERS, *(f"##{c}" for c in LETTERS)]
SIZE = {
    "vocab_size": len(PIECES), "hidden_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 32, "initializer_range": 0.3,
}  # fmt: skip
POSITIONS = {"max_position_embeddings": 40}
OFFSET = {"pad_token_id": 0, "max_position_embeddings": 41}
DISENTANGLED = {
    "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8,
    "position_biased_input": False, "share_att_key": True, "type_vocab_size": 0,
}  # fmt: skip

USABLE = {
    "bert": lambda: T.BertConfig(**SIZE, **POSITIONS),
    "ernie": lambda: T.ErnieConfig(**SIZE, **POSITIONS),
    "electra": lambda: T.ElectraConfig(embedding_size=8, **SIZE, **POSITIONS),
    "albert": lambda: T.AlbertConfig(embedding_size=8, **SIZE, **POSITIONS),
    "albert, 24 layers in one": lambda: T.AlbertConfig(
        **{**SIZE, "num_hidden_layers": 24, "initializer_range": 0.1}, embedding_size=8, **POSITIONS
    ),
    "distilbert": lambda: T.DistilBertConfig(
        vocab_size=len(PIECES), dim=16, n_layers=2, n_heads=2, hidden_dim=32,
        initializer_range=0.3, **POSITIONS,
    ),
    "roberta": lambda: T.RobertaConfig(**SIZE, **OFFSET),
    "xlm-roberta": lambda: T.XLMRobertaConfig(**SIZE, **OFFSET),
    "camembert": lambda: T.CamembertConfig(**SIZE, **OFFSET),
    "mpnet": lambda: T.MPNetConfig(**SIZE, max_position_embeddings=42),
    "deberta-v2": lambda: T.DebertaV2Config(**SIZE, **POSITIONS, **DISENTANGLED),
    "roformer": lambda: T.RoFormerConfig(embedding_size=16, **SIZE, **POSITIONS),
    "rembert": lambda: T.RemBertConfig(input_embedding_size=8, **SIZE, **POSITIONS),
    "megatron-bert": lambda: T.MegatronBertConfig(**SIZE, **POSITIONS),
    "bert, relative positions": lambda: T.BertConfig(
        position_embedding_type="relative_key", **SIZE, **POSITIONS
    ),
    "funnel": lambda: T.FunnelConfig(
        vocab_size=len(PIECES), d_model=16, n_head=2, d_head=8, d_inner=32, block_sizes=[1, 1],
        num_decoder_layers=1, architectures=["FunnelModel"],
    ),
    "mobilebert": lambda: T.MobileBertConfig(
        embedding_size=8, intra_bottleneck_size=8, num_feedforward_networks=1, **SIZE, **POSITIONS
    ),
    "modernbert": lambda: T.ModernBertConfig(
        pad_token_id=0, cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3,
        reference_compile=False, **{**SIZE, "num_hidden_layers": 3}, **POSITIONS,
    ),
}  # fmt: skip
REFUSED = {
    "t5": lambda: T.T5Config(
        vocab_size=len(PIECES), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2
    ),
    "fnet": lambda: T.FNetConfig(
        **{k: v for k, v in SIZE.items() if k != "num_attention_heads"}, **POSITIONS
    ),
    "pad beyond the vocabulary": lambda: T.BertConfig(**{**SIZE, "vocab_size": 3}, **POSITIONS),
}


def make_folder(path, config, generic=False):
    """An encoder folder with a tokenizer of single characters.

    generic: a plain PreTrainedTokenizerFast, which leaves [CLS] and [SEP] to its post-processor.
    """
    path.mkdir(exist_ok=True)
    (path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf8")
    tokenizer = T.BertTokenizerFast(vocab_file=str(path / "vocab.txt"), model_max_length=512)
    if generic:
        names = {"unk": 1, "cls": 2, "sep": 3, "pad": 0, "mask": 4}
        special = {f"{name}_token": SPECIAL[i] for name, i in names.items()}
        tokenizer = T.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer.backend_tokenizer, model_max_length=512, **special
        )
    tokenizer.save_pretrained(path)
    torch.manual_seed(0)
    T.AutoModel.from_config(config).save_pretrained(path)
    return str(path)


def vectors(encoder, model, texts, limit=10_000):
    docs = [spacy.blank("zh").make_doc(text) for text in texts]
    longest = longest_input(encoder, 512)
    plan = plan_docs(
        encoder.tokenizer, docs, longest=longest, overlap=8, by_sentences=False, limit=limit
    )
    with torch.inference_mode():
        return run(model, plan, torch.device("cpu"))


@pytest.mark.parametrize("generic", [False, True], ids=["BertTokenizerFast", "plain tokenizer"])
@pytest.mark.parametrize("family", USABLE)
def test_an_encoder_that_is_loaded_predicts(family, generic, tmp_path):
    """Its vectors are those of the model itself, whatever computes them; long texts fit."""
    folder = make_folder(tmp_path / "encoder", USABLE[family](), generic)
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
    if family not in DEPENDS_ON_PADDING:
        np.testing.assert_allclose(several.numpy(), one_by_one.numpy(), atol=1e-3 * max(scale, 1.0))


#: Funnel pools neighbouring rows, those of padding among them.
DEPENDS_ON_PADDING = {"funnel"}


@pytest.mark.parametrize("family", USABLE)
def test_an_encoder_in_integers_predicts(family, tmp_path):
    encoder = load_encoder(make_folder(tmp_path / "e", USABLE[family](), True), {}, {})
    before, after, _ = special_ids(encoder.tokenizer)
    model = int8_encoder(encoder.model, before, after, longest_input(encoder, 512))
    text = "东风钢厂在武汉招工。"
    right, found = (vectors(encoder, m, [text]) for m in (encoder.model, model))
    assert found.shape == right.shape
    cosine = torch.nn.functional.cosine_similarity(found, right)
    assert float(cosine.min()) > 0.95


@pytest.mark.parametrize("family", REFUSED)
def test_an_encoder_that_gives_no_vectors_is_refused_when_loaded(family, tmp_path):
    folder = make_folder(tmp_path / "encoder", REFUSED[family]())
    with pytest.raises(BertCrfError, match="can't be used .*choose another one") as caught:
        load_encoder(folder, {}, {})
    assert len(str(caught.value)) < 700 and "\n" not in str(caught.value)
