"""A pipeline on a shared transformer, where spacy-transformers is missing."""

from importlib.util import find_spec

import pytest
import spacy

from spacy_bert_crf.component.pipelines import load_pipeline
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.training.loop import train

pytestmark = pytest.mark.skipif(
    find_spec("spacy_transformers") is not None, reason="spacy-transformers is installed"
)
INSTALL = r'pip install "spacy-bert-crf\[shared\]"'
LISTENER = {
    "factory": "bert_crf",
    "model": {
        "@architectures": "spacy_bert_crf.BertCrf.v1",
        "tok2vec": {
            "@architectures": "spacy-transformers.TransformerListener.v1",
            "grad_factor": 1.0,
        },
    },
}


@pytest.mark.parametrize(
    "name, component", [("transformer", {"factory": "transformer"}), ("bert_crf", LISTENER)]
)
def test_the_commands_say_what_to_install(tmp_path, name, component):
    folder = tmp_path / "pipeline"
    nlp = spacy.blank("zh")
    nlp.to_disk(folder)
    config = nlp.config.copy()
    config["nlp"]["pipeline"] = [name]
    config["components"] = {name: component}
    config.to_disk(folder / "config.cfg")
    with pytest.raises(BertCrfError, match=INSTALL):
        load_pipeline(folder)
    config["paths"] |= {"train": None, "dev": None}
    with pytest.raises(BertCrfError, match=INSTALL):
        train(config, tmp_path / "out")
