"""A toy BERT and toy pipelines, built without network."""

import os
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from support.exports import EN_TEXTS, EXPORTED, FLOAT_FORMATS, ZH_TEXTS, Toy
from support.paths import SHARED
from support.toys import TEXTS, randomise_head, train_toy, write_encoder

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A busy machine must not fail a property that holds.
hypothesis_settings.register_profile(
    "project", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("project")
warnings.filterwarnings("ignore", message=".*W095.*")


@pytest.fixture(scope="session")
def encoder_path(tmp_path_factory) -> Path:
    """A converted encoder folder: 2 layers, width 16."""
    return write_encoder(tmp_path_factory.mktemp("encoder"), initializer_range=0.3)


@pytest.fixture
def trained(encoder_path):
    """A pipeline of blank zh and bert_crf that has overfitted TEXTS."""
    return train_toy(encoder_path)


@pytest.fixture(scope="session")
def trained_path(encoder_path, tmp_path_factory) -> Path:
    """Folder of a trained toy pipeline."""
    path = tmp_path_factory.mktemp("trained") / "pipeline"
    train_toy(encoder_path).to_disk(path)
    return path


@pytest.fixture
def shared_data():
    """The folder of real corpora beside the checkout, where there is one."""
    if not SHARED.is_dir():
        pytest.skip("no folder of real corpora (SPACY_BERT_CRF_SHARED)")
    return SHARED


@pytest.fixture(scope="session")
def toys(encoder_path, tmp_path_factory) -> dict:
    """Toys by name, exported to all float32 formats, the plain one to all there are."""
    pytest.importorskip("onnxruntime")
    from spacy_bert_crf.export.folder import export_pipeline
    from spacy_bert_crf.export.formats import FORMATS

    out = {}
    for name, (lang, data, updates, settings) in EXPORTED.items():
        nlp = train_toy(encoder_path, updates, lang, data, **settings)
        if not updates:
            torch.manual_seed(6)  # of more than one label in every toy
            randomise_head(nlp)
        folder = tmp_path_factory.mktemp(f"toy-{name}")
        nlp.to_disk(folder / "pipeline")
        more = {"formats": FLOAT_FORMATS, "shape": (1, 32)}
        if name == "zh":
            texts = [text for text, _ in TEXTS]
            more |= {"formats": list(FORMATS), "calibration": 5, "calibration_texts": texts}
        export_pipeline(nlp, folder / "out", **more)
        texts = EN_TEXTS if lang == "en" else ZH_TEXTS
        if not updates:  # characters with the same emissions side by side make paths of one score
            texts = [text for text in texts if "1998" not in text]
        out[name] = Toy(nlp, folder / "pipeline", folder / "out", texts)
    return out
