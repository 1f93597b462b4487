"""Opens exports, each format by its own runtime, behind one interface, and makes their inputs.

It reads only the folder. So a comparison or an import depends only on files that users have too.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray
from spacy.tokens import Doc

from ..annotation.schemes import tag_set_from_tags
from ..encoder.checkpoint_files import read_json
from ..encoder.texts.doc_texts import doc_pieces, read_texts, sentence_cuts
from ..encoder.texts.wordpieces import IntArray, Pieces
from ..errors import BertCrfError, first_line
from .formats import READABLE
from .formats.best_model import WEIGHTS
from .formats.format import Format, Run, Scores

#: File with the description of an export, in each of its folders.
SIDECAR = "best_model.json"

FloatArray = NDArray[np.float32]
#: ids, mask [B, T] to emissions [B, T, K]
Emissions = Callable[[IntArray, IntArray], FloatArray]
#: ids, mask [B * P, T], token_pieces [B, S, 2 or 3] to tags [B, S], see graphs.TagDecoder
Decode = Callable[[IntArray, IntArray, IntArray], IntArray]


@dataclass(frozen=True)
class Export:
    """The folder of one format.

    format: its name; `best_model.pt` for the folder that holds the others.
    info: the content of best_model.json.
    """

    folder: Path
    format: str
    info: dict[str, Any]

    @property
    def _format(self) -> Format:
        return READABLE[self.format]

    @property
    def emissions_file(self) -> Path:
        """The file of the model that computes emissions."""
        return self.folder / self._format.emissions

    @property
    def decode_file(self) -> Path | None:
        """The file of the model that computes tags; None if the format has none."""
        return self.folder / self._format.decode if self._format.decode else None

    def megabytes(self, path: Path) -> float:
        """Size of a model with its weights.

        path: the file of the model.
        """
        weights = self.folder / self._format.weights
        shared = weights.stat().st_size if weights.is_file() else 0  # exports of before have none
        return (path.stat().st_size + shared) / 1e6

    def open_emissions(self) -> Emissions:
        """Load the model that computes emissions. Raises BertCrfError if it can't be read."""
        run = self._open(self.emissions_file)
        return lambda ids, mask: np.asarray(run(ids, mask, np.zeros_like(ids)), dtype=np.float32)

    def open_decode(self) -> Decode:
        """Load the model that computes tags.

        Raises BertCrfError if the format has none or it can't be read.
        """
        if self.decode_file is None:
            raise BertCrfError(
                f"the format {self.format} has no model that computes tags: decode its emissions."
            )
        run = self._open(self.decode_file)
        return lambda ids, mask, pieces: run(ids, mask, np.zeros_like(ids), pieces)

    def scores(self) -> Scores:
        """The scores that decoding needs beside the emissions, from the format's files.

        For best_model.pt the masks follow from the tags and the constraints in best_model.json.
        Raises BertCrfError if scores are missing or damaged.
        """
        scores = self._format.scores(self.folder)
        if self.format != WEIGHTS or not self.info.get("constraints"):
            return scores
        tags = tag_set_from_tags(self.info["tags"], self.info["scheme"])
        legal = tags.legal()
        return scores._replace(chain=scores.chain.with_legal(*legal))

    def _open(self, path: Path) -> Run:
        try:
            return self._format.open(self.folder, path.name)
        except BertCrfError:
            raise
        except Exception as err:  # each runtime raises exceptions of its own
            raise BertCrfError(
                f"{path} can't be loaded ({first_line(err)}): export again."
            ) from err


def open_export(folder: Path) -> Export:
    """The export in a folder. Raises BertCrfError if it holds none."""
    if not (folder / SIDECAR).is_file():
        raise BertCrfError(
            f"{folder} has no {SIDECAR}: name a folder that `spacy bert-crf export` wrote, or one "
            "of the format folders in it."
        )
    info = read_json(folder / SIDECAR)
    name = info.get("format", WEIGHTS)
    if name not in READABLE:
        raise BertCrfError(f"{folder / SIDECAR}: unknown format {name!r}.")
    export = Export(folder, name, info)
    for path in (export.emissions_file, export.decode_file):
        if path is not None and not path.is_file():
            raise BertCrfError(f"{folder} lacks {path.name}: export again with --to {name}.")
    return export


class TextPasses(NamedTuple):
    """The encoder passes of a text, as inputs of a decode graph. S tokens, P passes.

    ids: input ids of each pass, special ones included. [P]
    passes: the pass that each token is in. [S]
    places: first wordpiece of each token and last + 1, counted in its pass; 1, 1 for none. [S, 2]
    whole: whether the wordpieces of each token are in one pass, as the graph takes them.
    """

    ids: list[list[int]]
    passes: IntArray
    places: IntArray
    whole: bool

    @property
    def longest(self) -> int:
        """Number of input ids of the longest pass."""
        return max(map(len, self.ids))


def text_passes(
    doc: Doc,
    pieces: Pieces,
    by_sentences: bool,
    prefix: Sequence[int] = (),
    suffix: Sequence[int] = (),
) -> TextPasses:
    """The encoder passes of a doc.

    pieces: the wordpieces of its text.
    by_sentences: whether each sentence is a pass. Otherwise the text is one.
    prefix: ids of the special tokens before each pass.
    suffix: ids of the special tokens after each pass.
    """
    n_pieces = len(pieces.ids)
    edges = np.array([0, n_pieces])
    if by_sentences and n_pieces:
        cuts = sentence_cuts([doc], read_texts([doc]).texts, pieces.starts)
        edges = np.union1d(edges, cuts)
    ids = [
        [*prefix, *pieces.ids[begin:end].tolist(), *suffix]
        for begin, end in itertools.pairwise(edges.tolist())
    ]
    own = doc_pieces(doc, pieces)
    has = own[:, 1] > own[:, 0]
    passes = np.searchsorted(edges[1:], own[:, 0], side="right") * has
    places = np.where(has[:, None], own - edges[passes][:, None] + len(prefix), 1)
    whole = bool((own[:, 1] <= edges[passes + 1])[has].all())
    return TextPasses(ids, passes, places, whole)


def decode_inputs(
    texts: Sequence[TextPasses], words: Sequence[Optional[NDArray[np.bool_]]], pad: int
) -> tuple[IntArray, IntArray, IntArray]:
    """Inputs of a Decode: ids and mask [B * P, T], token_pieces [B, S, 3].

    texts: B texts of P passes each.
    words: which tokens of each text continue the word of the token before, None for none.
    pad: the id that pads.
    """
    n_passes, length = len(texts[0].ids), max(text.longest for text in texts)
    ids = np.full((len(texts) * n_passes, length), pad, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, own in enumerate(itertools.chain.from_iterable(text.ids for text in texts)):
        ids[row, : len(own)] = own
        mask[row, : len(own)] = 1
    ranges = np.zeros((len(texts), max(len(text.passes) for text in texts), 3), dtype=np.int64)
    for row, (text, continued) in enumerate(zip(texts, words, strict=True)):
        # A token without wordpieces has an empty range that differs from padding.
        ranges[row, : len(text.places), :2] = text.places + text.passes[:, None] * length
        if continued is not None:
            ranges[row, : len(continued), 2] = continued
    return ids, mask, ranges


def find_exports(folder: Path) -> list[Export]:
    """The export in a folder and those of further formats below it, in the order of READABLE.

    Raises BertCrfError if one of them is no export.
    """
    found = [open_export(folder)]
    if found[0].format == WEIGHTS:
        below = sorted(path.parent for path in folder.glob(f"*/{SIDECAR}"))
        found += [open_export(path) for path in below]
    return sorted(found, key=lambda export: list(READABLE).index(export.format))
