"""Entities by transformers and the CRF, from a spacy-bert-crf export: predict.py "文本" """

import sys
from pathlib import Path

import torch
from reader import Reader
from transformers import AutoConfig, AutoModel


def load(folder):
    weights = torch.load(folder / "best_model.pt", weights_only=True)
    encoder = AutoModel.from_config(AutoConfig.from_pretrained(folder)).eval()
    prefix = encoder.base_model_prefix + "."
    own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    missing, unexpected = encoder.load_state_dict(own, strict=False)
    assert not unexpected and not [k for k in missing if "pooler" not in k], missing + unexpected

    @torch.inference_mode()
    def emissions(ids, mask, types):
        given = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        rows = encoder(**given).last_hidden_state @ weights["classifier.weight"].T
        return (rows + weights["classifier.bias"]).numpy()

    return Reader(folder, emissions)


if __name__ == "__main__":
    for start, end, label in load(Path(__file__).parent)(sys.argv[1]):
        print(start, end, label, sys.argv[1][start:end])
