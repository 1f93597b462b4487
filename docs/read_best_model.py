"""Entities from best_model.pt with torch and transformers alone, if each sentence fits one window.

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
    sentences = re.finditer(info["sentence_end"], text) if info.get("context") == "sentences" else ()
    cuts, pieces, rows, emissions = [0, *(m.end() for m in sentences), len(text)], [], [], []
    for a, b in zip(cuts, cuts[1:]):  # each sentence is an encoder pass of its own
        batch = tokenizer(text[a:b], return_offsets_mapping=True, return_tensors="pt")
        pieces += [(a + i, a + j) for i, j in batch.pop("offset_mapping")[0, 1:-1].tolist()]
        if batch["input_ids"].shape[1] > info["max_length"]:
            sys.exit("a sentence does not fit one window")
        rows += bert(**batch).last_hidden_state[0, 1:-1] @ w["classifier.weight"].T + w["classifier.bias"]
    # One CRF step is a character; white space is folded as spaCy's Chinese tokenizer does.
    tokens = [m.span(1) if m[1] else m.span() for m in re.finditer(r"(\S) ?|\s+", text)]
    for start, end in tokens:
        ours = [row for row, (a, b) in zip(rows, pieces) if a < end and start < b]
        emissions.append(torch.stack(ours).mean(0) if ours else w["classifier.bias"])
    tags = info["tags"]  # of the scheme BIO: I- only after B- or I- of the same label
    legal = torch.tensor([[b[0] != "I" or a[2:] == b[2:] for b in tags] for a in tags])
    step = w["crf.transitions"].masked_fill(~legal, -torch.inf)
    inside = torch.tensor([[b[0] == "I" or a == b == "O" for b in tags] for a in tags])
    words = {i for m in re.finditer(info.get("whole_words", ""), text) for i in range(m.start() + 1, m.end())}
    score, back = w["crf.start_transitions"].masked_fill(~legal[0], -torch.inf), []
    for row, (start, _) in zip(emissions, tokens):  # Viterbi; no entity begins or ends inside a word
        scores = score[:, None] + (step.masked_fill(~inside, -torch.inf) if start in words else step)
        score, source = scores.max(0) if back
