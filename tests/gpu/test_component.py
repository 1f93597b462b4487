"""The component on a real GPU gives what it gives on the CPU."""

import pickle
import threading

import numpy as np
import pytest
import spacy
import torch
from thinc.api import require_cpu

from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.model.layers import head_of, own_encoder_of, predict_emissions
from spacy_bert_crf.model.optimizer import create_adamw
from support.toys import TEXTS, entities, make_examples, own_config

TEXT = "".join(text for text, _ in TEXTS)
#: Of very different lengths: empty, white space, short ones, and longer than windows and blocks.
MIXED = [*(text for text, _ in TEXTS), "", " ", "😀", TEXT * 3, TEXT * 60, "张三"] * 3


def load(path, mixed=False, **settings):
    nlp = spacy.load(path, config={"components": {"bert_crf": settings}})
    own_encoder_of(nlp.get_pipe("bert_crf").model).cfg["mixed_precision"] = mixed
    return nlp


@pytest.fixture
def both(trained_path, on_gpu):
    """The pipeline on the CPU and on the GPU, in float32."""
    require_cpu()
    here = load(trained_path)
    spacy.require_gpu(0)
    return here, load(trained_path)


def pipe_of(nlp):
    return nlp.get_pipe("bert_crf")


@pytest.mark.parametrize("batch_size", (1, 5, 1000))
def test_entities(both, batch_size):
    here, there = both
    assert own_encoder_of(pipe_of(there).model).device.type == "cuda"
    want = [entities(doc) for doc in here.pipe(MIXED)]
    assert any(want)
    docs = list(there.pipe(MIXED, batch_size=batch_size))
    assert [doc.text for doc in docs] == MIXED
    assert [entities(doc) for doc in docs] == want


def test_emissions(both):
    rows = []
    for nlp in both:
        docs = [nlp.make_doc(text) for text in MIXED]
        rows.append(predict_emissions(pipe_of(nlp).model, docs).rows.cpu())
    torch.testing.assert_close(rows[1], rows[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("products", (torch.bfloat16, torch.float16))
def test_entities_in_16_bits(trained_path, on_gpu, products, monkeypatch):
    """The toy is sure of its entities, so that rounding does not change them."""
    if products is torch.float16:
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    elif not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("no bfloat16 on this GPU")
    nlp = load(trained_path, mixed=True)
    own = own_encoder_of(pipe_of(nlp).model)
    assert own.autocast(is_train=False) is products
    texts = [text for text, _ in TEXTS] * 40
    found = [entities(doc) for doc in nlp.pipe(texts)]
    assert found == [spans(nlp, number % len(TEXTS)) for number in range(len(texts))]
    if torch.cuda.get_device_capability() >= (8, 0):
        assert own.fast.get(own.loaded, products, 0).is_unpadded


def spans(nlp, number):
    text, gold = TEXTS[number]
    doc = nlp.make_doc(text)
    return [
        (span.start, span.end, label)
        for start, end, label in gold
        if (span := doc.char_span(start, end, label)) is not None
    ]


def test_probabilities_candidates_and_best_paths(both):
    found = []
    for nlp in both:
        pipe, docs = pipe_of(nlp), [nlp.make_doc(text) for text in MIXED]
        readings, paths = pipe.read(docs, candidates=0.01), pipe.nbest(docs[:8], 4)
        found.append((readings, paths))
    for a, b in zip(*(readings for readings, _ in found), strict=True):
        assert [each.span for each in a.entities] == [each.span for each in b.entities]
        assert a.entropy == pytest.approx(b.entropy, abs=1e-3)
        mine = {each.span: each.probability for each in a.candidates}
        theirs = {each.span: each.probability for each in b.candidates}
        for span in mine.keys() | theirs.keys():
            assert mine.get(span, 0.01) == pytest.approx(theirs.get(span, 0.01), abs=1e-3)
    for a, b in zip(*(paths for _, paths in found), strict=True):
        assert [p.probability for p in a] == pytest.approx([p.probability for p in b], abs=1e-3)


def test_a_pipeline_of_the_cpu_after_require_gpu(trained_path, on_gpu):
    require_cpu()
    nlp = load(trained_path)
    want = [entities(doc) for doc in nlp.pipe(MIXED)]
    spacy.require_gpu(0)
    assert [entities(doc) for doc in nlp.pipe(MIXED)] == want
    nlp.update(make_examples(nlp), sgd=create_adamw())
    pipe_of(nlp).add_label("NEW")
    assert head_of(pipe_of(nlp).model).device.type == "cpu"
    list(nlp.pipe(MIXED))


def test_an_update_has_the_gradients_of_the_cpu(both):
    found = []
    for nlp in both:
        nlp.update(make_examples(nlp), drop=0.0)
        shims = own_encoder_of(pipe_of(nlp).model), head_of(pipe_of(nlp).model)
        found.append(
            {name: p.grad.cpu() for shim in shims for name, p in shim.module.named_parameters()}
        )
    for name, want in found[0].items():
        torch.testing.assert_close(found[1][name], want, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("mixed", (False, "auto", "float16"))
def test_it_learns(encoder_path, on_gpu, mixed, monkeypatch):
    if mixed == "float16":
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    spacy.util.fix_random_seed(0)
    nlp = spacy.blank("zh")
    setting = True if mixed == "float16" else mixed
    nlp.add_pipe("bert_crf", config=own_config(encoder_path, mixed_precision=setting))
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    optimizer = create_adamw(encoder_lr=5e-3, head_lr=2e-2, crf_lr=2e-2, warmup=0)
    losses = [nlp.update(examples, sgd=optimizer)["bert_crf"] for _ in range(50)]
    assert np.isfinite(losses).all() and losses[-1] < 0.05 * losses[0]
    assert nlp.evaluate(make_examples(nlp))["ents_f"] == 1.0
    assert own_encoder_of(pipe_of(nlp).model).grad_scaler.is_on is (mixed == "float16")


def test_a_step_that_is_not_finite_is_left_out(trained_path, on_gpu):
    nlp = load(trained_path)
    module, optimizer = own_encoder_of(pipe_of(nlp).model).module, create_adamw(warmup=0)
    nlp.update(make_examples(nlp), sgd=optimizer)
    before = [param.detach().clone() for param in module.parameters()]
    nlp.update(make_examples(nlp))
    head_of(pipe_of(nlp).model).module.classifier.weight.grad.fill_(torch.nan)
    pipe_of(nlp).finish_update(optimizer)
    for param, old in zip(module.parameters(), before, strict=True):
        assert torch.equal(param, old)
    with pytest.warns(UserWarning, match="not finite"):
        assert optimizer.clipper.skipped == 1
    nlp.update(make_examples(nlp), sgd=optimizer)
    assert not torch.equal(next(module.parameters()), before[0])


def test_files_are_those_of_the_cpu(both, tmp_path):
    here, there = both
    for nlp, name in ((here, "here"), (there, "there")):
        nlp.to_disk(tmp_path / name)
    files = [tmp_path / name / "bert_crf" / "encoder.safetensors" for name in ("here", "there")]
    assert files[0].read_bytes() == files[1].read_bytes()
    again = pickle.loads(pickle.dumps(there))
    want = [entities(doc) for doc in here.pipe(MIXED[:10])]
    assert [entities(doc) for doc in again.pipe(MIXED[:10])] == want


def test_threads_share_a_pipeline(both):
    here, there = both
    want, found = [entities(doc) for doc in here.pipe(MIXED)], []

    def run():
        found.append([entities(doc) for doc in there.pipe(MIXED, batch_size=7)])

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [want] * 3


def test_an_error_handler_gets_the_docs_in_their_turn(both, monkeypatch):
    _, there = both
    pipe, seen = pipe_of(there), []
    pipe.set_error_handler(lambda name, proc, docs, err: seen.append([doc.text for doc in docs]))
    real = type(pipe)._begin

    def begin(self, docs):
        if any(doc.text == "坏" for doc in docs):
            raise RuntimeError("no")
        return real(self, docs)

    monkeypatch.setattr(type(pipe), "_begin", begin)
    docs = there.pipe(["张三", "坏", "李四", "坏"], batch_size=1)
    assert [doc.text for doc in docs] == ["张三", "李四"] and seen == [["坏"], ["坏"]]


def test_8_bit_integers_are_refused(trained_path, on_gpu):
    with pytest.raises(BertCrfError, match="runs on the CPU"):
        load(trained_path, quantize="int8")(TEXTS[0][0])
