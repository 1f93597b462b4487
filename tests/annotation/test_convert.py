"""Column files to DocBins and back: every way to be wrong, repairs, and round trips."""

import os
import re
import subprocess
import sys
import tarfile
import zlib

import pytest
import spacy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Example
from spacy.vocab import Vocab

from spacy_bert_crf.annotation.convert import CorpusReport, convert_corpus
from spacy_bert_crf.annotation.formats import (
    ON_ERROR,
    AnnotatedText,
    Entity,
    make_doc,
    text_of,
)
from spacy_bert_crf.annotation.formats.text import text_rows
from spacy_bert_crf.annotation.schemes import TagSet
from spacy_bert_crf.annotation.tags import SCHEME_NAMES
from spacy_bert_crf.errors import BertCrfError
from support.columns import GOOD, columns_of, labels, texts_and_spans, write
from support.paths import ROOT, SHARED

ZH = spacy.blank("zh")


def convert(folder, content, **settings):
    return convert_corpus(write(folder, content), folder / "out.spacy", **settings)


def load(path):
    return list(DocBin().from_disk(path).get_docs(Vocab()))


def entities(doc):
    return [(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents]


def save(folder, *docs, name="in.spacy", **settings):
    DocBin(docs=docs, **settings).to_disk(folder / name)
    return folder / name


def zh_doc(text, *ents):
    doc = ZH.make_doc(text)
    doc.ents = [doc.char_span(start, end, label=label) for start, end, label in ents]
    return doc


# Reading


def test_docs_have_text_entities_and_annotation(tmp_path):
    report = convert(tmp_path, GOOD)
    first, second = load(tmp_path / "out.spacy")
    assert (first.text, second.text) == ("北京", "好")
    assert [token.text for token in first] == ["北", "京"]
    assert entities(first) == [(0, 2, "LOC")]
    assert second.has_annotation("ENT_IOB")
    assert Example(ZH.make_doc("好"), second).get_aligned_ner() == ["O"]
    assert report == CorpusReport(
        scheme="bio", sentences=2, characters=3, entities={"LOC": 1}, without_entity=1
    )


def test_adjacent_entities_of_one_type_stay_two(tmp_path):
    convert(tmp_path, "北 B-LOC\n京 I-LOC\n上 B-LOC\n海 I-LOC\n")
    (doc,) = load(tmp_path / "out.spacy")
    assert entities(doc) == [(0, 2, "LOC"), (2, 4, "LOC")]


def test_label_is_all_after_the_first_hyphen(tmp_path):
    convert(tmp_path, "北 B-LOC-x.NAM\n京 I-LOC-x.NAM\n上 B--\n")
    (doc,) = load(tmp_path / "out.spacy")
    assert entities(doc) == [(0, 2, "LOC-x.NAM"), (2, 3, "-")]


def test_words_are_joined_by_a_space(tmp_path):
    report = convert(tmp_path, "New B-LOC\nYork I-LOC\nis O\n", lang="en", join=" ")
    (doc,) = load(tmp_path / "out.spacy")
    assert doc.text == "New York is"
    assert entities(doc) == [(0, 8, "LOC")]
    assert report.characters == 11


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("中", "no tag: '中'"),
        ("中 ", "no tag: '中 '"),
        ("中O", "no tag: '中O'"),
        ("中\u3000O", "no tag: '中\\\\u3000O'"),
        ("\u3000", "no tag: '\\\\u3000'"),  # not a blank line
        (" O", "there is no token before the tag: ' O'"),
        ("中 n O", "3 columns instead of 2 .*: '中 n O'"),
        ("中\tn\tO", "3 columns instead of 2 .*"),
        ("中  O", "3 columns instead of 2 .*: '中  O'"),
        ("   O", "4 columns instead of 2 .*"),
        ("中国 O", "2 characters in the character column: '中国 O'"),
        ("\ufffd\ufffd O", "2 characters in the character column: .*"),
        ("\r O", "a carriage return is no character: '\\\\r O'"),
        ("中 X-LOC", "unknown tag prefix 'X' \\(scheme bio: B, I\\): '中 X-LOC'"),
        ("中 B-", "tag 'B-' is neither O nor a prefix, a hyphen and a label: '中 B-'"),
        ("中 -LOC", "tag '-LOC' is neither .*"),
        ("中 LOC", "tag 'LOC' is neither .*"),
        ("中 o", "tag 'o' is neither .*"),
        ("中 O-LOC", "tag 'O-LOC' gives O a label: '中 O-LOC'"),
        ("中 B-LOC\u3000", "whitespace in the tag 'B-LOC\\\\u3000': .*"),
        ("中 O\r\r", "whitespace in the tag 'O\\\\r': .*"),
        ("中国 LOC", "2 characters in the character column; tag 'LOC' is neither .*"),
        ("中 I-LOC", "orphan continuation, no entity of this label before '中 I-LOC'"),
        ("中" * 100, "no tag: '中{60}…'"),
    ],
)
def test_bad_line_is_reported_with_number_and_text(tmp_path, line, message):
    with pytest.raises(BertCrfError) as error:
        convert(tmp_path, f"北 B-ORG\n京 I-ORG\n\n{line}\n大 O\n")
    listed, hint = str(error.value).split("\n")
    assert re.fullmatch(re.escape(f"{tmp_path / 'corpus.txt'}:4: ") + message, listed)
    assert hint.startswith("1 problem(s), nothing was written: correct the file")
    assert not (tmp_path / "out.spacy").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("New York O", "3 columns instead of 2"),
        ("New\u3000York O", "whitespace in the word: 'New"),
        ("\u3000 O", "whitespace in the word"),
        (" O", "there is no token before the tag"),
    ],
)
def test_bad_word_lines(tmp_path, line, message):
    with pytest.raises(BertCrfError, match=rf"corpus\.txt:1: {message}"):
        convert(tmp_path, f"{line}\nYork O\nis O\n", lang="en", join=" ")


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b"\xff O\n", r":1: invalid UTF-8 at byte 0 \(0xff\)"),
        (b"\xef\xbb\xbfa O\nb\xe4\xb8 O\n", r":2: invalid UTF-8 at byte 8 \(0xe4\)"),
        (b"a O\n\xed\xa0\x80 O\n", r":2: invalid UTF-8 at byte 4 \(0xed\)"),  # lone surrogate
        ("中 O".encode("gbk"), ":1: invalid UTF-8 at byte 0"),
        ("中 O".encode("utf-16"), ":1: invalid UTF-8 at byte 0"),
    ],
)
@pytest.mark.parametrize("on_error", ON_ERROR)
def test_invalid_utf8_always_fails(tmp_path, data, where, on_error):
    with pytest.raises(BertCrfError, match=where):
        convert(tmp_path, data, on_error=on_error)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.txt"]


@pytest.mark.parametrize("content", ["", "\ufeff", "\n", "\r\n \t\r\n", " "])
@pytest.mark.parametrize("on_error", ON_ERROR)
def test_file_without_sentences_always_fails(tmp_path, content, on_error):
    with pytest.raises(
        BertCrfError, match=r"corpus\.txt: file has no sentences, it is empty: choose"
    ):
        convert(tmp_path, content, on_error=on_error)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(BertCrfError, match=r"can't read .*none\.txt: No such file"):
        convert_corpus(tmp_path / "none.txt", tmp_path / "out.spacy")
    message = "looks like an empty folder, .*\nIt holds nothing."
    with pytest.raises(BertCrfError, match=message):
        convert_corpus(tmp_path, tmp_path / "out.spacy")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"scheme": "iob3"}, "--scheme can't be 'iob3': use one of 'auto', 'bio'"),
        ({"join": "_"}, "--join can't be '_': use one of '', ' '"),
        ({"on_error": "ignore"}, "--on-error can't be 'ignore'"),
        ({"lang": "qq"}, "can't make a tokenizer for language 'qq'"),
    ],
)
def test_unknown_settings(tmp_path, setting, message):
    with pytest.raises(BertCrfError, match=message):
        convert(tmp_path, GOOD, **setting)


# Schemes and spans


def test_mixed_schemes_name_the_file_and_can_be_chosen(tmp_path):
    content = "北 B-X\n京 E-X\n\n上 I-X\n海 M-X\n"
    with pytest.raises(BertCrfError, match=r"corpus\.txt: no tag scheme has .* I \(line 4\), M"):
        convert(tmp_path, content, on_error="repair")
    report = convert(tmp_path, content, scheme="bmes", on_error="skip-sentence")
    assert (report.sentences, report.skipped) == (1, 1)
    assert report.problems[0] == (
        4,
        "unknown tag prefix 'I' (scheme bmes: B, M, E, S): '上 I-X'",
    )


def test_a_broken_line_makes_its_neighbours_no_orphans(tmp_path):
    with pytest.raises(BertCrfError) as error:
        convert(tmp_path, "北 Q-LOC\n京 I-LOC\n市\n区 I-LOC\n中国 B-LOC\n好 I-LOC\n")
    found = re.findall(r"txt:(\d+): (\w+)", str(error.value))
    assert found == [("1", "unknown"), ("3", "no"), ("5", "2")]


# What to do with bad lines

BAD = (
    "北 B-LOC\n京 I-LOC\n\n"  # good
    "上 I-LOC\n海 I-LOC\n\n"  # orphan
    "天\n津 O\n\n"  # no tag
    "重 O\n庆 B-LOC\n"  # good
)


def test_fail_lists_every_bad_line_and_keeps_the_old_file(tmp_path):
    (tmp_path / "out.spacy").write_bytes(b"old")
    with pytest.raises(BertCrfError) as error:
        convert(tmp_path, BAD)
    assert re.findall(r"txt:(\d+): (\w+)", str(error.value)) == [("4", "orphan"), ("7", "no")]
    assert (tmp_path / "out.spacy").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(("count", "more"), [(10, None), (11, "... and 1 more")])
def test_fail_shows_ten(tmp_path, count, more):
    with pytest.raises(BertCrfError) as error:
        convert(tmp_path, "字\n" * count, format="columns")
    *lines, last = str(error.value).split("\n")
    assert last.startswith(f"{count} problem(s)")
    assert len([line for line in lines if line.endswith("no tag: '字'")]) == 10
    assert lines[10:] == ([more] if more else [])


def test_skip_sentence(tmp_path):
    report = convert(tmp_path, BAD, on_error="skip-sentence")
    assert [doc.text for doc in load(tmp_path / "out.spacy")] == ["北京", "重庆"]
    assert (report.sentences, report.skipped, report.repaired) == (2, 2, 0)
    assert (report.characters, report.entities) == (4, {"LOC": 2})
    assert [line for line, _ in report.problems] == [4, 7]


def test_repair(tmp_path):
    report = convert(tmp_path, BAD, on_error="repair")
    docs = load(tmp_path / "out.spacy")
    assert [doc.text for doc in docs] == ["北京", "上海", "重庆"]
    assert entities(docs[1]) == [(0, 2, "LOC")]
    assert (report.sentences, report.skipped, report.repaired) == (3, 1, 1)
    assert [line for line, _ in report.problems] == [4, 7]


def test_repair_closes_an_unfinished_entity(tmp_path):
    report = convert(
        tmp_path, "北 B-LOC\n京 I-LOC\n好 O\n上 E-ORG\n", scheme="bioes", on_error="repair"
    )
    (doc,) = load(tmp_path / "out.spacy")
    assert entities(doc) == [(0, 2, "LOC"), (3, 4, "ORG")]
    assert report.repaired == 2


@pytest.mark.parametrize("on_error", ["skip-sentence", "repair"])
def test_nothing_left_fails(tmp_path, on_error):
    with pytest.raises(BertCrfError, match=r"txt:1: no tag: '字'\n1 problem.*no sentence is left"):
        convert(tmp_path, "字\n", on_error=on_error, format="columns")
    assert not (tmp_path / "out.spacy").exists()


# Borders of entities and of the tokenizer's tokens

# zh makes one token of the two U+3000; the second entity has its border inside it.
CUT = "中 B-LOC\n\u3000 O\n\u3000 B-ORG\n国 I-ORG\n\n好 O\n"


def test_border_inside_a_token_fails(tmp_path):
    message = (
        r"txt:3: entity '\\u3000国' \(ORG\) has a border inside the tokenizer's token "
        r"'\\u3000\\u3000'\n"
    )
    with pytest.raises(BertCrfError, match=message):
        convert(tmp_path, CUT)


def test_border_inside_a_token_skipped(tmp_path):
    report = convert(tmp_path, CUT, on_error="skip-sentence")
    assert (report.sentences, report.skipped) == (1, 1)


def test_border_inside_a_token_widened(tmp_path):
    report = convert(tmp_path, CUT, on_error="repair")
    assert entities(load(tmp_path / "out.spacy")[0]) == [(0, 1, "LOC"), (1, 4, "ORG")]
    assert (report.repaired, report.dropped, report.skipped) == (1, 0, 0)


def test_problems_are_in_the_order_of_lines(tmp_path):
    content = "\u3000 O\n\u3000 B-ORG\n国 I-ORG\n好 I-LOC\n"
    report = convert(tmp_path, content, on_error="repair")
    assert [line for line, _ in report.problems] == [2, 4]
    assert report.repaired == 2


def test_border_inside_a_token_dropped_if_it_would_overlap(tmp_path):
    # "ab" is one token of English: only one of its two entities can stay.
    content = "a B-X\nb B-Y\n  O\nc B-X\n"
    report = convert(tmp_path, content, lang="en", on_error="repair")
    (doc,) = load(tmp_path / "out.spacy")
    assert entities(doc) == [(0, 2, "X"), (3, 4, "X")]
    assert (report.repaired, report.dropped) == (1, 1)
    assert report.entities == {"X": 2}
    assert len(report.problems) == 2


def by_line(text, *entities):
    """The text of a file with one character a line."""
    lines = list(range(1, len(text) + 1))
    return AnnotatedText(text, [Entity(*entity) for entity in entities], lines=lines)


def test_widening_gives_way_to_entities_that_fit():
    nlp = spacy.blank("en")
    doc, problems = make_doc(nlp, by_line("ab-c", (0, 3, "X"), (3, 4, "Y")))
    assert [token.text for token in doc] == ["ab", "-", "c"]
    assert (entities(doc), problems) == ([(0, 3, "X"), (3, 4, "Y")], [])
    doc, problems = make_doc(nlp, by_line("ab-c", (1, 3, "X"), (0, 1, "Y")))
    assert entities(doc) == [(0, 3, "X")]
    assert [(p.number, p.outcome) for p in problems] == [(2, "mended"), (1, "lost")]
    assert "entity 'b-' (X) has a border inside the tokenizer's token 'ab'" in problems[0].message
    doc, problems = make_doc(nlp, by_line("c-ab", (0, 3, "X")))
    assert (entities(doc), [p.outcome for p in problems]) == ([(0, 4, "X")], ["mended"])
    assert "entity 'c-a' (X) has a border inside the tokenizer's token 'ab'" in problems[0].message


@pytest.mark.parametrize(
    ("content", "expected", "dropped"),
    [
        ("中 B-X\n  I-X\n国 O\n", [(0, 1, "X")], 0),  # zh folds the space into the token before
        ("中 O\n  B-X\n国 I-X\n", [(2, 3, "X")], 0),
        ("中 O\n  B-X\n国 O\n", [], 1),
    ],
)
def test_entities_that_begin_or_end_with_a_space(tmp_path, content, expected, dropped):
    with pytest.raises(BertCrfError, match="has a border inside the tokenizer's token '中 '"):
        convert(tmp_path, content)
    report = convert(tmp_path, content, on_error="repair")
    (doc,) = load(tmp_path / "out.spacy")
    assert (doc.text, entities(doc)) == ("中 国", expected)
    assert (report.repaired, report.dropped) == (1 - dropped, dropped)


def test_text_above_the_length_limit_of_spacy(tmp_path):
    content = ("a" * 1000 + " O\n") * 1000 + "b B-X\n"
    report = convert(tmp_path, content, lang="xx", join=" ")
    assert report.characters == 1_001_001 > spacy.blank("xx").max_length
    assert entities(load(tmp_path / "out.spacy")[0]) == [(1_001_000, 1_001_001, "X")]


# Writing


def test_bytes_do_not_depend_on_the_process(tmp_path):
    source = write(tmp_path, GOOD + "\n中 B-PER.NOM\n龘 B-A-b\n")
    script = (
        "import sys; from pathlib import Path; from spacy_bert_crf.annotation import convert;"
        "assert not {'spacy', 'torch', 'tqdm', 'wasabi'} & set(sys.modules);"
        "convert.convert_corpus(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    convert_corpus(source, tmp_path / "here.spacy")
    there = tmp_path / "there.spacy"
    env = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script, source, there], env=env, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")  # no bar off a terminal
    assert there.read_bytes() == (tmp_path / "here.spacy").read_bytes()


def test_writing_replaces_the_old_file_and_makes_folders(tmp_path):
    source = write(tmp_path, GOOD)
    target = tmp_path / "new" / "out.spacy"
    convert_corpus(source, target)
    source.write_text("新 O\n", encoding="utf8")
    convert_corpus(source, target)
    assert [doc.text for doc in load(target)] == ["新"]
    assert list(target.parent.iterdir()) == [target]


def test_target_must_have_the_suffix_of_its_kind(tmp_path):
    source = write(tmp_path, GOOD)
    with pytest.raises(BertCrfError, match=r"is a column file.* must end in \.spacy: .*out\.bin"):
        convert_corpus(source, tmp_path / "out.bin")
    convert_corpus(source, tmp_path / "out.spacy")
    with pytest.raises(BertCrfError, match=r"is a DocBin.* must not end in \.spacy"):
        convert_corpus(tmp_path / "out.spacy", tmp_path / "again.spacy")


def test_unwritable_target(tmp_path):
    (tmp_path / "out.spacy").mkdir()
    with pytest.raises(BertCrfError, match=r"can't write .*out\.spacy"):
        convert(tmp_path, GOOD)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.txt", "out.spacy"]


def test_report_table():
    report = CorpusReport("bmes", 2318, 109870, {"PER": 884, "LOC": 1951}, 7, skipped=3)
    assert [line.split() for line in report.table().split("\n")] == [
        ["tag", "scheme", "bmes"],
        ["sentences", "2,318"],
        ["without", "entity", "7"],
        ["characters", "109,870"],
        ["entities", "2,835"],
        ["LOC", "1,951"],
        ["PER", "884"],
        ["skipped", "3"],
    ]


# Back to columns


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("auto", "北 B-L\n京 I-L\n市 I-L\n  O\n好 B-P\n\n"),
        ("bio", "北 B-L\n京 I-L\n市 I-L\n  O\n好 B-P\n\n"),
        ("bioes", "北 B-L\n京 I-L\n市 E-L\n  O\n好 S-P\n\n"),
        ("bmes", "北 B-L\n京 M-L\n市 E-L\n  O\n好 S-P\n\n"),
        ("bilu", "北 B-L\n京 I-L\n市 L-L\n  O\n好 U-P\n\n"),
    ],
)
def test_columns_in_each_scheme(tmp_path, scheme, expected):
    source = save(tmp_path, zh_doc("北京市 好", (0, 3, "L"), (4, 5, "P")))
    report = convert_corpus(source, tmp_path / "out.txt", scheme=scheme)
    assert (tmp_path / "out.txt").read_bytes().decode("utf8") == expected
    assert (report.sentences, report.characters, report.without_entity) == (1, 5, 0)
    assert report.entities == {"L": 1, "P": 1}
    assert report.scheme == ("bio" if scheme == "auto" else scheme)


def test_docbin_is_known_by_its_bytes(tmp_path):
    source = save(tmp_path, zh_doc("好"), name="docs.bin")
    convert_corpus(source, tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text(encoding="utf8") == "好 O\n\n"


def test_corpus_that_begins_with_the_character_of_the_byte_order_mark(tmp_path):
    source = save(tmp_path, zh_doc("\ufeff中", (0, 2, "X")))
    convert_corpus(source, tmp_path / "out.txt")
    expected = "\ufeff\ufeff B-X\n中 I-X\n\n"
    assert (tmp_path / "out.txt").read_text(encoding="utf8") == expected
    assert columns_of(tmp_path / "out.txt") == [[("\ufeff", "B", "X"), ("中", "I", "X")]]


def test_words_one_a_line(tmp_path):
    doc = spacy.blank("en")("New York  isn't")
    doc.ents = [Span(doc, 0, 2, "LOC")]
    convert_corpus(save(tmp_path, doc), tmp_path / "out.txt", join=" ")
    expected = "New B-LOC\nYork I-LOC\nis O\nn't O\n\n"
    assert (tmp_path / "out.txt").read_text(encoding="utf8") == expected


def test_unknown_spaces_are_not_written(tmp_path):
    doc = Doc(Vocab(), words=["北京", "好"], ents=["B-LOC", "O"])
    report = convert_corpus(save(tmp_path, doc), tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text(encoding="utf8") == "北 B-LOC\n京 I-LOC\n好 O\n\n"
    assert report.characters == 3


def unfit_docs():
    partly = zh_doc("北京")
    partly.set_ents([], outside=[partly[0:1]], default="missing")
    blocked = zh_doc("北京")
    blocked.set_ents([], blocked=[blocked[0:1]], default="outside")
    spaced = ZH.make_doc("好 \u3000 好")
    spaced.ents = [Span(spaced, 1, 2, "X")]
    phrase = Doc(Vocab(), words=["New York"], spaces=[False], ents=["B-LOC"])
    return [
        ("", zh_doc("北\n京"), r"a line break in the text would end the line: '北\\n京'"),
        (" ", zh_doc("北\r京"), "a line break"),
        ("", ZH.make_doc("北京"), "no entity annotation for some tokens"),
        ("", partly, "no entity annotation for some tokens"),
        ("", blocked, "no entity annotation for some tokens"),
        ("", ZH.make_doc(""), "the doc is empty"),
        (" ", zh_doc("  "), "the doc is empty"),
        ("", zh_doc("北京", (0, 2, "MY LOC")), "the label 'MY LOC' holds whitespace"),
        (" ", spaced, r"the entity '\\u3000 ?' \(X\) is whitespace"),
        (" ", phrase, "the token 'New York' holds whitespace"),
    ]


@pytest.mark.parametrize(("join", "doc", "message"), unfit_docs())
def test_docs_that_columns_cannot_hold(tmp_path, join, doc, message):
    source = save(tmp_path, zh_doc("好"), doc)
    with pytest.raises(BertCrfError, match=rf"in\.spacy: doc index 1: {message}"):
        convert_corpus(source, tmp_path / "out.txt", join=join)
    assert not (tmp_path / "out.txt").exists()
    for on_error in ("skip-sentence", "repair"):
        report = convert_corpus(source, tmp_path / "out.txt", join=join, on_error=on_error)
        assert (report.sentences, report.skipped, report.problems[0][0]) == (1, 1, 1)
        assert (tmp_path / "out.txt").read_text(encoding="utf8") == "好 O\n\n"
    with pytest.raises(BertCrfError, match=r"doc index 0: [\s\S]*no sentence is left"):
        convert_corpus(save(tmp_path, doc), tmp_path / "b.txt", join=join, on_error="repair")


def corrupt_bytes():
    good = DocBin(docs=[zh_doc("北京")]).to_bytes()
    return [b"", b"x", good[:-3], good[:5], zlib.compress(b"\x80"), zlib.compress(b"abc"), b"x O\n"]


@pytest.mark.parametrize("data", corrupt_bytes())
def test_corrupt_docbin(tmp_path, data):
    source = write(tmp_path, data, "in.spacy")
    with pytest.raises(BertCrfError, match=r"in\.spacy is no readable DocBin"):
        convert_corpus(source, tmp_path / "out.txt", on_error="repair")
    assert list(tmp_path.iterdir()) == [source]


def test_docbin_without_docs(tmp_path):
    with pytest.raises(BertCrfError, match=r"in\.spacy: file has no sentences\."):
        convert_corpus(save(tmp_path), tmp_path / "out.txt")


# Round trips


def near_space(text, span):
    return any(char.isspace() for char in text[max(span.start - 1, 0) : span.end + 1])


def column_text(sentences, scheme):
    """Column file of sentences of (characters, spans)."""
    out = []
    for text, spans in sentences:
        tag_set = TagSet(tuple(sorted({span.label for span in spans})), SCHEME_NAMES[scheme])
        tags = [tag_set.tags[i] for i in tag_set.encode(spans, len(text))]
        out += [f"{char} {tag}\n" for char, tag in zip(text, tags, strict=True)] + ["\n"]
    text = "".join(out)
    return "\ufeff" + text if text.startswith("\ufeff") else text


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(texts_and_spans(), min_size=1, max_size=3), st.sampled_from(sorted(SCHEME_NAMES)))
def test_columns_survive_docbin(tmp_path_factory, sentences, scheme):
    # White space at a border may lie inside a token of zh: other tests.
    sentences = [(text, [s for s in spans if not near_space(text, s)]) for text, spans in sentences]
    folder = tmp_path_factory.mktemp("trip")
    source = write(folder, column_text(sentences, scheme))
    report = convert_corpus(source, folder / "out.spacy", scheme=scheme)
    docs = load(folder / "out.spacy")
    assert [(doc.text, entities(doc)) for doc in docs] == sentences
    back = convert_corpus(folder / "out.spacy", folder / "back.txt", scheme=scheme, join="")
    assert (folder / "back.txt").read_bytes() == source.read_bytes()
    assert back == report


@settings(max_examples=200, deadline=None)
@given(texts_and_spans())
def test_repair_gives_entities_of_whole_tokens(case):
    text, spans = case
    doc, problems = make_doc(ZH, by_line(text, *spans))
    dropped = [problem for problem in problems if problem.outcome == "lost"]
    assert doc.text == text
    assert len(doc.ents) == len(spans) - len(dropped)
    assert doc.has_annotation("ENT_IOB")
    units, again = text_rows(text_of(doc), "")
    assert units == list(text)
    assert [tuple(span) for span in again] == entities(doc)
    if not problems:
        assert again == spans


words = st.text(st.characters(exclude_categories=["Cs", "Zs", "Zl", "Zp", "Cc"]), min_size=1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(words, st.none() | labels), min_size=1))
def test_words_survive_docbin(tmp_path_factory, pairs):
    folder = tmp_path_factory.mktemp("words")
    tags = [f"B-{label}" if label else "O" for _, label in pairs]
    text = "".join(f"{word} {tag}\n" for (word, _), tag in zip(pairs, tags, strict=True))
    source = write(folder, "\ufeff" + text + "\n")
    convert_corpus(source, folder / "out.spacy", lang="xx", join=" ")
    (doc,) = load(folder / "out.spacy")
    assert doc.text == " ".join(word for word, _ in pairs)
    assert [(ent.text, ent.label_) for ent in doc.ents] == [pair for pair in pairs if pair[1]]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.text(st.sampled_from("中国 \t\r-OBIMESLUX\u3000\u2028\0\ufeff"))),
    st.sampled_from(["auto", *SCHEME_NAMES]),
    st.sampled_from(ON_ERROR),
    st.sampled_from(["", " "]),
)
def test_any_lines_convert_or_are_an_error(tmp_path_factory, lines, scheme, on_error, join):
    folder = tmp_path_factory.mktemp("any")
    try:
        report = convert(folder, "\n".join(lines), scheme=scheme, join=join, on_error=on_error)
    except BertCrfError:
        assert not (folder / "out.spacy").exists()
    else:
        docs = load(folder / "out.spacy")
        assert len(docs) == report.sentences > 0
        assert (on_error == "fail") <= (not report.problems)


# Real corpora


def real(*parts):
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"no {path}")
    return path


def people_daily(folder, name):
    with tarfile.open(real("mirror", "kashgari", "china-people-daily-ner-corpus.tar.gz")) as tar:
        member = tar.extractfile(f"china-people-daily-ner-corpus/{name}")
        return write(folder, member.read(), name)


def check_same_bytes(source, out, scheme):
    back = out.with_suffix(".txt")
    convert_corpus(out, back, scheme=scheme)
    assert back.read_bytes() == source.read_bytes()


def test_people_daily(tmp_path):
    source = people_daily(tmp_path, "example.dev")
    report = convert_corpus(source, tmp_path / "dev.spacy")
    assert report == CorpusReport(
        scheme="bio",
        sentences=2318,
        characters=109870,
        entities={"LOC": 1951, "ORG": 984, "PER": 884},
        without_entity=918,
    )
    check_same_bytes(source, tmp_path / "dev.spacy", "bio")


def test_resume_dev(tmp_path):
    source = real("data", "resume", "dev.char.bmes")
    report = convert_corpus(source, tmp_path / "dev.spacy")
    assert (report.scheme, report.sentences, report.characters) == ("bmes", 463, 13890)
    assert report.entities["TITLE"] == 690
    check_same_bytes(source, tmp_path / "dev.spacy", "bmes")


def test_resume_train(tmp_path):
    # Two entities are cut in two by a blank line.
    source, out = real("data", "resume", "train.char.bmes"), tmp_path / "train.spacy"
    with pytest.raises(BertCrfError) as error:
        convert_corpus(source, out)
    assert re.findall(r"bmes:(\d+): (\w+)", str(error.value)) == [
        ("62390", "unfinished"),
        ("62392", "orphan"),
        ("64412", "unfinished"),
        ("64414", "orphan"),
    ]
    report = convert_corpus(source, out, on_error="skip-sentence")
    assert (report.sentences, report.characters, report.skipped) == (3817, 124002, 4)
    report = convert_corpus(source, out, on_error="repair")
    assert (report.sentences, report.characters, report.repaired) == (3821, 124099, 4)
    assert report.entities == {
        "TITLE": 6308,
        "ORG": 4613,
        "NAME": 952,
        "EDU": 858,
        "PRO": 287,
        "CONT": 260,
        "RACE": 115,
        "LOC": 47,
    }


@pytest.mark.parametrize(
    ("name", "two_characters", "orphans", "skip", "repair"),
    [
        ("weibo.train", 12, 10, (1340, 73025, 10, 0), (1348, 73747, 2, 10)),
        ("weibo.dev", 16, 0, (268, 14470, 2, 0), (268, 14470, 2, 0)),
    ],
)
def test_weibo(tmp_path, name, two_characters, orphans, skip, repair):
    source, out = real("data", "weibo", name), tmp_path / "out.spacy"
    with pytest.raises(BertCrfError) as error:
        convert_corpus(source, out)
    assert f"{two_characters + orphans} problem(s), nothing was written" in str(error.value)
    skipped = convert_corpus(source, out, on_error="skip-sentence")
    said = [message for _, message in skipped.problems]
    two = "2 characters in the character column: '\ufffd\ufffd O'"
    assert sum(two in message for message in said) == two_characters
    assert sum("orphan continuation" in message for message in said) == orphans
    for on_error, expected in (("skip-sentence", skip), ("repair", repair)):
        report = convert_corpus(source, out, on_error=on_error)
        found = (report.sentences, report.characters, report.skipped, report.repaired)
        assert found == expected
        assert len(report.problems) == two_characters + orphans
        assert all(kind.partition(".")[2] in ("NAM", "NOM") for kind in report.entities)
