"""A small file of each format as its tool writes it, and what is read from it."""

import json

import numpy as np
import pytest
import spacy
from spacy.training import Example

from spacy_bert_crf.annotation.convert import convert_corpus
from spacy_bert_crf.annotation.formats import FORMATS, read_corpus, to_docs
from spacy_bert_crf.annotation.gold import read_gold
from spacy_bert_crf.errors import BertCrfError
from support.formats import read_docs

CONLL = """-DOCSTART- -X- -X- O

EU NNP B-NP I-ORG
rejects VBZ B-VP O
German JJ B-NP I-MISC
British JJ I-NP B-MISC

-DOCSTART- -X- -X- O

Peter NNP B-NP I-PER
Blackburn NNP I-NP I-PER
"""
CONLL_READ = [("EU", "ORG"), ("German", "MISC"), ("British", "MISC"), ("Peter Blackburn", "PER")]
JOHN = [("John Smith", "PER"), ("Paris", "LOC")]
WEBANNO = """#FORMAT=WebAnno TSV 3.3
#T_SP=de.tudarmstadt.ukp.dkpro.core.api.lexmorph.type.pos.POS|PosValue
#T_SP=de.tudarmstadt.ukp.dkpro.core.api.ner.type.NamedEntity|identifier|value


#Text=John Smith lives in Paris.
1-1\t0-4\tJohn\tNNP\t*[1]\tPER[1]\t
1-2\t5-10\tSmith\tNNP\t*[1]\tPER[1]\t
1-3\t11-16\tlives\tVBZ\t_\t_\t
1-4\t17-19\tin\tIN\t_\t_\t
1-5\t20-25\tParis\tNNP\t*\tLOC\t
"""
LABEL_STUDIO = [
    {
        "data": {"body": "John Smith is in Paris"},
        "annotations": [
            {"was_cancelled": True, "result": []},
            {
                "result": [
                    {"to_name": "body", "value": {"start": 0, "end": 10, "labels": ["PER"]}},
                    {"to_name": "body", "value": {"start": 17, "end": 22, "labels": ["LOC"]}},
                    {"to_name": "body", "value": {"choices": ["good"]}},
                ]
            },
        ],
    },
    {"data": {"body": "not yet"}, "annotations": []},
]
TOKENS = [("John", "U-PER"), ("lives", "O"), ("in", "O"), ("Paris", "U-LOC")]
V2 = [
    {
        "id": 7,
        "paragraphs": [
            {"raw": None, "sentences": [{"tokens": [{"orth": w, "ner": t} for w, t in TOKENS]}]}
        ],
    }
]
CLUE = {"PER": {"王明": [[0, 1], [5, 6]]}, "LOC": {"北京": [[3, 4]]}}
NER = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]

SAMPLES = {
    "conll-2003": ("columns", CONLL, CONLL_READ),
    "three columns, runs of spaces": (
        "columns",
        "John    NNP   B-PER\nSmith   NNP   I-PER\nis      VB    O\n",
        JOHN[:1],
    ),
    "tag first": ("columns", "B-PER John\nI-PER Smith\nO is\nB-LOC Paris\n", JOHN),
    "B_PER": ("columns", "John\tB_PER\nSmith\tI_PER\nis\tO\nParis\tB_LOC\n", JOHN),
    "PER-B": ("columns", "John PER-B\nSmith PER-E\nis O\nParis LOC-S\n", JOHN),
    "BILUO, comments": (
        "columns",
        "# id 1 of 2\nJohn B-PER\nSmith L-PER\nis O\nParis U-LOC\n",
        JOHN,
    ),
    "BMES": (
        "columns",
        "王 B-PER\n小 M-PER\n明 E-PER\n在 O\n京 S-LOC\n",
        [("王小明", "PER"), ("京", "LOC")],
    ),
    "Chinese words": (
        "columns",
        "王明 B-PER\n在 O\n北京 B-LOC\n大学 I-LOC\n",
        [("王明", "PER"), ("北京大学", "LOC")],
    ),
    "index column, two levels": (
        "columns",
        "1\tJohn\tB-PER\tO\n2\tSmith\tI-PER\tO\n3\tis\tO\tO\n4\tParis\tB-LOC\tO\n",
        JOHN,
    ),
    "doccano lists": (
        "doccano",
        json.dumps({"text": "John Smith is in Paris", "labels": [[0, 10, "PER"], [17, 22, "LOC"]]}),
        JOHN,
    ),
    "doccano objects": (
        "doccano",
        json.dumps(
            {
                "id": 1,
                "text": "John Smith is in Paris",
                "relations": [],
                "entities": [
                    {"id": 1, "label": "PER", "start_offset": 0, "end_offset": 10},
                    {"id": 2, "label": "LOC", "start_offset": 17, "end_offset": 22},
                ],
            }
        ),
        JOHN,
    ),
    "label studio": ("label-studio", json.dumps(LABEL_STUDIO), JOHN),
    "json-min": (
        "json-min",
        json.dumps(
            [
                {
                    "text": "in Paris",
                    "ner": [{"start": 3, "end": 8, "text": "Paris", "labels": ["LOC"]}],
                }
            ]
        ),
        JOHN[1:],
    ),
    "cluener": (
        "cluener",
        json.dumps({"text": "王明在北京王明", "label": CLUE}),
        [("王明", "PER"), ("北京", "LOC"), ("王明", "PER")],
    ),
    "prodigy": (
        "prodigy",
        json.dumps(
            {
                "text": "in Paris",
                "spans": [{"start": 3, "end": 8, "label": "LOC"}],
                "answer": "accept",
            }
        )
        + "\n"
        + json.dumps(
            {
                "text": "in Rome",
                "spans": [{"start": 3, "end": 7, "label": "LOC"}],
                "answer": "reject",
            }
        ),
        JOHN[1:],
    ),
    "spacy tuples": (
        "spacy-json",
        json.dumps([["John Smith is in Paris", {"entities": [[0, 10, "PER"], [17, 22, "LOC"]]}]]),
        JOHN,
    ),
    "spacy paragraphs": ("spacy-json", json.dumps(V2), [("John", "PER"), ("Paris", "LOC")]),
    "Doc.to_json": (
        "spacy-json",
        json.dumps(
            spacy.blank("en")("in Paris").to_json()
            | {"ents": [{"start": 3, "end": 8, "label": "LOC"}]}
        ),
        JOHN[1:],
    ),
    "hugging face": (
        "huggingface",
        json.dumps(
            {
                "tokens": ["John", "Smith", "in", "Paris"],
                "ner_tags": ["B-PER", "I-PER", "O", "B-LOC"],
            }
        ),
        JOHN,
    ),
    "csv": (
        "csv",
        'text,spans\n"John Smith, in Paris","[[0, 10, ""PER""], [15, 20, ""LOC""]]"\n',
        JOHN,
    ),
    "tsv of pandas": (
        "csv",
        "id\ttext\tentities\n1\tin Paris\t[(3, 8, 'LOC')]\n2\tnot annotated\t\n",
        JOHN[1:],
    ),
    "webanno": ("webanno", WEBANNO, JOHN),
}


def read(folder, content, **settings):
    (folder / "corpus").write_text(content, encoding="utf8")
    return read_corpus(folder / "corpus", **settings)


def surfaces(corpus):
    return [(t.text[e.start : e.end], e.label) for t in corpus.texts for e in t.entities]


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_recognised_and_read(tmp_path, name):
    format, content, expected = SAMPLES[name]
    corpus = read(tmp_path, content)
    assert (corpus.format, surfaces(corpus)) == (format, expected)


def test_every_format_has_a_sample():
    others = {"brat", "parquet", "spacy"}  # They are no single text: below, and test_convert.
    assert {format for format, _, _ in SAMPLES.values()} == FORMATS.keys() - others


def test_conll_documents_scheme_and_columns(tmp_path):
    corpus = read(tmp_path, CONLL)
    assert [item.document for item in corpus.texts] == ["corpus#1", "corpus#2"]
    assert corpus.details == {
        "tag scheme": "iob1",
        "columns": "4, the token in 0, the tag in 3",
        "tokens": "words",
    }
    assert corpus.texts[1].words == [(0, 5), (6, 15)]
    chunks = read(tmp_path, CONLL, columns="0,2", on_error="repair")
    assert surfaces(chunks)[0] == ("EU", "NP")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("0,9", "the file has 4 columns, from 0 to 3"),
        ("x", "give the columns of token and tag as 0,3"),
        ("1,1", "the file has 4 columns"),
    ],
)
def test_columns_that_are_not_there(tmp_path, columns, message):
    with pytest.raises(BertCrfError, match=message):
        read(tmp_path, CONLL, columns=columns)


def test_brat(tmp_path):
    (tmp_path / "a.txt").write_text("John lives in\nNew York now", encoding="utf8")
    (tmp_path / "a.ann").write_text(
        "T1\tPER 0 4\tJohn\nT2\tLOC 14 22\tNew York\nT3\tX 0 4;11 13\tJohn in\n"
        "R1\tLives Arg1:T1 Arg2:T2\n#1\tAnnotatorNotes T1\tsure\n",
        encoding="utf8",
    )
    (tmp_path / "b.txt").write_text("not annotated", encoding="utf8")
    corpus = read_corpus(tmp_path)
    assert (corpus.format, surfaces(corpus)) == ("brat", [("John", "PER"), ("New York", "LOC")])
    assert corpus.texts[0].document == "a"
    assert [(p.message, p.outcome, p.place) for p in corpus.problems] == [
        ("entity T3 (X) is discontinuous: 'John in'", "lost", f"{tmp_path / 'a.ann'}:3"),
        ("no .ann file of this name: not annotated", "skipped", str(tmp_path / "b.txt")),
    ]
    assert corpus.details["not read"] == "2 relations, events and notes"
    assert surfaces(read_corpus(tmp_path / "a.txt")) == surfaces(corpus)


def test_parquet_takes_the_names_of_its_metadata(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pa.table({"tokens": [["John", "Smith", "in", "Paris"]], "ner_tags": [[1, 2, 0, 3]]})
    parquet.write_table(table, tmp_path / "corpus")
    with pytest.raises(BertCrfError, match=r"corpus: the ner_tags are numbers.* --names O,B-PER"):
        read_corpus(tmp_path / "corpus")
    assert surfaces(read_corpus(tmp_path / "corpus", names=NER)) == JOHN
    features = {"ner_tags": {"_type": "Sequence", "feature": {"_type": "ClassLabel", "names": NER}}}
    info = json.dumps({"info": {"features": features}})
    parquet.write_table(table.replace_schema_metadata({"huggingface": info}), tmp_path / "corpus")
    corpus = read_corpus(tmp_path / "corpus")
    assert (corpus.format, surfaces(corpus)) == ("parquet", JOHN)


def test_numbers_as_tags_need_names(tmp_path):
    content = json.dumps({"tokens": ["John", "Smith", "in", "Paris"], "ner_tags": [1, 2, 0, 3]})
    with pytest.raises(BertCrfError, match="the ner_tags are numbers"):
        read(tmp_path, content)
    assert surfaces(read(tmp_path, content, names=NER)) == JOHN
    with pytest.raises(BertCrfError, match="the tag 3 has no name: there are 3"):
        read(tmp_path, content, names=NER[:3])


# Overlaps, borders and partial annotation


def doccano(*items):
    return "\n".join(
        json.dumps({"text": text, "label": spans, **more}) for text, spans, more in items
    )


NESTED = doccano(("in New York", [[3, 6, "X"], [3, 11, "LOC"]], {}))


@pytest.mark.parametrize(
    ("overlap", "kept", "lost"),
    [
        ("longest", ("New York", "LOC"), "entity 'New' (X) at 3:6 overlaps 'New York' (LOC)"),
        ("first", ("New", "X"), "entity 'New York' (LOC) at 3:11 overlaps 'New' (X)"),
    ],
)
def test_one_of_two_overlapping_entities_stays_and_the_other_is_listed(
    tmp_path, overlap, kept, lost
):
    corpus = read(tmp_path, NESTED, overlap=overlap)
    assert surfaces(corpus) == [kept]
    assert [(p.message, p.outcome) for p in corpus.problems] == [(lost, "lost")]


def test_overlaps_can_be_refused(tmp_path):
    with pytest.raises(BertCrfError, match=r"corpus:1: entity 'New York' .*\n.*--overlap longest"):
        read(tmp_path, NESTED, overlap="fail", on_error="repair")


def test_whitespace_at_an_end_is_trimmed_and_listed(tmp_path):
    corpus = read(tmp_path, doccano(("in Paris now", [[2, 9, "LOC"]], {})))
    assert surfaces(corpus) == [("Paris", "LOC")]
    assert [p.message for p in corpus.problems] == ["entity ' Paris ' (LOC): whitespace at an end"]


def test_offsets_outside_of_the_text(tmp_path):
    bad = doccano(("in Paris", [[3, 8, "LOC"], [5, 99, "X"]], {}), ("ok", [], {}))
    with pytest.raises(
        BertCrfError, match=r"corpus:1: entity 'X' at 5:99 lies outside of the text"
    ):
        read(tmp_path, bad)
    assert [t.text for t in read(tmp_path, bad, on_error="skip-sentence").texts] == ["ok"]
    mended = read(tmp_path, bad, on_error="repair")
    assert surfaces(mended) == [("Paris", "LOC")]
    assert [p.outcome for p in mended.problems] == ["lost"]


def test_ten_problems_are_listed_and_the_others_counted(tmp_path):
    items = [("in Paris", [[5, 99, "X"]], {})] * 12
    with pytest.raises(BertCrfError) as error:
        read(tmp_path, doccano(*items))
    lines = str(error.value).split("\n")
    assert len(lines) == 12 and lines[10] == "... and 2 more"
    assert lines[11].startswith("12 problem(s)")


def test_partial_annotation_leaves_tokens_unknown(tmp_path):
    items = [("in Paris now", [[3, 8, "LOC"]], {"partial": True}), ("in Rome", [], {})]
    corpus = read(tmp_path, doccano(*items))
    assert [item.partial for item in corpus.texts] == [True, False]
    nlp = spacy.blank("en")
    docs, problems = to_docs(nlp, corpus.texts)
    golds = [read_gold(Example(nlp.make_doc(doc.text), doc)) for doc in docs]
    assert golds[0].spans == [(1, 2, "LOC")]
    np.testing.assert_array_equal(golds[0].known, [False, True, False])
    np.testing.assert_array_equal(golds[1].known, [True, True])
    assert problems == []
    assert all(item.partial for item in read(tmp_path, doccano(*items), partial=True).texts)


def test_convert_to_another_format(tmp_path):
    (tmp_path / "corpus").write_text(NESTED, encoding="utf8")
    report = convert_corpus(tmp_path / "corpus", tmp_path / "out.spacy", lang="en")
    assert read_docs(tmp_path / "out.spacy") == [("in New York", [(3, 11, "LOC")])]
    assert (report.format, report.dropped) == ("doccano", 1)
    assert [row.split()[:1] for row in report.table().split("\n")][:2] == [["format"], ["offsets"]]
    convert_corpus(tmp_path / "out.spacy", tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text() == "in O\nNew B-LOC\nYork I-LOC\n\n"
    with pytest.raises(BertCrfError, match=r"must end in \.spacy: .*--to columns, doccano"):
        convert_corpus(tmp_path / "corpus", tmp_path / "out.json")
    convert_corpus(tmp_path / "corpus", tmp_path / "folder", to="brat")
    assert surfaces(read_corpus(tmp_path / "folder")) == [("New York", "LOC")]
    with pytest.raises(BertCrfError, match="some tokens, and brat has no mark for it"):
        convert_corpus(tmp_path / "corpus", tmp_path / "f2", to="brat", partial=True)


def test_a_language_that_does_not_fit_is_doubted(tmp_path):
    (tmp_path / "corpus").write_text(NESTED, encoding="utf8")
    doubt = "few characters are Chinese, but tokens of the language zh are characters"
    report = convert_corpus(tmp_path / "corpus", tmp_path / "out.spacy", lang="zh")
    assert doubt in report.messages[0]
    report = convert_corpus(tmp_path / "corpus", tmp_path / "out.spacy", lang="en")
    assert doubt not in "".join(report.messages)
