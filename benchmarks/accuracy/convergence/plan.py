"""The trainings to run: read from a plan, with corpora and variants by name."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import spacy
import srsly

from benchmarks.harness.common import Failed
from benchmarks.harness.trials import Corpus, count
from spacy_bert_crf.annotation.docbin import read_docbin
from spacy_bert_crf.annotation.tags import SCHEME_NAMES

#: The variant that is the other software's training.
THEIRS = "bert4torch"
#: Texts of an update, and the setting of our side that changes it.
BATCH, SIZE = 16, "training.batcher.size"
#: What an entry of a plan may say, and what it means where it does not.
ENTRY: dict[str, Any] = {
    "table": "", "name": "", "corpora": [], "variants": "all", "seeds": [1], "epochs": 3,
    "limit": 0, "dev_limit": 0, "max_steps": 0, "settings": {}, "keep": False,
}  # fmt: skip


@dataclass
class Source:
    """A corpus by name: its docs, and the labels and counts of them."""

    name: str
    corpus: Corpus

    def take(self, limit: int) -> int:
        """Number of training docs under a limit; 0 is none."""
        docs = int(self.corpus.counts["train"]["docs"])
        return min(docs, limit) if limit else docs


def read_source(words: list[str], lang: str) -> Source:
    """Read [name, train, dev] or [name, train, dev, scheme]. Both files are DocBins.

    The scheme is that of bert4torch's tags, BIO where there is none.
    Raises Failed.
    """
    if len(words) not in (3, 4):
        raise Failed("--corpus takes a name, two files and a scheme, which may be left out")
    name, train, dev = words[0], Path(words[1]), Path(words[2])
    scheme = words[3] if len(words) == 4 else "bio"
    if scheme not in SCHEME_NAMES:
        raise Failed(f"--corpus {name}: the scheme is one of {', '.join(SCHEME_NAMES)}")
    counts, labels = {}, set()
    vocab = spacy.blank(lang).vocab
    for part, path in (("train", train), ("dev", dev)):
        if not path.is_file():
            raise Failed(f"--corpus {name}: there is no {path}")
        docs = list(read_docbin(path, vocab))
        counts[part] = count(docs)
        if part == "train":
            labels = {ent.label_ for doc in docs for ent in doc.ents}
    return Source(name, Corpus(train, dev, sorted(labels), SCHEME_NAMES[scheme], lang, counts))


def read_variants(paths: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Settings of each variant, from one or several files. Raises Failed for a name twice."""
    out: dict[str, dict[str, Any]] = {}
    for path in paths:
        for name, settings in srsly.read_yaml(path).items():
            if name in out or name == THEIRS:
                raise Failed(f"{path}: the variant {name} is there already")
            out[name] = settings or {}
    return out


def read_plan(
    path: Path, sources: dict[str, Source], variants: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """The trainings of a plan, in its order; within an entry, seed by seed.

    An entry has the keys of `ENTRY`, and `corpus` for a single one of the corpora. Entries with the
    same `table` are rows of one table. `name` tells rows with the same variant apart. A training
    that an earlier entry has is not repeated.
    Raises Failed for corpora, variants and keys that are not known.
    """
    jobs: list[dict[str, Any]] = []
    seen = set()
    entries = srsly.read_yaml(path)
    tables: dict[str, set[str]] = {}
    for entry in entries:
        if "corpus" in entry:
            entry["corpora"] = [entry.pop("corpus")]
        default = f"{', '.join(entry['corpora'])}, {entry.get('epochs', ENTRY['epochs'])} epochs"
        entry.setdefault("table", default)
        tables.setdefault(entry["table"], set()).update(entry["corpora"])
    for entry in entries:
        if unknown := set(entry) - set(ENTRY):
            raise Failed(f"{path}: an entry says {', '.join(sorted(unknown))}")
        entry = ENTRY | entry
        names = list(variants) if entry["variants"] == "all" else entry["variants"]
        for wanted, there, option in (
            (names, {*variants, THEIRS}, "--variants"),
            (entry["corpora"], set(sources), "--corpus"),
        ):
            if missing := set(wanted) - there:
                raise Failed(f"{path}: {option} has no {', '.join(sorted(missing))}")
        table = entry["table"]
        for seed in entry["seeds"]:
            for corpus in entry["corpora"]:
                for variant in names:
                    key = (table, corpus, variant, entry["name"], seed)
                    if key in seen:
                        continue
                    seen.add(key)
                    row = f"{variant}, {entry['name']}" if entry["name"] else variant
                    row = row if len(tables[table]) == 1 else f"{corpus}: {row}"
                    job = {key: entry[key] for key in ("epochs", "limit", "dev_limit", "max_steps")}
                    job |= {"table": table, "row": row, "corpus": corpus, "variant": variant}
                    job |= {"seed": seed, "keep": bool(entry["keep"])}
                    job["settings"] = {**entry["settings"], **variants.get(variant, {})}
                    job["updates"] = updates(job, sources[corpus])
                    jobs.append(job)
    return jobs


def updates(job: dict[str, Any], source: Source) -> int:
    """Updates of a training, where each batch is one update."""
    size = int(job["settings"].get(SIZE, BATCH))
    most = math.ceil(source.take(job["limit"]) / size) * int(job["epochs"])
    if job["max_steps"] and job["variant"] != THEIRS:
        return min(most, int(job["max_steps"]) + 1)
    return most


def furthest(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of runs of the same training, the one with the most epochs; of equal ones, the latest."""
    best: dict[tuple[Any, ...], dict[str, Any]] = {}
    for run in runs:
        key = tuple(run[name] for name in ("table", "row", "corpus", "seed"))
        if key not in best or len(run["epochs_done"]) >= len(best[key]["epochs_done"]):
            best[key] = run
    return list(best.values())


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two jobs are the same training."""
    return all(a.get(key) == b[key] for key in b if key not in ("keep", "updates"))
