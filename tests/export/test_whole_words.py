"""Mixed texts of several sentences in the exported decode graphs and in both documented readers."""

import json
import os
import runpy

import numpy as np
import pytest
import torch

from spacy_bert_crf.encoder.passes import special_ids
from spacy_bert_crf.encoder.texts.wordpieces import tokenize
from spacy_bert_crf.export.folder import export_pipeline
from spacy_bert_crf.export.import_model import import_model
from spacy_bert_crf.export.open import decode_inputs, open_export, text_passes
from spacy_bert_crf.export.trained import gather
from support.mixed import cut_words, mixed_texts
from support.paths import ROOT
from support.toys import TEXTS, characters, randomise_head, train_toy

pytest.importorskip("onnxruntime")
#: More texts than the suite reads: SPACY_BERT_CRF_MIXED=10000.
NUMBER = int(os.environ.get("SPACY_BERT_CRF_MIXED", "300"))
GRAPHS = ["torchscript", "onnx"]


@pytest.fixture(scope="module", params=["BIO", "BIOES", "BIO fit"])
def exported(request, encoder_path, tmp_path_factory):
    """A toy with random scores, and its export."""
    scheme, _, context = request.param.partition(" ")
    nlp = train_toy(encoder_path, 0, scheme=scheme)
    torch.manual_seed(6)
    randomise_head(nlp)
    if context:
        path = tmp_path_factory.mktemp("fit") / "pipeline"
        nlp.to_disk(path)
        nlp = (
            type(nlp)
            .from_config(
                nlp.config.merge(
                    {"components": {"bert_crf": {"model": {"tok2vec": {"context": "fit"}}}}}
                )
            )
            .from_disk(path)
        )
    folder = tmp_path_factory.mktemp("export") / "out"
    export_pipeline(nlp, folder, formats=GRAPHS)
    return nlp, folder, scheme, context or "sentences"


def texts_of_sentences(number):
    """Mixed texts, of which a third has several sentences, by marks and by line breaks."""
    more = mixed_texts(number + number // 20)
    texts = [text for text in more if text.strip()][:number]
    assert len(texts) == number
    return [
        text if i % 3 else text + "。" + texts[i - 1] + "\n" + texts[i - 2]
        for i, text in enumerate(texts)
    ]


def run_graph(nlp, folder, name, docs, words=True):
    """Tags of the decode graph, one text at a time with as many passes as it has sentences."""
    tokenizer = tokenizer_of(nlp)
    export = open_export(folder / name)
    run, by_sentences = export.open_decode(), export.info["context"] == "sentences"
    prefix, suffix, pad = special_ids(tokenizer)
    pieces = tokenize(tokenizer, [doc.text for doc in docs])
    continued = nlp.get_pipe("bert_crf").chains.words(docs)
    for doc, own, flags in zip(docs, pieces, continued, strict=True):
        passes = text_passes(doc, own, by_sentences, prefix, suffix)
        assert passes.whole
        ids, mask, ranges = decode_inputs([passes], [flags], pad)
        (tags,) = run(ids, mask, ranges if words else ranges[:, :, :2])
        yield len(passes.ids), tags


def tokenizer_of(nlp):
    return gather(nlp, "", {}).encoder.tokenizer


def same_scores(pipe, doc, one, other):
    """Whether two paths of a doc are as good as each other."""
    (rows,) = pipe.model.predict([doc])
    rows, mask = torch.as_tensor(np.asarray(rows))[None], torch.ones(1, len(doc)).bool()
    scores = [
        pipe.crf.score(rows, torch.as_tensor(path)[None], mask).item() for path in (one, other)
    ]
    return abs(scores[0] - scores[1]) < 1e-4 * max(1.0, abs(scores[0]))


@pytest.mark.parametrize("name", GRAPHS)
def test_no_entity_cuts_a_word_in_the_pipeline_and_in_the_decode_graph(exported, name):
    nlp, folder, _, context = exported
    pipe = nlp.get_pipe("bert_crf")
    docs = [nlp.make_doc(text) for text in texts_of_sentences(NUMBER)]
    wanted = pipe.predict(docs)
    differ = n_passes = 0
    found = run_graph(nlp, folder, name, docs)
    free = run_graph(nlp, folder, name, docs[:300], words=False)
    for doc, want, (passes, tags) in zip(docs, wanted, found, strict=True):
        n_passes += passes
        for path in (want, tags):
            assert not cut_words(doc, pipe.tag_set.decode(path)), doc.text
        if (tags != want).any():
            assert same_scores(pipe, doc, want, tags), doc.text
            differ += 1
    assert differ <= 0.02 * len(docs)
    assert (n_passes > 1.3 * len(docs)) == (context == "sentences")
    # Without the third column, words are cut.
    cut = sum(
        bool(cut_words(doc, pipe.tag_set.decode(tags)))
        for doc, (_, tags) in zip(docs, free, strict=False)
    )
    assert cut > 0.2 * len(docs[:300])


@pytest.mark.parametrize("name", GRAPHS)
def test_texts_of_several_passes_share_a_batch(exported, name):
    """As many rows of input ids for each text."""
    nlp, folder, _, context = exported
    if context == "fit":
        pytest.skip("each text is one pass")
    tokenizer = tokenizer_of(nlp)
    prefix, suffix, pad = special_ids(tokenizer)
    docs = [nlp.make_doc(TEXTS[i][0] + "CEO张三。" + TEXTS[i + 1][0]) for i in (0, 1, 4, 6)]
    pieces = tokenize(tokenizer, [doc.text for doc in docs])
    texts = [
        text_passes(doc, own, True, prefix, suffix) for doc, own in zip(docs, pieces, strict=True)
    ]
    pipe = nlp.get_pipe("bert_crf")
    assert {len(text.ids) for text in texts} == {3}
    inputs = decode_inputs(texts, pipe.chains.words(docs), pad)
    tags = open_export(folder / name).open_decode()(*inputs)
    for doc, want, got in zip(docs, pipe.predict(docs), tags, strict=True):
        assert got[: len(doc)].tolist() == want.tolist() and not got[len(doc) :].any()


def test_the_readers_keep_to_both_rules(exported):
    nlp, folder, scheme, _ = exported
    pipe = nlp.get_pipe("bert_crf")
    texts = texts_of_sentences(120)
    info = json.loads((folder / "best_model.json").read_text("utf8"))
    readers = [(folder / "onnx", False), (folder / "torchscript", True)]
    read_export = runpy.run_path(str(ROOT / "docs" / "read_export.py"))
    results = []
    for path, decode in readers:
        model = read_export["load"](path, decode)
        results.append([read_export["entities"](text, model) for text in texts])
    if scheme == "BIO":
        reader = runpy.run_path(str(ROOT / "docs" / "read_best_model.py"))
        loaded = reader["load"](folder)
        results.append([reader["entities"](text, *loaded) for text in texts])
    docs = list(nlp.pipe(texts))
    assert info["whole_words"] and sum(len(doc.ents) for doc in docs) > 100
    for found in results:
        differ = [doc for doc, own in zip(docs, found, strict=True) if own != characters(doc)]
        # Characters of one wordpiece have one vector, which may make two paths as good.
        assert len(differ) <= 2, [doc.text for doc in differ]
        for doc, own in zip(docs, found, strict=True):
            spans = [doc.char_span(start, end) for start, end, _ in own]
            assert not cut_words(doc, [(span.start, span.end) for span in spans])
    assert pipe.settings.whole_words


def test_an_imported_export_has_the_settings_of_its_pipeline(exported, tmp_path):
    nlp, folder, _, context = exported
    imported = import_model(folder, tmp_path / "pipeline").nlp
    pipe = imported.get_pipe("bert_crf")
    assert pipe.settings.whole_words
    assert imported.config["components"]["bert_crf"]["model"]["tok2vec"]["context"] == context
    texts = texts_of_sentences(60)
    for one, other in zip(nlp.pipe(texts), imported.pipe(texts), strict=True):
        assert characters(one) == characters(other), one.text
    sidecar = json.loads((folder / "best_model.json").read_text("utf8"))
    assert sidecar["context"] == context and sidecar["sentence_end"]
    # An export from before both rules.
    old = {k: sidecar[k] for k in sidecar.keys() - {"context", "sentence_end", "whole_words"}}
    (folder / "best_model.json").write_text(json.dumps(old), encoding="utf8")
    try:
        before = import_model(folder, tmp_path / "before").nlp
    finally:
        (folder / "best_model.json").write_text(json.dumps(sidecar), encoding="utf8")
    assert not before.get_pipe("bert_crf").settings.whole_words
    assert before.config["components"]["bert_crf"]["model"]["tok2vec"]["context"] == "fit"


def test_words_may_be_cut_where_the_pipeline_cuts_them(encoder_path, tmp_path):
    for settings in ({"whole_words": False}, {"constraints": False}):
        nlp = train_toy(encoder_path, 0, **settings)
        assert export_pipeline(nlp, tmp_path / "out")["whole_words"] == ""
