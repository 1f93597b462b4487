"""Entities from best_model.pt with torch and transformers alone, for texts that fit one window.

python docs/read_best_model.py export/quickstart "王小明昨天在北京参观了清华大学。"
"""
import json, re, sys, unicodedata
from pathlib import Path
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

def load(folder):
    info = json.loads((Path(folder) / "best_model.json").read_text(encoding="utf8"))
    weights = torch.load(Path(folder) / "best_model.pt", weights_only=True)
    bert = AutoModel.from_config(AutoConfig.from_pretrained(folder), add_pooling_layer=False)
    bert.load_state_dict({k[5:]: v for k, v in weights.items() if k.startswith("bert.")})
    return info, weights, bert.eval(), AutoTokenizer.from_pretrained(folder)

@torch.inference_mode()
def entities(text, info, w, bert, tokenizer):
    # One CRF step is a character; white space is folded as spaCy's Chinese tokenizer does.
    tokens = [m.span(1) if m[1] else m.span() for m in re.finditer(r"(\S) ?|\s+", text)]
    batch = tokenizer(text, return_offsets_mapping=True, return_tensors="pt")
    pieces = batch.pop("offset_mapping")[0, 1:-1].tolist()
    if not tokens or len(pieces) + 2 > info["max_length"]:
        return [] if not tokens else sys.exit("the text does not fit one window")
    hidden = bert(**batch).last_hidden_state[0, 1:-1]
    ours = [[k for k, (a, b) in enumerate(pieces) if a < end and start < b] for start, end in tokens]
    mean = [hidden[k].mean(0) if k else hidden.new_zeros(bert.config.hidden_size) for k in ours]
    emissions = torch.stack(mean) @ w["classifier.weight"].T + w["classifier.bias"]
    tags = info["tags"]  # of the scheme BIO: I- only after B- or I- of the same label
    legal = torch.tensor([[b[0] != "I" or a[2:] == b[2:] for b in tags] for a in tags])
    step = w["crf.transitions"].masked_fill(~legal, -torch.inf)
    score, back = w["crf.start_transitions"].masked_fill(~legal[0], -torch.inf) + emissions[0], []
    for row in emissions[1:]:  # Viterbi
        score, source = (score[:, None] + step).max(0)
        score, back = score + row, [*back, source]
    path = [int((score + w["crf.end_transitions"]).argmax())]
    for source in reversed(back):
        path.insert(0, int(source[path[0]]))
    found = []
    for m in re.finditer("BI*", "".join(tags[t][0] for t in path)):
        start, end = tokens[m.start()][0], tokens[m.end() - 1][1]
        ends = "".join(c for c in text if c.isspace() or unicodedata.category(c) == "Cf")
        if inside := text[start:end].strip(ends):
            at = start + text[start:end].index(inside)
            found.append((at, at + len(inside), tags[path[m.start()]][2:]))
    return found

if __name__ == "__main__":
    for start, end, label in entities(sys.argv[2], *load(sys.argv[1])):
        print(start, end, label, sys.argv[2][start:end])
