"""Components that share an encoder, ours or that of spacy-transformers, on the device."""

import pytest
import spacy
import thinc.api

from spacy_bert_crf.model.optimizer import create_adamw
from support.sharing import TWO, adamw, initialised, own_shared_pipeline
from support.toys import ENGLISH, TEXTS, entities, make_examples, shared_config, shared_pipeline

pytestmark = pytest.mark.filterwarnings("ignore")


def fit(nlp, examples, updates=25):
    """RETURNS: the losses of the first and of the last update."""
    losses = []
    optimizer = create_adamw(5e-3, 2e-2, 2e-2, warmup=0)
    for _ in range(updates):
        losses.append(nlp.update(examples, sgd=False))
        for _, pipe in nlp.pipeline:
            pipe.finish_update(optimizer)
        optimizer.step_schedules()
    return losses[0], losses[-1]


def predicted_on_the_cpu(folder, texts):
    """The entities that a saved pipeline finds on the CPU. There are some."""
    thinc.api.require_cpu()
    found = [entities(doc) for doc in spacy.load(folder).pipe(texts)]
    spacy.require_gpu()
    assert any(found)
    return found


def test_two_components_on_one_transformer(encoder_path, tmp_path):
    nlp = shared_pipeline(encoder_path)
    labels = {"people": ["PER"], "rest": ["LOC", "ORG"]}
    for name, own in labels.items():
        pipe = nlp.add_pipe("bert_crf", name=name, config=shared_config())
        for label in own:
            pipe.add_label(label)
    settings = {name: {"labels": own} for name, own in labels.items()}
    nlp.config["initialize"]["components"] = settings
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    first, last = fit(nlp, examples)
    assert all(last[name] < first[name] / 2 for name in labels)
    texts = [text for text, _ in TEXTS]
    nlp.to_disk(tmp_path / "p")
    want = predicted_on_the_cpu(tmp_path / "p", texts)
    assert [entities(doc) for doc in nlp.pipe(texts)] == want
    again = spacy.util.load_model_from_config(nlp.config).from_bytes(nlp.to_bytes())
    assert [entities(doc) for doc in again.pipe(texts)] == want


def test_a_tagger_on_the_same_transformer(encoder_path, tmp_path):
    nlp = shared_pipeline(encoder_path, "en")
    listener = shared_config()["model"]["tok2vec"]
    tagger = {"model": {"@architectures": "spacy.Tagger.v2", "tok2vec": listener}}
    nlp.add_pipe("tagger", config=tagger)
    nlp.add_pipe("bert_crf", config=shared_config())
    examples = make_examples(nlp, ENGLISH)
    for example in examples:
        for token in example.reference:
            token.tag_ = "NN" if token.text[0].isupper() else "XX"
    nlp.initialize(lambda: examples)
    assert {"tagger", "bert_crf", "transformer"} <= set(fit(nlp, examples)[1])
    texts = [text for text, _ in ENGLISH]
    nlp.to_disk(tmp_path / "p")
    want = predicted_on_the_cpu(tmp_path / "p", texts)
    for pipeline in (nlp, spacy.load(tmp_path / "p")):
        docs = list(pipeline.pipe(texts))
        assert [entities(doc) for doc in docs] == want and docs[0][0].tag_ == "NN"
    assert [entities(doc) for doc in nlp.pipe(["", texts[0], ""])] == [[], want[0], []]
    nlp.replace_listeners("transformer", "bert_crf", ["model.tok2vec"])
    nlp.remove_pipe("tagger")
    nlp.remove_pipe("transformer")
    assert [entities(doc) for doc in nlp.pipe(texts)] == want


@pytest.mark.parametrize("batch_pieces", [0, 64])
def test_updates_on_an_encoder_of_ours_equal_the_cpus(encoder_path, batch_pieces):
    """With passes of 64 wordpieces, some activations are computed again in backpropagation."""
    losses, heads = [], {}
    settings = {"batch_pieces": batch_pieces, "mixed_precision": False}
    for start in (thinc.api.require_cpu, spacy.require_gpu):
        start()
        nlp = own_shared_pipeline(encoder_path, TWO, **settings)
        examples, optimizer = initialised(nlp), adamw(eps=1e-3)
        for name, data in heads.items():
            nlp.get_pipe(name).model.get_ref("head").from_bytes(data)
        heads = {name: nlp.get_pipe(name).model.get_ref("head").to_bytes() for name in TWO}
        losses.append([nlp.update(examples, sgd=optimizer) for _ in range(3)])
    for on_cpu, on_device in zip(*losses, strict=True):
        assert on_device == pytest.approx(on_cpu, abs=1e-3)


def test_two_components_on_an_encoder_of_ours(encoder_path, tmp_path):
    nlp = own_shared_pipeline(encoder_path, TWO)
    examples, optimizer = initialised(nlp), adamw()
    for _ in range(20):
        nlp.update(examples, sgd=optimizer)
    texts = [text for text, _ in TEXTS]
    nlp.to_disk(tmp_path / "p")
    want = predicted_on_the_cpu(tmp_path / "p", texts)
    assert [entities(doc) for doc in nlp.pipe(texts)] == want
    assert [entities(doc) for doc in nlp.pipe(texts, batch_size=2)] == want
