"""Gold entities whose borders lie inside a wordpiece are counted and named at initialisation."""

import re
import warnings

import pytest
import spacy

from spacy_bert_crf.component.borders import inner_borders
from support.toys import TEXTS, make_examples, own_config, shared_config, shared_pipeline

#: `1998` and `iphone` are pieces of the toy's vocabulary.
INSIDE = [
    ("1998年iphone还没有出现。", [(0, 2, "NUM")]),
    ("他在1998年开会。", [(2, 6, "NUM")]),
    ("iphone在北京", [(2, 6, "ORG"), (7, 9, "LOC")]),
]


def initialised(encoder_path, data):
    nlp = spacy.blank("zh")
    nlp.add_pipe("bert_crf", config=own_config(encoder_path))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        nlp.initialize(lambda: make_examples(nlp, data))
    return [str(w.message) for w in caught if "inside a wordpiece" in str(w.message)]


def test_they_are_counted_and_named_once(encoder_path):
    (message,) = initialised(encoder_path, INSIDE)
    assert "[bert_crf] 2 of 4 gold entities begin or end inside a wordpiece" in message
    assert "'19' (NUM) at character 0 of '1998年iphone还'" in message
    assert "'hone' (ORG) at character 2 of 'iphone在北京'" in message


def test_at_most_ten_are_named(encoder_path):
    (message,) = initialised(encoder_path, INSIDE[:1] * 13)
    assert "13 of 13" in message and "and 3 more" in message
    assert len(re.findall("at character", message)) == 10


def test_borders_between_wordpieces_are_no_matter(encoder_path):
    assert initialised(encoder_path, TEXTS) == []


def test_white_space_in_a_wordpiece_is_no_matter():
    """SentencePiece spells a word together with the space before it."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    pieces = [("<unk>", 0.0), ("▁Anna", -1.0), ("▁saw", -1.0), ("▁Bob", -1.0)]
    fast = Tokenizer(models.Unigram(pieces, unk_id=0))
    fast.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=fast)
    text = "Anna saw Bob"
    assert not list(inner_borders(tokenizer, [(text, [(0, 4, "PER"), (9, 12, "PER")])]))
    (found,) = inner_borders(tokenizer, [(text, [(9, 11, "PER")])])
    assert (found.text, found.start_char) == ("Bo", 9)


def test_a_shared_encoder_is_not_checked(encoder_path):
    nlp = shared_pipeline(encoder_path)
    nlp.add_pipe("bert_crf", config=shared_config())
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*inside a wordpiece.*")
        nlp.initialize(lambda: make_examples(nlp, INSIDE))
