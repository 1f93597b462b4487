"""Formats of 16 bits, and ONNX graphs that share their weights."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.export.folder import export_pipeline
from spacy_bert_crf.export.formats import FORMATS
from spacy_bert_crf.export.open import open_export
from spacy_bert_crf.model.layers import own_encoder_of
from support.toys import train_toy

DTYPES = {"torchscript-fp16": torch.float16, "torchscript-bf16": torch.bfloat16}


@pytest.mark.parametrize("name", DTYPES)
def test_the_encoder_has_16_bits_and_the_rest_32(toys, name):
    for file in ("emissions.pt", "decode.pt"):
        module = torch.jit.load(str(toys["zh"].out / name / file))
        constants = {
            (value.dtype, value.shape)
            for node in module.inlined_graph.findAllNodes("prim::Constant")
            if node.hasAttribute("value") and node.kindOf("value") == "t"
            for value in [node.t("value")]
            if value.is_floating_point() and value.dim() == 2
        }
        assert (DTYPES[name], (16, 32)) in constants or (DTYPES[name], (32, 16)) in constants
        assert (torch.float32, (7, 16)) in constants  # the classifier
        assert ((torch.float32, (7, 7)) in constants) == (file == "decode.pt")
    plain = (toys["zh"].out / "torchscript" / "emissions.pt").stat().st_size
    assert (toys["zh"].out / name / "emissions.pt").stat().st_size < plain


def test_the_onnx_encoder_has_16_bits_and_the_rest_32(toys):
    onnx = pytest.importorskip("onnx")
    for file in ("emissions", "decode"):
        graph = onnx.load(str(toys["zh"].out / "onnx-fp16" / f"{file}.onnx")).graph
        arrays = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer]
        kinds = {(array.dtype, array.shape) for array in arrays if array.ndim == 2}
        assert (np.dtype("float16"), (16, 32)) in kinds
        assert (np.dtype("float32"), (16, 7)) in kinds or (np.dtype("float32"), (7, 16)) in kinds
        assert not any(d == np.float32 and shape in ((16, 32), (32, 16)) for d, shape in kinds)
        assert graph.output[0].type.tensor_type.elem_type in (
            onnx.TensorProto.FLOAT, onnx.TensorProto.INT64,
        )  # fmt: skip


@pytest.mark.parametrize("name", ["torchscript-fp16", "onnx-fp16"])
def test_a_model_that_does_not_fit_into_float16_is_refused(encoder_path, tmp_path, name):
    """float16 ends at 65504."""
    pytest.importorskip("onnxruntime")
    nlp = train_toy(encoder_path, 0)
    model = own_encoder_of(nlp.get_pipe("bert_crf").model).module
    with torch.no_grad():
        model.encoder.layer[0].intermediate.dense.weight.mul_(3e5)
    with pytest.raises(BertCrfError, match="outside of the range of float16"):
        export_pipeline(nlp, tmp_path / "out", formats=[name])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["onnx", "onnx-fp16", "onnx-int8", "onnx-int8-static"])
def test_onnx_weights_are_stored_once(toys, name):
    """Large tensors are in weights.bin; what a graph adds is small and does not depend on them."""
    onnx = pytest.importorskip("onnx")
    folder = toys["zh"].out / name
    places = {}
    for file in ("emissions", "decode"):
        model = onnx.load(str(folder / f"{file}.onnx"), load_external_data=False)
        tensors = model.graph.initializer
        assert all(len(tensor.raw_data) <= 1024 for tensor in tensors)
        places[file] = {
            tuple(sorted((entry.key, entry.value) for entry in tensor.external_data))
            for tensor in tensors
            if tensor.external_data
        }
    assert places["emissions"] == places["decode"] and places["emissions"]
    assert {dict(place)["location"] for place in places["decode"]} == {"weights.bin"}


def test_an_export_of_before_has_its_weights_in_the_graphs(toys, tmp_path):
    """Such a folder has no weights.bin, and is read as before."""
    onnx = pytest.importorskip("onnx")
    old, new = tmp_path / "onnx", toys["zh"].out / "onnx"
    shutil.copytree(new, old)
    for file in ("emissions.onnx", "decode.onnx"):
        onnx.save(onnx.load(str(new / file)), str(old / file))
    (old / "weights.bin").unlink()
    ids = np.array([[2, 30, 31, 3]])
    first, second = open_export(new), open_export(old)
    assert (
        first.open_emissions()(ids, ids * 0 + 1) == second.open_emissions()(ids, ids * 0 + 1)
    ).all()
    sizes = [each.megabytes(each.emissions_file) for each in (first, second)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.2)


def test_a_wrong_format_of_16_bits_is_refused(trained, tmp_path, monkeypatch):
    real = FORMATS["torchscript-bf16"]

    def wrong(folder, part, options):
        part.weight.add_(1.0)
        values = real.write(folder, part, options)
        part.weight.sub_(1.0)
        return values

    monkeypatch.setitem(FORMATS, "torchscript-bf16", replace(real, write=wrong))
    with pytest.raises(BertCrfError, match="emissions differ"):
        export_pipeline(trained, tmp_path / "out", formats=["torchscript-bf16"])
