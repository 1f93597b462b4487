"""The command distill: what a student learns, resume, and what is refused."""

import re
import shutil
import subprocess
import sys
import warnings

import pytest
import spacy
import torch
from spacy.tokens import DocBin
from spacy.util import load_config

from spacy_bert_crf import distill
from spacy_bert_crf.component.pipelines import load_pipeline
from spacy_bert_crf.encoder.smaller.layers import count_layers
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.model.layers import own_encoder_of
from spacy_bert_crf.training.distillation import distill as distill_module
from spacy_bert_crf.training.distillation.student import training_texts
from spacy_bert_crf.training.distillation.texts import WITH_TEXTS
from spacy_bert_crf.training.loop import train
from support.commands import cli, kill_once_saved
from support.paths import CONFIG
from support.stopper import STOPPER, UPDATES
from support.toys import (
    TEXTS,
    entities,
    make_examples,
    randomise_head,
    shared_config,
    shared_pipeline,
    train_toy,
    write_encoder,
)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A trained pipeline with an encoder of 3 layers."""
    folder = tmp_path_factory.mktemp("teacher")
    encoder = write_encoder(folder / "encoder", layers=3, initializer_range=0.3)
    train_toy(encoder).to_disk(folder / "pipeline")
    return folder / "pipeline"


@pytest.fixture
def settings(tmp_path):
    nlp = spacy.blank("zh")
    DocBin(docs=[eg.reference for eg in make_examples(nlp)]).to_disk(tmp_path / "docs.spacy")
    (tmp_path / "texts.txt").write_text("\n".join(text for text, _ in TEXTS), encoding="utf8")
    return {
        "paths.train": str(tmp_path / "docs.spacy"),
        "paths.dev": str(tmp_path / "docs.spacy"),
        "components.bert_crf.scheme": "BIO",
        "training.batcher.size": 3,
        "training.optimizer.encoder_lr": 5e-3,
        "training.optimizer.head_lr": 2e-2,
        "training.max_epochs": 2,
    }


def made(settings, stop_at=None):
    config = load_config(CONFIG, overrides=settings, interpolate=False)
    if stop_at is not None:
        config["training"]["logger"] = {"@loggers": STOPPER, "stop_at": stop_at}
    return config


def run(teacher, settings, output, stop_at=None, resume=False, **own):
    own = {"layers": 2, **own}
    return distill(teacher, made(settings, stop_at), output, settings=own, resume=resume)


def weights(path):
    return spacy.load(path).get_pipe("bert_crf").to_bytes(exclude=["vocab"])


def found(path):
    return [entities(doc) for doc in spacy.load(path).pipe(text for text, _ in TEXTS)]


def test_a_student_learns_from_gold_and_teacher(teacher, settings, tmp_path, caplog):
    caplog.set_level("INFO", logger="spacy_bert_crf")
    settings |= {"training.max_epochs": 40, "training.optimizer.decay": "constant"}
    texts = str(tmp_path / "texts.txt")
    history = run(teacher, settings, tmp_path / "out", texts=texts)
    assert "the student has the layers 1, 3 of the teacher's 3" in caplog.text
    assert f"the teacher reads {2 * len(TEXTS)} texts" in caplog.text
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "history.json", "model-best", "model-last",
    ]  # fmt: skip
    assert history["complete"] and history["epochs"][-1]["ents_f"] > 0.9
    nlp = spacy.load(tmp_path / "out" / "model-best")
    assert count_layers(own_encoder_of(nlp.get_pipe("bert_crf").model).loaded) == 2
    section = nlp.config["distillation"]
    assert section["layers"] == 2 and section["texts"] == texts and section["teacher_weight"] == 0.5


def test_the_first_layers(teacher, settings, tmp_path, caplog):
    caplog.set_level("INFO", logger="spacy_bert_crf")
    run(teacher, {**settings, "training.max_epochs": 1}, tmp_path / "out", which_layers="first")
    assert "the student has the layers 1, 2 of the teacher's 3" in caplog.text
    config = load_config(tmp_path / "out/model-best/config.cfg")
    assert config["distillation"]["which_layers"] == "first"
    assert config["initialize"]["before_init"]["which_layers"] == "first"


def test_fewer_inner_channels(teacher, settings, tmp_path, caplog):
    caplog.set_level("INFO", logger="spacy_bert_crf")
    settings |= {"training.max_epochs": 40, "training.optimizer.decay": "constant"}
    history = run(teacher, settings, tmp_path / "out", inner_width=24)
    assert "24 of 32 inner channels" in caplog.text
    assert history["epochs"][-1]["ents_f"] > 0.9
    nlp = spacy.load(tmp_path / "out" / "model-best")
    module = own_encoder_of(nlp.get_pipe("bert_crf").model).module
    assert module.config.intermediate_size == 24
    assert nlp.config["initialize"]["before_init"]["inner_width"] == 24


@pytest.mark.parametrize("n_texts, want", [(3, 3), (256, 256), (511, 256), (6000, 256)])
def test_texts_to_choose_the_inner_channels_by(n_texts, want, tmp_path):
    """They are read before the student's tokenizer is initialised. pkuseg's fails until then."""
    nlp, its = spacy.blank("zh"), spacy.blank("zh")
    nlp.tokenizer = None
    texts = [f"第{i}句" for i in range(n_texts)]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf8")
    config = nlp.config.copy()
    reader = {"@readers": WITH_TEXTS, "texts": str(tmp_path / "texts.txt")}
    config["corpora"] = {"train": reader}
    nlp.config = config
    found = training_texts(nlp, its)
    assert len(found) == want == len(set(found)) and found[0] == texts[0]


def test_too_many_inner_channels(teacher, settings, tmp_path):
    with pytest.raises(BertCrfError, match="can't be made of .*: 33 inner channels requested"):
        run(teacher, settings, tmp_path / "out", inner_width=33)
    assert not (tmp_path / "out").exists()


def test_all_layers_of_a_student_learn(teacher, settings, tmp_path):
    """frozen_layers of the config, which the teacher was trained with, does not hold them."""
    frozen = "components.bert_crf.model.tok2vec.frozen_layers"
    run(teacher, {**settings, "training.max_epochs": 1, frozen: 2}, tmp_path / "out")
    nlp = spacy.load(tmp_path / "out" / "model-best")
    assert nlp.config["components"]["bert_crf"]["model"]["tok2vec"]["frozen_layers"] == 0
    module = own_encoder_of(nlp.get_pipe("bert_crf").model).module
    assert all(param.requires_grad for param in module.parameters())


def test_the_teacher_is_loaded_once(teacher, settings, tmp_path, monkeypatch):
    loaded = []

    def load(path):
        loaded.append(path)
        return load_pipeline(path)

    monkeypatch.setattr("spacy_bert_crf.training.distillation.student.load_pipeline", load)
    run(teacher, {**settings, "training.max_epochs": 1}, tmp_path / "out")
    assert loaded == [teacher]
    # Afterwards nothing is held.
    train(load_config(tmp_path / "out/model-best/config.cfg"), tmp_path / "again")
    assert loaded == [teacher, teacher]


def test_a_student_of_texts_alone_finds_what_its_teacher_finds(teacher, settings, tmp_path):
    """Without any gold for training, the texts of which the teacher knows."""
    settings |= {"paths.train": None, "training.max_epochs": 40, "training.dropout": 0.0}
    settings["training.optimizer.decay"] = "constant"
    with warnings.catch_warnings():
        # Texts without gold train the student, so no warning says that they train nothing.
        warnings.filterwarnings("error", message=".*train nothing.*")
        run(teacher, settings, tmp_path / "out", texts=str(tmp_path / "texts.txt"))
    own = found(tmp_path / "out" / "model-best")
    assert own == found(teacher) and sum(map(len, own)) > 5


def test_a_student_needs_no_teacher_afterwards(teacher, settings, tmp_path):
    shutil.copytree(teacher, tmp_path / "teacher")
    run(tmp_path / "teacher", settings, tmp_path / "out")
    shutil.rmtree(tmp_path / "teacher")
    assert len(found(tmp_path / "out" / "model-best")) == len(TEXTS)


def test_gold_only_equals_the_train_command(teacher, settings, tmp_path):
    """Training goes on with the same pipeline: the student as it is before the first update."""
    first = {**settings, "training.max_epochs": 1, "training.max_steps": 1}
    first |= {"training.optimizer.encoder_lr": 1e-30, "training.optimizer.head_lr": 1e-30}
    first |= {"training.optimizer.crf_lr": 1e-30, "training.optimizer.weight_decay": 0.0}
    run(teacher, first, tmp_path / "start", gold_weight=1.0, teacher_weight=0.0)
    history = run(teacher, settings, tmp_path / "out", gold_weight=1.0, teacher_weight=0.0)
    config = made(settings)
    config["components"]["bert_crf"] = {"source": str(tmp_path / "start" / "model-last")}
    want = train(config, tmp_path / "want")
    losses = [[row["loss"] for row in each["epochs"]] for each in (history, want)]
    assert losses[0] == losses[1]
    assert weights(tmp_path / "out" / "model-last") == weights(tmp_path / "want" / "model-last")


@pytest.mark.parametrize("stop_at", [1, 6, 8])
@pytest.mark.parametrize("cache_mb", [2048, 0])
def test_resumes_to_the_same_weights(teacher, settings, tmp_path, stop_at, cache_mb):
    own = {"texts": str(tmp_path / "texts.txt"), "cache_mb": cache_mb, "temperature": 2.0}
    run(teacher, settings, tmp_path / "whole", **own)
    with pytest.raises(BertCrfError, match=f"SIGTERM after step {stop_at}.*--resume"):
        run(teacher, settings, tmp_path / "parts", stop_at, **own)
    # A teacher that has moved is the same teacher.
    moved = shutil.copytree(teacher, tmp_path / "moved")
    spacy.util.fix_random_seed(123)
    history = run(moved, settings, tmp_path / "parts", 0, resume=True, **own)
    assert history["steps"] == 12 and len(UPDATES) == 12 - stop_at
    for which in ("model-last", "model-best"):
        assert weights(tmp_path / "parts" / which) == weights(tmp_path / "whole" / which)


def test_resumes_after_a_kill(teacher, settings, tmp_path):
    options = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    command = [sys.executable, "-m", "spacy", "bert-crf", "distill", teacher, CONFIG]
    options += ["--layers", "2", "--save-minutes", "0", "--text", tmp_path / "texts.txt"]
    run(teacher, settings, tmp_path / "whole", texts=(tmp_path / "texts.txt").as_posix())
    out = tmp_path / "killed"
    words = [*map(str, [*command, out, *options])]
    kill_once_saved(words, out)
    done = subprocess.run([*words, "--resume"], capture_output=True, text=True, check=True)
    assert "resuming at epoch" in done.stdout and "best epoch" in done.stdout
    assert weights(out / "model-last") == weights(tmp_path / "whole" / "model-last")


def test_another_teacher_or_setting_does_not_continue_a_training(teacher, settings, tmp_path):
    out, other = tmp_path / "out", tmp_path / "other"
    with pytest.raises(BertCrfError, match="SIGTERM after step 1"):
        run(teacher, settings, out, 1)
    with pytest.raises(BertCrfError, match="--resume, or start anew with --overwrite"):
        run(teacher, settings, out)
    with pytest.raises(BertCrfError, match=r"distillation.temperature = 1.0, the config has 2.0"):
        run(teacher, settings, out, resume=True, temperature=2.0)
    nlp = spacy.load(teacher)
    torch.manual_seed(0)
    randomise_head(nlp)
    nlp.to_disk(other)
    with pytest.raises(BertCrfError, match=r"distillation.teacher_sha256 = "):
        run(other, settings, out, resume=True)
    assert run(teacher, settings, out, resume=True)["complete"]


def test_the_config_of_a_student_makes_another_student(teacher, settings, tmp_path):
    settings["training.max_epochs"] = 1
    run(teacher, settings, tmp_path / "one", texts=str(tmp_path / "texts.txt"), temperature=2.0)
    config = load_config(tmp_path / "one" / "model-best" / "config.cfg", interpolate=False)
    distill(teacher, config, tmp_path / "two")
    assert weights(tmp_path / "two" / "model-last") == weights(tmp_path / "one" / "model-last")
    with pytest.warns(UserWarning, match=r"section \[distillation\] has no effect on `train`"):
        train(config, tmp_path / "three")


def test_in_a_short_training_the_teacher_reads_only_what_is_learned(
    teacher, settings, tmp_path, caplog, monkeypatch
):
    caplog.set_level("INFO", logger="spacy_bert_crf")
    settings = {**settings, "training.max_steps": 2}
    run(teacher, settings, tmp_path / "before")
    assert "the teacher reads" in caplog.text
    caplog.clear()
    monkeypatch.setattr(distill_module, "_TEXTS_OF_AN_UPDATE", 1)
    run(teacher, settings, tmp_path / "while")
    assert "the teacher reads" not in caplog.text
    best = [weights(tmp_path / name / "model-best") for name in ("before", "while")]
    assert best[0] == best[1]


def test_a_component_before_the_student_annotates_what_the_teacher_reads(
    teacher, settings, tmp_path, caplog
):
    caplog.set_level("INFO", logger="spacy_bert_crf")
    config = made(settings)
    config["nlp"]["pipeline"] = ["sentencizer", "bert_crf"]
    config["components"]["sentencizer"] = {"factory": "sentencizer"}
    config["training"] |= {"annotating_components": ["sentencizer"], "max_epochs": 1}
    assert distill(teacher, config, tmp_path / "out", settings={"layers": 1})["complete"]
    assert "the teacher reads" not in caplog.text


def test_a_streamed_corpus(teacher, settings, tmp_path):
    settings |= {"training.max_epochs": -1, "training.max_steps": 4, "training.batcher.buffer": 3}
    history = run(teacher, settings, tmp_path / "out", texts=str(tmp_path / "texts.txt"))
    assert history["steps"] == 5


_LISTENER = shared_config()["model"]["tok2vec"]
#: Changes of the config, and what the message says.
OTHER = {
    "scheme": (
        {"components.bert_crf.scheme": "BIOES"},
        "tag scheme: .* has 'BIO', the config has 'BIOES'.*--components.bert_crf.scheme BIO",
    ),
    "language": (
        {"nlp.lang": "en", "nlp.tokenizer": {"@tokenizers": "spacy.Tokenizer.v1"}},
        "lang: .*'zh', the config has 'en'",
    ),
    "tokenizer": ({"nlp.tokenizer.segmenter": "jieba"}, "tokenizer.*'char'.*'jieba'"),
    "labels": (
        {"initialize.components.bert_crf.labels": ["PER", "LOC", "ORG"]},
        r"same labels: .*\['LOC', 'ORG', 'PER'\].*\['PER', 'LOC'",
    ),
    "no component": ({"nlp.pipeline": []}, "0 components of the factory bert_crf"),
    "frozen": ({"training.frozen_components": ["bert_crf"]}, "frozen component"),
    "shared": (
        {"components.bert_crf.model.tok2vec": _LISTENER},
        "TransformerListener.v1: a student has an encoder of its own",
    ),
}


@pytest.mark.parametrize("name", OTHER)
def test_what_differs_from_the_teacher_is_named(teacher, settings, tmp_path, name):
    changes, match = OTHER[name]
    config = made(settings)
    for key, value in changes.items():
        *above, last = key.split(".")
        section = config
        for part in above:
            section = section.setdefault(part, {})
        section[last] = value
    with pytest.raises(BertCrfError, match=match):
        distill(teacher, config, tmp_path / "out", settings={"layers": 2})
    assert not (tmp_path / "out").exists()


def test_labels_that_the_teacher_lacks_are_named(teacher, settings, tmp_path):
    nlp = spacy.blank("zh")
    docs = [eg.reference for eg in make_examples(nlp)]
    docs[0].ents = [docs[0].char_span(0, 3, "NEW")]
    DocBin(docs=docs).to_disk(tmp_path / "docs.spacy")
    with pytest.raises(BertCrfError, match="has the label NEW, which the teacher does not have"):
        run(teacher, settings, tmp_path / "out")


def test_more_layers_than_the_teacher_has(teacher, settings, tmp_path):
    with pytest.raises(BertCrfError, match="4 layers requested, the encoder has 3: use 1 to 3"):
        run(teacher, settings, tmp_path / "out", layers=4)


def test_teachers_that_cannot_teach(encoder_path, settings, tmp_path):
    with pytest.raises(BertCrfError, match="no pipeline folder .*none"):
        run(tmp_path / "none", settings, tmp_path / "out")
    spacy.blank("zh").to_disk(tmp_path / "blank")
    with pytest.raises(BertCrfError, match="blank can't teach: .*no bert_crf component"):
        run(tmp_path / "blank", settings, tmp_path / "out")
    pytest.importorskip("spacy_transformers")
    nlp = shared_pipeline(encoder_path)
    nlp.add_pipe("bert_crf", config=shared_config())
    nlp.initialize(lambda: make_examples(nlp))
    nlp.to_disk(tmp_path / "shared")
    with pytest.raises(BertCrfError, match="shared can't teach: .* shares the encoder"):
        run(tmp_path / "shared", settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('[nlp]\nlang = "zh"\n\n[components]\n', "0 components of the factory bert_crf"),
        ("[training]\nseed = 0\n", "the config can't be used: no entry 'nlp'"),
        ("[training]\nseed = ${system.seed}\n", "can't be used"),
        ("[training]\nseed = x\n", "no config that can be used|can't be used"),
    ],
)
def test_a_config_without_its_sections(teacher, tmp_path, text, match):
    (tmp_path / "a.cfg").write_text(text, encoding="utf8")
    words = ["distill", teacher, tmp_path / "a.cfg", tmp_path / "out", "--layers", 1]
    assert re.search(match, cli(*words, code=1))
    assert not (tmp_path / "out").exists()


def test_a_text_file_that_is_not_there(teacher, settings, tmp_path):
    with pytest.raises(BertCrfError, match="there is no file .*none.txt"):
        run(teacher, settings, tmp_path / "out", texts=str(tmp_path / "none.txt"))
    assert not (tmp_path / "out").exists()


def test_the_command(teacher, settings, tmp_path):
    options = [word for key, value in settings.items() for word in (f"--{key}", value)]
    words = ["distill", teacher, CONFIG, tmp_path / "out", *options, "--layers", 1]
    words += ["--text", tmp_path / "texts.txt", "--gold-weight", 0.2, "--teacher-weight", 0.8]
    text = cli(*words, "--temperature", 2, "--teacher-quantize", "int8")
    assert "the student has the layers 3 of the teacher's 3" in text and "best epoch" in text
    section = spacy.load(tmp_path / "out" / "model-best").config["distillation"]
    assert (section["gold_weight"], section["teacher_weight"]) == (0.2, 0.8)
    assert section["temperature"] == 2.0 and section["teacher_quantize"] == "int8"
    text = cli(*words, "--temperature", 0, code=1)
    assert "✘ [distillation] temperature is 0.0: it must be a number above 0." in text
    assert "no config" in cli("distill", teacher, tmp_path / "no.cfg", tmp_path / "b", code=1)
