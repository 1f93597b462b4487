"""predict.py of every exported folder, in processes without spaCy and this package."""

import json
import os
import subprocess
import sys

import pytest

from spacy_bert_crf.export.folder import export_pipeline
from spacy_bert_crf.export.formats import READABLE
from spacy_bert_crf.export.formats.best_model import WEIGHTS
from spacy_bert_crf.export.formats.format import NEEDS, PREDICT, READER, READERS
from support.exports import FLOAT_FORMATS, ROUNDED_FORMATS
from support.hiding import HIDING
from support.toys import TEXTS, characters

OURS = "spacy,spacy_bert_crf,thinc,spacy_transformers"
#: What a folder's reader must do without, by the file that becomes its predict.py.
BLOCKED = {
    "onnx.py": f"{OURS},torch,transformers,onnx",
    "torchscript.py": f"{OURS},transformers",
    "bert4torch.py": f"{OURS},transformers",
    "huggingface.py": OURS,
    "best_model.py": OURS,
}
#: Runs the predict.py of folders over jobs from standard input, as if packages were not installed.
DRIVER = (
    HIDING
    + """
from pathlib import Path

out = []
for folder, texts in json.load(sys.stdin):
    sys.path.insert(0, folder)
    read = runpy.run_path(folder + "/predict.py")["load"](Path(folder))
    out.append([read(text) for text in texts])
    sys.path.remove(folder)
    del sys.modules["reader"]
assert not BLOCKED & {name.partition(".")[0] for name in sys.modules}
json.dump(out, sys.stdout)
"""
)
#: Several sentences, Latin words, and texts of more than one window: by sentences and within one.
MORE = [
    "王小明在北京。他喜欢南京！\n张三呢？",
    "CEO张三在iphone，F-16在北京。U.S.A李四",
    "".join(text for text, _ in TEXTS) * 6,
    "，".join(text.rstrip("。") for text, _ in TEXTS) * 10 + "。" + TEXTS[0][0],
    "",
]
JOBS = [("zh", name) for name in [WEIGHTS, *FLOAT_FORMATS, *ROUNDED_FORMATS]]
JOBS += [(toy, name) for toy in ("english", "bioes", "free") for name in [WEIGHTS, *FLOAT_FORMATS]]


def folder_of(toy, name):
    return toy.out if name == WEIGHTS else toy.out / name


def texts_of(toy, name):
    """Texts of a toy. Random scores (bioes, free) make near ties in long texts."""
    return toy.texts + (MORE if name == "zh" else MORE[:1] if name != "english" else [])


@pytest.fixture(scope="module")
def read(toys):
    """The entities of all jobs, by a process for each kind of reader."""
    found = {}
    for file, blocked in BLOCKED.items():
        jobs = [job for job in JOBS if READABLE[job[1]].reader == file]
        given = [[str(folder_of(toys[toy], name)), texts_of(toys[toy], toy)] for toy, name in jobs]
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, blocked],
            input=json.dumps(given), capture_output=True, text=True, encoding="utf8",
            env={**os.environ, "PYTHONUTF8": "1", "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        assert done.returncode == 0, (file, done.stderr)
        for job, texts in zip(jobs, json.loads(done.stdout), strict=True):
            found[job] = [[tuple(entity) for entity in text] for text in texts]
    return found


@pytest.fixture(scope="module")
def wanted(toys):
    return {
        name: [characters(doc) for doc in toy.nlp.pipe(texts_of(toy, name))]
        for name, toy in toys.items()
    }


@pytest.mark.parametrize("toy, name", JOBS)
def test_a_folders_reader_gives_the_pipelines_entities(toy, name, read, wanted, toys):
    texts = texts_of(toys[toy], toy)
    rows = list(zip(texts, read[toy, name], wanted[toy], strict=True))
    other = [row for row in rows if row[1] != row[2]]
    if name in ROUNDED_FORMATS:  # scores differ a little, but not for what the toy has learned
        learned = {text for text, _ in TEXTS}
        assert len(other) <= 0.2 * len(rows) and not [row for row in other if row[0] in learned]
    else:
        assert not other


def test_the_texts_have_what_readers_may_lose(wanted, toys):
    assert len(texts_of(toys["zh"], "zh")) >= 20
    for text, found in zip(MORE[:-1], wanted["zh"][-len(MORE) : -1], strict=True):
        assert found, text
    assert all(len(text) > 512 for text in MORE[2:4])


@pytest.mark.parametrize("name", READABLE)
def test_the_command_prints_entities(name, toys):
    """As a user runs it: python predict.py TEXT, in the folder of the format."""
    folder = folder_of(toys["zh"], name)
    done = subprocess.run(
        [sys.executable, "-B", PREDICT, TEXTS[0][0]],
        cwd=folder, capture_output=True, text=True, encoding="utf8",
        env={**os.environ, "PYTHONUTF8": "1", "PYTHONPATH": "", "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    wanted = ["0 3 PER 王小明", "6 8 LOC 北京", "11 15 ORG 清华大学"]
    assert done.stdout.splitlines() == wanted


@pytest.mark.parametrize("name", READABLE)
def test_a_reader_is_short_and_named(name, toys):
    folder = folder_of(toys["zh"], name)
    source = (folder / PREDICT).read_text(encoding="utf8")
    assert len(source.splitlines()) <= 30
    for text in (source, (folder / READER).read_text(encoding="utf8")):
        assert "import spacy" not in text and "from spacy" not in text
    if name != WEIGHTS:
        readme = (folder / "README.md").read_text(encoding="utf8")
        assert "python predict.py" in readme and NEEDS[READABLE[name].reader] in readme


def test_every_source_of_a_reader_is_used():
    used = {each.reader for each in READABLE.values()} | {READER}
    assert {path.name for path in READERS.glob("*.py")} == used == {*NEEDS, READER}


def test_a_file_of_the_same_name_is_not_replaced(trained, tmp_path):
    from spacy_bert_crf.errors import BertCrfError

    export_pipeline(trained, tmp_path / "out")
    export_pipeline(trained, tmp_path / "out")  # its own readers are
    (tmp_path / "out" / "__pycache__").mkdir()
    (tmp_path / "out" / PREDICT).write_text("print('mine')\n", encoding="utf8")
    with pytest.raises(BertCrfError, match=PREDICT):
        export_pipeline(trained, tmp_path / "out")
    (tmp_path / "out" / PREDICT).unlink()
    export_pipeline(trained, tmp_path / "out")
    assert not (tmp_path / "out" / "__pycache__").exists()
