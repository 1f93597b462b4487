"""Opens exports, each format by its own runtime, behind one interface.

It reads only the folder. So a comparison or an import depends only on files that users have too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..annotation.schemes import tag_set_from_tags
from ..encoder.checkpoint_files import read_json
from ..encoder.passes import IntArray
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


def find_exports(folder: Path) -> list[Export]:
    """The export in a folder and those of further formats below it, in the order of READABLE.

    Raises BertCrfError if one of them is no export.
    """
    found = [open_export(folder)]
    if found[0].format == WEIGHTS:
        below = sorted(path.parent for path in folder.glob(f"*/{SIDECAR}"))
        found += [open_export(path) for path in below]
    return sorted(found, key=lambda export: list(READABLE).index(export.format))
