"""A pipeline's meta.json and metrics.json, for cards."""

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
