import random

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.training import Example

from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.training.batcher import create_batch_by_length

NLP = spacy.blank("zh")


@given(
    lengths=st.lists(st.integers(0, 40), max_size=60),
    size=st.integers(1, 9),
    limit=st.sampled_from([0, 50]),
)
def test_every_example_once_in_batches_of_like_length(lengths, size, limit):
    docs = [NLP.make_doc("字" * n) for n in lengths]
    examples = [Example(doc, doc) for doc in docs]
    random.seed(0)
    batches = list(create_batch_by_length(size, buffer=20, max_padded=limit)(iter(examples)))
    assert sorted(map(id, (eg for b in batches for eg in b))) == sorted(map(id, examples))
    for batch in batches:
        assert 0 < len(batch) <= size
        longest = max(len(eg.predicted) for eg in batch)
        assert not limit or len(batch) == 1 or longest * len(batch) <= limit
    if len(lengths) <= 20 and batches:
        sizes = [[len(eg.predicted) for eg in b] for b in batches]
        spans = sorted((min(s), max(s)) for s in sizes)
        assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:], strict=False))


def test_order_is_random_and_repeatable():
    docs = [NLP.make_doc("字" * n) for n in range(40)]
    batcher = create_batch_by_length(2, buffer=40)

    def order(seed):
        random.seed(seed)
        return [len(b[0].predicted) for b in batcher([Example(d, d) for d in docs])]

    assert order(1) == order(1) != order(2)
    assert order(1) != sorted(order(1))


@pytest.mark.parametrize("bad", [{"size": 0}, {"size": 8, "buffer": 4}, {"max_padded": -1}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(BertCrfError, match="batcher settings"):
        create_batch_by_length(**bad)
