"""Texts are annotated by several sources, and the result trains: function and command."""

import json
import random

import pytest
import spacy
from spacy.tokens import DocBin
from spacy.training import Example

from spacy_bert_crf.annotation.coverage.covers import covers_of
from spacy_bert_crf.annotation.docbin import read_docs
from spacy_bert_crf.annotation.gold import read_gold
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.evaluation.silver import output
from spacy_bert_crf.evaluation.silver.agreement import Opinion, Rule, agree
from spacy_bert_crf.evaluation.silver.bootstrap import RawText, Settings, bootstrap, set_silver
from spacy_bert_crf.evaluation.silver.report import StringCounts
from spacy_bert_crf.evaluation.silver.sources import open_sources, parse_source
from support.commands import cli
from support.toys import TEXTS, characters, own_config

TEXT = TEXTS[0][0]  # 王小明昨天在北京参观了清华大学。
TIMES = 4  # some dozen texts


def changed(spans, rate, seed):
    """Entities of which some are missing, and some have another label or end."""
    choose, out = random.Random(seed), []
    for start, end, label in spans:
        kind = choose.choice(["missing", "label", "end"]) if choose.random() < rate else ""
        if kind == "label":
            out.append([start, end, {"PER": "ORG"}.get(label, "PER")])
        elif kind != "missing":
            out.append([start, end - (kind == "end" and end - start > 1), label])
    return out


@pytest.fixture
def folder(tmp_path):
    """Texts, and the answers of two programs, one of which is wrong now and then."""
    data = [(f"{i}、{text}", [(a + 2, b + 2, c) for a, b, c in spans])
            for i in range(TIMES) for text, spans in TEXTS]  # fmt: skip
    (tmp_path / "texts.txt").write_text("".join(f"{t}\n" for t, _ in data), encoding="utf8")
    for name, rate in (("good", 0.0), ("bad", 0.4)):
        records = [
            {"text": text, "entities": changed(spans, rate, seed)}
            for seed, (text, spans) in enumerate(data)
        ]
        lines = [json.dumps(each, ensure_ascii=False) + "\n" for each in records]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines), encoding="utf8")
    return tmp_path


def words(folder, *more, dst="silver.spacy", sources=("good", "bad")):
    named = [word for name in sources for word in ("-s", f"file:{folder / name}.jsonl")]
    return ["bootstrap", folder / "texts.txt", folder / dst, *named, *more]


def docs_of(path):
    return read_docs(path, spacy.blank("zh"))


def test_agreed_entities_are_kept_and_the_rest_is_unknown(folder):
    text = cli(*words(folder))
    n_unknown = n_kept = 0
    for doc, (_, spans) in zip(docs_of(folder / "silver.spacy"), TEXTS * TIMES, strict=True):
        gold = {(a + 2, b + 2, label) for a, b, label in spans}
        found = set(characters(doc))
        assert found <= gold and covers_of(doc) == {"LOC", "ORG", "PER"}
        known = read_gold(Example(doc.copy(), doc)).known
        for start, end, _ in gold - found:
            assert not known[start:end].any()
        n_unknown += int((~known).sum())
        n_kept += len(found)
    assert n_unknown > 10 and n_kept > 20
    assert f"{len(TEXTS) * TIMES} texts" in text and "wrote" in text


def test_one_source_alone_is_its_own_annotation(folder):
    cli(*words(folder, sources=["bad"]))
    answers = map(json.loads, (folder / "bad.jsonl").read_text(encoding="utf8").splitlines())
    for doc, answer in zip(docs_of(folder / "silver.spacy"), answers, strict=True):
        assert [list(entity) for entity in characters(doc)] == answer["entities"]
        assert all(token.ent_iob for token in doc)


def test_the_order_of_sources_does_not_change_the_file(folder):
    cli(*words(folder))
    cli(*words(folder, dst="other.spacy", sources=["bad", "good"]))
    assert (folder / "silver.spacy").read_bytes() == (folder / "other.spacy").read_bytes()


def test_doubt_as_outside_has_the_same_entities(folder):
    cli(*words(folder))
    cli(*words(folder, "--doubt", "outside", dst="naive.spacy"))
    silver, naive = (docs_of(folder / f"{name}.spacy") for name in ("silver", "naive"))
    assert [characters(doc) for doc in silver] == [characters(doc) for doc in naive]
    assert all(token.ent_iob for doc in naive for token in doc)


def test_json_lines_and_the_folder_say_the_same_as_the_docbin(folder, monkeypatch):
    monkeypatch.setattr(output, "PART", 10)
    cli(*words(folder))
    cli(*words(folder, dst="silver.jsonl"))
    cli("convert-corpus", folder / "silver.jsonl", folder / "again.spacy")
    cli(*words(folder, dst="parts"))
    cli(*words(folder, "--to", "label-studio", dst="tasks.json"))
    cli("convert-corpus", folder / "tasks.json", folder / "tasks.spacy")
    parts = sorted((folder / "parts").iterdir())
    assert [len(docs_of(part)) for part in parts] == [10, 10, 10, 2]

    def facts(docs):
        golds = [read_gold(Example(doc.copy(), doc)) for doc in docs]
        return [
            (d.text, g.spans, g.known.tolist(), g.covers) for d, g in zip(docs, golds, strict=True)
        ]

    want = facts(docs_of(folder / "silver.spacy"))
    assert facts(docs_of(folder / "again.spacy")) == want
    assert facts(docs_of(folder / "tasks.spacy")) == want
    assert facts([doc for part in parts for doc in docs_of(part)]) == want


def test_it_trains_as_it_is(folder, encoder_path):
    cli(*words(folder))
    DocBin(docs=docs_of(folder / "silver.spacy")[:4]).to_disk(folder / "dev.spacy")
    cli("init-config", folder / "train.cfg", "--lang", "zh", "--train", folder / "silver.spacy",
        "--dev", folder / "dev.spacy", "--encoder", encoder_path)  # fmt: skip
    text = cli("train", folder / "train.cfg", folder / "out", "--training.max_steps", 1)
    assert (folder / "out" / "model-last" / "meta.json").is_file(), text


def test_what_is_unknown_is_not_learned(encoder_path):
    """An update on silver annotation has a loss of the known tokens only."""
    nlp = spacy.blank("zh")
    pipe = nlp.add_pipe("bert_crf", config=own_config(encoder_path))
    doc = nlp.make_doc(TEXT)
    said = [Opinion(((0, 3, "PER"),)), Opinion(((6, 8, "LOC"),))]
    assert set_silver(doc, agree(said)) == 5
    gold = read_gold(Example(nlp.make_doc(TEXT), doc))
    assert gold.spans == [] and (~gold.known).nonzero()[0].tolist() == [0, 1, 2, 6, 7]
    example = Example(nlp.make_doc(TEXT), doc)
    pipe.add_label("PER")
    pipe.add_label("LOC")
    nlp.initialize(lambda: [example])
    assert nlp.update([example])["bert_crf"] > 0


def test_the_report_and_the_disagreements(folder):
    text = cli(*words(folder, "-d", folder / "dis.jsonl", "-r", folder / "report.json"))
    found = json.loads((folder / "report.json").read_text(encoding="utf8"))
    assert found["texts"] == len(TEXTS) * TIMES and found["left_out"] == 0
    assert 0 < found["unknown_share"] < 0.5
    total = sum(len(spans) for _, spans in TEXTS) * TIMES
    assert sum(pair["same"] for pair in found["pairs"]) == sum(found["entities"].values()) < total
    for kind in ("only_first", "other_borders", "other_label"):
        assert sum(pair[kind] for pair in found["pairs"]) > 0
    assert {pair["label"] for pair in found["pairs"]} == {"LOC", "ORG", "PER"}
    records = [json.loads(line) for line in (folder / "dis.jsonl").open(encoding="utf8")]
    places = [place for record in records for place in record["disagreements"]]
    assert len(places) == found["disagreements"] == sum(s["count"] for s in found["strings"])
    for record in records:
        for place in record["disagreements"]:
            assert record["text"][place["start"] : place["end"]] == place["text"]
            assert set(place["sources"]) == {"good", "bad"} and place["sources"]["good"] is not None
    assert "good, bad" in text and "disagreement" in text
    # An annotation tool's corpus: what is agreed on is there, and the rest is to be corrected.
    cli("convert-corpus", folder / "dis.jsonl", folder / "dis.spacy")
    assert [characters(doc) for doc in docs_of(folder / "dis.spacy")] == [
        [tuple(entity) for entity in record["label"]] for record in records
    ]


def test_a_source_that_fails_leaves_the_others_or_the_text_out(folder):
    lines = (folder / "bad.jsonl").read_text(encoding="utf8").splitlines(keepends=True)
    (folder / "bad.jsonl").write_text("".join(lines[1:]), encoding="utf8")
    text = cli(*words(folder, "-r", folder / "report.json"))
    found = json.loads((folder / "report.json").read_text(encoding="utf8"))
    assert found["sources"]["bad"]["failed"] == 1 and found["texts"] == len(lines)
    assert "bad failed: texts.txt:1: " in text
    assert characters(docs_of(folder / "silver.spacy")[0]) == [
        (a + 2, b + 2, label) for a, b, label in TEXTS[0][1]
    ]
    assert "1 texts were left out" in cli(*words(folder, "--skip-failed"))
    assert len(docs_of(folder / "silver.spacy")) == len(lines) - 1


def test_a_dictionary_alone_leaves_the_rest_unknown(folder):
    pytest.importorskip("ahocorasick_rs")
    (folder / "names.tsv").write_text("北京\tLOC\n清华大学\tORG\n", encoding="utf8")
    cli(*words(folder, "-s", f"dictionary:{folder / 'names.tsv'}", sources=[]))
    doc = docs_of(folder / "silver.spacy")[0]
    assert characters(doc) == [(8, 10, "LOC"), (13, 17, "ORG")] and covers_of(doc) is None
    assert sum(token.ent_iob == 0 for token in doc) == len(doc) - 6


def test_texts_with_ids_and_a_file_of_sources(folder):
    (folder / "texts.jsonl").write_text('{"key": "a", "text": "张三"}\n', encoding="utf8")
    (folder / "ids.jsonl").write_text(
        '{"key": "a", "entities": [{"text": "张三", "label": "PERSON"}]}\n', encoding="utf8"
    )
    sources = [{"name": "x", "file": str(folder / "ids.jsonl"), "map": {"PERSON": "PER"}}]
    (folder / "sources.json").write_text(json.dumps(sources), encoding="utf8")
    cli("bootstrap", folder / "texts.jsonl", folder / "o.spacy", "--id-field", "key", "--sources",
        folder / "sources.json")  # fmt: skip
    assert characters(docs_of(folder / "o.spacy")[0]) == [(0, 2, "PER")]


# Refusals


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["-a", "most"], "the agreement 'most'"),
        (["--to", "nothing"], "--to can't be 'nothing'"),
        (["--to", "prodigy"], "is a DocBin, and --to says prodigy"),
        (["--map", "PERSON=PER"], "--map renames PERSON"),
        (["-s", "model:x"], "of no known kind"),
        (["-s", "file:none.jsonl"], "there is no file none.jsonl"),
        (["--lang", "xx-none"], "can't make a tokenizer"),
        (["--id-field", "id"], "lines without fields"),
    ],
)
def test_bad_settings_end_with_one_message_and_write_nothing(folder, more, message):
    before = sorted(folder.iterdir())
    assert message in cli(*words(folder, *more), code=1)
    assert sorted(folder.iterdir()) == before


def test_without_a_source_or_a_text_nothing_is_written(folder):
    assert "there is no source" in cli(*words(folder, sources=[]), code=1)
    (folder / "texts.txt").write_text("\n \n", encoding="utf8")
    assert "all 2 texts were left out" in cli(*words(folder), code=1)
    (folder / "texts.txt").write_text("别的\n", encoding="utf8")
    text = cli(*words(folder, "-d", folder / "dis.jsonl"), code=1)
    assert "none of the 1 texts is among the 32" in text
    assert not (folder / "silver.spacy").exists() and not (folder / "dis.jsonl").exists()


def test_a_bad_text_is_named_or_left_out(folder):
    with (folder / "texts.txt").open("ab") as file:
        file.write(b"\xff\n")
    assert "texts.txt:33: it is not valid UTF-8" in cli(*words(folder), code=1)
    assert not (folder / "silver.spacy").exists()
    assert "left out: texts.txt:33" in cli(*words(folder, "--on-error", "skip-text"))


def test_a_folder_of_other_files_is_not_replaced(folder):
    (folder / "parts").mkdir()
    (folder / "parts" / "notes.txt").touch()
    assert "no folder of DocBins only" in cli(*words(folder, dst="parts"), code=1)


def test_an_old_file_stays_if_a_source_is_bad(folder):
    (folder / "silver.spacy").write_bytes(b"old")
    with (folder / "bad.jsonl").open("a", encoding="utf8") as file:
        file.write('{"text": "好", "entities": [[0, 5, "PER"]]}\n')
    assert "bad.jsonl:33: " in cli(*words(folder), code=1)
    assert (folder / "silver.spacy").read_bytes() == b"old"


# The function


def test_the_function_returns_what_the_command_prints(folder):
    lines = (folder / "texts.txt").read_text(encoding="utf8").splitlines()
    texts = [RawText("a", line) for line in lines]
    specs = [parse_source(f"file:{folder / name}.jsonl") for name in ("good", "bad")]
    settings = Settings(rule=Rule.of("1"))
    report = bootstrap(texts, open_sources(specs), folder / "a.spacy", settings=settings)
    assert report.texts == len(TEXTS) * TIMES and report.table() in cli(*words(folder, "-a", 1))
    with pytest.raises(BertCrfError, match="each a name of its own"):
        bootstrap(texts, open_sources(specs[:1]) * 2, folder / "a.spacy")
    with pytest.raises(BertCrfError, match="doubt is 'maybe'"):
        Settings(doubt="maybe")


def test_frequent_strings_are_counted_in_bounded_memory():
    counts = StringCounts(most=10)
    for i in range(1000):
        counts.add((f"rare {i}",))
        counts.add(("often",))
    ((top, n),) = counts.top(1)
    assert top == ("often",) and n == 1000 and len(counts.top(100)) <= 10
