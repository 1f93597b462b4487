"""A former model that stands in for labels that a text does not cover."""

import pytest
import torch
from spacy.training import Example

from spacy_bert_crf.annotation.coverage.covers import set_covers
from spacy_bert_crf.annotation.gold import allowed_tags, read_gold
from spacy_bert_crf.annotation.schemes import SCHEMES
from spacy_bert_crf.model.layers import head_of, own_encoder_of
from spacy_bert_crf.model.optimizer import create_adamw
from support.crf import all_paths, is_legal, path_score
from support.toys import (
    TEXTS,
    entities,
    make_examples,
    randomise_head,
    shared_config,
    shared_pipeline,
    train_toy,
)

DATES = [("1998年他在北京开会。", [(0, 5, "DATE")]), ("1998年没有出现。", [(0, 5, "DATE")])]


def covering(nlp, data, covers):
    examples = make_examples(nlp, data)
    for example in examples:
        set_covers(example.reference, covers)
    return examples


def log_sum(scores):
    return float(torch.logsumexp(torch.tensor(scores, dtype=torch.float64), 0))


@pytest.mark.parametrize("weight", [0.3, 1.0])
@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_the_loss_equals_enumeration(encoder_path, scheme, weight):
    """Half of the labels of the doc are open; one of these is new to the former model, too."""
    data = [("张三", [(0, 2, "A")])]
    nlp = train_toy(encoder_path, 0, data=data, scheme=scheme, self_distillation=weight)
    pipe = nlp.get_pipe("bert_crf")
    own_encoder_of(pipe.model).cfg["mixed_precision"] = False
    torch.manual_seed(1)
    randomise_head(nlp, 0.5)
    pipe.remember()
    former = pipe.former
    pipe.add_label("B")
    randomise_head(nlp, 0.5)
    examples = [*covering(nlp, [("在京", [])], ["C"]), *covering(nlp, [("三在", [])], ["B"])]
    examples += make_examples(nlp, [("张", [])])
    docs = [example.predicted for example in examples]
    want = []
    tags, crf, old = pipe.tag_set, pipe.crf, former.model
    known = [tag if label in ("", "A") else 0 for tag, (_, label) in enumerate(tags.roles)]
    for doc, example in zip(docs, examples, strict=True):
        (rows,), (old_rows,) = (m.predict([doc]) for m in (pipe.model, old))
        rows, old_rows = torch.tensor(rows), torch.tensor(old_rows)
        paths = all_paths(crf.n_tags, len(doc))
        now = {path: path_score(crf, rows, path) for path in paths}
        log_z = log_sum(list(now.values()))
        allowed = allowed_tags(read_gold(example), tags)
        right = [p for p in paths if all(allowed[i, tag] for i, tag in enumerate(p))]
        gold = log_z - log_sum([now[path] for path in right])
        if example.text == "张":  # it covers all labels
            want.append(gold)
            continue
        right = [path for path in right if is_legal(crf, path)]
        collapsed = [tuple(known[tag] for tag in path) for path in right]
        scores = [
            path_score(head_of(old).module.crf, old_rows, c) + now[p] - now[c]
            for p, c in zip(right, collapsed, strict=True)
        ]
        q = torch.softmax(torch.tensor(scores, dtype=torch.float64), 0)
        cross = log_z - sum(float(p) * now[path] for p, path in zip(q, right, strict=True))
        # The first doc has no known token: what it covers is not a label of the component.
        want.append((1 - weight) * (0.0 if example.text == "在京" else gold) + weight * cross)
    losses = pipe.update(examples)
    assert losses["bert_crf"] == pytest.approx(sum(want) / 3, rel=1e-4)


def train(nlp, examples, updates=30):
    optimizer = create_adamw(encoder_lr=2e-3, head_lr=2e-2, crf_lr=2e-2, warmup=0)
    for _ in range(updates):
        nlp.update(examples, sgd=optimizer)


def kept(nlp):
    """How many of the toy texts still have all their entities."""
    return sum(entities(nlp(text)) == spans for text, spans in TEXTS)


#: The toy texts and those with dates, in which dates are annotated, and nothing else.
ONLY_DATES = [*((text, [(0, 5, "DATE")] if text[0] == "1" else []) for text, _ in TEXTS), *DATES]


@pytest.mark.parametrize("covers", [["DATE"], None])
def test_a_new_label_is_learned_and_the_others_are_kept(trained, covers):
    nlp, before = trained, kept(trained)
    nlp.resume_training()
    nlp.get_pipe("bert_crf").add_label("DATE")
    train(nlp, covering(nlp, ONLY_DATES, covers))
    texts = [text for text, _ in TEXTS if text[0] != "1"]
    found = sum(entities(nlp(text)) == spans for text, spans in TEXTS if text in texts)
    if covers is None:  # all else counts as outside, and is forgotten
        assert found <= len(texts) - 4
    else:
        assert found >= before - 2
        assert all(entities(nlp(text))[:1] == spans for text, spans in DATES)


def test_without_a_former_model_nothing_is_rehearsed(trained):
    nlp = trained
    before = head_of(nlp.get_pipe("bert_crf").model).module.classifier.weight.clone()
    with pytest.warns(UserWarning, match="nothing is rehearsed"):
        assert nlp.rehearse(make_examples(nlp), sgd=create_adamw()) == {"bert_crf": 0.0}
    assert torch.equal(before, head_of(nlp.get_pipe("bert_crf").model).module.classifier.weight)


def test_rehearsal_brings_back_what_was_forgotten(trained):
    nlp = trained
    optimizer = nlp.resume_training(sgd=create_adamw(encoder_lr=2e-3, head_lr=2e-2, crf_lr=2e-2))
    before = kept(nlp)
    train(nlp, make_examples(nlp, [(text, []) for text, _ in TEXTS]), 15)
    assert kept(nlp) < before - 2
    raw = [Example(nlp.make_doc(text), nlp.make_doc(text)) for text, _ in TEXTS]
    for _ in range(40):
        losses = nlp.rehearse(raw, sgd=optimizer)
    assert kept(nlp) >= before - 1 and losses["bert_crf"] > 0


def test_a_label_without_an_update_is_not_known_to_the_former_model(trained):
    pipe = trained.get_pipe("bert_crf")
    pipe.add_label("DATE")
    trained.resume_training()
    assert pipe.former.labels == ("LOC", "ORG", "PER")
    train(trained, covering(trained, DATES, ["DATE"]), 1)
    trained.resume_training()
    assert pipe.former.labels == ("LOC", "ORG", "PER", "DATE")


def test_a_shared_encoder_keeps_no_former_model(encoder_path):
    nlp = shared_pipeline(encoder_path)
    nlp.add_pipe("bert_crf", config=shared_config())
    nlp.initialize(lambda: make_examples(nlp))
    nlp.resume_training()
    assert nlp.get_pipe("bert_crf").former is None


def test_a_new_label_begins_as_outside_with_the_transitions_of_the_others(trained):
    pipe = trained.get_pipe("bert_crf")
    before = pipe.crf.weights()
    pipe.add_label("DATE")
    after, old = pipe.crf.weights(), len(before.start)
    assert torch.equal(after.transitions[:old, :old], before.transitions)
    begins, inside = before.transitions[[1, 3, 5]][:, [2, 4, 6]].diagonal(), (old, old + 1)
    torch.testing.assert_close(after.transitions[inside], begins.mean())
    torch.testing.assert_close(after.transitions[0, old], before.transitions[0, [1, 3, 5]].mean())
    assert entities(trained(TEXTS[0][0])) == TEXTS[0][1]


def test_the_encoder_goes_part_of_the_way_back(encoder_path):
    """Only where the former model stood in for labels, and only within the block."""
    nlp = train_toy(encoder_path, 2, former_share=0.25)
    pipe = nlp.get_pipe("bert_crf")
    optimizer = nlp.resume_training(sgd=create_adamw(encoder_lr=0.01, averaging=0.5))
    then = {name: p.detach().clone() for name, p in weights(pipe).items()}

    def within():
        with nlp.use_params(optimizer.averages):
            return {name: p.detach().clone() for name, p in weights(pipe).items()}

    nlp.update(make_examples(nlp), sgd=optimizer)
    own = own_encoder_of(pipe.model)
    averages = {name: optimizer.averages[own.id, name] for name in then}
    for name, found in within().items():  # all labels were covered
        torch.testing.assert_close(found, torch.as_tensor(averages[name]))
    nlp.update(covering(nlp, TEXTS, ["LOC"]), sgd=optimizer)
    now = {name: p.detach().clone() for name, p in weights(pipe).items()}
    averages = {name: torch.as_tensor(optimizer.averages[own.id, name]).clone() for name in then}
    assert any(not torch.equal(averages[name], then[name]) for name in then)
    for name, found in within().items():
        torch.testing.assert_close(found, 0.75 * averages[name] + 0.25 * then[name])
    for name, param in weights(pipe).items():
        assert torch.equal(param, now[name])
    pipe.settings.former_share = 0.0
    for name, found in within().items():
        torch.testing.assert_close(found, averages[name])


def weights(pipe):
    return dict(own_encoder_of(pipe.model).module.named_parameters())
