"""An exported pipeline, imported again: the same entities, emissions and weights."""

import json
import shutil

import numpy as np
import pytest
import spacy
import torch

from spacy_bert_crf.export.folder import export_pipeline
from spacy_bert_crf.export.import_model import import_model
from spacy_bert_crf.model.layers import head_of
from support.commands import cli
from support.toys import characters, emissions, make_examples


@pytest.mark.parametrize("toy", ["zh", "english", "bioes", "free"])
@pytest.mark.parametrize("name", [".", "best_model.pt", "bert4torch", "huggingface"])
def test_our_own_exports_come_back(toys, tmp_path, toy, name):
    toy = toys[toy]
    text = cli("import-model", toy.out / name, tmp_path / "back")
    pipe = toy.nlp.get_pipe("bert_crf")
    assert f"scheme {pipe.scheme}, tags {', '.join(pipe.tag_set.tags)}" in text
    back = spacy.load(tmp_path / "back")
    assert back.lang == toy.nlp.lang and back.get_pipe("bert_crf").labels == pipe.labels
    assert back.get_pipe("bert_crf").constraints == pipe.constraints
    texts = [*toy.texts, toy.texts[0] * 50]  # the last one is longer than a window
    ours, theirs = (list(nlp.pipe(texts)) for nlp in (toy.nlp, back))
    assert [characters(doc) for doc in theirs] == [characters(doc) for doc in ours]
    for got, want in zip(emissions(back, texts), emissions(toy.nlp, texts), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-4)
    ours, theirs = (head_of(nlp.get_pipe("bert_crf").model).module for nlp in (toy.nlp, back))
    for key, value in ours.state_dict().items():  # as trained, whatever was baked in
        assert torch.equal(theirs.state_dict()[key], value), key


def test_a_pipeline_that_came_back_is_exported_and_trained_on(toys, tmp_path):
    toy = toys["zh"]
    nlp, *_ = import_model(toy.out / "huggingface", tmp_path / "back")
    export_pipeline(nlp, tmp_path / "out")
    name = "best_model.pt"
    ours = torch.load(toy.out / name, weights_only=True)
    theirs = torch.load(tmp_path / "out" / name, weights_only=True)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    losses = nlp.update(make_examples(nlp), sgd=nlp.get_pipe("bert_crf").create_optimizer())
    assert np.isfinite(losses["bert_crf"])


def test_weights_of_bert4torch_whose_tag_o_is_not_the_first(toys, tmp_path):
    """A config.json with id2label says which one it is."""
    out, src = toys["zh"].out, tmp_path / "theirs"
    src.mkdir()
    weights = torch.load(out / "bert4torch" / "best_model.pt", weights_only=True)
    order = [1, 2, 3, 4, 5, 6, 0]
    for name in ("fc.weight", "fc.bias"):
        weights[name] = weights[name][order].clone()
    weights["crf.transitions"] = torch.arange(49.0).view(7, 7)
    torch.save(weights, src / "best_model.pt")
    config = json.loads((out / "config.json").read_text(encoding="utf8"))
    tags = [config["id2label"][str(i)] for i in order]
    config |= {"id2label": {str(i): tag for i, tag in enumerate(tags)}, "label2id": {}}
    (src / "config.json").write_text(json.dumps(config), encoding="utf8")
    shutil.copy(out / "vocab.txt", src)
    nlp, *_ = import_model(src, tmp_path / "back")
    crf, o = head_of(nlp.get_pipe("bert_crf").model).module.crf, 0
    assert torch.equal(crf.start_transitions, crf.transitions[o])
    assert torch.equal(crf.end_transitions, crf.transitions[:, o])
