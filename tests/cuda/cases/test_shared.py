"""Components that listen to a transformer of spacy-transformers, on the device."""

import pytest
import spacy

from spacy_bert_crf.model.optimizer import create_adamw
from support.toys import ENGLISH, TEXTS, entities, make_examples, shared_config, shared_pipeline

pytestmark = pytest.mark.filterwarnings("ignore")


def fit(nlp, examples, updates=60):
    optimizer = create_adamw(5e-3, 2e-2, 2e-2, warmup=0)
    for _ in range(updates):
        nlp.update(examples, sgd=False)
        for _, pipe in nlp.pipeline:
            pipe.finish_update(optimizer)
        optimizer.step_schedules()


def test_two_components_on_one_transformer(encoder_path):
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
    fit(nlp, examples)
    want = [entities(example.reference) for example in examples]
    assert [entities(doc) for doc in nlp.pipe(text for text, _ in TEXTS)] == want
    again = spacy.util.load_model_from_config(nlp.config).from_bytes(nlp.to_bytes())
    assert [entities(doc) for doc in again.pipe(text for text, _ in TEXTS)] == want


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
    fit(nlp, examples)
    want = [entities(example.reference) for example in examples]
    nlp.to_disk(tmp_path / "p")
    texts = [text for text, _ in ENGLISH]
    for pipeline in (nlp, spacy.load(tmp_path / "p")):
        docs = list(pipeline.pipe(texts))
        assert [entities(doc) for doc in docs] == want and docs[0][0].tag_ == "NN"
    assert [entities(doc) for doc in nlp.pipe(["", texts[0], ""])] == [[], want[0], []]
    nlp.replace_listeners("transformer", "bert_crf", ["model.tok2vec"])
    nlp.remove_pipe("tagger")
    nlp.remove_pipe("transformer")
    assert [entities(doc) for doc in nlp.pipe(texts)] == want
