"""Entities from best_model.pt with torch and transformers alone, where each pass fits one window:
python docs/read_best_model.py export/quickstart "王小明昨天在北京参观了清华大学。" """
import json, re, sys, torch, unicodedata
from transformers import AutoConfig, AutoModel, AutoTokenizer

def load(folder):
    info = json.load(open(f"{folder}/best_model.json", encoding="utf8"))
    weights = torch.load(f"{folder}/best_model.pt", weights_only=True)
    bert = AutoModel.from_config(AutoConfig.from_pretrained(folder), add_pooling_layer=False)
    bert.load_state_dict({k[5:]: v for k, v in weights.items() if k.startswith("bert.")})
    return info, weights, bert.eval(), AutoTokenizer.from_pretrained(folder)

@torch.inference_mode()
def entities(text, info, w, bert, tokenizer):
    tags, pieces, rows, back, found = info["tags"], [], [], [], []
    ends = re.finditer(info["sentence_end"], text) if info.get("context") == "sentences" else ()
    cuts = [0, *(m.end() for m in ends), len(text)]
    for a, b in zip(cuts, cuts[1:]):  # one encoder pass: a sentence, or the text
        batch = tokenizer(text[a:b], return_offsets_mapping=True, return_tensors="pt")
        pieces += [(a + i, a + j) for i, j in batch.pop("offset_mapping")[0, 1:-1].tolist()]
        assert batch["input_ids"].shape[1] <= info["max_length"], "too long for one window"
        rows += bert(**batch).last_hidden_state[0, 1:-1] @ w["classifier.weight"].T
    tokens = [m.span(1) if m[1] else m.span() for m in re.finditer(r"(\S) ?|\s+", text)]
    inner = [range(m.start() + 1, m.end()) for m in re.finditer(info.get("whole_words", ""), text)]
    opens = "BI" if any(tag[0] == "E" for tag in tags) else "-"  # BIOES: entities end with E or S
    def follows(a, b):
        return a[0] in "BI" and a[2:] == b[2:] if b[0] in "IE" else a[0] not in opens
    legal = torch.tensor([[follows(a, b) for b in tags] for a in tags])
    whole = legal & torch.tensor([[b[0] in "IE" or a == b == "O" for b in tags] for a in tags])
    score, step = w["crf.start_transitions"].masked_fill(~legal[0], -torch.inf), w["crf.transitions"]
    for i, (start, end) in enumerate(tokens):  # Viterbi
        if i:
            mask = whole if any(start in word for word in inner) else legal
            score, source = (score[:, None] + step.masked_fill(~mask, -torch.inf)).max(0)
            back.insert(0, source)
        ours = [row for row, (a, b) in zip(rows, pieces) if a < end and start < b]
        score = score + w["classifier.bias"] + sum(ours) / max(1, len(ours))
    score = score + w["crf.end_transitions"].masked_fill(~legal[:, 0], -torch.inf)
    path = [int(score.argmax())][: len(tokens)]
    for source in back: path.insert(0, int(source[path[0]]))
    ends = "".join(c for c in text if c.isspace() or unicodedata.category(c) == "Cf")
    for m in re.finditer("BI*E?|S", "".join(tags[t][0] for t in path)):
        start, end = tokens[m.start()][0], tokens[m.end() - 1][1]
        if inside := text[start:end].strip(ends):
            found.append((at := text.index(inside, start), at + len(inside), tags[path[m.start()]][2:]))
    return found

if __name__ == "__main__":
    for start, end, label in entities(sys.argv[2], *load(sys.argv[1])):
        print(start, end, label, sys.argv[2][start:end])
