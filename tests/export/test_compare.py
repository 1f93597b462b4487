"""compare-exports: what it measures, on toys whose results are known."""

import json

import pytest
import spacy
import torch
from spacy.tokens import DocBin

from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.export.compare import compare_exports
from spacy_bert_crf.export.compare_table import markdown
from spacy_bert_crf.export.folder import export_pipeline
from spacy_bert_crf.export.open import find_exports
from support.commands import cli
from support.exports import EN_TEXTS, FLOAT_FORMATS, HALF_FORMATS, INT8_FORMATS, several_sentences
from support.toys import TEXTS, make_examples, shared_config, transformer_config

FILES = {
    "bert4torch": ["best_model.pt"], "huggingface": ["model.safetensors"],
    "torchscript": ["emissions.pt", "decode.pt"], "torch-int8": ["emissions.pt", "decode.pt"],
    "torchscript-fp16": ["emissions.pt", "decode.pt"],
    "torchscript-bf16": ["emissions.pt", "decode.pt"],
    "onnx-fp16": ["emissions.onnx", "decode.onnx"],
    "onnx": ["emissions.onnx", "decode.onnx"], "onnx-int8": ["emissions.onnx", "decode.onnx"],
    "onnx-int8-static": ["emissions.onnx", "decode.onnx"],
}  # fmt: skip


def gold(nlp, texts):
    """Docs annotated with the entities that the pipeline finds, so that its F1 is 1."""
    return list(nlp.pipe(texts))


def save(docs, path):
    DocBin(docs=docs).to_disk(path)
    return path


def rows(result):
    return {row["format"]: row for row in result["rows"]}


@pytest.fixture(scope="module")
def corpus(toys, tmp_path_factory):
    """The texts of the toy, one of several windows, one of white space, an empty one."""
    toy = toys["zh"]
    texts = [*toy.texts, "".join(text.strip("。") for text, _ in TEXTS) * 12, "\n", ""]
    path = tmp_path_factory.mktemp("corpus") / "d.spacy"
    return save(gold(toy.nlp, texts), path)


@pytest.fixture(scope="module")
def compared(toys, corpus, tmp_path_factory):
    toy = toys["zh"]
    output = tmp_path_factory.mktemp("compared") / "table.md"
    words = ["compare-exports", toy.path, corpus, toy.out, "--output", output]
    said = cli(*words)
    text = output.read_text(encoding="utf8")
    return said, text, json.loads(output.with_suffix(".json").read_text(encoding="utf8"))


def test_all_formats_are_compared(compared, toys, corpus):
    said, text, result = compared
    assert list(rows(result)) == ["pipeline", "best_model.pt", *[
        f"{name}/{file}" for name in (
            "bert4torch", "huggingface", "torchscript", "torchscript-fp16", "torchscript-bf16",
            "torch-int8", "onnx", "onnx-fp16", "onnx-int8", "onnx-int8-static",
        )
        for file in FILES[name]
    ]]  # fmt: skip
    docs = list(DocBin().from_disk(corpus).get_docs(toys["zh"].nlp.vocab))
    assert result["docs"] == len(docs) - 1  # the empty one
    assert result["characters"] == sum(len(doc.text) for doc in docs)
    assert result["repeat"] == 1 and result["threads"] >= 1 and result["versions"]["torch"]
    for row in result["rows"]:
        assert row["megabytes"] > 0 and row["load_seconds"] > 0, row
        assert row["characters_per_second"] > 0
        assert 0 <= row["ents_f"] <= 1 and 0 <= row["same"] <= 1
    first = rows(result)["pipeline"]
    assert first["same"] == 1 and first["ents_f"] == 1 and first["largest_difference"] == 0
    lines = [line for line in text.split("\n") if line.startswith("|")]
    assert len(lines) == 2 + len(result["rows"]) and len({line.count("|") for line in lines}) == 1
    assert all(" ".join(line.split()) in said for line in lines)
    assert markdown(result) == text


def test_float_formats_are_the_same(compared):
    found = rows(compared[2])
    names = ["best_model.pt", *(f"{n}/{file}" for n in FLOAT_FORMATS for file in FILES[n])]
    for name in names:
        if name.startswith("bert4torch"):
            continue
        assert found[name]["same"] == 1 and found[name]["ents_f"] == 1, name
        if "decode" in name:
            assert found[name]["largest_difference"] is None
        else:
            assert 0 <= found[name]["largest_difference"] < 1e-4, name


def test_bert4torch_is_the_same_where_tokens_are_wordpieces(compared):
    row = rows(compared[2])["bert4torch/best_model.pt"]
    assert row["same_one_to_one"] == 1 and 0 < row["one_to_one"] < 1
    assert row["one_to_one"] <= row["same"] <= 1
    assert "bert4torch/best_model.pt decodes wordpieces" in compared[1]


def test_int8_formats_differ_a_little(compared):
    found = rows(compared[2])
    for name in INT8_FORMATS:
        emissions, decode = (found[f"{name}/{file}"] for file in FILES[name])
        assert 1e-3 < emissions["largest_difference"] < 8  # a toy of width 16 has little to average
        assert 0.5 < emissions["same"] <= 1 and emissions["ents_f"] > 0.7
        assert abs(decode["same"] - emissions["same"]) < 0.1


def test_formats_of_16_bits_differ_a_little(compared):
    found = rows(compared[2])
    for name in HALF_FORMATS:
        emissions, decode = (found[f"{name}/{file}"] for file in FILES[name])
        assert 1e-6 < emissions["largest_difference"] < 1
        assert emissions["same"] > 0.8 and decode["same"] > 0.8
    sizes = [found[f"{name}/emissions.onnx"]["megabytes"] for name in ("onnx-fp16", "onnx")]
    assert sizes[0] <= sizes[1]


def test_docs_of_several_sentences_are_decoded_in_the_graph(toys, compared):
    """A pass each, and one Viterbi: they are no docs of several windows."""
    infos = [export.info for export in find_exports(toys["zh"].out)]
    assert {info["context"] for info in infos} == {"sentences"}
    assert sum(several_sentences(text) for text in toys["zh"].texts) > 10


def test_docs_of_several_windows_are_counted(compared):
    found = rows(compared[2])
    decode = [name for name in found if "/decode." in name]
    assert {found[name]["windows"] for name in decode} == {1} and len(decode) == 8
    assert sum(row["windows"] for row in compared[2]["rows"]) == 8
    assert "onnx/decode.onnx: 1 docs are longer than a window" in compared[1]


def test_gold_that_is_not_the_prediction(toys, tmp_path):
    """F1 is against the annotation, `same` against the pipeline."""
    toy = toys["zh"]
    docs = gold(toy.nlp, [text for text, _ in TEXTS])
    for doc in docs[:2]:
        doc.ents = []
    exports = find_exports(toy.out / "huggingface")
    result = compare_exports(toy.path, toy.nlp, docs, exports)
    ours, theirs = result["rows"]
    assert ours["ents_f"] == theirs["ents_f"] < 1 and theirs["same"] == 1
    assert docs[0].ents == ()  # the gold is left alone


def test_limit_repeat_threads_and_output(toys, corpus, tmp_path):
    import torch

    toy, before = toys["zh"], torch.get_num_threads()
    words = ["compare-exports", toy.path, corpus, toy.out / "onnx", toy.out / "huggingface"]
    try:
        said = cli(*words, "--limit", 3, "--repeat", 2, "--threads", 1, "-o", tmp_path / "a.b")
    finally:
        torch.set_num_threads(before)
    result = json.loads((tmp_path / "a.b.json").read_text(encoding="utf8"))
    assert result["docs"] == 3 and result["repeat"] == 2 and result["threads"] == 1
    assert "3 docs" in said and "medians of 2" in said
    names = ["pipeline", "onnx/emissions.onnx", "onnx/decode.onnx", "huggingface/model.safetensors"]
    assert list(rows(result)) == names
    assert {path.name for path in tmp_path.iterdir()} == {"a.b.json", "a.b.md"}
    (tmp_path / "folder").mkdir()
    text = cli(*words, "--limit", 1, "--output", tmp_path / "folder", code=1)
    assert "is a folder" in text and not list((tmp_path / "folder").iterdir())


@pytest.mark.parametrize("toy", ["english", "bioes", "free"])
def test_other_languages_schemes_and_no_constraints(toys, toy):
    """Random scores under a scheme; words of several pieces and words without any."""
    toy = toys[toy]
    texts = toy.texts if toy.nlp.lang == "zh" else [*EN_TEXTS, " ".join(EN_TEXTS) * 20]
    docs = gold(toy.nlp, texts)
    result = compare_exports(toy.path, toy.nlp, docs, find_exports(toy.out))
    for name, row in rows(result).items():
        if not name.startswith("bert4torch"):
            assert row["same"] == 1 and row["ents_f"] == 1, row
            assert row["largest_difference"] is None or row["largest_difference"] < 1e-4
        elif toy.nlp.lang == "zh":
            assert row["same_one_to_one"] == 1, row


def test_a_shared_transformer(encoder_path, tmp_path):
    nlp = spacy.blank("zh")
    nlp.add_pipe("transformer", config=transformer_config(encoder_path))
    nlp.add_pipe("bert_crf", config=shared_config())
    nlp.initialize(lambda: make_examples(nlp))
    nlp.to_disk(tmp_path / "pipe")
    export_pipeline(nlp, tmp_path / "out", formats=FLOAT_FORMATS)
    corpus = save(gold(nlp, [text for text, _ in TEXTS] + ["张三\n李四"]), tmp_path / "d.spacy")
    cli("compare-exports", tmp_path / "pipe", corpus, tmp_path / "out", "-o", tmp_path / "t")
    result = json.loads((tmp_path / "t.json").read_text(encoding="utf8"))
    for name, row in rows(result).items():
        if not name.startswith("bert4torch"):
            assert row["same"] == 1 and not row["windows"], row
            assert (row["largest_difference"] or 0) < 1e-4, row


def test_what_is_refused(toys, corpus, encoder_path, tmp_path):
    toy = toys["zh"]
    words = ["compare-exports", toy.path, corpus]
    assert "another pipeline" in cli(*words, toys["bioes"].out, code=1)
    assert "another pipeline" in cli(*words, toys["english"].out / "onnx", code=1)
    assert "has no best_model.json" in cli(*words, tmp_path, code=1)
    assert "has no best_model.json" in cli(*words, toy.path, code=1)
    assert "no corpus" in cli(*words[:2], tmp_path / "no.spacy", toy.out, code=1)
    assert "no pipeline folder" in cli(words[0], tmp_path / "no", corpus, toy.out, code=1)
    nothing = save([toy.nlp.make_doc("")], tmp_path / "e.spacy")
    assert "no text" in cli(*words[:2], nothing, toy.out, code=1)
    export_pipeline(toy.nlp, tmp_path / "out", formats=["onnx", "huggingface"])
    (tmp_path / "out" / "onnx" / "decode.onnx").unlink()
    assert "lacks decode.onnx" in cli(*words, tmp_path / "out" / "onnx", code=1)
    path = tmp_path / "out" / "huggingface" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    assert "can't be loaded" in cli(*words, tmp_path / "out" / "huggingface", code=1)
    with pytest.raises(BertCrfError, match="no bert_crf component 'x'"):
        compare_exports(toy.path, toy.nlp, gold(toy.nlp, ["张三"]), [], component="x")


@pytest.mark.parametrize("damage", ["missing", "truncated", "array"])
def test_damaged_transitions(toys, corpus, tmp_path, damage):
    export_pipeline(toys["zh"].nlp, tmp_path / "out", formats=["huggingface"])
    path = tmp_path / "out" / "huggingface" / "transitions.npz"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:300])
    elif damage == "array":
        import numpy as np

        np.save(tmp_path / "x.npy", np.zeros(7))
        (tmp_path / "x.npy").rename(path)
    else:
        path.unlink()
    text = cli("compare-exports", toys["zh"].path, corpus, path.parent, code=1)
    assert "transitions.npz is missing or damaged" in text


def test_an_export_of_other_weights_is_refused(toys, corpus, tmp_path):
    """After further training, the old export has other weights than the pipeline."""
    nlp = spacy.load(toys["zh"].path)
    with torch.no_grad():
        nlp.get_pipe("bert_crf").model.get_ref("head").shims[0].module.classifier.bias += 0.1
    nlp.to_disk(tmp_path / "pipeline")
    words = ["compare-exports", tmp_path / "pipeline", corpus, toys["zh"].out / "huggingface"]
    assert "other weights" in cli(*words, code=1)
