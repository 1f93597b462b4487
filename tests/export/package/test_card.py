"""The model card."""

import copy

from spacy_bert_crf.export.package.card import model_card

META = {
    "lang": "zh",
    "name": "names",
    "version": "1.2.3",
    "spacy_version": ">=3.8,<3.9",
    "description": "Finds names.",
    "author": "us",
    "email": "us@example.org",
    "url": "https://example.org",
    "license": "MIT",
    "pipeline": ["bert_crf"],
    "labels": {"bert_crf": ["PER", "LOC"]},
    "requirements": ["spacy-bert-crf>=0.2,<1"],
    "sources": [
        {"name": "texts", "url": "https://example.org/t", "author": "them", "license": "CC0"},
        {"name": "others"},
        {"name": "toy-bert", "license": "Apache-2.0", "part": "encoder"},
    ],
    "performance": {"ents_p": 0.9, "ents_r": 0.8, "ents_f": 0.847},
    "spacy_bert_crf": {
        "seed": 7,
        "versions": {"python": "3.11", "torch": "2.13", "numpy": "2.4"},
        "bytes": 12_400_000,
        "encoders": [
            {"component": "bert_crf", "model_type": "bert", "layers": 4, "width": 384,
             "parameters": 12_345_678, "quantize": "int8", "scheme": "BIOES"}
        ],
        "card": {
            "purpose": "For news.",
            "labels": {"PER": "people | persons"},
            "scored_on": "On held-out texts",
            "limits": ["No poems."],
            "example": {"text": "王明在\"京\"。", "entities": [["王明", "PER"]]},
        },
    },
}  # fmt: skip
ROW = {"p": 0.5, "r": 0.25, "f": 0.3333, "gold": 1200}
METRICS = {
    "ents_p": 0.9123, "ents_r": 0.8, "ents_f": 0.85,
    "ents_per_type": {"LOC": ROW, "PER": {**ROW, "gold": 34}},
    "docs": 2318, "characters": 99000, "data": "test.spacy",
    "reliability": {"ece": 0.0557},
    "dev": {"ents_p": 0.7, "ents_r": 0.6, "ents_f": 0.65, "ents_per_type": {"PER": ROW},
            "docs": 10, "characters": 100},
}  # fmt: skip


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
