"""import-model: exports of this package, weights of bert4torch, Hugging Face folders; bad input."""

import json
import re
import shutil

import numpy as np
import pytest
import spacy
import torch
from safetensors.torch import load_file, save_file

from spacy_bert_crf.export.folder import export_pipeline
from spacy_bert_crf.export.import_model import import_model
from spacy_bert_crf.export.trained import gather
from spacy_bert_crf.model import layers
from spacy_bert_crf.model.layers import head_of
from support.commands import cli
from support.toys import TEXTS, emissions, train_toy

COMPANIONS = ("config.json", "vocab.txt", "tokenizer.json", "tokenizer_config.json")


@pytest.fixture
def foreign(toys, tmp_path):
    """A best_model.pt as bert4torch's example saves it, with a CRF over [CLS] and [SEP]."""
    out, folder = toys["zh"].out, tmp_path / "theirs"
    folder.mkdir()
    weights = torch.load(out / "bert4torch" / "best_model.pt", weights_only=True)
    torch.manual_seed(0)
    transitions = torch.randn(7, 7)
    # Start and end of a path over [CLS] … [SEP], whose tag is O: wrong for a text's own first tag.
    start, end = torch.full((7,), -50.0), torch.full((7,), -50.0)
    start[0] = end[0] = 50.0
    weights |= {"crf.start_transitions": start, "crf.end_transitions": end}
    weights["crf.transitions"] = transitions
    torch.save(weights, folder / "best_model.pt")
    config = json.loads((out / "config.json").read_text(encoding="utf8"))
    for key in ("id2label", "label2id", "architectures"):
        config.pop(key, None)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf8")
    shutil.copy(out / "vocab.txt", folder)
    return folder, weights


def decode_with_specials(rows, weights):
    """Viterbi as bert4torch's example runs it: over [CLS], the text and [SEP]."""
    start, end = weights["crf.start_transitions"], weights["crf.end_transitions"]
    score, back = start + rows[0], []
    for row in rows[1:]:
        total = score[:, None] + weights["crf.transitions"]
        back.append(total.argmax(0))
        score = total.max(0).values + row
    path = [int((score + end).argmax())]
    for source in reversed(back):
        path.insert(0, int(source[path[0]]))
    assert path[0] == path[-1] == 0
    return path[1:-1]


@pytest.mark.parametrize("config_name", ["config.json", "bert4torch_config.json"])
def test_weights_that_bert4torch_trained(toys, foreign, tmp_path, config_name):
    folder, weights = foreign
    (folder / "config.json").rename(folder / config_name)
    text = cli(
        "import-model", folder, tmp_path / "pipe", "--labels", "LOC,ORG, PER", "--no-constraints"
    )
    assert "bert4torch" in text and "scheme BIO" in text and "B-ORG" in text
    nlp = spacy.load(tmp_path / "pipe")
    pipe = nlp.get_pipe("bert_crf")
    assert nlp.lang == "zh" and not pipe.constraints
    model = gather(toys["zh"].nlp, "", {}).emission_model()
    tokenizer = gather(nlp, "", {}).encoder.tokenizer
    compared = 0
    for text in toys["zh"].texts:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        doc = nlp.make_doc(text)
        if len(doc) != ids.shape[1] - 2 or "1998" in text:
            continue  # its characters are not its wordpieces
        with torch.inference_mode():
            (rows,) = model(ids, torch.ones_like(ids), torch.zeros_like(ids))
        assert pipe.predict([doc])[0].tolist() == decode_with_specials(rows, weights), text
        compared += 1
    assert compared > 15


def test_constraints_are_on_unless_said(foreign, tmp_path):
    folder, _ = foreign
    nlp, *_ = import_model(folder, tmp_path / "pipe", labels=["LOC", "ORG", "PER"])
    pipe = nlp.get_pipe("bert_crf")
    assert pipe.constraints and pipe.scheme == "BIO"
    legal = pipe.tag_set.legal()[2]
    for text, _ in TEXTS:
        (tags,) = pipe.predict([nlp.make_doc(text)])
        assert all(legal[a][b] for a, b in zip(tags[:-1], tags[1:], strict=True))


@pytest.fixture
def huggingface(toys, tmp_path):
    """A foreign token classification folder: without transitions and best_model.json."""
    folder = tmp_path / "hf"
    folder.mkdir()
    for name in (*COMPANIONS, "model.safetensors"):
        shutil.copy(toys["zh"].out / "huggingface" / name, folder)

    def change(order, names=None):
        """Keep these rows of the classifier, under these names."""
        tensors = load_file(folder / "model.safetensors")
        tags = toys["zh"].nlp.get_pipe("bert_crf").tag_set.tags
        rows = [tags.index(tag) for tag in order]
        for name in ("classifier.weight", "classifier.bias"):
            tensors[name] = tensors[name][rows].clone()
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        config = json.loads((folder / "config.json").read_text(encoding="utf8"))
        config["id2label"] = {str(i): tag for i, tag in enumerate(names or order)}
        config["label2id"] = {tag: i for i, tag in enumerate(names or order)}
        (folder / "config.json").write_text(json.dumps(config), encoding="utf8")
        return folder

    return change


SHUFFLED = ["I-PER", "B-ORG", "O", "B-LOC", "I-ORG", "B-PER", "I-LOC"]


def test_a_model_without_crf_decodes_as_it_did(huggingface, tmp_path):
    folder = huggingface(SHUFFLED)
    nlp = import_model(folder, tmp_path / "pipe").nlp
    pipe = nlp.get_pipe("bert_crf")
    assert not pipe.constraints and pipe.crf.legal_transitions.all()
    doc = nlp.make_doc("东风钢厂在武汉招工。王小明昨天在北京。")
    (emissions,) = pipe.model.predict([doc])
    assert pipe.predict([doc])[0].tolist() == emissions.argmax(1).tolist()


def test_a_huggingface_folder_in_another_order(toys, huggingface, tmp_path):
    folder = huggingface(SHUFFLED)
    text = cli("import-model", folder, tmp_path / "pipe", "--constraints")
    assert "Hugging Face" in text and "scheme BIO" in text
    # The source reads whole texts, the toy reads sentences.
    same_context = {"components.bert_crf.model.tok2vec.context": "sentences"}
    nlp = spacy.load(tmp_path / "pipe", config=same_context)
    pipe, ours = nlp.get_pipe("bert_crf"), toys["zh"].nlp.get_pipe("bert_crf")
    crf = head_of(pipe.model).module.crf
    for parameter in (crf.start_transitions, crf.end_transitions, crf.transitions):
        assert not parameter.any()  # nothing but the scheme
    assert pipe.constraints and crf.legal_transitions.sum() < 49
    column = {tag: i for i, tag in enumerate(pipe.tag_set.tags)}
    order = [column[tag] for tag in ours.tag_set.tags]
    texts = toys["zh"].texts
    joined = 0
    for text, got, want in zip(
        texts, emissions(nlp, texts), emissions(toys["zh"].nlp, texts), strict=True
    ):
        # A token of several characters, which is one wordpiece, has the emissions of each.
        at = {token.idx: token.i for token in toys["zh"].nlp.make_doc(text)}
        tokens = nlp.make_doc(text)
        np.testing.assert_allclose(got[:, order], want[[at[t.idx] for t in tokens]], atol=1e-4)
        joined += len(want) - len(tokens)
    assert joined > 0
    for text in texts:  # the argmax, where it keeps to the scheme
        (tags,) = pipe.predict([doc := nlp.make_doc(text)])
        (rows,) = pipe.model.predict([doc])
        best = np.asarray(rows).argmax(1)
        legal = pipe.tag_set.legal()[2]
        steps = zip([0, *best[:-1]], best, strict=True)
        if all(legal[a][b] for a, b in steps):
            assert tags.tolist() == best.tolist()


def test_tags_that_are_missing_never_come_out(huggingface, tmp_path):
    """LOC has a tag B but no tag I, as in models of single characters or words."""
    nlp, said, _ = import_model(huggingface(["B-PER", "O", "B-LOC", "I-PER"]), tmp_path / "pipe")
    pipe = nlp.get_pipe("bert_crf")
    assert "O, B-PER, I-PER, B-LOC, I-LOC" in said
    never = pipe.tag_set.tags.index("I-LOC")
    found = [pipe.predict([nlp.make_doc(text)])[0] for text, _ in TEXTS]
    assert not any((tags == never).any() for tags in found)
    assert any((tags == pipe.tag_set.tags.index("B-LOC")).any() for tags in found)
    assert all((e[:, never] < -1000).all() for e in emissions(nlp, [text for text, _ in TEXTS]))


def test_labels_of_any_case(huggingface, tmp_path):
    lower = [tag[:2] + tag[2:].lower() for tag in SHUFFLED]
    nlp, *_ = import_model(huggingface(SHUFFLED, lower), tmp_path / "pipe")
    assert set(nlp.get_pipe("bert_crf").labels) == {"per", "org", "loc"}


def test_nameless_tags_need_labels(toys, huggingface, tmp_path):
    order = list(toys["zh"].nlp.get_pipe("bert_crf").tag_set.tags)
    folder = huggingface(order, [f"LABEL_{i}" for i in range(7)])
    cli("import-model", folder, tmp_path / "pipe", code=1)
    assert not (tmp_path / "pipe").exists()
    cli("import-model", folder, tmp_path / "pipe", "--labels", "LOC,ORG,PER", "--lang", "en")
    nlp = spacy.load(tmp_path / "pipe")
    assert nlp.lang == "en" and nlp.get_pipe("bert_crf").labels == ("LOC", "ORG", "PER")


def test_nameless_tags_say_what_to_give(huggingface, tmp_path, toys):
    order = list(toys["zh"].nlp.get_pipe("bert_crf").tag_set.tags)
    folder = huggingface(order, [f"LABEL_{i}" for i in range(7)])
    assert "--labels" in cli("import-model", folder, tmp_path / "pipe", code=1)


def test_an_existing_pipeline_is_replaced_and_only_such(toys, tmp_path):
    pipe = tmp_path / "pipe"
    cli("import-model", toys["zh"].out, pipe)
    cli("import-model", toys["bioes"].out, pipe)
    assert spacy.load(pipe).get_pipe("bert_crf").scheme == "BIOES"
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "a.txt").write_text("dear", encoding="utf8")
    assert "no pipeline folder" in cli("import-model", toys["zh"].out, tmp_path / "thesis", code=1)
    assert "no pipeline folder" in cli("import-model", toys["zh"].out, toys["zh"].out, code=1)
    (tmp_path / "file").write_text("dear", encoding="utf8")
    assert "no pipeline folder" in cli("import-model", toys["zh"].out, tmp_path / "file", code=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "pipe", "thesis"]
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["a.txt"]
    (tmp_path / "empty").mkdir()
    import_model(toys["zh"].out, tmp_path / "empty")
    assert "there is no" in cli("import-model", tmp_path / "nowhere", tmp_path / "new", code=1)


def edit(path, change):
    """Change the tensors of a weights file in place."""
    tensors = torch.load(path, weights_only=True)
    change(tensors)
    torch.save(tensors, path)


def edit_json(path, **changes):
    content = json.loads(path.read_text(encoding="utf8"))
    content = {key: value for key, value in {**content, **changes}.items() if value != "DROP"}
    path.write_text(json.dumps(content), encoding="utf8")


class Bomb:
    def __reduce__(self):
        return (open, ("bomb.txt", "w"))


def narrower(tensors):
    for name in ("classifier.weight", "classifier.bias", "crf.start_transitions"):
        tensors[name] = tensors[name][:6].clone()
    tensors["crf.end_transitions"] = tensors["crf.end_transitions"][:6].clone()
    tensors["crf.transitions"] = tensors["crf.transitions"][:6, :6].clone()


def cut(path, share=0.5):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


WORDS = "bert.embeddings.word_embeddings.weight"
#: What is done to a copy of best_model.pt and its companions; further options; part of the message.
BAD = {
    "truncated": (lambda f: cut(f / "best_model.pt"), [], "best_model.pt"),
    "empty file": (lambda f: cut(f / "best_model.pt", 0), [], "best_model.pt"),
    "pickle bomb": (
        lambda f: torch.save({"a": Bomb()}, f / "best_model.pt"), [], "more than weights",
    ),
    "no table": (lambda f: torch.save([1], f / "best_model.pt"), [], "no table"),
    "an encoder tensor is missing": (
        lambda f: edit(f / "best_model.pt", lambda t: t.pop(WORDS)), [], "missing: " + WORDS,
    ),
    "a CRF tensor is missing": (
        lambda f: edit(f / "best_model.pt", lambda t: t.pop("crf.end_transitions")),
        [], "crf.end_transitions",
    ),
    "no classifier": (
        lambda f: edit(f / "best_model.pt", lambda t: t.pop("classifier.weight")),
        [], "classifier.weight",
    ),
    "fewer tags": (lambda f: edit(f / "best_model.pt", narrower), [], "7 tags.*has 6"),
    "transitions of another size": (
        lambda f: edit(f / "best_model.pt", lambda t: t.update({"crf.transitions": torch.ones(7)})),
        [], r"crf.transitions is \[7\]",
    ),
    "classifier width": (
        lambda f: edit(
            f / "best_model.pt", lambda t: t.update({"classifier.weight": torch.ones(7, 8)})
        ),
        [], "vectors of 8.*returns 16",
    ),
    "NaN in the encoder": (
        lambda f: edit(f / "best_model.pt", lambda t: t[WORDS].fill_(torch.nan)), [], "NaN",
    ),
    "NaN in the head": (
        lambda f: edit(f / "best_model.pt", lambda t: t["crf.transitions"].fill_(torch.nan)),
        [], "crf.transitions",
    ),
    "labels that do not fit": (lambda f: None, ["--labels", "LOC,PER"], "5 tags.*has 7"),
    "a label twice": (lambda f: None, ["--labels", "A,A,B"], "twice"),
    "an empty label": (lambda f: None, ["--labels", "A,,B"], "empty"),
    "a scheme that does not fit": (
        lambda f: None, ["--labels", "LOC,ORG,PER", "--scheme", "BIOES"], "13 tags.*has 7",
    ),
    "an unknown scheme": (lambda f: None, ["--scheme", "IOB"], "IOB.*BIO, BIOES"),
    "an unknown language": (lambda f: None, ["--lang", "qq"], "--lang"),
    "no sidecar": (lambda f: (f / "best_model.json").unlink(), [], "best_model.json"),
    "a broken sidecar": (lambda f: cut(f / "best_model.json"), [], "best_model.json"),
    "no config": (lambda f: (f / "config.json").unlink(), [], "config.json"),
    "a config that does not fit": (
        lambda f: edit_json(f / "config.json", hidden_size=32), [], "wrong shape",
    ),
    "a config without sizes": (
        lambda f: edit_json(f / "config.json", num_hidden_layers="DROP"), [], "num_hidden_layers",
    ),
    "no tokenizer": (
        lambda f: [(f / n).unlink() for n in ("vocab.txt", "tokenizer.json",
                                              "tokenizer_config.json")],
        [], "no tokenizer|vocab.txt",
    ),
    "a broken tokenizer": (lambda f: cut(f / "tokenizer.json"), [], "tokenizer"),
    "nothing at all": (lambda f: [p.unlink() for p in f.iterdir()], [], "holds none of"),
}  # fmt: skip


def refused(tmp_path, src, words, pattern):
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    text = cli("import-model", src, tmp_path / "pipe", *words, code=1)
    assert re.search(pattern, text), text
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before and not (tmp_path / "pipe").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", BAD)
def test_bad_input(toys, tmp_path, monkeypatch, name):
    change, words, pattern = BAD[name]
    monkeypatch.chdir(tmp_path)  # where the bomb would go off
    src = tmp_path / "src"
    src.mkdir()
    for path in toys["zh"].out.iterdir():
        if path.is_file():
            shutil.copy(path, src)
    change(src)
    refused(tmp_path, src, words, pattern)


def test_a_scheme_whose_last_tags_are_missing(toys, tmp_path):
    """B- and I- alone under BILUO: no entity could ever be found."""
    src = tmp_path / "src"
    shutil.copytree(toys["zh"].out, src, ignore=shutil.ignore_patterns("*onnx*", "*torch*"))
    refused(tmp_path, src, ["--scheme", "BILUO"], "BILUO")


def test_a_folder_with_another_meta_json_is_kept(toys, tmp_path):
    """Such as the folder of a package's source, which would be replaced as a whole."""
    package = tmp_path / "package"
    package.mkdir()
    for name in ("meta.json", "setup.py"):
        (package / name).write_text("{}", encoding="utf8")
    cli("import-model", toys["zh"].out, package, code=1)
    assert sorted(path.name for path in package.iterdir()) == ["meta.json", "setup.py"]


def test_a_tokenizer_larger_than_the_embedding(toys, foreign, tmp_path):
    folder, _ = foreign
    with (folder / "vocab.txt").open("a", encoding="utf8") as handle:
        handle.write("龘\n")
    refused(tmp_path, folder, ["--labels", "LOC,ORG,PER"], "tokenizer has .* embedding")


@pytest.mark.parametrize("damage", ["truncated", "text", "array", "lacking", "pickled"])
def test_damaged_transitions(toys, tmp_path, damage):
    src = tmp_path / "src"
    shutil.copytree(toys["zh"].out / "huggingface", src)
    path = src / "transitions.npz"
    if damage == "truncated":
        cut(path)
    elif damage == "text":
        path.write_text("no arrays", encoding="utf8")
    elif damage == "array":
        np.save(src / "x.npy", np.zeros(7))
        (src / "x.npy").rename(path)
    elif damage == "lacking":
        np.savez(path, start=np.zeros(7, np.float32))
    else:
        one = np.array([{}], dtype=object)
        np.savez(path, start=one, end=one, transitions=one)
    refused(tmp_path, src, [], "transitions.npz")


def test_bert4torch_without_labels_or_with_other_tensors(foreign, tmp_path):
    folder, weights = foreign
    refused(tmp_path, folder, [], "--labels")
    labels = ["--labels", "LOC,ORG,PER"]
    refused(tmp_path, folder, ["--labels", "LOC,ORG"], "5 tags.*has 7")
    refused(tmp_path, folder, [*labels, "--scheme", "BIOES"], "13 tags.*has 7")
    torch.save({**weights, "lstm.weight": torch.ones(2)}, folder / "best_model.pt")
    refused(tmp_path, folder, labels, "lstm.weight")
    torch.save({k: v for k, v in weights.items() if k != "fc.bias"}, folder / "best_model.pt")
    refused(tmp_path, folder, labels, "classifier.bias|fc.bias")
    torch.save(weights, folder / "best_model.pt")
    (folder / "vocab.txt").unlink()
    refused(tmp_path, folder, labels, "vocab.txt")


@pytest.mark.parametrize(
    "tags, pattern",
    [
        (["b-per", "i-per", "o"], "no scheme|no tag O|neither O"),
        (["B-PER", "I-PER", "B-LOC"], "no tag O"),
        (["O", "I-PER", "B-LOC"], "no tag begins"),
        (["O", "B-PER", "B-PER"], "twice|same"),
        (["O", "X-PER", "B-PER"], "no scheme"),
        (["O", "B-PER", "PERSON"], "PERSON"),
    ],
)
def test_tags_of_no_scheme(huggingface, tmp_path, tags, pattern):
    refused(tmp_path, huggingface(SHUFFLED[:3], tags), [], pattern)


def test_the_windows_of_the_pipeline_are_kept(encoder_path, tmp_path):
    """Texts that are longer than a window have the same entities in the imported pipeline."""
    nlp = train_toy(encoder_path)
    shim = layers.own_encoder_of(nlp.get_pipe("bert_crf").model)
    own = {"max_length": 24, "overlap": 5, "context": "sentences"}
    shim.cfg.update(own)
    export_pipeline(nlp, tmp_path / "out")
    nlp = import_model(tmp_path / "out", tmp_path / "pipeline").nlp
    cfg = layers.own_encoder_of(nlp.get_pipe("bert_crf").model).cfg
    assert {key: cfg[key] for key in own} == own
    # What is no setting is not taken over.
    sidecar = json.loads((tmp_path / "out" / "best_model.json").read_text("utf8"))
    sidecar["windows"] = {"max_length": "64", "overlap": None, "x": 1}
    sidecar["context"] = "whole"
    (tmp_path / "out" / "best_model.json").write_text(json.dumps(sidecar), encoding="utf8")
    nlp = import_model(tmp_path / "out", tmp_path / "pipeline").nlp
    cfg = layers.own_encoder_of(nlp.get_pipe("bert_crf").model).cfg
    assert (cfg["max_length"], cfg["overlap"], cfg["context"]) == (24, 6, "fit")
