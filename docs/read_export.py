"""Entities from any folder that `spacy bert-crf export PIPELINE DST --to FORMAT` writes (DST/FORMAT).

    python docs/read_export.py export/quickstart/onnx "王小明昨天在北京参观了清华大学。"
    python docs/read_export.py export/quickstart/onnx "王小明昨天在北京参观了清华大学。" --decode

Needs numpy, tokenizers and the runtime of the format: onnxruntime for the ONNX folders, torch for
the TorchScript ones, torch and transformers for bert4torch and huggingface. It does not need
spacy-bert-crf. It reads texts whose encoder passes fit one window: a sentence each, or the text.
"""
import argparse, json, re, unicodedata
from pathlib import Path
from typing import NamedTuple
import numpy as np

class Model(NamedTuple):
    info: dict    # best_model.json
    scores: dict  # transitions.npz
    tokenizer: object
    run: object   # int64 arrays in; emissions [B, T, K] out, or tags [B, S] of a decode graph
    decode: bool

def load(folder, decode=False):
    """The model in a format's folder.

    decode: take the graph that contains the Viterbi algorithm.
    """
    from tokenizers import Tokenizer

    folder = Path(folder)
    info = json.loads((folder / "best_model.json").read_text(encoding="utf8"))
    with np.load(folder / "transitions.npz", allow_pickle=False) as data:
        scores = dict(data)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    name, kind = "decode" if decode else "emissions", info["format"]
    if decode and kind in ("bert4torch", "huggingface"):
        raise ValueError(f"the format {kind} has no decode graph: leave --decode out")
    if kind.startswith("onnx"):
        run = run_onnx(folder / f"{name}.onnx")
    elif kind.startswith("torch"):
        run = run_torchscript(folder / f"{name}.pt")
    else:
        run = run_bert4torch(folder) if kind == "bert4torch" else run_huggingface(folder)
    return Model(info, scores, tokenizer, run, decode)

def entities(text, model, tokens=None):
    """The entities of a text: start and end (character offsets), label.

    tokens: (start, end) of each token, where the pipeline has a tokenizer of its own.
    """
    tokens = split(text, model.info["lang"]) if tokens is None else tokens
    if not tokens:
        return []
    begins = passes(text, model.info)
    encodings = [model.tokenizer.encode(text[a:b]) for a, b in zip(begins, [*begins[1:], None])]
    length = max(len(encoding.ids) for encoding in encodings)
    if length > model.info["max_length"]:
        raise ValueError("a sentence, or the text, does not fit one window")
    (ids, mask), places = np.zeros((2, len(begins), length), dtype=np.int64), []
    for row, (begin, encoding) in enumerate(zip(begins, encodings)):
        ids[row, : len(encoding.ids)] = encoding.ids
        mask[row, : len(encoding.ids)] = 1
        places += [
            (row * length + i, begin + start, begin + end)
            for i, (start, end) in enumerate(encoding.offsets)  # characters
            if not encoding.special_tokens_mask[i]
        ]
    ours = [[i for i, a, b in places if a < end and start < b] for start, end in tokens]
    if model.info.get("whole_pieces"):
        tokens, ours = join(tokens, ours)
    words = continued(text, tokens, model.info)
    inputs = [ids, mask, np.zeros_like(ids)]  # input ids, attention mask, token types
    if model.decode:
        if any(p and p[-1] - p[0] >= len(p) for p in ours):
            raise ValueError("a token lies in two sentences: decode from the emissions")
        # The first wordpiece of each token and the last + 1, counted with [CLS] over all passes;
        # 1, 1 for none. Then whether the token continues a word.
        pieces = [(*((p[0], p[-1] + 1) if p else (1, 1)), word) for p, word in zip(ours, words)]
        path = model.run(*inputs, np.array([pieces], dtype=np.int64))[0]
    else:
        rows, bias = np.concatenate(model.run(*inputs)), model.scores["bias"]
        emissions = np.stack([rows[p].mean(0) if p else bias for p in ours])
        path = viterbi(emissions, model.scores, words, model.info["tags"])
    found = []
    for first, last, label in spans([model.info["tags"][tag] for tag in path]):
        while first < last and invisible(text[slice(*tokens[first])]):  # no part of an entity
            first += 1
        while first < last and invisible(text[slice(*tokens[last - 1])]):
            last -= 1
        if first < last:
            found.append((tokens[first][0], tokens[last - 1][1], label))
    return found

def invisible(token):
    """Whether a token is white space, or only marks without width such as U+200B."""
    return token.isspace() or all(unicodedata.category(char) == "Cf" for char in token)

def split(text, lang):
    """(start, end) of the tokens: Chinese characters, with white space folded as spaCy does; for
    other languages, what white space separates (put spaces around punctuation)."""
    if lang == "zh":
        return [m.span(1) if m[1] else m.span() for m in re.finditer(r"(\S) ?|\s+", text)]
    return [m.span() for m in re.finditer(r"\S+", text)]

def passes(text, info):
    """Where the encoder passes of a text begin: its sentences, or the text. Offsets."""
    if info.get("context") != "sentences":
        return [0]
    ends = {m.end() for m in re.finditer(info["sentence_end"], text)}
    return sorted({0, *ends} - {len(text)})

def continued(text, tokens, info):
    """Whether each token continues the word of the token before it, so that no entity begins or
    ends between them. Only tokens of one character can."""
    matches = re.finditer(info.get("whole_words", ""), text)
    inner = {i for m in matches for i in range(m.start() + 1, m.end())}
    pairs = zip([(0, 0), *tokens], tokens)
    return [start in inner and b == start == a + 1 == end - 1 for (a, b), (start, end) in pairs]

def join(tokens, ours):
    """Tokens that share a wordpiece, joined: so decodes what `import-model` made of other models."""
    joined = []
    for (start, end), pieces in zip(tokens, ours):
        if joined and pieces and joined[-1][1] and joined[-1][1][-1] >= pieces[0]:
            (start, _), before = joined.pop()
            pieces = sorted({*before, *pieces})
        joined.append(((start, end), pieces))
    return [token for token, _ in joined], [pieces for _, pieces in joined]

def viterbi(emissions, scores, words, tags):
    """The best legal path of tag ids. No entity begins or ends at a token that continues a word.

    emissions: [S, K]
    words: whether each token continues the word of the token before it. [S]
    tags: the names of the tags. [K]
    """
    start, end, step = (np.where(scores[f"legal_{name}"], scores[name], -np.inf)
                        for name in ("start", "end", "transitions"))
    score, back = start + emissions[0], []
    # Between such tags, no entity begins or ends.
    inside = np.array([[a == b == "O" or a[0] in "BIM" and b[0] in "IMEL" and a[1:] == b[1:]
                        for b in tags] for a in tags])
    for row, word in zip(emissions[1:], words[1:]):
        total = score[:, None] + (np.where(inside, step, -np.inf) if word else step)  # from, to
        back.append(total.argmax(0))
        score = total.max(0) + row
    path = [int((score + end).argmax())]
    for source in reversed(back):
        path.insert(0, int(source[path[0]]))
    return path

def spans(tags):
    """First token, last + 1 and label of each entity, for BIO, BIOES, BMES and BILUO."""
    found, begin, label = [], None, ""
    for i, tag in enumerate([*tags, "O"]):
        role, _, kind = tag.partition("-")
        if begin is not None and not (role in "IMEL" and kind == label):
            found.append((begin, i, label))
            begin = None
        if begin is None and role != "O":
            begin, label = i, kind
        if role in "ELSU":
            found.append((begin, i + 1, label))
            begin = None
    return found

def run_onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = ["input_ids", "attention_mask", "token_type_ids", "token_pieces"]
    used = {value.name for value in session.get_inputs()}  # some encoders have no token types
    return lambda *arrays: session.run(
        None, {name: a for name, a in zip(names, arrays) if name in used})[0]

def run_torchscript(path):
    import torch

    return on_arrays(torch.jit.load(str(path), map_location="cpu"))

def run_huggingface(folder):
    from transformers import AutoModelForTokenClassification

    model = AutoModelForTokenClassification.from_pretrained(folder, local_files_only=True).eval()
    return on_arrays(lambda ids, mask, types: model(input_ids=ids, attention_mask=mask).logits)

def run_bert4torch(folder):
    """bert4torch's weights in transformers' BertModel."""
    import torch
    from transformers import AutoConfig, BertModel

    layer = {
        "encoderLayer.": "encoder.layer.", "multiHeadAttention.q.": "attention.self.query.",
        "multiHeadAttention.k.": "attention.self.key.",
        "multiHeadAttention.v.": "attention.self.value.",
        "multiHeadAttention.o.": "attention.output.dense.",
        "attnLayerNorm.": "attention.output.LayerNorm.",
        "feedForward.intermediateDense.": "intermediate.dense.",
        "feedForward.outputDense.": "output.dense.", "ffnLayerNorm.": "output.LayerNorm.",
        "embeddings.layerNorm.": "embeddings.LayerNorm.",
    }
    weights = torch.load(folder / "best_model.pt", weights_only=True)
    bert = BertModel(AutoConfig.from_pretrained(folder), add_pooling_layer=False).eval()
    state = {}
    for name, tensor in weights.items():
        for theirs, ours in layer.items():
            name = name.replace(theirs, ours)
        if name.startswith("bert."):
            state[name.removeprefix("bert.")] = tensor
    # Row 0 of the token types was added to the position embeddings.
    types = "embeddings.token_type_embeddings.weight"
    bert.load_state_dict({**state, types: torch.zeros_like(bert.state_dict()[types])})

    def run(ids, mask, types):
        hidden = bert(input_ids=ids, attention_mask=mask).last_hidden_state
        return hidden @ weights["fc.weight"].T + weights["fc.bias"]

    return on_arrays(run)

def on_arrays(module):
    """A torch module that takes and gives numpy arrays."""
    import torch

    @torch.inference_mode()
    def run(*arrays):
        return module(*(torch.from_numpy(array) for array in arrays)).numpy()

    return run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Print the entities of a text.")
    parser.add_argument("folder", help="folder of one format, as export/quickstart/onnx")
    parser.add_argument("text")
    parser.add_argument("--decode", action="store_true", help="use decode.onnx or decode.pt")
    options = parser.parse_args()
    for start, end, label in entities(options.text, load(options.folder, options.decode)):
        print(start, end, label, options.text[start:end])
