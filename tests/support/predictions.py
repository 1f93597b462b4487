"""Pipelines with random scores, and what they must predict, by enumeration."""

from collections import defaultdict

import numpy as np
import spacy
import torch

from spacy_bert_crf.model import layers
from support.crf import Enumeration
from support.toys import randomise_head, train_toy

DATA = [("张三在北京。", [(0, 2, "PER"), (3, 5, "LOC")])]
#: Short enough to enumerate; the last ones have white space and no token at all.
SHORT = ["张三在北", "京李四", "南京京", "张", "四\n三 \u3000", ""]


def make_random(encoder_path, scheme="BIO", seed=0, **settings):
    """A pipeline with two labels and random scores, so that nothing is certain."""
    nlp = train_toy(encoder_path, 0, data=DATA, scheme=scheme, **settings)
    torch.manual_seed(seed)
    randomise_head(nlp, std=0.7)
    return nlp


def scored(path, texts):
    """(start, end, label, probability) of each entity of each text, as `spacy.load` gives them."""
    nlp = spacy.load(path, config={"components": {"bert_crf": {"scores": True}}})
    return [
        [(e.start_char, e.end_char, e.label_, round(float(e._.score), 4)) for e in doc.ents]
        for doc in nlp.pipe(texts)
    ]


class Truth:
    """All paths of a doc with their probabilities, by enumeration."""

    def __init__(self, pipe, doc, temperature=1.0, keep=lambda spans, tags: True):
        emissions = torch.tensor(pipe.model.predict([doc])[0])
        crf = layers.head_of(pipe.model).module.crf
        every = Enumeration(crf, emissions, len(doc), pipe.constraints, temperature=temperature)
        decoded = [pipe.tag_set.decode(path) for path in every.paths.tolist()]
        kept = [
            (float(log_p), path, spans)
            for log_p, path, spans in zip(every.log_p, every.paths.tolist(), decoded, strict=True)
            if keep(spans, path)
        ]
        log_z = np.logaddexp.reduce([log_p for log_p, _, _ in kept])
        self.paths = sorted(((log_p - log_z, p, s) for log_p, p, s in kept), key=lambda x: -x[0])
        self.entities = defaultdict(float)
        for log_p, _, spans in self.paths:
            for span in spans:
                self.entities[tuple(span)] += np.exp(log_p)

    @property
    def entropy(self):
        return -sum(np.exp(log_p) * log_p for log_p, _, _ in self.paths)
