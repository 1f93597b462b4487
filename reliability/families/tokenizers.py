"""Tiny tokenizers of the kinds that encoders have: wordpieces, bytes, SentencePiece."""

from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing

from reliability.families.encoders import CHARACTERS, LETTERS, PIECES

_NAMES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")


def make_tokenizer(kind: str, class_name: str) -> Any:
    """A fast tokenizer.

    kind: `wordpiece`, `bytes`, `sentencepiece`. `byte fallback` is a SentencePiece vocabulary that
        has bytes for characters that it does not know. `causal bytes` has no special tokens around
        a text. `left sentencepiece` pads on the left and has its two special tokens at the end,
        `right sentencepiece` has one at the end.
    class_name: of the class in transformers.
    """
    import transformers

    make = {"wordpiece": _wordpiece, "bytes": _bytes, "sentencepiece": _sentencepiece}
    make["fallback"] = _byte_fallback
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    if kind != "wordpiece":
        special = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
    fast = make[kind.split()[-1]](special)
    names = dict(zip(_NAMES, special, strict=True))
    _, _, first, last, _ = special
    if kind.startswith("left"):
        fast.post_processor = _around(f"$A {last} {first}", special)
        names["padding_side"] = "left"
    elif kind.startswith("right"):
        fast.post_processor = _around(f"$A {last}", special)
        names = {"pad_token": special[0], "unk_token": special[1], "eos_token": last}
    elif kind.startswith("causal"):
        names = {"pad_token": special[0], "unk_token": special[1], "eos_token": special[3]}
    else:
        fast.post_processor = _around(f"{first} $A {last}", special)
    if kind == "bytes":
        names |= {"bos_token": first, "eos_token": last}
    # transformers 5 is without the classes that add nothing, such as Bloom's.
    made = getattr(transformers, class_name, transformers.PreTrainedTokenizerFast)
    return made(tokenizer_object=fast, model_max_length=512, **names)


def _around(template: str, special: list[str]) -> TemplateProcessing:
    pairs = [(special[2], 2), (special[3], 3)]
    return TemplateProcessing(single=template, special_tokens=pairs)


def _wordpiece(special: list[str]) -> Tokenizer:
    vocab = {piece: number for number, piece in enumerate(PIECES)}
    fast = Tokenizer(models.WordPiece(vocab, unk_token=special[1]))
    fast.normalizer = normalizers.BertNormalizer()
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast.decoder = decoders.WordPiece()
    return fast


def _bytes(special: list[str]) -> Tokenizer:
    """Byte-level BPE, in which most Chinese characters of the toys are one piece."""
    fast = Tokenizer(models.BPE(unk_token=special[1]))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    fast.train_from_iterator([*CHARACTERS, "iphone", "iphone"], trainer)
    return fast


def _sentencepiece(special: list[str]) -> Tokenizer:
    """A Unigram model with `▁` for a space, and pieces of several characters."""
    words = ["▁", "北京", "▁张三", "新华", "iphone", *dict.fromkeys(CHARACTERS), *LETTERS]
    pieces = [(piece, 0.0) for piece in special] + [(word, -5.0) for word in words]
    fast = Tokenizer(models.Unigram(pieces, unk_id=1))
    fast.normalizer = normalizers.NFKC()
    fast.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    fast.decoder = decoders.Metaspace()
    return fast


def _byte_fallback(special: list[str]) -> Tokenizer:
    """BPE with `▁` for a space, and a piece for each byte of what it does not know, as Gemma's."""
    words = ["▁", *dict.fromkeys(CHARACTERS), *LETTERS, "ip", "ho", "ne"]
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    vocab = {piece: number for number, piece in enumerate(pieces)}
    merges = [("i", "p"), ("h", "o"), ("n", "e")]
    fast = Tokenizer(
        models.BPE(vocab, merges, unk_token=special[1], fuse_unk=True, byte_fallback=True)
    )
    fast.normalizer = normalizers.Replace(" ", "▁")
    fast.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    fast.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    return fast
