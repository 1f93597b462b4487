"""What is counted on the pretend device: predictions and updates of a 12-layer toy BERT.

Numbers of waits, launches and copies depend on the layers and on the batch, not on the width. So
they are those of bert-base. Used after `pretend.install()` only.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import spacy
from spacy.training import Example

from spacy_bert_crf.model.optimizer import create_adamw
from support.toys import make_examples, own_config, vocabulary
from tests.cuda.pretend import counted
from tests.cuda.pretend.log import Log

LAYERS = 12
#: Settings of the component's encoder by the name of the precision: the default, and none.
PRECISIONS: dict[str, dict[str, Any]] = {
    "bfloat16": {"mixed_precision": "auto"},
    "float32": {"mixed_precision": False},
}


@dataclass(frozen=True)
class Workload:
    """Something to count.

    name: what it is, as the table writes it.
    prepare: makes what is needed from a pipeline. RETURNS: the function to count.
    """

    name: str
    prepare: Callable[[Any], Callable[[], Any]]


def pipeline(encoder_path: Path, precision: str) -> Any:
    """A pipeline on the device that was initialised, and not trained."""
    spacy.require_gpu()
    nlp = spacy.blank("zh")
    nlp.add_pipe("bert_crf", config=own_config(encoder_path, **PRECISIONS[precision]))
    nlp.initialize(lambda: make_examples(nlp))
    return nlp


def count(nlp: Any, workload: Workload) -> Log:
    """What a workload does on the device, after one run that is not counted. RETURNS: the log."""
    work = workload.prepare(nlp)
    work()
    with counted() as log:
        work()
    return log


def _texts(number: int, shortest: int, longest: int) -> list[str]:
    chars = [c for c in vocabulary() if len(c) == 1 and "\u4e00" <= c <= "\u9fff"]
    chance = random.Random(0)
    lengths = [chance.randint(shortest, longest) for _ in range(number)]
    return ["".join(chance.choices(chars, k=length)) for length in lengths]


ONE = _texts(1, 40, 40)
MANY = _texts(256, 20, 60)
ONE_LONG = [*_texts(255, 30, 30), *_texts(1, 4000, 4000)]


def _predict(texts: list[str], scores: bool = False) -> Callable[[Any], Callable[[], Any]]:
    def prepare(nlp: Any) -> Callable[[], Any]:
        pipe = nlp.get_pipe("bert_crf")

        def work() -> None:
            pipe.scores = scores
            for _ in pipe.pipe((nlp.make_doc(text) for text in texts), batch_size=256):
                pass

        return work

    return prepare


def _nbest(nlp: Any) -> Callable[[], Any]:
    pipe = nlp.get_pipe("bert_crf")
    return lambda: pipe.nbest([nlp.make_doc(text) for text in MANY[:32]], 5)


def _update(nlp: Any) -> Callable[[], Any]:
    chance = random.Random(1)
    examples = []
    for text in MANY[:16]:
        gold, start = nlp.make_doc(text), chance.randrange(10)
        gold.ents = [gold.char_span(start, start + 3, chance.choice(["PER", "LOC", "ORG"]))]
        examples.append(Example(nlp.make_doc(text), gold))
    optimizer = create_adamw(averaging=0.98, layer_decay=0.85)  # of the shipped config

    def work() -> None:
        nlp.update(examples, sgd=optimizer, drop=0.1)
        optimizer.step_schedules()

    return work


WORKLOADS = [
    Workload("predict one text", _predict(ONE)),
    Workload("predict 256 texts of 20 to 60 characters", _predict(MANY)),
    Workload("predict 255 texts of 30 characters and one of 4,000", _predict(ONE_LONG)),
    Workload("predict 256 texts of 20 to 60 characters, with scores", _predict(MANY, True)),
    Workload("nbest of 32 texts, 5 each", _nbest),
    Workload("update of 16 texts", _update),
]
