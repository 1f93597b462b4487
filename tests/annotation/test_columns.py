"""Column files: every rule of reading, detection of the scheme, and spans of rows."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_bert_crf.annotation.formats.columns import read_columns
from spacy_bert_crf.annotation.schemes import TagSet
from spacy_bert_crf.annotation.tags import SCHEME_NAMES, detect_scheme, read_spans
from spacy_bert_crf.errors import BertCrfError
from support.columns import GOOD, ODD, columns_of, rows_of, texts_and_spans, write

# Reading


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        "\ufeff" + GOOD,
        GOOD.replace("\n", "\r\n"),
        "\ufeff" + GOOD.replace("\n", "\r\n"),
        GOOD.rstrip("\n"),
        GOOD + "\n\n",
        GOOD.replace("\n\n", "\n\n\n\n"),
        GOOD.replace("\n\n", "\n \t\r\n"),
        GOOD.replace("\n\n", "\n\r\r\n"),
        "\n\n" + GOOD,
        GOOD.replace(" ", "\t"),
    ],
)
def test_accepted_forms_read_the_same(tmp_path, content):
    assert columns_of(write(tmp_path, content)) == [
        [("北", "B", "LOC"), ("京", "I", "LOC")],
        [("好", "O", "")],
    ]


@pytest.mark.parametrize("separator", [" ", "\t"])
def test_odd_characters_are_characters(tmp_path, separator):
    path = write(tmp_path, "x O\n" + "".join(f"{char}{separator}B-LOC\n" for char in ODD))
    (rows,) = read_columns(path).sentences
    assert [row.token for row in rows] == ["x", *ODD]
    assert [row.line for row in rows] == list(range(1, len(ODD) + 2))
    assert not any(row.wrong for row in rows)


def test_only_the_first_of_two_byte_order_marks_is_one(tmp_path):
    assert columns_of(write(tmp_path, "\ufeff\ufeff O\n")) == [[("\ufeff", "O", "")]]


# Schemes and spans


@pytest.mark.parametrize(
    ("prefixes", "scheme"),
    [
        ("", "bio"),
        ("B", "bio"),
        ("BI", "bio"),
        ("I", "bio"),
        ("BIE", "bioes"),
        ("IS", "bioes"),
        ("BIES", "bioes"),
        ("BM", "bmes"),
        ("BMES", "bmes"),
        ("BES", "bmes"),
        ("S", "bmes"),
        ("BL", "bilu"),
        ("U", "bilu"),
        ("BILU", "bilu"),
        ("BIX", "bio"),
    ],
)
def test_detected_scheme(prefixes, scheme):
    sentences = [rows_of("O"), *(rows_of(f"{prefix}-X") for prefix in prefixes)]
    assert detect_scheme(sentences) == scheme


@pytest.mark.parametrize("prefixes", ["IM", "ML", "EL", "SU", "BMU", "IES" + "M"])
def test_prefixes_of_two_schemes(prefixes):
    with pytest.raises(BertCrfError) as error:
        detect_scheme([rows_of("O", *(f"{prefix}-X" for prefix in prefixes))])
    for line, prefix in enumerate(prefixes, 2):
        assert f"{prefix} (line {line})" in str(error.value)
    assert "bio: B, I; bmes: B, M, E, S; bioes: B, I, E, S; bilu: B, I, L, U." in str(error.value)


@pytest.mark.parametrize("scheme", SCHEME_NAMES)
def test_all_short_sequences_against_the_tag_set(scheme):
    tag_set = TagSet(("X", "Y"), SCHEME_NAMES[scheme])
    start, end, pairs = tag_set.legal()
    for length in (1, 2, 3):
        for ids in itertools.product(range(len(tag_set.tags)), repeat=length):
            spans, problems = read_spans(rows_of(*(tag_set.tags[i] for i in ids)), scheme)
            legal = start[ids[0]] and end[ids[-1]]
            legal = legal and all(pairs[a][b] for a, b in itertools.pairwise(ids))
            assert spans == tag_set.decode(ids)
            assert legal is not bool(problems)
            assert all(problem.repairable for problem in problems)


@pytest.mark.parametrize(
    ("scheme", "tags", "lines"),
    [
        ("bio", ["I-X"], [1]),
        ("bio", ["B-X", "I-Y"], [2]),
        ("bio", ["B-X", "O", "I-X"], [3]),
        ("bioes", ["B-X"], [1]),
        ("bioes", ["B-X", "I-X", "O"], [2]),
        ("bioes", ["B-X", "I-Y", "E-Y"], [1, 2]),
        ("bioes", ["S-X", "E-X"], [2]),
        ("bmes", ["M-X"], [1, 1]),
        ("bmes", ["B-X", "B-X", "E-X"], [1]),
        ("bilu", ["U-X", "L-X", "B-X", "U-X"], [2, 3]),
    ],
)
def test_lines_of_orphans_and_unfinished_entities(scheme, tags, lines):
    assert [problem.line for problem in read_spans(rows_of(*tags), scheme)[1]] == lines


@settings(max_examples=200, deadline=None)
@given(texts_and_spans(), st.sampled_from(sorted(SCHEME_NAMES)))
def test_spans_survive_tags(case, scheme):
    text, spans = case
    tag_set = TagSet(tuple(sorted({span.label for span in spans})), SCHEME_NAMES[scheme])
    tags = [tag_set.tags[i] for i in tag_set.encode(spans, len(text))]
    assert read_spans(rows_of(*tags), scheme) == (spans, [])
