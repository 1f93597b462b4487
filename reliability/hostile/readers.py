"""What reads bytes from outside, each as a target of fuzz.py: seeds, mutation, reader.

A reader returns whether it accepted the input, and raises AssertionError if what it accepted is
nonsense: something that does not come out again as it went in, or that breaks a promise.
"""

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from reliability.common import ROOT
from reliability.hostile import corpora, mutate


@dataclass(frozen=True)
class Target:
    """seeds: good inputs. change: mutates one. read: the reader, given a file with the input.

    share: of the cases. suffix: of the file.
    """

    seeds: list[bytes]
    change: Callable[[bytes, Random, list[bytes]], bytes]
    read: Callable[[Path, bytes], bool]
    share: float
    suffix: str = ""


def read_columns(path: Path, data: bytes) -> bool:
    """Column files: rows, scheme, entities; and back."""
    from spacy_bert_crf.annotation.formats.columns import read_columns
    from spacy_bert_crf.annotation.tags import detect_scheme, make_tag_set, read_spans

    table = read_columns(path, join=" " if len(data) % 3 == 0 else "")
    sentences = table.sentences
    scheme = detect_scheme(sentences)
    for rows in sentences:
        spans, problems = read_spans(rows, scheme)
        tag_set = make_tag_set((row.label for row in rows if row.label), scheme)
        ids = tag_set.encode(spans, len(rows))
        assert tag_set.decode(ids) == spans
        if problems or table.layout.style != "B-PER":
            continue
        given = [f"{row.prefix}-{row.label}" if row.label else row.prefix for row in rows]
        assert [tag_set.tags[i] for i in ids] == given, (given, spans)
        assert all(row.token for row in rows)
    return True


def read_tags(path: Path, data: bytes) -> bool:
    """Tags of a best_model.json, and tag ids."""
    from spacy_bert_crf.annotation.schemes import SCHEMES, tag_set_from_tags

    words = data.decode("utf8", "replace").split("\n")
    scheme, tags = words[0], words[1:]
    tag_set = tag_set_from_tags(tags, scheme)
    assert list(tag_set.tags) == tags and scheme in SCHEMES
    ids = [byte % len(tags) for byte in data]
    spans = tag_set.decode(ids)
    assert all(0 <= s.start < s.end <= len(ids) and s.label in tag_set.labels for s in spans)
    assert tag_set.decode(tag_set.encode(spans, len(ids))) == spans
    return True


def read_sidecar(path: Path, data: bytes) -> bool:
    """best_model.json with a config.json, as import-model takes their word."""
    from spacy_bert_crf.encoder.checkpoint_files import read_json
    from spacy_bert_crf.export.import_model import Requested, Source, read_tags

    info = read_json(path)
    source = Source("best_model.pt", path, {}, info.get("config") or {}, info, path.parent)
    if not isinstance(source.config, dict):
        return False
    tags = read_tags(source, Requested(), 7)
    assert len(tags.rows) == len(tags.tag_set.tags)
    assert set(tags.rows) - {-1} == set(range(7)) and tags.rows[0] == tags.outside
    return True


def read_config(path: Path, data: bytes) -> bool:
    """config.json of an encoder."""
    from spacy_bert_crf.encoder.checkpoint_files import read_config

    config = read_config(path)
    if config["model_type"] == "bert":
        assert all(0 < config[k] <= 10**8 for k in ("vocab_size", "hidden_size"))
        assert 0 < config["num_hidden_layers"] <= 1000
    assert json.loads(json.dumps(config)) == config or "NaN" in json.dumps(config)
    return True


def read_vocab(path: Path, data: bytes) -> bool:
    """vocab.txt."""
    from spacy_bert_crf.encoder.checkpoint_files import SPECIAL_PIECES, read_vocab

    pieces = read_vocab(path)
    assert "\n".join(pieces).encode() == data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip(
        b"\n"
    )
    assert set(SPECIAL_PIECES) <= set(pieces) and len(set(pieces)) == len(pieces)
    return True


def read_weights(path: Path, data: bytes) -> bool:
    """Weights: torch's zip, torch's old format, safetensors."""
    import torch

    from spacy_bert_crf.encoder.checkpoint_files import read_tensors

    file = path.with_suffix(".safetensors") if data[8:9] == b"{" else path
    if file != path:
        file.write_bytes(data)
    tensors = read_tensors(file)
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    assert size <= 64 * len(data), f"{size} bytes out of {len(data)}"
    for name, tensor in tensors.items():
        assert isinstance(name, str) and isinstance(tensor, torch.Tensor)
        assert tensor.is_contiguous() and not tensor.requires_grad
        tensor.clone()  # all of its memory can be read
    return True


def read_docs(path: Path, data: bytes) -> bool:
    """DocBins; what was read is the same after it was written and read again."""
    from spacy.tokens import DocBin
    from spacy.vocab import Vocab

    from spacy_bert_crf.annotation.docbin import read_docbin

    docs = list(read_docbin(path, Vocab()))
    for doc in docs:
        assert all(0 <= e.start < e.end <= len(doc) for e in doc.ents)
    again = list(DocBin().from_bytes(DocBin(docs=docs).to_bytes()).get_docs(Vocab()))
    want = [(d.text, [(e.start, e.end, e.label_) for e in d.ents]) for d in docs]
    assert [(d.text, [(e.start, e.end, e.label_) for e in d.ents]) for d in again] == want
    return True


def read_transitions(path: Path, data: bytes) -> bool:
    """transitions.npz."""
    from spacy_bert_crf.export.formats.format import read_chain

    for tensor in read_chain(path).scores:
        tensor.clone()
    return True


def read_archive(path: Path, data: bytes) -> bool:
    """The corpus' tar.gz."""
    from scripts.download_checks import extract_tar

    out = path.parent / "out"
    written = extract_tar(path, out, ["example.dev", "example.test"])
    assert {file.parent for file in written} == {out} and not any(f.is_symlink() for f in written)
    for file in written:
        file.unlink()
    return True


def read_lock(path: Path, data: bytes) -> bool:
    """downloads.lock.json."""
    from scripts.download_lock import read_lock

    for entry in read_lock(path).values():
        assert len(entry["sha256"]) == 64 and isinstance(entry["size"], int)
    return True


def read_e5(path: Path, data: bytes) -> bool:
    """The quickstart's encoder file."""
    from spacy_bert_crf.project.packaged.e5_file import read_e5_file

    read_e5_file(path)
    return True


def targets() -> dict[str, Target]:
    """All targets by name."""
    config = json.dumps(_CONFIG).encode()
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"王小明在北京", "##a"]
    lock = {"http://h/f": {"sha256": "0" * 64, "size": 5}}
    plain, json_bytes = mutate.mutate_bytes, mutate.mutate_json
    return {
        "columns": Target(_columns(), plain, read_columns, 0.22),
        "tags": Target(_tag_lists(), plain, read_tags, 0.18),
        "best_model.json": Target([json.dumps(_SIDECAR).encode()], json_bytes, read_sidecar, 0.15),
        "config.json": Target([config], json_bytes, read_config, 0.10),
        "vocab.txt": Target(["\n".join(pieces).encode() + b"\n"], plain, read_vocab, 0.06),
        "lock file": Target([json.dumps(lock).encode()], json_bytes, read_lock, 0.05),
        "weights": Target(_weights(), mutate.mutate_zip, read_weights, 0.09, ".bin"),
        "DocBin": Target(_docbins(), mutate.mutate_docbin, read_docs, 0.06, ".spacy"),
        "transitions.npz": Target([_npz()], mutate.mutate_zip, read_transitions, 0.03, ".npz"),
        "tar.gz": Target([_tar()], mutate.mutate_tar, read_archive, 0.03, ".tar.gz"),
        "e5 file": Target(_e5(), plain, read_e5, 0.03, ".bin"),
        **{
            name: Target(good, change, read, 0.02, suffix)
            for name, (good, change, read, suffix) in corpora.targets(_docbins()).items()
        },
    }


_CONFIG = {"model_type": "bert", "vocab_size": 21128, "hidden_size": 768, "num_hidden_layers": 12}
_CONFIG |= {"num_attention_heads": 12, "intermediate_size": 3072, "max_position_embeddings": 512}
_CONFIG |= {"type_vocab_size": 2, "architectures": ["BertForMaskedLM"], "layer_norm_eps": 1e-12}
_TAGS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER", "B-ORG", "I-ORG"]
_SIDECAR: dict[str, Any] = {"scheme": "BIO", "labels": ["LOC", "PER", "ORG"], "tags": _TAGS}
_SIDECAR |= {"pooling": "mean", "max_length": 512, "constraints": True, "lang": "zh", "seed": 0}
_SIDECAR["config"] = {"id2label": {str(i): tag for i, tag in enumerate(_TAGS)}}


def _columns() -> list[bytes]:
    texts = [
        "王 B-PER\n明 I-PER\n在 O\n京 B-LOC\n\n没 O\n有 O\n",
        "a\tB-X-Y\r\nb\tI-X-Y\r\n\r\nc\tO\n",
    ]
    texts += ["甲 B-A\n乙 M-A\n丙 E-A\n丁 S-A\n", "甲 B-A\n乙 I-A\n丙 E-A\n丁 S-B\n戊 O\n"]
    texts += ["w1 B-A\nw2 I-A\nw3 L-A\nw4 U-A\n", "\ufeff　 O\n\u2028 B-L\n\u200b I-L\n"]
    return [text.encode() for text in texts]


def _tag_lists() -> list[bytes]:
    from spacy_bert_crf.annotation.schemes import SCHEMES, TagSet

    sets = [TagSet(labels, s) for s in SCHEMES for labels in (("LOC", "PER"), ("A-B.c",))]
    return ["\n".join([s.scheme, *s.tags]).encode() for s in sets]


def _weights() -> list[bytes]:
    import torch
    from safetensors.torch import save

    from scripts.toy_encoder import legacy_bytes

    table = torch.arange(12.0).reshape(3, 4)
    tensors = {"a.LayerNorm.gamma": torch.ones(4), "b": table, "c": table.t(), "d": torch.ones(2)}
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    safe = save({name: tensor.clone().contiguous() for name, tensor in tensors.items()})
    return [buffer.getvalue(), legacy_bytes(tensors), safe]


def _docbins() -> list[bytes]:
    import spacy
    from spacy.tokens import DocBin

    nlp = spacy.blank("zh")
    docs = []
    for text, spans in (("王明在北京。", [(0, 2, "PER"), (3, 5, "LOC")]), ("没有", []), ("", [])):
        doc = nlp.make_doc(text)
        doc.ents = [doc.char_span(a, b, label) for a, b, label in spans]
        docs.append(doc)
    docs[0].spans["x"] = [docs[0][0:2]]
    return [DocBin(docs=docs, store_user_data=b).to_bytes() for b in (True, False)]


def _npz() -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    zeros = np.zeros(7, "f4")
    np.savez(buffer, start=zeros, end=zeros, transitions=np.eye(7, dtype="f4"))
    return buffer.getvalue()


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("corpus/example.dev", "corpus/example.test"):
            info = tarfile.TarInfo(name)
            info.size = 20
            archive.addfile(info, io.BytesIO(b"x" * 20))
    return gzip.compress(buffer.getvalue()[:4096], 1)


def _e5() -> list[bytes]:
    import runpy

    # The tests know how to write a small one.
    made = runpy.run_path(str(ROOT / "tests" / "support" / "e5.py"))["write_e5"]()
    return [bytes(made.data)]
