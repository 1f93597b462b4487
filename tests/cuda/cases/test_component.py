"""The component on the device: the same entities as on the CPU, wherever it was loaded."""

import pickle
import threading

import numpy as np
import pytest
import spacy
import thinc.api
from spacy.training import Example

from spacy_bert_crf.model.layers import head_of, own_encoder_of
from spacy_bert_crf.model.optimizer import create_adamw
from support.toys import TEXTS, entities, load_pipeline, make_examples

ALL_TEXTS = [text for text, _ in TEXTS]


def predicted(nlp, texts=ALL_TEXTS):
    return [entities(doc) for doc in nlp.pipe(texts)]


def device_of(nlp):
    """Devices of the encoder and of the head."""
    model = nlp.get_pipe("bert_crf").model
    return own_encoder_of(model).device.type, head_of(model).device.type


def load(folder, mixed_precision=False):
    """A pipeline on the present device. In float32 it computes what the CPU does."""
    nlp = spacy.load(folder)
    own_encoder_of(nlp.get_pipe("bert_crf").model).cfg["mixed_precision"] = mixed_precision
    return nlp


@pytest.fixture
def on_gpu(trained_path):
    """The pipeline in float32, loaded on the GPU."""
    return load_pipeline(trained_path)


@pytest.fixture
def from_cpu(trained_path):
    """The pipeline in float32, loaded on the CPU. `require_gpu` came afterwards."""
    thinc.api.require_cpu()
    nlp = load_pipeline(trained_path)
    spacy.require_gpu()
    return nlp


@pytest.fixture(scope="module")
def wanted(trained_path):
    """The entities that are found on the CPU."""
    thinc.api.require_cpu()
    return predicted(load_pipeline(trained_path))


@pytest.mark.parametrize("mixed_precision", [False, True])
def test_loaded_on_the_gpu(trained_path, wanted, mixed_precision):
    nlp = load(trained_path, mixed_precision)
    assert device_of(nlp) == ("cuda", "cuda")
    assert predicted(nlp) == wanted and any(wanted)
    assert predicted(spacy.load(trained_path)) == wanted  # as it was saved


def test_loaded_on_the_cpu_one_text(from_cpu, wanted):
    assert entities(from_cpu(ALL_TEXTS[0])) == wanted[0]


@pytest.mark.parametrize("scores", [False, True])
def test_loaded_on_the_cpu_many_texts(from_cpu, wanted, scores):
    from_cpu.get_pipe("bert_crf").scores = scores
    assert predicted(from_cpu) == wanted


def test_loaded_on_the_cpu_update(from_cpu):
    losses = from_cpu.update(make_examples(from_cpu), sgd=create_adamw())
    assert losses["bert_crf"] > 0


def test_loaded_on_the_cpu_new_label(from_cpu):
    from_cpu.get_pipe("bert_crf").add_label("NEW")
    assert len(set(device_of(from_cpu))) == 1
    from_cpu(ALL_TEXTS[0])


def test_new_label_in_a_thread(on_gpu):
    thread = threading.Thread(target=on_gpu.get_pipe("bert_crf").add_label, args=["NEW"])
    thread.start()
    thread.join()
    assert device_of(on_gpu) == ("cuda", "cuda")
    on_gpu(ALL_TEXTS[0])


def test_loaded_on_the_gpu_then_require_cpu(on_gpu, wanted):
    thinc.api.require_cpu()
    assert predicted(on_gpu) == wanted


def test_loading_in_a_thread_is_loading_on_the_cpu(trained_path, wanted):
    """thinc keeps the device by thread (a ContextVar), so a new thread is on the CPU."""
    out = []
    thread = threading.Thread(target=lambda: out.append(load_pipeline(trained_path)))
    thread.start()
    thread.join()
    assert device_of(out[0]) == ("cpu", "cpu")


def test_prediction_in_threads(on_gpu, wanted):
    out = []
    threads = [threading.Thread(target=lambda: out.append(predicted(on_gpu))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert out == [wanted, wanted]


def test_to_gpu_and_back(trained_path, wanted):
    thinc.api.require_cpu()
    nlp = load_pipeline(trained_path)
    model = nlp.get_pipe("bert_crf").model
    model.to_gpu(0)
    assert device_of(nlp) == ("cuda", "cuda") and predicted(nlp) == wanted
    model.to_cpu()
    assert device_of(nlp) == ("cpu", "cpu") and predicted(nlp) == wanted


def test_saving_and_copying(on_gpu, trained_path, tmp_path, wanted):
    on_gpu.to_disk(tmp_path)
    name = "bert_crf/encoder.safetensors"
    assert (tmp_path / name).read_bytes() == (trained_path / name).read_bytes()
    other = load_pipeline(trained_path).from_bytes(on_gpu.to_bytes())
    assert predicted(other) == wanted
    assert predicted(pickle.loads(pickle.dumps(on_gpu))) == wanted
    copied = own_encoder_of(on_gpu.get_pipe("bert_crf").model).copy()
    assert copied.device.type == "cuda"


def test_int8_is_refused(trained_path):
    nlp = load_pipeline(trained_path, quantize="int8")
    with pytest.raises(ValueError, match="int8"):
        nlp(ALL_TEXTS[0])


def read_everything(nlp):
    pipe = nlp.get_pipe("bert_crf")
    pipe.scores, pipe.candidates = True, 0.02
    docs = list(nlp.pipe(ALL_TEXTS))
    readings = pipe.read([nlp.make_doc(text) for text in ALL_TEXTS], candidates=0.01)
    paths = pipe.nbest([nlp.make_doc(text) for text in ALL_TEXTS], 4)
    numbers = [span._.score for doc in docs for span in doc.ents]
    numbers += [max((c.probability for c in r.candidates), default=0.0) for r in readings]
    numbers += [reading.entropy for reading in readings]
    found = [[[(e.start, e.end, e.label_) for e in a.entities] for a in one] for one in paths]
    return numbers, found


@pytest.mark.parametrize("mixed_precision, tolerance", [(False, 1e-5), (True, 0.02)])
def test_probabilities_equal_those_of_the_cpu(trained_path, mixed_precision, tolerance):
    thinc.api.require_cpu()
    numbers, paths = read_everything(load_pipeline(trained_path))
    spacy.require_gpu()
    found_numbers, found_paths = read_everything(load_pipeline(trained_path))
    assert found_paths == paths and len(numbers) >= 20
    np.testing.assert_allclose(found_numbers, numbers, atol=1e-5)


def odd_docs(nlp):
    texts = [*ALL_TEXTS, "", " ", "\u200b", "😀", ALL_TEXTS[0] * 60]
    docs = [nlp.make_doc(text) for text in texts]
    docs[0].ents = [docs[0].char_span(0, 3, "LOC")]
    docs[1]._.bert_crf_labels = ["PER"]
    return docs


def test_odd_docs(on_gpu, trained_path):
    thinc.api.require_cpu()
    cpu = load_pipeline(trained_path)
    want = [entities(doc) for doc in cpu.pipe(odd_docs(cpu))]
    spacy.require_gpu()
    assert [entities(doc) for doc in on_gpu.pipe(odd_docs(on_gpu))] == want
    assert predicted(on_gpu, ["", ""]) == [[], []]
    pipe = on_gpu.get_pipe("bert_crf")
    pipe.scores = True
    assert len(list(on_gpu.pipe(["", " ", ALL_TEXTS[0]]))) == 3
    assert len(pipe.nbest([on_gpu.make_doc("")], 2)) == 1


def test_a_doc_of_6000_tokens(on_gpu, trained_path):
    text = "".join(ALL_TEXTS) * 55
    assert len(on_gpu.make_doc(text)) > 4096
    thinc.api.require_cpu()
    want = entities(load_pipeline(trained_path)(text))
    spacy.require_gpu()
    assert entities(on_gpu(text)) == want


def test_partial_annotation_equals_the_cpu(trained_path):
    losses = []
    for choose in (thinc.api.require_cpu, spacy.require_gpu):
        choose()
        nlp = load_pipeline(trained_path)
        pipe = nlp.get_pipe("bert_crf")
        pipe.annotated_share, pipe.constrain_training = 0.4, True
        doc = nlp.make_doc(ALL_TEXTS[0])
        doc.set_ents([doc.char_span(0, 3, "PER")], default="missing")
        examples = [Example(nlp.make_doc(ALL_TEXTS[0]), doc), *make_examples(nlp)]
        losses.append(nlp.update(examples)["bert_crf"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_get_loss(on_gpu):
    pipe = on_gpu.get_pipe("bert_crf")
    examples = make_examples(on_gpu)
    scores = pipe.model.predict([example.predicted for example in examples])
    loss, gradients = pipe.get_loss(examples, scores)
    assert 0 < loss < 1 and len(gradients) == len(examples)
