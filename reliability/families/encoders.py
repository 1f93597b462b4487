"""Tiny random encoders of many families, each with a tokenizer of its own kind.

All are built without network. Their words are those of reliability.toys.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

#: Characters and words of the texts that the encoders read.
CHARACTERS = "东风钢厂在武汉招工。王小明李伟张三四赵敏陈静刘洋北京上海广州河省南"
CHARACTERS += "保定市清华大学新社中国银行教育局"
CHARACTERS += "昨天参观了记者报道下一场雪和都喜欢气很好，家高兴开会说贵"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [*SPECIAL, *dict.fromkeys(CHARACTERS), "iphone", *LETTERS, *(f"##{c}" for c in LETTERS)]
POSITIONS = 40


class NotInTransformers(Exception):
    """This version of transformers has no such model."""


class Family(NamedTuple):
    """A kind of encoder.

    config: makes its config; takes the size of the vocabulary and the id that pads.
    tokenizer: a kind of `make_tokenizer`.
    tokenizer_class: name of the class in transformers.
    models: well-known checkpoints of it.
    named: class that tokenizer_config.json names, if it is another one.
    """

    config: Callable[[int, int], Any]
    tokenizer: str = "wordpiece"
    tokenizer_class: str = "BertTokenizerFast"
    models: str = ""
    named: str = ""


def _size(n: int, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": n, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "initializer_range": 0.3, "max_position_embeddings": POSITIONS,
        **more,
    }  # fmt: skip


def _of(name: str, offset: bool = False, **more: Any) -> Callable[[int, int], Any]:
    """A config class of transformers with tiny sizes.

    offset: positions are counted from the padding id + 1.
    more: further settings; None leaves out a size.
    """

    def make(n: int, pad: int) -> Any:
        import transformers

        kwargs = _size(n, pad_token_id=pad)
        if offset:
            kwargs["max_position_embeddings"] = POSITIONS + pad + 1
        kwargs |= more
        kwargs = {key: value for key, value in kwargs.items() if value is not None}
        if not hasattr(transformers, name):
            raise NotInTransformers(f"transformers {transformers.__version__} has no {name}")
        return getattr(transformers, name)(**kwargs)

    return make


_NOT_BERT = dict.fromkeys(
    ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
     "max_position_embeddings", "initializer_range")
)  # fmt: skip
_DISENTANGLED = {
    "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8,
    "position_biased_input": False, "share_att_key": True, "type_vocab_size": 0,
}  # fmt: skip
_MODERN = {
    "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3,
    "reference_compile": False, "num_hidden_layers": 3,
}  # fmt: skip
_T5 = {
    **_NOT_BERT, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2,
    "decoder_start_token_id": 0,
}  # fmt: skip
_SEQ2SEQ = {
    **_NOT_BERT, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "max_position_embeddings": POSITIONS, "init_std": 0.3,
}  # fmt: skip

FAMILIES = {
    "bert": Family(
        _of("BertConfig"),
        models="bert-base-chinese, Chinese BERT-wwm and RoBERTa-wwm, RBT3, MacBERT, LERT, bge-zh",
    ),
    "bert, slow tokenizer": Family(
        _of("BertConfig"), named="BertJapaneseTokenizer", models="bert-base-japanese"
    ),
    "bert, relative positions": Family(
        _of("BertConfig", position_embedding_type="relative_key")
    ),
    "bert, SentencePiece": Family(
        _of("BertConfig"), "sentencepiece", "XLMRobertaTokenizerFast", "multilingual-e5-small"
    ),
    "ernie": Family(_of("ErnieConfig"), models="ERNIE 3.0"),
    "electra": Family(
        _of("ElectraConfig", embedding_size=8), "wordpiece", "ElectraTokenizerFast",
        "Chinese ELECTRA",
    ),
    "distilbert": Family(
        _of("DistilBertConfig", hidden_size=None, num_hidden_layers=None,
            num_attention_heads=None, intermediate_size=None,
            dim=16, n_layers=2, n_heads=2, hidden_dim=32),
        "wordpiece", "DistilBertTokenizerFast", "DistilBERT",
    ),
    "mobilebert": Family(
        _of("MobileBertConfig", embedding_size=8, intra_bottleneck_size=8,
            num_feedforward_networks=1),
        "wordpiece", "MobileBertTokenizerFast",
    ),
    "squeezebert": Family(
        _of("SqueezeBertConfig", embedding_size=16, q_groups=1, k_groups=1, v_groups=1,
            post_attention_groups=1, intermediate_groups=1, output_groups=1),
        "wordpiece", "SqueezeBertTokenizerFast",
    ),
    "convbert": Family(
        _of("ConvBertConfig", embedding_size=16, head_ratio=2, conv_kernel_size=3),
        "wordpiece", "ConvBertTokenizerFast",
    ),
    "megatron-bert": Family(_of("MegatronBertConfig"), models="Erlangshen-MegatronBert"),
    "nezha": Family(_of("NezhaConfig", max_relative_position=8)),
    "roformer": Family(_of("RoFormerConfig", embedding_size=16), models="RoFormer"),
    "layoutlm": Family(
        _of("LayoutLMConfig", max_2d_position_embeddings=16), "wordpiece", "LayoutLMTokenizerFast"
    ),
    "splinter": Family(_of("SplinterConfig")),
    "mpnet": Family(
        _of("MPNetConfig", offset=True), "wordpiece", "MPNetTokenizerFast", "MPNet"
    ),
    "nomic-bert": Family(
        _of("NomicBertConfig"), models="nomic-embed-text-v1.5"
    ),
    "funnel": Family(
        _of("FunnelConfig", **_NOT_BERT, d_model=16, n_head=2, d_head=8, d_inner=32,
            block_sizes=[1, 1], num_decoder_layers=1, architectures=["FunnelModel"]),
        "wordpiece", "FunnelTokenizerFast",
    ),
    "roberta": Family(
        _of("RobertaConfig", offset=True), "bytes", "RobertaTokenizerFast", "RoBERTa"
    ),
    "roberta-prelayernorm": Family(
        _of("RobertaPreLayerNormConfig", offset=True), "bytes", "RobertaTokenizerFast"
    ),
    "data2vec-text": Family(
        _of("Data2VecTextConfig", offset=True), "bytes", "RobertaTokenizerFast"
    ),
    "ibert": Family(_of("IBertConfig", offset=True), "bytes", "RobertaTokenizerFast"),
    "longformer": Family(
        _of("LongformerConfig", offset=True, attention_window=4), "bytes", "LongformerTokenizerFast"
    ),
    "deberta": Family(
        _of("DebertaConfig", relative_attention=True, pos_att_type=["p2c", "c2p"],
            position_biased_input=False, type_vocab_size=0),
        "bytes", "DebertaTokenizerFast",
    ),
    "modernbert": Family(
        _of("ModernBertConfig", **_MODERN), "bytes", "PreTrainedTokenizerFast", "ModernBERT"
    ),
    "modernbert, byte fallback": Family(
        _of("ModernBertConfig", **_MODERN), "byte fallback", "PreTrainedTokenizerFast", "mmBERT"
    ),
    "eurobert": Family(
        _of("EuroBertConfig", num_key_value_heads=2, bos_token_id=2, eos_token_id=3,
            mask_token_id=4),
        "bytes", "PreTrainedTokenizerFast", "EuroBERT",
    ),
    "bart": Family(_of("BartConfig", **_SEQ2SEQ), "bytes", "BartTokenizerFast"),
    "gpt2": Family(
        _of("GPT2Config", **_NOT_BERT, n_positions=POSITIONS, n_embd=16, n_layer=2, n_head=2),
        "causal bytes", "GPT2TokenizerFast",
    ),
    "opt": Family(
        _of("OPTConfig", intermediate_size=None, initializer_range=None, init_std=0.3, ffn_dim=32,
            word_embed_proj_dim=16),
        "causal bytes", "GPT2TokenizerFast",
    ),
    "bloom": Family(
        _of("BloomConfig", num_hidden_layers=None, num_attention_heads=None,
            intermediate_size=None, max_position_embeddings=None, n_layer=2, n_head=2),
        "causal bytes", "BloomTokenizerFast",
    ),
    "llama": Family(
        _of("LlamaConfig", num_key_value_heads=2), "causal bytes", "PreTrainedTokenizerFast"
    ),
    "qwen2": Family(
        _of("Qwen2Config", num_key_value_heads=2), "causal bytes", "Qwen2TokenizerFast"
    ),
    "qwen3": Family(
        _of("Qwen3Config", num_key_value_heads=2, head_dim=8), "causal bytes",
        "Qwen2TokenizerFast", "Qwen3, Qwen3-Embedding",
    ),
    "albert": Family(
        _of("AlbertConfig", embedding_size=8), "sentencepiece", "AlbertTokenizerFast", "ALBERT"
    ),
    "albert, 24 layers in one": Family(
        _of("AlbertConfig", embedding_size=8, num_hidden_layers=24, initializer_range=0.1),
        "sentencepiece", "AlbertTokenizerFast",
    ),
    "xlm-roberta": Family(
        _of("XLMRobertaConfig", offset=True), "sentencepiece", "XLMRobertaTokenizerFast",
        "XLM-RoBERTa, multilingual E5, bge-m3",
    ),
    "xlm-roberta-xl": Family(
        _of("XLMRobertaXLConfig", offset=True), "sentencepiece", "XLMRobertaTokenizerFast"
    ),
    "xmod": Family(
        _of("XmodConfig", offset=True, languages=["zh_CN"], default_language="zh_CN"),
        "sentencepiece", "XLMRobertaTokenizerFast",
    ),
    "camembert": Family(
        _of("CamembertConfig", offset=True), "sentencepiece", "CamembertTokenizerFast",
        "CamemBERT",
    ),
    "deberta-v2": Family(
        _of("DebertaV2Config", **_DISENTANGLED), "sentencepiece", "DebertaV2TokenizerFast",
        "DeBERTa-v3, mDeBERTa-v3",
    ),
    "rembert": Family(
        _of("RemBertConfig", input_embedding_size=8), "sentencepiece", "RemBertTokenizerFast"
    ),
    "bigbird": Family(
        _of("BigBirdConfig", attention_type="block_sparse", block_size=4, num_random_blocks=1),
        "sentencepiece", "BigBirdTokenizerFast",
    ),
    "nystromformer": Family(
        _of("NystromformerConfig", segment_means_seq_len=4, num_landmarks=4),
        "sentencepiece", "AlbertTokenizerFast",
    ),
    "yoso": Family(
        _of("YosoConfig", use_expectation=True), "sentencepiece", "AlbertTokenizerFast"
    ),
    "xlnet": Family(
        _of("XLNetConfig", **_NOT_BERT, d_model=16, n_layer=2, n_head=2, d_inner=32),
        "left sentencepiece", "XLNetTokenizerFast",
    ),
    "fnet": Family(_of("FNetConfig", num_attention_heads=None), "sentencepiece",
                   "FNetTokenizerFast"),
    "reformer": Family(
        _of("ReformerConfig", attention_head_size=8, axial_pos_embds_dim=[8, 8],
            axial_pos_shape=[5, 8], attn_layers=["local", "local"], feed_forward_size=32,
            is_decoder=False, num_hidden_layers=None, intermediate_size=None,
            local_attn_chunk_length=8),
        "sentencepiece", "ReformerTokenizerFast",
    ),
    "t5": Family(_of("T5Config", **_T5), "right sentencepiece", "T5TokenizerFast", "T5"),
    "mt5": Family(_of("MT5Config", **_T5), "right sentencepiece", "T5TokenizerFast", "mT5"),
    "umt5": Family(_of("UMT5Config", **_T5), "right sentencepiece", "T5TokenizerFast", "umT5"),
}  # fmt: skip


def make_folder(path: Path, family: Family, seed: int = 0) -> Path:
    """Write an encoder as it would be published: config, weights, tokenizer.

    seed: of its random weights.
    RETURNS: the folder.
    Raises NotInTransformers if this transformers has no such model.
    """
    import torch
    from transformers import AutoModel

    from reliability.families.tokenizers import make_tokenizer

    path.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(family.tokenizer, family.tokenizer_class)
    tokenizer.save_pretrained(path)
    if family.named:
        settings = json.loads((path / "tokenizer_config.json").read_text(encoding="utf8"))
        settings["tokenizer_class"] = family.named
        (path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf8")
        (path / "tokenizer.json").unlink()
    vocab = path / "vocab.txt"
    if family.tokenizer == "wordpiece" and not vocab.exists():  # transformers 5 leaves it out
        vocab.write_text("".join(f"{piece}\n" for piece in PIECES), encoding="utf8")
    config = family.config(len(tokenizer), tokenizer.pad_token_id or 0)
    torch.manual_seed(seed)
    model = AutoModel.from_config(config)
    for name, weight in model.named_parameters():
        # XLNet's attention makes its parameters without values: they are what the memory held.
        if ".rel_attn." in name and "layer_norm" not in name:
            torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(path)
    return path
