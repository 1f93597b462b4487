"""Toys whose components share an encoder of the package, `bert_crf_encoder`."""

import spacy

from spacy_bert_crf.model.optimizer import create_adamw
from support.toys import TEXTS, make_examples

#: Two components that share an encoder, and their labels.
TWO = {"people": ["PER"], "rest": ["LOC", "ORG"]}


def listener_config(upstream="*", **settings):
    """A `bert_crf` that listens to a `bert_crf_encoder`."""
    listener = {"@architectures": "spacy_bert_crf.EncoderListener.v1", "upstream": upstream}
    return {"scheme": "BIO", "model": {"tok2vec": listener}, **settings}


def own_shared_pipeline(encoder_path, names=("bert_crf",), lang="zh", **settings):
    """A blank pipeline with a `bert_crf_encoder` and components that listen to it.

    names: names of the components.
    settings: settings of the encoder. It trains in float32 by default, so equally on every CPU.
    """
    spacy.util.fix_random_seed(0)
    nlp = spacy.blank(lang)
    model = {"name": str(encoder_path), "mixed_precision": False, **settings}
    nlp.add_pipe("bert_crf_encoder", config={"model": model})
    for name in names:
        nlp.add_pipe("bert_crf", name=name, config=listener_config())
    return nlp


def adamw(**settings):
    """An optimizer with rates for toys."""
    rates = {"encoder_lr": 5e-3, "head_lr": 2e-2, "crf_lr": 2e-2}
    return create_adamw(**{**rates, **settings}, warmup=0)


def initialised(nlp, labels=TWO, data=TEXTS):
    """Initialise a pipeline. RETURNS: the examples.

    labels: of each component.
    """
    examples = make_examples(nlp, data)
    own = {name: {"labels": of} for name, of in labels.items() if name in nlp.pipe_names}
    nlp.config["initialize"]["components"] = own
    nlp.initialize(lambda: examples)
    return examples


def train_two(encoder_path, updates=60):
    """A pipeline whose two components find the entities of TEXTS together."""
    nlp = own_shared_pipeline(encoder_path, TWO)
    examples, optimizer = initialised(nlp), adamw()
    for _ in range(updates):
        nlp.update(examples, sgd=optimizer)
    return nlp
