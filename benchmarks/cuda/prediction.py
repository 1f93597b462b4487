"""Prediction: equality with the CPU, waits and launches, speed by pass size, one text, memory."""

import statistics
from typing import Any

import numpy as np
from spacy.tokens import Doc
from thinc.api import to_numpy

from .measure import Device
from .subject import Subject

#: Docs of a batch of nlp.pipe.
BATCH = 512
Reference = tuple[list[Any], list[np.ndarray]]


def entities(docs: Any) -> list[Any]:
    """Entities of each doc by tokens."""
    return [[(ent.start, ent.end, ent.label_) for ent in doc.ents] for doc in docs]


def reference(subject: Subject, texts: list[str]) -> Reference:
    """Entities and emissions of each text, by a pipeline on the CPU."""
    return entities(subject.nlp.pipe(texts)), emissions(subject, texts)


def emissions(subject: Subject, texts: list[str]) -> list[np.ndarray]:
    """Emissions of each text, on the host. [T, K] each"""
    return [to_numpy(each) for each in subject.pipe.model.predict(subject.docs(texts))]


def equality(subject: Subject, texts: list[str], want: Reference) -> dict[str, Any]:
    """Share of texts with the CPU's entities, and differences of emissions."""
    got = entities(subject.nlp.pipe(texts))
    away = [abs(a - b) for a, b in zip(emissions(subject, texts), want[1], strict=True)]
    return {
        "texts": len(texts),
        "same_entities": sum(a == b for a, b in zip(got, want[0], strict=True)) / len(texts),
        "largest_difference": max(float(each.max()) for each in away),
        "mean_difference": float(np.concatenate(away).mean()),
        "spread": float(np.concatenate(want[1]).std()),
    }


def counts(device: Device, subject: Subject, texts: list[str]) -> dict[str, Any]:
    """Waits, launches, copies and GPU share of one predicted batch, and with scores."""
    docs = subject.docs(texts)
    out: dict[str, Any] = {"docs": len(docs), "tokens": sum(map(len, docs))}
    for name, scores in (("entities", False), ("scores", True)):
        subject.pipe.settings.scores = scores
        try:
            out[name] = {
                "waits": device.waits(lambda: subject.pipe.predict(docs)),
                **device.launches(lambda: subject.pipe.predict(docs)),
                "peak_gib": device.peak(lambda: subject.pipe.predict(docs)),
            }
        finally:
            subject.pipe.settings.scores = False
    return out


def encoder_speed(device: Device, subject: Subject, docs: list[Doc]) -> float:
    """Tokens a second of the encoder, from a plan that is made already to vectors on the device."""
    with subject.planned(docs):
        seconds = device.median(lambda: subject.own.predict_vectors(docs), 3)
    return sum(map(len, docs)) / seconds


def pipe_speed(device: Device, subject: Subject, texts: list[str]) -> float:
    """Characters a second of `nlp.pipe`, from texts to entities in docs."""
    seconds = device.median(lambda: list(subject.nlp.pipe(texts, batch_size=BATCH)), 3)
    return sum(map(len, texts)) / seconds


def speed(device: Device, subject: Subject, texts: list[str], passes: list[int]) -> dict[str, Any]:
    """Speeds by pass size, with scores, and milliseconds of one text.

    passes: wordpieces of a pass; 0 is the package's own choice.
    """
    docs = subject.docs(texts)
    out: dict[str, Any] = {"default_pass": subject.own.pass_size(), "by_pass": {}}
    for pieces in passes:
        if device.is_over:
            break
        with subject.pass_size(pieces):
            out["by_pass"][str(pieces or "default")] = {
                "encoder_tokens_per_second": encoder_speed(device, subject, docs),
                "pipe_characters_per_second": pipe_speed(device, subject, texts),
            }
    subject.pipe.settings.scores = True
    try:
        out["scores_characters_per_second"] = pipe_speed(device, subject, texts)
    finally:
        subject.pipe.settings.scores = False
    middle = sorted(texts, key=len)[len(texts) // 2]
    spent = sorted(device.times(lambda: subject.nlp(middle), 50))
    out["one_text"] = {
        "characters": len(middle),
        "milliseconds": 1e3 * statistics.median(spent),
        "slowest_tenth": 1e3 * spent[int(0.9 * (len(spent) - 1))],
    }
    return out
