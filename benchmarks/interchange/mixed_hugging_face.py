"""A tiny token classifier of transformers: trained here, decoded as transformers does."""

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import BertConfig, BertForTokenClassification, BertTokenizerFast, pipeline

from benchmarks.harness.common import Entities
from benchmarks.interchange.mixed_texts import Text

#: Label of a step that does not count in the loss.
_IGNORED = -100


def train_and_predict(
    folder: Path,
    tokenizer: BertTokenizerFast,
    tags: Sequence[str],
    train: list[Text],
    texts: list[str],
    epochs: int,
    rate: float,
    seed: int,
) -> tuple[list[Entities | None], list[list[int]], list[float]]:
    """Train a BertForTokenClassification and save it to the folder that holds its config.

    RETURNS: the entities of each text by transformers' own pipeline, by characters; the tags of
        each text's wordpieces; the mean loss of each epoch.
    """
    torch.manual_seed(seed)
    config = BertConfig.from_pretrained(
        folder, id2label=dict(enumerate(tags)), label2id={tag: i for i, tag in enumerate(tags)}
    )
    model = BertForTokenClassification(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    steps = epochs * -(-len(train) // 16)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, steps)
    dice, order = random.Random(seed), list(train)
    losses = []
    for _ in range(epochs):
        dice.shuffle(order)
        sums = []
        for at in range(0, len(order), 16):
            batch = order[at : at + 16]
            inputs = tokenizer(
                [each.text for each in batch], padding=True, return_offsets_mapping=True,
                return_tensors="pt",
            )  # fmt: skip
            offsets = inputs.pop("offset_mapping").tolist()
            labels = [_labels(each, row, tags) for each, row in zip(batch, offsets, strict=True)]
            loss = model(**inputs, labels=torch.tensor(labels)).loss
            loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            sums.append(float(loss))
        losses.append(round(sum(sums) / len(sums), 4))
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    read = pipeline(
        "token-classification", model=model, tokenizer=tokenizer, aggregation_strategy="simple"
    )
    entities: list[Entities | None] = []
    paths = []
    for text in texts:
        entities.append({(e["start"], e["end"], e["entity_group"]) for e in read(text)})
        with torch.inference_mode():
            logits = model(**tokenizer(text, return_tensors="pt")).logits
        paths.append(logits[0, 1:-1].argmax(-1).tolist())
    return entities, paths, losses


def _labels(each: Text, offsets: list[list[int]], tags: Sequence[str]) -> list[int]:
    """The tag of each wordpiece. An entity with a border inside a wordpiece has none."""
    out = []
    firsts, lasts = {start for start, _ in offsets}, {end for _, end in offsets}
    spans = [span for span in each.spans if span[0] in firsts and span[1] in lasts]
    for start, end in offsets:
        tag = 0 if end > start else _IGNORED
        for first, last, label in spans:
            if end > start and first <= start and end <= last:
                tag = tags.index(f"{'B' if start == first else 'I'}-{label}")
        out.append(tag)
    return out
