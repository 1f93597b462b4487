"""What each side finds in texts: a pipeline here, bert4torch in its own environment."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spacy.language import Language

from benchmarks.harness.common import (
    PEERS,
    Entities,
    call_there,
    entities_of,
    make_env,
)
from spacy_bert_crf.encoder.texts.doc_texts import doc_pieces
from spacy_bert_crf.encoder.texts.wordpieces import tokenize
from spacy_bert_crf.export.graphs import FORBIDDEN
from spacy_bert_crf.export.trained import gather
from spacy_bert_crf.model.crf_batches import decode

Array = NDArray[Any]


@dataclass
class Side:
    """The entities, tags and emissions of one side.

    entities: of each text, by characters; None for a text that it can't take.
    ids, tags, emissions: of the wordpieces of each text (of its tokens in a pipeline), special
        ones included where the side has them.
    start, end, transitions: scores of its CRF, with what it forbids far below any other.
    seconds: for all texts.
    """

    entities: list[Entities | None]
    ids: list[Array]
    tags: list[Array]
    emissions: list[Array]
    start: Array
    end: Array
    transitions: Array
    seconds: float

    def score(self, text: int, tags: Array) -> float:
        """Score of a path through a text, in float64."""
        rows = self.emissions[text].astype(np.float64)
        path = np.asarray(tags)
        steps = self.transitions.astype(np.float64)[path[:-1], path[1:]].sum()
        ends = float(self.start[path[0]]) + float(self.end[path[-1]])
        return float(rows[np.arange(len(path)), path].sum() + steps + ends)


class OtherPython:
    """The environment with bert4torch, and a folder through which data goes there and back."""

    def __init__(self, env: Path, work: Path, threads: int) -> None:
        self.work = work
        self.threads = threads
        self.python = make_env(env, "requirements-bert4torch.txt", "bert4torch", work / "pip.log")

    def run(self, kind: str, **job: Any) -> tuple[dict[str, Any], dict[str, Array]]:
        """Do a job of the peers' bert4torch_interchange.py; RETURNS its result and its arrays."""
        result = self.work / f"{kind}-result"
        path = self.work / f"{kind}-job.json"
        job |= {"kind": kind, "result": str(result), "threads": self.threads}
        path.write_text(json.dumps(job, ensure_ascii=False), encoding="utf8")
        command = [str(self.python), str(PEERS / "bert4torch_interchange.py"), str(path)]
        call_there(command, kind, self.work / f"{kind}.log")
        answer = json.loads(Path(f"{result}.json").read_text(encoding="utf8"))
        with np.load(f"{result}.npz", allow_pickle=False) as data:
            return answer, {name: data[name] for name in data.files}

    def predict(self, kind: str, texts: list[str], **job: Any) -> tuple[Side, dict[str, Any]]:
        """Run a job that predicts texts. RETURNS the predictions, and the rest of its result."""
        answer, arrays = self.run(kind, texts=texts, **job)
        cuts = np.cumsum(arrays["lengths"])[:-1]
        parts = (np.split(arrays[name], cuts) for name in ("ids", "tags", "emissions"))
        names = ("start_transitions", "end_transitions", "transitions")
        entities = [
            None if found is None else {(start, end, label) for start, end, label in found}
            for found in answer.pop("entities")
        ]
        scores = (arrays[name] for name in names)
        side = Side(entities, *parts, *scores, seconds=answer.pop("prediction_seconds"))
        return side, answer


def own_side(nlp: Language, texts: list[str]) -> tuple[Side, list[bool]]:
    """Predict by a pipeline. RETURNS also, for each text, whether each token is one wordpiece."""
    trained = gather(nlp, "", {})
    pipe = next(pipe for _, pipe in nlp.pipeline if hasattr(pipe, "tag_set"))
    began = time.perf_counter()
    entities: list[Entities | None] = [entities_of(doc) for doc in nlp.pipe(texts)]
    seconds = time.perf_counter() - began
    docs = [nlp.make_doc(text) for text in texts]
    for _, other in nlp.pipeline:  # a shared transformer, where there is one
        if other is pipe:
            break
        docs = list(other.pipe(docs))
    emissions: list[Any] = []
    for i in range(0, len(docs), 256):
        emissions += pipe.model.predict(docs[i : i + 256])
    tags, _ = decode(pipe.crf, emissions)
    pieces = tokenize(trained.encoder.tokenizer, texts)
    start, end, transitions = (score.numpy() for score in trained.chain.masked(FORBIDDEN))
    side = Side(
        entities,
        [each.ids for each in pieces],
        list(tags),
        [np.asarray(rows) for rows in emissions],
        start,
        end,
        transitions,
        seconds,
    )
    single = []
    for doc, each in zip(docs, pieces, strict=True):
        firsts, stops = doc_pieces(doc, each).T
        alone = len(doc) == len(each.ids) and np.array_equal(firsts, np.arange(len(doc)))
        single.append(bool(alone and np.array_equal(stops, firsts + 1)))
    return side, single
