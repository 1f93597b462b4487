"""A peer of the speed benchmark: spaCy's own transformer and ner in one pipeline.

python spacy_pipeline.py   (orders on stdin, see peer_loop.py)
"""

import time
from typing import Any

import spacy
import torch
from peer_loop import evenly, serve, times_of
from spacy.training import Example

#: The encoder as in spaCy's quickstart for transformers.
TRANSFORMER = {
    "@architectures": "spacy-transformers.TransformerModel.v3",
    "tokenizer_config": {"use_fast": True},
    "get_spans": {
        "@span_getters": "spacy-transformers.strided_spans.v1",
        "window": 128,
        "stride": 96,
    },
}
NER = {
    "@architectures": "spacy.TransitionBasedParser.v2",
    "state_type": "ner",
    "extra_state_tokens": False,
    "hidden_width": 64,
    "maxout_pieces": 2,
    "use_upper": False,
    "tok2vec": {
        "@architectures": "spacy-transformers.TransformerListener.v1",
        "grad_factor": 1.0,
        "pooling": {"@layers": "reduce_mean.v1"},
    },
}


class SpacyNer:
    """`nlp.pipe` from texts. The weights of ner are random: only its speed is of interest.

    folder: a Hugging Face folder. examples: a few (text, spans), for the labels.
    """

    SIZES = (16, 32, 64, 128, 256, 1000)

    def __init__(
        self, folder: str, texts: list[str], threads: int, lang: str, examples: list[Any]
    ) -> None:
        torch.set_num_threads(threads)
        self.texts = texts
        self.nlp = spacy.blank(lang)
        self.nlp.add_pipe("transformer", config={"model": {**TRANSFORMER, "name": folder}})
        self.nlp.add_pipe("ner", config={"model": NER})
        made = []
        for text, spans in examples:
            doc = self.nlp.make_doc(text)
            found = [doc.char_span(start, end, label) for start, end, label in spans]
            doc.ents = [span for span in found if span is not None]
            made.append(Example(self.nlp.make_doc(text), doc))
        spacy.util.fix_random_seed(0)
        self.nlp.initialize(lambda: made)
        self.batch_size = self.SIZES[-1]

    def warm_up(self) -> dict[str, Any]:
        sample = evenly(self.texts, 400)
        list(self.nlp.pipe(sample[:8]))
        times = times_of(self.SIZES, lambda size: self._time(sample, size))
        self.batch_size = min(times, key=lambda size: times[size])
        tried = {str(size): round(seconds, 3) for size, seconds in times.items()}
        return {"batches": f"batch_size={self.batch_size}", "tried": tried}

    def run(self) -> dict[str, Any]:
        seconds = self._time(self.texts, self.batch_size)
        return {"seconds": seconds, "characters": sum(map(len, self.texts))}

    def _time(self, texts: list[str], size: int) -> float:
        began = time.perf_counter()
        list(self.nlp.pipe(texts, batch_size=size))
        return time.perf_counter() - began


if __name__ == "__main__":
    serve({"spacy": SpacyNer})
