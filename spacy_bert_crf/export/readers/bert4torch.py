"""Entities by torch alone, from a spacy-bert-crf export: python predict.py "文本" """
import json, sys, torch
from pathlib import Path
from reader import Reader
from torch.nn import functional as F

def load(folder):
    w = torch.load(folder / "best_model.pt", weights_only=True)
    config = json.loads((folder / "bert4torch_config.json").read_text(encoding="utf8"))
    act = {"gelu": F.gelu, "relu": F.relu}[config["hidden_act"]]
    split = [config["num_attention_heads"], -1]
    of = lambda name: (w[name + ".weight"], w[name + ".bias"])
    norm = lambda x, name: F.layer_norm(x, x.shape[-1:], *of(name), config["layer_norm_eps"])
    @torch.inference_mode()
    def emissions(ids, mask, types):  # one pass, without padding
        x = F.embedding(torch.from_numpy(ids), w["bert.embeddings.word_embeddings.weight"])
        x = x + w["bert.embeddings.position_embeddings.weight"][: ids.shape[1]]
        x = norm(x, "bert.embeddings.layerNorm")
        for at in (f"bert.encoderLayer.{i}." for i in range(config["num_hidden_layers"])):
            rows = [F.linear(x, *of(f"{at}multiHeadAttention.{n}")).unflatten(2, split) for n in "qkv"]
            mixed = F.scaled_dot_product_attention(*(row.transpose(1, 2) for row in rows))
            x = x + F.linear(mixed.transpose(1, 2).flatten(2), *of(at + "multiHeadAttention.o"))
            x = norm(x, at + "attnLayerNorm")
            inner = act(F.linear(x, *of(at + "feedForward.intermediateDense")))
            x = norm(x + F.linear(inner, *of(at + "feedForward.outputDense")), at + "ffnLayerNorm")
        return F.linear(x, *of("fc")).numpy()
    return Reader(folder, emissions)
if __name__ == "__main__":
    for start, end, label in load(Path(__file__).parent)(sys.argv[1]):
        print(start, end, label, sys.argv[1][start:end])
