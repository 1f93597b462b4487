"""The model card."""

import copy

from spacy_bert_crf.export.package.card import Place, model_card
from support.cards import META, METRICS


def test_the_card_says_what_a_reader_needs():
    lines = model_card(META, METRICS).split("\n")
    assert lines[0] == "# zh_names" and lines[2] == "Finds names."
    for line in (
        "| Encoder | bert, 4 layers of width 384, 12.3 million parameters |",
        "| Prediction | in int8 on the CPU |",
        "| Size | 12 MB on disk |",
        "| Author | us (us@example.org) |",
        "pip install zh_names-1.2.3-py3-none-any.whl",
        'nlp = spacy.load("zh_names")',
        r'doc = nlp("王明在\"京\"。")',
        "# [('王明', 'PER')]",
        'nlp.get_pipe("bert_crf").scores = True',
        r"| PER | people \| persons |",
        "| LOC |  |",
        "- Training text: [texts](https://example.org/t) (by them; licence: CC0)",
        "- Training text: others (licence not known)",
        "- Encoder: toy-bert (licence: Apache-2.0)",
        "On held-out texts (2,318 texts, 99,000 characters):",
        "| LOC | 50.00 | 25.00 | 33.33 | 1,200 |",
        "| all | 91.23 | 80.00 | 85.00 | 1,234 |",
        "On dev, by which the epoch was chosen (10 texts, 100 characters):",
        "- No poems.",
        "Trained with python 3.11, torch 2.13, seed 7.",
        "It needs spaCy >=3.8,<3.9, spacy-bert-crf>=0.2,<1.",
    ):
        assert line in lines, line
    assert "error of the entities' probabilities is 0.056" in "\n".join(lines)


def test_tables_and_blocks_are_whole():
    text = model_card(META, METRICS)
    assert text.endswith(".\n") and "\n\n\n" not in text
    assert text.count("```") % 2 == 0
    blocks = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 4
    for block in blocks:
        rows = block.strip("\n").split("\n")
        assert len({row.replace("\\|", "").count("|") for row in rows}) == 1, block


def test_a_card_of_little():
    meta = copy.deepcopy(META)
    del meta["spacy_bert_crf"]
    meta |= {"sources": [], "performance": {}, "description": "", "license": "", "url": ""}
    text = model_card(meta)
    assert "Named entities: PER, LOC." in text and "Training text: not recorded" in text
    for absent in ("None", "## Scores", "What it is for", "Trained with", "| Licence", "scores ="):
        assert absent not in text
    assert "\n\n\n" not in text


def test_without_metrics_it_has_the_scores_of_the_training():
    assert "| all | 90.00 | 80.00 | 84.70 |" in model_card(META)
    unnamed = copy.deepcopy(META)
    unnamed["spacy_bert_crf"]["card"]["scored_on"] = ""
    assert "On test.spacy (2,318 texts" in model_card(unnamed, METRICS)


def test_figures_of_an_evaluation_are_shown():
    """Intervals, calibration, errors, and the time of the training."""
    bins = [{"low": 0.8, "high": 0.9, "count": 1500, "probability": 0.85, "right": 0.9},
            {"low": 0.1, "high": 0.2, "count": 0}]  # fmt: skip
    confusion = {
        "gold": 1234, "predicted": 1100, "exact": 1000, "same_span_other_label": 20,
        "other_borders_same_label": {"too short": 1, "too long": 2, "shifted": 3},
        "other_borders_other_label": 4, "missed": 204, "spurious": 70,
        "same_span_by_label": {"LOC": {"LOC": 900, "PER": 8}, "PER": {"LOC": 12, "PER": 100}},
    }  # fmt: skip
    metrics = METRICS | {
        "reliability": {"ece": 0.0557, "bins": bins},
        "confusion": confusion,
        "intervals": {"": {"f": [0.84, 0.86]}, "LOC": {"f": [0.3, 0.36]}},
        "seconds": 5400.0,
    }
    lines = model_card(META, metrics, Place(picture="calibration.svg")).split("\n")
    for line in (
        "| label | precision | recall | F1 | F1, 95 % interval | entities |",
        "| LOC | 50.00 | 25.00 | 33.33 | 30.00 to 36.00 | 1,200 |",
        "| PER | 50.00 | 25.00 | 33.33 |  | 34 |",
        "| 0.8 to 0.9 | 1,500 | 0.850 | 0.900 |",
        "![Share of right entities by their probability](calibration.svg)",
        "| right label, borders too long | 2 |",
        "| missed | 204 |",
        "Most frequent mistakes of the label: PER read as LOC (12), LOC read as PER (8).",
        "The training took 90 minutes.",
    ):
        assert line in lines, line
    assert not any(line.startswith("| 0.1 to") for line in lines)
    assert "\n\n\n" not in "\n".join(lines)


def test_three_ways_to_use_a_folder_and_a_repository():
    text = model_card(META, METRICS, Place(folder="training/model-best"))
    assert 'spacy.load("training/model-best")' in text and "pip install zh_names" not in text
    assert 'pip install "spacy-bert-crf[serve]>=0.2,<1"' in text
    assert "bert-crf serve training/model-best" in text
    assert "bert-crf export training/model-best export" in text
    there = Place(
        folder="names", repo="us/names", download="from hub import snapshot_download",
        wheel="zh_names-1.2.3-py3-none-any.whl", export="export",
    )  # fmt: skip
    text = model_card(META, METRICS, there)
    assert 'nlp = spacy.load(snapshot_download("us/names"))' in text
    assert 'torch.load("export/best_model.pt", weights_only=True)' in text
    assert "`zh_names-1.2.3-py3-none-any.whl` is the same" in text and "bert-crf export" not in text
    assert "\n\n\n" not in text and text.count("```") % 2 == 0


def test_emissions_are_only_those_that_the_maker_states():
    assert "carbon" not in model_card(META, METRICS)
    meta = copy.deepcopy(META)
    meta["spacy_bert_crf"]["card"]["emissions"] = {"grams": 12.5, "hardware_used": "a laptop"}
    text = model_card(meta, METRICS)
    assert "states 12.5 g of carbon dioxide for it; hardware used: a laptop." in text
