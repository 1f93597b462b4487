"""The folders of formats: their files, READMEs and transitions, the weights under other names."""

import hashlib
import json
import re

import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertModel,
    BertTokenizerFast,
)

from spacy_bert_crf.export.open import find_exports
from spacy_bert_crf.export.trained import digest, gather
from spacy_bert_crf.model.layers import head_of
from support.commands import cli
from support.exports import FLOAT_FORMATS, ROUNDED_FORMATS
from support.paths import ROOT

FORMATS = FLOAT_FORMATS + ROUNDED_FORMATS
COMMON = {"README.md", "best_model.json", "transitions.npz", "config.json", "vocab.txt"}
COMMON |= {"tokenizer.json", "tokenizer_config.json", "predict.py", "reader.py"}
#: transformers 5 does not write it: it is part of tokenizer_config.json.
OPTIONAL = {"special_tokens_map.json"}
OWN = {
    "bert4torch": {"best_model.pt", "bert4torch_config.json"},
    "huggingface": {"model.safetensors"},
    "torchscript": {"emissions.pt", "decode.pt", "emissions_1x32.pt"},
    "torch-int8": {"emissions.pt", "decode.pt"},
    "torchscript-fp16": {"emissions.pt", "decode.pt"},
    "torchscript-bf16": {"emissions.pt", "decode.pt"},
    **dict.fromkeys(
        ["onnx", "onnx-fp16", "onnx-int8", "onnx-int8-static"],
        {"emissions.onnx", "decode.onnx", "weights.bin"},
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_files_of_a_format(toys, name):
    folder = toys["zh"].out / name
    assert {path.name for path in folder.iterdir()} - OPTIONAL == COMMON | OWN[name]
    modes = {path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert len(modes) == 1, "files of one folder are readable for the same people"
    readme = (folder / "README.md").read_text(encoding="utf8")
    assert "$" not in readme and "scratch" not in readme
    assert "O, B-LOC, I-LOC, B-ORG, I-ORG, B-PER, I-PER" in readme
    named = set(re.findall(r"\| `(\w+\.\w+)` \|", readme))
    assert named <= {path.name for path in folder.iterdir()}
    vocab = (folder / "vocab.txt").read_text(encoding="utf8")
    assert vocab == (toys["zh"].out / "vocab.txt").read_text(encoding="utf8")


def test_the_export_holds_the_formats_and_nothing_else(toys):
    out = toys["zh"].out
    assert {path.name for path in out.iterdir() if path.is_dir()} == {*FORMATS, "calibration"}
    assert not list(out.parent.glob(".*"))
    assert [export.format for export in find_exports(out)] == ["best_model.pt", *[
        "bert4torch", "huggingface", "torchscript", "torchscript-fp16", "torchscript-bf16",
        "torch-int8", "onnx", "onnx-fp16", "onnx-int8", "onnx-int8-static",
    ]]  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_the_sidecar_of_a_format(toys, name):
    out = toys["zh"].out
    info = json.loads((out / name / "best_model.json").read_text(encoding="utf8"))
    weights = torch.load(out / "best_model.pt", weights_only=True)
    total = hashlib.sha256()
    for key in sorted(weights):
        total.update(
            f"{key} {list(weights[key].shape)}\n".encode() + weights[key].numpy().tobytes()
        )
    assert info["weights_sha256"] == total.hexdigest()
    assert info.pop("format") == name
    assert info == json.loads((out / "best_model.json").read_text(encoding="utf8"))


@pytest.mark.parametrize("toy", ["zh", "bioes", "free"])
@pytest.mark.parametrize("name", FLOAT_FORMATS)
def test_transitions(toys, toy, name):
    pipe = toys[toy].nlp.get_pipe("bert_crf")
    crf, n = head_of(pipe.model).module.crf, len(pipe.tag_set.tags)
    with np.load(toys[toy].out / name / "transitions.npz", allow_pickle=False) as data:
        arrays = dict(data)
    shapes = {key: array.shape for key, array in arrays.items()}
    assert shapes == {
        "start": (n,), "end": (n,), "transitions": (n, n), "legal_start": (n,), "legal_end": (n,),
        "legal_transitions": (n, n), "bias": (n,),
    }  # fmt: skip
    for part in ("start", "end", "transitions"):
        ours = crf.transitions if part == "transitions" else getattr(crf, f"{part}_transitions")
        assert arrays[part].dtype == np.float32
        assert (arrays[part] == ours.detach().numpy()).all()
        legal = arrays[f"legal_{part}"]
        assert legal.dtype == np.bool_ and (legal == getattr(crf, f"legal_{part}").numpy()).all()
        assert legal.all() == (toy == "free" or (part, toy) == ("end", "zh"))
    bias = head_of(pipe.model).module.classifier.bias
    assert (arrays["bias"] == bias.detach().numpy()).all()


def bert4torch_names(layers):
    """The names of its model, made by a rule of the test's own."""
    rows = ["word_embeddings.weight", "position_embeddings.weight"]
    names = {f"bert.embeddings.{row}" for row in rows}
    names |= {f"bert.embeddings.layerNorm.{kind}" for kind in ("weight", "bias")}
    parts = [f"multiHeadAttention.{part}" for part in "qkvo"] + ["attnLayerNorm", "ffnLayerNorm"]
    parts += ["feedForward.intermediateDense", "feedForward.outputDense"]
    for layer in range(layers):
        for part in parts:
            names |= {f"bert.encoderLayer.{layer}.{part}.{kind}" for kind in ("weight", "bias")}
    crf = {"crf.start_transitions", "crf.end_transitions", "crf.transitions"}
    return names | {"fc.weight", "fc.bias"} | crf


def test_bert4torch_names(toys):
    weights = torch.load(toys["zh"].out / "bert4torch" / "best_model.pt", weights_only=True)
    assert len(bert4torch_names(12)) == 201  # what the published model of 12 layers has
    assert weights.keys() == bert4torch_names(2)
    assert {t.dtype for t in weights.values()} == {torch.float32}
    text = (toys["zh"].out / "bert4torch" / "bert4torch_config.json").read_text(encoding="utf8")
    config = json.loads(text)
    assert config["model"] == "bert" and config["hidden_size"] == 16
    # Its builder takes what it is given: this one would make its encoder return a dictionary.
    assert "return_dict" not in config


def test_bert4torch_has_the_token_types_inside(toys):
    """Its embeddings without a token type are those of the pipeline with type 0."""
    toy = toys["zh"]
    trained = gather(toy.nlp, "", {})
    weights = torch.load(toy.out / "bert4torch" / "best_model.pt", weights_only=True)
    model = BertModel(AutoConfig.from_pretrained(toy.out), add_pooling_layer=False).eval()
    model.load_state_dict(trained.encoder_tensors())
    ids = torch.randint(0, model.config.vocab_size, (2, 50))
    types = model.embeddings.token_type_embeddings.weight
    assert float(types[0].abs().max()) > 0.1  # else nothing is tested
    with torch.inference_mode():
        words = weights["bert.embeddings.word_embeddings.weight"][ids]
        total = words + weights["bert.embeddings.position_embeddings.weight"][:50]
        norm = [weights[f"bert.embeddings.layerNorm.{kind}"] for kind in ("weight", "bias")]
        got = torch.nn.functional.layer_norm(total, (16,), *norm, eps=model.config.layer_norm_eps)
        torch.testing.assert_close(got, model.embeddings(ids), atol=1e-5, rtol=0)


@pytest.mark.parametrize("toy", ["zh", "bioes", "free"])
def test_bert4torch_has_the_constraints_in_its_scores(toys, toy):
    out = toys[toy].out
    theirs = torch.load(out / "bert4torch" / "best_model.pt", weights_only=True)
    ours = torch.load(out / "best_model.pt", weights_only=True)
    tags = toys[toy].nlp.get_pipe("bert_crf").tag_set
    names = ("start_transitions", "end_transitions", "transitions")
    legal = dict(zip(names, tags.legal(), strict=True))
    for name, allowed in legal.items():
        on = torch.tensor(allowed) if toy != "free" else torch.ones_like(torch.tensor(allowed))
        got, trained = theirs[f"crf.{name}"], ours[f"crf.{name}"]
        assert bool((got[on] == trained[on]).all()) and bool((got[~on] == -1e4).all())
        assert bool((trained.abs() < 100).all())  # not baked in there
    assert bool((theirs["crf.transitions"] == -1e4).any()) == (toy != "free")


@pytest.mark.parametrize("toy", ["zh", "english", "bioes"])
def test_huggingface(toys, toy):
    folder = toys[toy].out / "huggingface"
    model, info = AutoModelForTokenClassification.from_pretrained(
        folder, output_loading_info=True, local_files_only=True
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert not info["error_msgs"]
    tags = toys[toy].nlp.get_pipe("bert_crf").tag_set.tags
    assert [model.config.id2label[i] for i in range(len(tags))] == list(tags)
    assert model.config.label2id == {tag: i for i, tag in enumerate(tags)}
    assert model.config.architectures == ["BertForTokenClassification"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert isinstance(tokenizer, BertTokenizerFast) and tokenizer.model_max_length == 512


def test_the_same_pipeline_gives_the_same_bytes(toys, tmp_path):
    from spacy_bert_crf.export.folder import export_pipeline

    toy = toys["english"]
    export_pipeline(toy.nlp, tmp_path / "again", formats=["bert4torch", "huggingface", "onnx"])
    for name in ("bert4torch", "huggingface", "onnx"):
        for path in sorted((tmp_path / "again" / name).iterdir()):
            assert path.read_bytes() == (toy.out / name / path.name).read_bytes(), path


def test_the_command_writes_all_formats(toys, tmp_path):
    text = cli("export", toys["zh"].path, tmp_path / "out", "--to", "huggingface", "--to", "onnx")
    assert "best_model.pt" in text and "README.md" in text
    names = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert names == {"huggingface", "onnx"}
    text = cli("export", toys["zh"].path, tmp_path / "all", "--to", "all")
    assert "onnx-int8-static needs --calibration" in text
    names = {path.name for path in (tmp_path / "all").iterdir() if path.is_dir()}
    assert names == set(FORMATS) - {"onnx-int8-static"}
    for name in names:  # the weights are those that are exported without the command
        for path in ("transitions.npz", "config.json", "best_model.json"):
            theirs = (toys["zh"].out / name / path).read_bytes()
            assert (tmp_path / "all" / name / path).read_bytes() == theirs


def test_the_export_of_the_quickstart(toys):
    """The export of the quickstart, if it was run in this checkout."""
    folder = ROOT / "export" / "quickstart"
    pipeline, corpus = ROOT / "training/quickstart/model-best", ROOT / "corpus/quickstart"
    if not (folder / "best_model.json").is_file() or not pipeline.is_dir():
        pytest.skip("the quickstart has not been run in this checkout")
    exports = [export for export in find_exports(folder) if export.format != "best_model.pt"]
    if not exports:
        pytest.skip("the quickstart exports best_model.pt alone")
    import runpy

    import spacy
    from spacy.tokens import DocBin

    from support.toys import characters

    own = digest(torch.load(folder / "best_model.pt", weights_only=True))
    nlp = spacy.load(pipeline)
    docs = list(DocBin().from_disk(corpus / "test.spacy").get_docs(nlp.vocab))[:100]
    wanted = [characters(doc) for doc in nlp.pipe(doc.text for doc in docs)]
    reader = runpy.run_path(str(ROOT / "docs" / "read_export.py"))
    for export in exports:
        assert export.info["weights_sha256"] == own, f"{export.format} is of other weights"
        if export.format not in FLOAT_FORMATS:
            continue
        model = reader["load"](export.folder)
        got = [reader["entities"](doc.text, model) for doc in docs]
        assert got == wanted, export.format
