"""What is registered resolves through the entry points alone, and importing costs nothing."""

import subprocess
import sys
from importlib import metadata

import spacy
from thinc.api import Config

from support.toys import own_config

NAMES = {
    "spacy_factories": ["bert_crf", "bert_crf_encoder"],
    "spacy_architectures": [
        "spacy_bert_crf.BertCrf.v1",
        "spacy_bert_crf.Encoder.v1",
        "spacy_bert_crf.EncoderListener.v1",
    ],
    "spacy_batchers": ["spacy_bert_crf.batch_by_length.v1"],
    "spacy_callbacks": ["spacy_bert_crf.learn_new_labels.v1", "spacy_bert_crf.student.v1"],
    "spacy_readers": ["spacy_bert_crf.Corpora.v1", "spacy_bert_crf.WithTexts.v1"],
    "spacy_misc": ["spacy_bert_crf.packaged_encoder.v1"],
    "spacy_tokenizers": ["spacy_bert_crf.WholePieces.v1"],
    "spacy_loggers": [
        "spacy_bert_crf.ProgressLogger.v1",
        "spacy_bert_crf.TensorBoardLogger.v1",
    ],
    "thinc_optimizers": ["spacy_bert_crf.AdamW.v1"],
}


def test_every_entry_point_loads():
    points = metadata.distribution("spacy-bert-crf").entry_points
    assert {p.group for p in points} == {*NAMES, "spacy_cli", "prodigy_recipes"}
    for point in points:
        if point.group == "prodigy_recipes":  # needs Prodigy; see tests/adapters
            continue
        assert point.load() is not None
        if point.group in NAMES:
            assert point.name in NAMES[point.group]


def test_names_resolve_without_importing_the_package():
    groups = {k.split("_", 1)[1]: v for k, v in NAMES.items() if k != "spacy_factories"}
    code = (
        "import sys\nfrom spacy.util import registry\nimport spacy\n"
        "assert not any(m.startswith('spacy_bert_crf') for m in sys.modules)\n"
        "for group, names in {names}.items():\n"
        "    for name in names:\n"
        "        getattr(registry, group).get(name)\n"
        "assert spacy.blank('zh').has_factory('bert_crf')\n"
    ).replace("{names}", repr(groups))
    subprocess.run([sys.executable, "-c", code], check=True)


def test_commands_and_package_import_no_torch():
    code = (
        "import sys\nbefore = 'torch' in sys.modules\nimport spacy_bert_crf\n"
        "import spacy_bert_crf.errors, spacy_bert_crf._files, spacy_bert_crf.annotation.schemes\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_defaults_fill_a_config(encoder_path):
    nlp = spacy.blank("zh")
    nlp.add_pipe("bert_crf", config=own_config(encoder_path))
    section = Config().from_str(nlp.config.to_str())["components"]["bert_crf"]
    assert section["scheme"] == "BIO" and section["constraints"] is True
    assert section["model"]["tok2vec"]["max_length"] == 0
    assert section["scorer"] == {"@scorers": "spacy.ner_scorer.v1"}
