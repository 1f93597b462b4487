"""Entities by transformers and the CRF, from a spacy-bert-crf export: predict.py "文本" """

import sys
from pathlib import Path

import torch
from reader import Reader
from transformers import AutoModelForTokenClassification


def load(folder):
    model = AutoModelForTokenClassification.from_pretrained(folder, local_files_only=True).eval()

    @torch.inference_mode()
    def emissions(ids, mask, types):
        given = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        return model(**given).logits.float().numpy()

    return Reader(folder, emissions)


if __name__ == "__main__":
    for start, end, label in load(Path(__file__).parent)(sys.argv[1]):
        print(start, end, label, sys.argv[1][start:end])
