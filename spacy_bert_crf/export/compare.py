"""Compares exports with their pipeline: equal entities, emissions, F1, size and speed."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from spacy.language import Language
from spacy.tokens import Doc
from tqdm import tqdm

from .._provenance import versions
from ..component.decoding.chains import Chains
from ..component.pipelines import docs_before, find_component, find_encoder, load_pipeline
from ..crf.chain_weights import ChainWeights
from ..crf.linear_chain import LinearChainCRF
from ..encoder import hf as enc
from ..encoder.passes import (
    IntArray,
    Plan,
    padded_batches,
    plan_batches,
    plan_docs,
    special_ids,
)
from ..encoder.texts.doc_texts import doc_pieces
from ..encoder.texts.wordpieces import tokenize
from ..errors import BertCrfError
from ..evaluation.evaluate import score_docs
from ..model import layers
from ..model.crf_batches import Emissions, decode
from .compare_table import Row
from .open import Export, FloatArray, TextPasses, decode_inputs, text_passes
from .trained import gather, longest_window

#: Largest number of wordpieces of one pass, padding included: the pipeline's own default.
_BATCH_PIECES = 4096
_PIPELINE = "pipeline"


class Comparison:
    """Runs a pipeline and exports over the same docs.

    nlp: the pipeline.
    gold: annotated docs.
    component: name of the `bert_crf` component; needed only where there are several.
    Raises BertCrfError if the docs have no text.
    """

    def __init__(self, nlp: Language, gold: Sequence[Doc], component: str = "") -> None:
        self.nlp = nlp
        self.pipe = find_component(nlp, component)
        self.gold = [doc for doc in gold if len(doc)]
        if not self.gold:
            raise BertCrfError("the data has no text: name annotated docs that have tokens.")
        self.docs = [nlp.make_doc(doc.text) for doc in self.gold]
        self.characters = sum(len(doc.text) for doc in self.gold)
        encoder = find_encoder(nlp, self.pipe)
        shim = layers.encoder_of(self.pipe.model)
        settings = shim.cfg if shim is not None else {}
        self.longest = enc.longest_input(encoder, longest_window(nlp, self.pipe, encoder))
        self.padding = enc.takes_padding(encoder.model)
        self.overlap = int(settings.get("overlap", 128))
        trained = gather(nlp, component, {})
        self.tags: list[str] = trained.info["tags"]
        self.weights_sha256: str = trained.info["weights_sha256"]
        self.entities: list[set[tuple[int, int, str]]] = []
        self.emissions: list[FloatArray] = []

    def pipeline_row(self, path: Path, repeat: int) -> Row:
        """The row of the pipeline. The exports are compared with its entities.

        path: folder of the pipeline.
        repeat: number of runs.
        """
        size = sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) / 1e6
        row = Row(_PIPELINE, round(size, 1), same=1.0, largest_difference=0.0)

        def load() -> None:
            load_pipeline(path)  # not kept: `nlp` predicts

        def predict(loaded: Any, docs: list[Doc], row: Optional[Row]) -> list[Doc]:
            return list(self.nlp.pipe([doc.text for doc in docs]))

        found = self._measure(row, repeat, load, predict, self.docs[:50])
        self.entities = [_entities(doc) for doc in found]
        row.ents_f = self._f(found)
        self.emissions = self._own_emissions()
        return row

    def export_rows(self, export: Export, repeat: int) -> Iterator[Row]:
        """The rows of one export: of its emissions, and of its tags if its format has them.

        export: the export.
        repeat: number of runs.
        Raises BertCrfError if it can't be read or was made of another pipeline.
        """
        self._check(export)
        tokenizer = _tokenizer(export.folder)
        yield self._run(
            export.emissions_file, export, tokenizer, export.open_emissions, self._by_emissions,
            repeat,
        )  # fmt: skip
        if export.decode_file is not None:
            yield self._run(
                export.decode_file, export, tokenizer, export.open_decode, self._by_tags, repeat
            )

    def _run(
        self,
        path: Path,
        export: Export,
        tokenizer: Any,
        load: Callable[[], Any],
        predict: Callable[..., Any],
        repeat: int,
    ) -> Row:
        name = path.name if export.format == path.name else f"{export.format}/{path.name}"
        row = Row(name, round(export.megabytes(path), 1))
        few = sorted(self.docs, key=len)[len(self.docs) // 2 :][:50]
        docs = self._measure(row, repeat, load, partial(predict, export, tokenizer), few)
        self._fill(row, docs, export, tokenizer)
        return row

    def _measure(
        self,
        row: Row,
        repeat: int,
        load: Callable[[], Any],
        predict: Callable[[Any, list[Doc], Optional[Row]], list[Doc]],
        few: list[Doc],
    ) -> list[Doc]:
        """Load and predict repeatedly, and fill in the medians of the times.

        few: docs that are predicted before the clock runs.
        RETURNS: the docs of the first run.
        """
        loading, running = [], []
        first: list[Doc] = []
        for turn in range(repeat):
            began = time.perf_counter()
            model = load()
            loading.append(time.perf_counter() - began)
            predict(model, few, None)
            began = time.perf_counter()
            docs = predict(model, self.docs, row if turn == 0 else None)
            running.append(time.perf_counter() - began)
            first = first or docs
            del model
        row.load_seconds = round(statistics.median(loading), 3)
        row.characters_per_second = round(self.characters / statistics.median(running), 1)
        return first

    def _by_emissions(
        self, export: Export, tokenizer: Any, model: Any, docs: list[Doc], row: Optional[Row]
    ) -> list[Doc]:
        """Predict with emissions of wordpieces, averaged and decoded here."""
        if export.format == "bert4torch":
            return self._by_wordpieces(export, tokenizer, model, docs)
        plan = plan_docs(
            tokenizer, docs, longest=self.longest, overlap=self.overlap,
            context=_context(export), limit=_BATCH_PIECES, padding=self.padding,
        )  # fmt: skip
        scores = export.scores()
        crf = _crf(scores.chain)
        flat = _run_passes(model, plan, crf.n_tags)
        counts = np.maximum(plan.counts, 1)
        begins = np.cumsum(plan.counts) - plan.counts
        picked = np.concatenate([flat[plan.rows], np.zeros((1, crf.n_tags), np.float32)])
        # shape: (N tokens, K)
        mean = np.add.reduceat(picked, begins, axis=0) / counts[:, None]
        mean[plan.counts == 0] = scores.bias.numpy()
        lengths = [len(doc) for doc in docs]
        if row is not None:
            parts = np.split(mean, np.cumsum(lengths)[:-1])
            pairs = zip(parts, self.emissions, strict=True)
            row.largest_difference = float(max(np.abs(a - b).max() for a, b in pairs))
        chains = self._chains(export, crf)
        words = chains.only_words(chains.words(docs))
        tags, _ = chains.decode(Emissions(torch.from_numpy(mean), lengths), words)
        return self._annotated(docs, tags)

    def _chains(self, export: Export, crf: LinearChainCRF) -> Chains:
        """The CRF of an export with its settings of decoding. Exports of before cut words."""
        whole_words = bool(export.info.get("whole_words"))
        return Chains(crf, self.pipe.tag_set, bool(export.info.get("constraints")), whole_words)

    def _by_wordpieces(
        self, export: Export, tokenizer: Any, model: Any, docs: list[Doc]
    ) -> list[Doc]:
        """Decode wordpieces, and give each token the tag of its first one."""
        pieces = tokenize(tokenizer, [doc.text for doc in docs])
        prefix, suffix, pad = special_ids(tokenizer)
        size = self.longest - len(prefix) - len(suffix)
        each = [np.arange(len(p.ids))[:, None] + np.array([0, 1]) for p in pieces]
        plan = plan_batches(
            [p.ids for p in pieces], each, [[] for _ in docs], prefix=prefix, suffix=suffix,
            pad_id=pad, size=size, overlap=min(self.overlap, size - 1), limit=_BATCH_PIECES,
            padding=self.padding,
        )  # fmt: skip
        crf = _crf(export.scores().chain)
        # shape: (N wordpieces, K)
        rows = torch.from_numpy(_run_passes(model, plan, crf.n_tags)[plan.rows])
        decoded, _ = decode(crf, Emissions(rows, [len(p.ids) for p in pieces]))
        tags = []
        for doc, text_pieces, found in zip(docs, pieces, decoded, strict=True):
            ranges = doc_pieces(doc, text_pieces)
            first = np.append(found, 0)[np.minimum(ranges[:, 0], len(found))]
            tags.append(np.where(ranges[:, 1] > ranges[:, 0], first, 0))
        return self._annotated(docs, tags)

    def _by_tags(
        self, export: Export, tokenizer: Any, model: Any, docs: list[Doc], row: Optional[Row]
    ) -> list[Doc]:
        """Predict with the tags of the export's own graph."""
        prefix, suffix, pad = special_ids(tokenizer)
        words = self._chains(export, self.pipe.crf).words(docs)
        pieces = tokenize(tokenizer, [doc.text for doc in docs])
        texts = [
            text_passes(doc, own, _context(export) == "sentences", prefix, suffix)
            for doc, own in zip(docs, pieces, strict=True)
        ]
        fits = [i for i, text in enumerate(texts) if text.whole and text.longest <= self.longest]
        tags: list[Any] = [None] * len(docs)
        for n_passes in sorted({len(texts[i].ids) for i in fits}):
            same = [i for i in fits if len(texts[i].ids) == n_passes]
            lengths = [n_passes * texts[i].longest for i in same]
            for members in padded_batches(lengths, _BATCH_PIECES, self.padding):
                at = [same[member] for member in members]
                inputs = decode_inputs([texts[i] for i in at], [words[i] for i in at], pad)
                for i, found in zip(at, model(*inputs), strict=True):
                    tags[i] = np.asarray(found[: len(docs[i])])
        others = [i for i in range(len(docs)) if i not in set(fits)]
        done = self._annotated([docs[i] for i in fits], [tags[i] for i in fits])
        out = dict(zip(fits, done, strict=True))
        if row is not None:
            row.windows = len(others)
        if others:
            left = [docs[i] for i in others]
            rest = self._by_emissions(export, tokenizer, export.open_emissions(), left, None)
            out |= zip(others, rest, strict=True)
        return [out[i] for i in range(len(docs))]

    def _annotated(self, docs: list[Doc], tags: list[IntArray]) -> list[Doc]:
        """New docs with the entities of these tags, written by the component."""
        out = [self.nlp.make_doc(doc.text) for doc in docs]
        self.pipe.set_annotations(out, tags)
        return out

    def _fill(self, row: Row, docs: list[Doc], export: Export, tokenizer: Any) -> None:
        same = [_entities(doc) == want for doc, want in zip(docs, self.entities, strict=True)]
        row.same = sum(same) / len(same)
        row.ents_f = self._f(docs)
        if export.format == "bert4torch":
            pieces = tokenize(tokenizer, [doc.text for doc in docs])
            words = self._chains(export, self.pipe.crf).words(docs)
            by_sentences = _context(export) == "sentences"
            ones = [
                own is None and _is_one_to_one(text_passes(doc, p, by_sentences), len(p.ids))
                for doc, p, own in zip(docs, pieces, words, strict=True)
            ]
            row.one_to_one = sum(ones) / len(ones)
            equal = [one and ok for one, ok in zip(ones, same, strict=True)]
            row.same_one_to_one = sum(equal) / max(1, sum(ones))

    def _f(self, docs: list[Doc]) -> float:
        return score_docs(docs, self.gold, self.pipe.scheme).entities.f

    def _own_emissions(self) -> list[FloatArray]:
        docs = docs_before(self.nlp, self.pipe.name, [doc.text for doc in self.docs])
        to_numpy, out = self.pipe.model.ops.to_numpy, list[FloatArray]()
        for i in range(0, len(docs), 256):
            out += [to_numpy(e) for e in self.pipe.model.predict(docs[i : i + 256])]
        return out

    def _check(self, export: Export) -> None:
        """Raise BertCrfError for an export of another pipeline, or of other weights."""
        if export.info.get("tags") != self.tags:
            raise BertCrfError(
                f"{export.folder} has the tags {export.info.get('tags')}, the pipeline "
                f"{self.tags}: it was made of another pipeline. Name the pipeline it was made of."
            )
        if export.info.get("weights_sha256", self.weights_sha256) != self.weights_sha256:
            raise BertCrfError(
                f"{export.folder} was made of other weights than the pipeline's (weights_sha256 "
                "in best_model.json): export again."
            )


def compare_exports(
    pipeline: Path,
    nlp: Language,
    gold: Sequence[Doc],
    exports: Sequence[Export],
    *,
    repeat: int = 1,
    component: str = "",
) -> dict[str, Any]:
    """Compare exports with the pipeline they were made of.

    pipeline: the folder of `nlp`.
    nlp: the loaded pipeline.
    gold: annotated docs.
    exports: exports of this pipeline, see find_exports.
    repeat: number of runs of each; times are their medians.
    component: name of the `bert_crf` component; needed only where there are several.
    RETURNS: a dictionary. "rows" holds a dictionary of figures for each model (see Row). "docs",
        "characters", "repeat", "threads" and "versions" describe the measurement.
    Raises BertCrfError for exports that can't be read or were made of another pipeline.
    """
    comparison = Comparison(nlp, gold, component)
    rows = [comparison.pipeline_row(pipeline, repeat)]
    for export in tqdm(exports, disable=None, desc="exports"):
        rows += comparison.export_rows(export, repeat)
    return {
        "rows": [asdict(row) for row in rows],
        "docs": len(comparison.docs),
        "characters": comparison.characters,
        "repeat": repeat,
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


def _run_passes(model: Any, plan: Plan, n_tags: int) -> FloatArray:
    """Emissions of all passes of a plan, one after another. [rows, K]"""
    rows = [np.zeros((0, n_tags), np.float32)]
    for batch in plan.batches:
        mask = np.ones_like(batch.ids) if batch.mask is None else batch.mask
        rows.append(model(batch.ids, mask).reshape(-1, n_tags))
    return np.concatenate(rows)


def _context(export: Export) -> str:
    """What a pass of an export sees. Exports from before the setting pass whole texts."""
    return "sentences" if export.info.get("context") == "sentences" else "fit"


def _crf(chain: ChainWeights) -> LinearChainCRF:
    crf = LinearChainCRF(chain.n_tags)
    crf.load_state_dict(chain.to_state(""))
    crf.set_legal(*(mask.tolist() for mask in chain.legal))
    return crf


def _tokenizer(folder: Path) -> Any:
    from .._transformers import load_tokenizer

    try:
        return load_tokenizer(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as err:
        raise BertCrfError(f"{folder}: its tokenizer can't be loaded: export again.") from err


def _entities(doc: Doc) -> set[tuple[int, int, str]]:
    """By characters: a later component of the pipeline may merge or split tokens."""
    return {(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents}


def _is_one_to_one(text: TextPasses, n_pieces: int) -> bool:
    places = text.places[:, 0]
    is_one = len(text.ids) == 1 and len(places) == n_pieces
    return is_one and bool((places == np.arange(n_pieces)).all())
