"""The component in pipelines: annotation, shared encoders, sourcing, freezing, odd input."""

import random
import warnings
from unittest import mock

import numpy as np
import pytest
import spacy
import torch
from spacy.tokens import Doc
from spacy.training import Example

from spacy_bert_crf.encoder.texts.doc_texts import annotated_starts
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.model import layers
from spacy_bert_crf.model.optimizer import create_adamw
from support.toys import (
    ENGLISH,
    TEXTS,
    entities,
    make_examples,
    own_config,
    shared_config,
    shared_pipeline,
    train_toy,
    transformer_config,
)


def gold(nlp):
    return [entities(eg.reference) for eg in make_examples(nlp)]


def fit(nlp, examples, updates=40, **settings):
    optimizer = create_adamw(5e-3, 2e-2, 2e-2, warmup=0)
    for _ in range(updates):
        losses = {}
        nlp.update(examples, sgd=False, losses=losses, **settings)
        for name, pipe in nlp.pipeline:
            if name not in settings.get("exclude", []) and pipe.is_trainable:
                pipe.finish_update(optimizer)
        optimizer.step_schedules()
    return losses


def test_learns_what_it_is_shown(trained):
    texts = [text for text, _ in TEXTS]
    assert [entities(doc) for doc in trained.pipe(texts)] == gold(trained)
    scores = trained.evaluate(make_examples(trained))
    assert scores["ents_f"] == 1.0 and set(scores["ents_per_type"]) == {"LOC", "ORG", "PER"}


def test_docs_without_entities_count_as_annotated(trained):
    doc = trained(TEXTS[5][0])
    assert doc.ents == () and doc.has_annotation("ENT_IOB")
    assert all(token.ent_iob_ == "O" for token in doc)


def test_metadata_of_the_factory(trained):
    meta = trained.get_pipe_meta("bert_crf")
    assert "doc.ents" in meta.assigns and meta.default_score_weights["ents_f"] == 1.0
    assert trained.analyze_pipes()["problems"]["bert_crf"] == []


@pytest.mark.parametrize("text", ["", " ", "\n", "\u3000", " \n\t ", "\u200b"])
def test_texts_without_words(trained, text):
    assert entities(trained(text)) == []
    docs = list(trained.pipe([text, TEXTS[0][0], text]))
    assert [entities(doc) for doc in docs] == [[], gold(trained)[0], []]


def test_any_batching_gives_the_same(trained):
    texts = [text + other for text, _ in TEXTS for other in ("", TEXTS[5][0])] + ["", "\n"]
    random.Random(0).shuffle(texts)
    alone = [entities(trained(text)) for text in texts]
    for batch_size in (1, 2, 7, 1000):
        assert [entities(d) for d in trained.pipe(texts, batch_size=batch_size)] == alone
    pairs = list(trained.pipe([(t, i) for i, t in enumerate(texts)], as_tuples=True))
    assert [i for _, i in pairs] == list(range(len(texts)))


def test_batching_changes_emissions_by_rounding_only(trained):
    model = trained.get_pipe("bert_crf").model
    docs = [trained.make_doc(text * k) for text, _ in TEXTS for k in (1, 3, 40)]
    for doc, together in zip(docs, model.predict(docs), strict=True):
        np.testing.assert_allclose(together, model.predict([doc])[0], atol=1e-4)


def test_small_passes_and_windows_change_nothing_that_fits(trained, encoder_path):
    text = "".join(text for text, _ in TEXTS) * 3
    want = entities(trained(text))
    shim = layers.own_encoder_of(trained.get_pipe("bert_crf").model)
    shim.cfg["batch_pieces"] = 16
    assert entities(trained(text)) == want


def test_entities_in_every_part_of_a_long_text(trained):
    text = "".join(text for text, _ in TEXTS)
    doc = trained(text * 40)
    assert len(doc) > 3 * 512
    found = {ent.start_char * 10 // len(doc.text) for ent in doc.ents}
    assert found == set(range(10))


def test_entities_are_trimmed_of_whitespace(trained):
    pipe = trained.get_pipe("bert_crf")
    doc = trained.make_doc("\n张三\n")
    ids = pipe.tag_set.encode([(0, 4, "PER")], 4)
    pipe.set_annotations([doc], [np.array(ids)])
    assert entities(doc) == [(1, 3, "PER")]
    pipe.set_annotations([doc := trained.make_doc("\n \n")], [np.array([1] * len(doc))])
    assert entities(doc) == []


def test_tokens_share_the_vector_of_their_wordpiece(trained):
    pipe = trained.get_pipe("bert_crf")
    doc = trained.make_doc("1998年 iphone")
    (emissions,) = pipe.model.predict([doc])
    assert len(doc) > 5 and [t.text for t in doc[:5]] == ["1", "9", "9", "8", "年"]
    assert np.allclose(emissions[0], emissions[1:4])
    space = trained.make_doc("张\u3000三")
    (emissions,) = pipe.model.predict([space])
    bias = layers.head_of(pipe.model).module.classifier.bias.detach().numpy()
    np.testing.assert_allclose(emissions[1], bias, atol=1e-6)


def test_prediction_equals_the_path_of_training(trained):
    """Projecting each pass and then averaging is averaging and then projecting."""
    pipe = trained.get_pipe("bert_crf")
    docs = [trained.make_doc(text * 30) for text, _ in TEXTS]
    layers.own_encoder_of(pipe.model).cfg["mixed_precision"] = False
    predicted = pipe.model.predict(docs)
    updated, _ = pipe.model.begin_update(docs)
    for a, b in zip(predicted, updated, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize("overwrite, constrain", [(False, False), (False, True), (True, True)])
def test_entities_that_are_there_already(encoder_path, overwrite, constrain):
    from support.toys import train_toy

    nlp = train_toy(encoder_path, overwrite=overwrite, constrain_to_ents=constrain)
    ruler = nlp.add_pipe("entity_ruler", before="bert_crf")
    ruler.add_patterns([{"label": "X", "pattern": [{"TEXT": "京"}, {"TEXT": "参"}]}])
    doc = nlp(TEXTS[0][0])
    if overwrite:
        assert entities(doc) == gold(nlp)[0]
    elif constrain:  # what is left of 北京 is read again
        assert entities(doc) == [(0, 3, "PER"), (6, 7, "LOC"), (7, 9, "X"), (11, 15, "ORG")]
    else:
        assert entities(doc) == [(0, 3, "PER"), (7, 9, "X"), (11, 15, "ORG")]
    assert all(token.ent_iob_ for token in doc)


def test_unknown_scheme_and_missing_labels_are_refused(encoder_path):
    with pytest.raises(BertCrfError, match="BIOES"):
        spacy.blank("zh").add_pipe("bert_crf", config={"scheme": "IOB2"})
    nlp = spacy.blank("zh")
    nlp.add_pipe("bert_crf", config=own_config(encoder_path))
    with pytest.raises(BertCrfError, match="no entity labels"):
        nlp.initialize(lambda: make_examples(nlp, [("没有", [])]))


def test_use_before_training_says_what_to_do(encoder_path):
    nlp = spacy.blank("zh")
    nlp.add_pipe("bert_crf", config=own_config(encoder_path))
    with pytest.raises(BertCrfError, match="initialize"):
        nlp("张三")


def test_a_missing_encoder_is_named(tmp_path):
    nlp = spacy.blank("zh")
    nlp.add_pipe("bert_crf", config=own_config(tmp_path / "nowhere"))
    with pytest.raises(BertCrfError, match="nowhere"):
        nlp.initialize(lambda: make_examples(nlp))


def test_labels_in_the_order_of_the_file(encoder_path):
    nlp = spacy.blank("zh")
    pipe = nlp.add_pipe("bert_crf", config=own_config(encoder_path))
    examples = make_examples(nlp)
    pipe.initialize(lambda: examples, nlp=nlp, labels=["LOC", "PER", "ORG"])
    assert pipe.labels == ("LOC", "PER", "ORG")
    assert pipe.label_data == ["LOC", "PER", "ORG"]
    nlp.initialize(lambda: examples)
    assert pipe.labels == ("LOC", "PER", "ORG")  # a trained head keeps its order
    fresh = spacy.blank("zh")
    fresh.add_pipe("bert_crf", config=own_config(encoder_path))
    fresh.initialize(lambda: examples)
    assert fresh.get_pipe("bert_crf").labels == ("LOC", "ORG", "PER")


def test_add_label_before_and_after_training(encoder_path, trained):
    nlp = spacy.blank("zh")
    pipe = nlp.add_pipe("bert_crf", config=own_config(encoder_path))
    assert pipe.add_label("ZZZ") == 1 and pipe.add_label("ZZZ") == 0
    nlp.initialize(lambda: make_examples(nlp))
    assert "ZZZ" in pipe.labels
    pipe = trained.get_pipe("bert_crf")
    before = layers.head_of(pipe.model).module.crf.transitions.detach().clone()
    assert pipe.add_label("NEW-1") == 1
    after = layers.head_of(pipe.model).module.crf.transitions.detach()
    assert after.shape == (9, 9) and bool((after[:7, :7] == before).all())
    losses = fit(trained, make_examples(trained), updates=3)
    assert np.isfinite(losses["bert_crf"])
    assert [entities(d) for d in trained.pipe(t for t, _ in TEXTS)] == gold(trained)


def test_lost_entities_are_counted_and_named(encoder_path):
    nlp = spacy.blank("en")
    nlp.add_pipe("bert_crf", config=own_config(encoder_path))
    examples = make_examples(nlp, ENGLISH)
    cut = Doc(nlp.vocab, words=["An", "na", "saw"], spaces=[False, True, False])
    cut.ents = [cut.char_span(0, 2, "PER")]
    examples.append(Example(nlp.make_doc("Anna saw"), cut))
    with pytest.warns(UserWarning, match=r"1 of 6 gold entities .*'An' \(PER\) at character 0"):
        nlp.initialize(lambda: examples)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nlp.update(examples, sgd=create_adamw())


def test_unknown_annotation_teaches_nothing(trained):
    unknown = [Example(trained.make_doc(t), trained.make_doc(t)) for t, _ in TEXTS]
    losses = trained.update(unknown, sgd=False)
    assert losses["bert_crf"] == 0.0
    known = make_examples(trained)[:1]
    alone = trained.update(known, sgd=False)["bert_crf"]
    own = layers.own_encoder_of(trained.get_pipe("bert_crf").model)
    with mock.patch.object(own, "update_vectors", wraps=own.update_vectors) as encoded:
        mixed = trained.update(known + unknown, sgd=False)["bert_crf"]
        trained.update(unknown, sgd=create_adamw())
    assert [len(call.args[0]) for call in encoded.call_args_list] == [1]
    assert mixed == pytest.approx(alone, rel=1e-3)


def test_annotated_share_makes_entities_at_unknown_tokens_less_likely(trained):
    pipe = trained.get_pipe("bert_crf")
    example = make_examples(trained)[0]
    kept, *others = example.reference.ents
    assert others
    example.reference.set_ents([kept], default="missing")
    losses = []
    for share in (0.0, 0.5, 0.9):
        pipe.annotated_share = share
        losses.append(trained.update([example], sgd=False)["bert_crf"])
    assert losses[0] < losses[1] < losses[2]
    example.reference.set_ents([], default="missing")
    assert trained.update([example], sgd=False)["bert_crf"] == 0.0


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_an_impossible_share_is_refused(encoder_path, share):
    config = {**own_config(encoder_path), "annotated_share": share}
    with pytest.raises(BertCrfError, match="annotated_share"):
        spacy.blank("zh").add_pipe("bert_crf", config=config)


def test_entities_of_other_labels_warn_once(trained):
    example = make_examples(trained, [("张三", [(0, 2, "NEW")])])
    with pytest.warns(UserWarning, match=r"\['NEW'\] count as outside"):
        trained.update(example, sgd=False)


def test_get_loss_leaves_the_crf_alone(trained):
    pipe = trained.get_pipe("bert_crf")
    examples = make_examples(trained)
    scores = pipe.model.predict([eg.predicted for eg in examples])
    loss, gradient = pipe.get_loss(examples, scores)
    assert loss > 0 and gradient[0].shape == scores[0].shape
    assert layers.head_of(pipe.model).module.crf.transitions.grad is None


def test_bioes_and_constraints(encoder_path):
    from support.toys import train_toy

    nlp = train_toy(encoder_path, scheme="BIOES", constrain_training=True)
    assert [entities(doc) for doc in nlp.pipe(t for t, _ in TEXTS)] == gold(nlp)
    crf = layers.head_of(nlp.get_pipe("bert_crf").model).module.crf
    assert not crf.legal_transitions.all()
    free = train_toy(encoder_path, updates=1, constraints=False)
    assert layers.head_of(free.get_pipe("bert_crf").model).module.crf.legal_transitions.all()


def test_error_handlers_get_the_docs(trained, monkeypatch):
    pipe = trained.get_pipe("bert_crf")
    seen = []
    pipe.set_error_handler(lambda name, proc, docs, err: seen.append((name, len(docs), str(err))))
    real = pipe.predict

    def predict(docs):
        if any(doc.text == "坏" for doc in docs):
            raise RuntimeError("no")
        return real(docs)

    monkeypatch.setattr(trained.get_pipe("bert_crf").__class__, "predict", lambda s, d: predict(d))
    docs = list(trained.pipe(["张三", "坏", "李四"], batch_size=1))
    assert [doc.text for doc in docs] == ["张三", "李四"]
    assert seen == [("bert_crf", 1, "no")]


def test_two_components_on_one_transformer(encoder_path):
    nlp = shared_pipeline(encoder_path)
    one = nlp.add_pipe("bert_crf", name="people", config=shared_config())
    two = nlp.add_pipe("bert_crf", name="rest", config=shared_config())
    examples = make_examples(nlp)
    for proc, labels in ((one, ["PER"]), (two, ["LOC", "ORG"])):
        for label in labels:
            proc.add_label(label)
    nlp.config["initialize"]["components"] = {
        "people": {"labels": ["PER"]},
        "rest": {"labels": ["LOC", "ORG"]},
    }
    nlp.initialize(lambda: examples)
    assert one.labels == ("PER",) and two.labels == ("LOC", "ORG")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(nlp, examples, updates=60)
    assert [entities(doc) for doc in nlp.pipe(t for t, _ in TEXTS)] == gold(nlp)
    again = spacy.util.load_model_from_config(nlp.config)
    again.from_bytes(nlp.to_bytes())
    assert [entities(doc) for doc in again.pipe(t for t, _ in TEXTS)] == gold(nlp)


def test_shared_transformer_with_a_tagger_in_english(encoder_path, tmp_path):
    nlp = shared_pipeline(encoder_path, "en")
    nlp.add_pipe("tagger", config={"model": {
        "@architectures": "spacy.Tagger.v2", "tok2vec": shared_config()["model"]["tok2vec"],
    }})  # fmt: skip
    nlp.add_pipe("bert_crf", config=shared_config())
    examples = make_examples(nlp, ENGLISH)
    for example in examples:
        for token in example.reference:
            token.tag_ = "NN" if token.text[0].isupper() else "XX"
    nlp.initialize(lambda: examples)
    losses = fit(nlp, examples, updates=60)
    assert {"tagger", "bert_crf", "transformer"} <= set(losses)
    want = [[(e.start_char, e.end_char, e.label_) for e in eg.reference.ents] for eg in examples]
    nlp.to_disk(tmp_path / "p")
    for pipeline in (nlp, spacy.load(tmp_path / "p")):
        docs = list(pipeline.pipe(text for text, _ in ENGLISH))
        assert [[(e.start_char, e.end_char, e.label_) for e in d.ents] for d in docs] == want
        assert docs[0][0].tag_ == "NN"
    # A copy of its own of the shared encoder, and the transformer can go.
    nlp.replace_listeners("transformer", "bert_crf", ["model.tok2vec"])
    assert layers.own_encoder_of(nlp.get_pipe("bert_crf").model) is None
    nlp.remove_pipe("tagger")
    nlp.remove_pipe("transformer")
    assert [
        [(e.start_char, e.end_char, e.label_) for e in d.ents]
        for d in nlp.pipe(text for text, _ in ENGLISH)
    ] == want
    nlp.to_disk(tmp_path / "alone")
    assert entities(spacy.load(tmp_path / "alone")(ENGLISH[0][0])) == entities(nlp(ENGLISH[0][0]))


def test_frozen_and_annotating_transformer(encoder_path):
    source = shared_pipeline(encoder_path)
    source.initialize()
    nlp = spacy.blank("zh")
    nlp.add_pipe("transformer", source=source)
    nlp.add_pipe("bert_crf", config=shared_config())
    examples = make_examples(nlp)
    with nlp.select_pipes(disable=["transformer"]):
        nlp.initialize(lambda: examples)
    before = nlp.get_pipe("transformer").model.to_bytes()
    settings = {"exclude": ["transformer"], "annotates": ["transformer"]}
    first = fit(nlp, examples, updates=1, **settings)["bert_crf"]
    last = fit(nlp, examples, updates=150, **settings)["bert_crf"]
    assert last < first / 2
    assert nlp.get_pipe("transformer").model.to_bytes() == before
    scores = nlp.evaluate(make_examples(nlp))
    assert scores["ents_f"] > 0.3


def test_empty_docs_with_a_shared_transformer(encoder_path):
    nlp = shared_pipeline(encoder_path)
    nlp.add_pipe("bert_crf", config=shared_config())
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    docs = list(nlp.pipe(["", TEXTS[0][0], "\n", ""]))
    assert [len(doc) for doc in docs] == [0, len(TEXTS[0][0]), 1, 0]
    empty = Example(nlp.make_doc(""), nlp.make_doc(""))
    nlp.update([empty, *examples], sgd=create_adamw())
    nlp.update([empty], sgd=create_adamw())


def test_sourced_into_another_pipeline(trained):
    nlp = spacy.blank("zh")
    nlp.add_pipe("sentencizer")
    nlp.add_pipe("bert_crf", source=trained)
    assert [entities(doc) for doc in nlp.pipe(t for t, _ in TEXTS)] == gold(trained)


def test_the_architecture_of_spacy_transformers_as_encoder(encoder_path):
    spacy.util.fix_random_seed(0)
    nlp = spacy.blank("zh")
    listed = transformer_config(encoder_path)["model"]
    nlp.add_pipe("bert_crf", config={"model": {"@architectures": "spacy_bert_crf.BertCrf.v1",
        "tok2vec": {
            **listed, "@architectures": "spacy-transformers.Tok2VecTransformer.v3",
            "pooling": {"@layers": "reduce_mean.v1"},
        }}})  # fmt: skip
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    fit(nlp, examples, updates=80)
    assert [entities(doc) for doc in nlp.pipe(t for t, _ in TEXTS)] == gold(nlp)


def test_long_texts_give_the_entities_of_their_sentences(trained):
    """Sentence by sentence, wherever they lie, and one CRF over all."""
    assert layers.own_encoder_of(trained.get_pipe("bert_crf").model).context == "sentences"
    sentences = [text for text, _ in TEXTS] * 12
    random.Random(1).shuffle(sentences)
    want, at = [], 0
    for doc in trained.pipe(sentences):
        want += [(at + a, at + b, label) for a, b, label in entities(doc)]
        at += len(doc)
    long = trained("".join(sentences))
    assert len(long) > 2 * 512 and entities(long) == want
    # Annotated sentences count for more than punctuation.
    borders = trained.make_doc("王小明在北京。" * 100)
    for token in borders:
        token.is_sent_start = token.i % 21 == 0
    assert annotated_starts(borders) == list(range(21, 700, 21))
    lengths = [b.ids.shape[1] for b in shim_of(trained).plan([borders]).batches]
    assert max(lengths) == 21 + 2
    for token in borders:
        token.is_sent_start = token.i == 0
    assert annotated_starts(borders) == []
    assert min(b.ids.shape[1] for b in shim_of(trained).plan([borders]).batches) > 400


def shim_of(nlp):
    return layers.own_encoder_of(nlp.get_pipe("bert_crf").model)


def test_as_many_sentences_as_fit(trained):
    shim = shim_of(trained)
    doc = trained.make_doc("".join(text for text, _ in TEXTS) * 20)
    by_sentence = shim.plan([doc])
    shim.cfg["context"] = "fit"
    fit = shim.plan([doc])
    assert max(b.ids.shape[1] for b in by_sentence.batches) < 30
    assert min(b.ids.shape[1] for b in fit.batches) > 400
    assert len(fit.counts) == len(by_sentence.counts) == len(doc)


def test_the_context_is_saved(encoder_path, tmp_path):
    """A pipeline from before the setting reads whole texts, as it was trained."""
    key = "components.bert_crf.model.tok2vec.context"
    nlp = train_toy(encoder_path, updates=0)
    assert shim_of(nlp).context == "sentences"
    nlp.to_disk(tmp_path / "new")
    assert shim_of(spacy.load(tmp_path / "new")).context == "sentences"
    assert shim_of(spacy.load(tmp_path / "new", config={key: "fit"})).context == "fit"
    shim = shim_of(nlp)
    shim._pack = lambda pack=shim._pack: {k: v for k, v in pack().items() if k != "context"}
    nlp.to_disk(tmp_path / "old")
    assert shim_of(spacy.load(tmp_path / "old")).context == "fit"
    changed = spacy.load(tmp_path / "old", config={key: "sentences"})
    assert shim_of(changed).context == "sentences"


@pytest.mark.parametrize("unknown", [False, True])
def test_an_update_in_parts_has_the_gradients_of_one(trained, unknown):
    """Parts that differ in size, and where asked one of which no token is known."""
    from support.toys import make_examples

    pipe = trained.get_pipe("bert_crf")
    examples = make_examples(trained) * 2
    examples.append(Example(trained.make_doc(""), trained.make_doc("")))
    if unknown:
        longest = max(examples, key=lambda eg: len(eg.predicted))
        longest.reference.set_ents([], default="missing")
    own, losses, gradients = layers.own_encoder_of(pipe.model), [], []
    own.cfg["mixed_precision"] = False
    for pieces in (10_000, 30):
        own.cfg["batch_pieces"] = pieces
        layers.head_of(pipe.model).module.zero_grad()
        own.module.zero_grad()
        losses.append(pipe.update(examples)["bert_crf"])
        modules = (own.module, layers.head_of(pipe.model).module)
        gradients.append(
            [p.grad.clone() for m in modules for p in m.parameters() if p.grad is not None]
        )
    docs = [eg.predicted for eg in examples]
    assert len(layers.update_parts(pipe.model, docs, list(range(len(docs))))) > 2
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert len(gradients[0]) == len(gradients[1]) > 10
    for one, other in zip(*gradients, strict=True):
        assert one.abs().max() > 0 or not other.any()
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
