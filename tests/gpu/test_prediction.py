"""The component on a GPU: equal to the CPU in float32, and few waits of the host."""

import pickle
import threading

import numpy as np
import pytest
import spacy
import torch
from spacy.tokens import DocBin
from thinc.api import require_cpu, to_numpy

from benchmarks.cuda.measure import Device, waits_seen
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.evaluation.evaluate import evaluate
from spacy_bert_crf.export.folder import export_pipeline
from spacy_bert_crf.export.open import open_export
from spacy_bert_crf.model.layers import head_of, own_encoder_of
from support.toys import TEXTS, emissions, entities, make_examples, randomise_head

#: Most waits of the host that torch warns of, in one predicted batch.
WAITS_OF_TAGS = 1
#: The same with scores, with candidates, and for the 5 best paths.
WAITS_OF_SCORES = 3
WAITS_OF_NBEST = 3

STRINGS = [text for text, _ in TEXTS]
LONG = "".join(STRINGS) * 60
MIXED = [*STRINGS, "", " ", "😀王小明在北京。", LONG[:700], "北京"]


def devices(nlp):
    model = nlp.get_pipe("bert_crf").model
    return {own_encoder_of(model).device.type, head_of(model).device.type}


def found(nlp, texts=MIXED, **options):
    return [entities(doc) for doc in nlp.pipe(texts, **options)]


@pytest.fixture
def same_random_head(load, on_cpu):
    """The toy on the CPU and on the GPU, with one random head that is sure of nothing."""
    torch.manual_seed(3)
    randomise_head(on_cpu, std=0.5)
    nlp = load()
    state = head_of(on_cpu.get_pipe("bert_crf").model).module.state_dict()
    head_of(nlp.get_pipe("bert_crf").model).module.load_state_dict(state)
    return on_cpu, nlp


def test_the_pipeline_is_on_the_gpu(load):
    assert devices(load()) == {"cuda"}


@pytest.mark.parametrize("batch_size", [1, 3, 128])
def test_entities_equal_the_cpus(load, on_cpu, batch_size):
    assert found(load(), batch_size=batch_size) == found(on_cpu)


@pytest.mark.parametrize("batch_pieces", [0, 64, 1024])
def test_emissions_equal_the_cpus(load, on_cpu, batch_pieces):
    nlp = load()
    own_encoder_of(nlp.get_pipe("bert_crf").model).cfg["batch_pieces"] = batch_pieces
    for got, want in zip(emissions(nlp, MIXED), emissions(on_cpu, MIXED), strict=True):
        np.testing.assert_allclose(to_numpy(got), to_numpy(want), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mixed_precision", [True, "auto"])
def test_entities_in_16_bits_are_those_of_a_trained_model(load, gold, mixed_precision):
    assert found(load(mixed_precision), STRINGS) == gold


def test_a_document_of_many_windows(load, on_cpu):
    assert found(load(), [LONG]) == found(on_cpu, [LONG])


def test_scores_and_candidates_equal_the_cpus(same_random_head):
    read = []
    for nlp in same_random_head:
        pipe = nlp.get_pipe("bert_crf")
        docs = [nlp.make_doc(text) for text in STRINGS]
        read.append(pipe.read(docs, candidates=0.01))
    n_compared = 0
    for want, got in zip(*read, strict=True):
        assert got.log_probability == pytest.approx(want.log_probability, abs=1e-3)
        assert got.entropy == pytest.approx(want.entropy, abs=1e-3)
        for kind in ("entities", "candidates"):
            # One whose probability is at the bound may be in one of them only.
            ours = {span[:3]: span[3] for span in getattr(got, kind) if span[3] > 0.011}
            theirs = {span[:3]: span[3] for span in getattr(want, kind) if span[3] > 0.009}
            assert ours.keys() <= theirs.keys()
            n_compared += len(ours)
            for span, probability in ours.items():
                assert probability == pytest.approx(theirs[span], abs=1e-3)
    assert n_compared > 20


def test_written_scores_equal_the_cpus(load, on_cpu):
    nlp = load(scores=True)
    on_cpu.get_pipe("bert_crf").settings.scores = True
    for got, want in zip(nlp.pipe(STRINGS), on_cpu.pipe(STRINGS), strict=True):
        assert entities(got) == entities(want)
        scores = got.spans["bert_crf"].attrs["scores"]
        np.testing.assert_allclose(scores, want.spans["bert_crf"].attrs["scores"], atol=1e-4)


def test_nbest_equals_the_cpus(same_random_head):
    ours, theirs = (
        nlp.get_pipe("bert_crf").nbest([nlp.make_doc(text) for text in STRINGS], 5)
        for nlp in reversed(same_random_head)
    )
    for got, want in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(
            [each.probability for each in got], [each.probability for each in want], atol=1e-4
        )


def test_save_and_load_between_devices(load, on_cpu, tmp_path):
    nlp = load()
    want = found(on_cpu)
    nlp.to_disk(tmp_path / "from_gpu")
    assert found(pickle.loads(pickle.dumps(nlp))) == want
    weights = "bert_crf/encoder.safetensors"
    on_cpu.to_disk(tmp_path / "from_cpu")
    assert (tmp_path / "from_gpu" / weights).is_file()
    assert (tmp_path / "from_gpu" / weights).read_bytes() == (
        tmp_path / "from_cpu" / weights
    ).read_bytes()
    again = spacy.blank("zh")
    again.add_pipe("bert_crf", config=on_cpu.get_pipe_config("bert_crf")).from_bytes(
        nlp.get_pipe("bert_crf").to_bytes()
    )
    assert devices(again) == {"cuda"} and found(again) == want
    require_cpu()
    there = spacy.load(tmp_path / "from_gpu")
    assert devices(there) == {"cpu"} and found(there) == want


def test_threads_predict_on_the_gpu(load, on_cpu):
    nlp, out = load(), {}
    want = found(on_cpu)

    def work(number):
        out[number] = found(nlp)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert out == dict.fromkeys(range(4), want)


def test_evaluate(load):
    nlp = load(scores=True)
    gold = [eg.reference for eg in make_examples(nlp)]
    docs = list(DocBin(docs=gold).get_docs(nlp.vocab))
    result = evaluate(nlp, docs, confusion=True)
    assert result.scores.entities.f == 1.0 and result.reliability is not None


def test_export_from_the_gpu(load, on_cpu, tmp_path):
    nlp = load()
    want = found(on_cpu)
    ids = np.arange(5, 45).reshape(2, 20)
    mask = np.ones_like(ids)
    exported = []
    for name, each in (("gpu", nlp), ("cpu", on_cpu)):
        export_pipeline(each, tmp_path / name, formats=["torchscript"])
        run = open_export(tmp_path / name / "torchscript").open_emissions()
        exported.append(run(ids, mask))
    np.testing.assert_allclose(*exported, rtol=1e-5, atol=1e-5)
    assert devices(nlp) == {"cuda"} and found(nlp) == want


def test_quantize_is_refused(load):
    nlp = load(quantize="int8")
    with pytest.raises(BertCrfError, match="runs on the CPU"):
        nlp(STRINGS[0])


@pytest.mark.parametrize("mixed_precision", [False, "auto"])
def test_the_host_waits_rarely(load, mixed_precision):
    nlp = load(mixed_precision)
    pipe = nlp.get_pipe("bert_crf")
    docs = [nlp.make_doc(text) for text in STRINGS]
    jobs = {
        "tags": (lambda: pipe.predict(docs), WAITS_OF_TAGS),
        "scores": (lambda: pipe.read(docs, candidates=0.1), WAITS_OF_SCORES),
        "nbest": (lambda: pipe.nbest(docs, 5), WAITS_OF_NBEST),
    }
    waits = {name: Device(0).waits(job) for name, (job, _) in jobs.items()}
    more = {name: each for name, each in waits.items() if sum(each.values()) > jobs[name][1]}
    assert not more, f"by file and line: {more}"


def test_waits_are_seen():
    """The counter that the test above relies on."""
    values = torch.ones(3, device="cuda")
    with waits_seen() as waits:
        values.sum().item()
    assert sum(waits.values()) >= 1
