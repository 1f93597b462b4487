import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spacy_bert_crf.annotation.joined_tags import decode_joined
from spacy_bert_crf.annotation.schemes import SCHEMES, TagSet


@given(scheme=st.sampled_from(sorted(SCHEMES)), n_labels=st.integers(0, 3), data=st.data())
def test_entities_are_those_of_each_doc(scheme, n_labels, data):
    """For any tags, illegal ones included."""
    tag_set = TagSet(tuple("ABC"[:n_labels]), scheme)
    ids = st.integers(0, len(tag_set.tags) - 1) | st.just(0)
    docs = data.draw(st.lists(st.lists(ids, max_size=12), max_size=6))
    counts = np.array([len(tags) for tags in docs], dtype=np.int64)
    joined = np.array([tag for tags in docs for tag in tags], dtype=np.int64)
    found = decode_joined(tag_set, joined, counts)
    begins = np.cumsum(counts) - counts
    want = [
        (i, begins[i] + start, begins[i] + end, label)
        for i, tags in enumerate(docs)
        for start, end, label in tag_set.decode(tags)
    ]
    labels = [tag_set.labels[at] for at in found.labels]
    assert list(zip(found.docs, found.starts, found.ends, labels, strict=True)) == want
