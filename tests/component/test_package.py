"""`spacy package`: a wheel that loads by name wherever this distribution is installed."""

import os
import subprocess
import sys
import venv

import pytest

from support.toys import TEXTS


def test_a_packaged_pipeline_loads_by_name(trained_path, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "spacy", "package", str(trained_path), str(tmp_path), "--name",
         "toy", "--version", "1.2.3", "--build", "wheel"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*/dist/*.whl")
    meta = next(tmp_path.glob("*/meta.json")).read_text(encoding="utf8")
    assert "spacy-bert-crf" in meta or "spacy_bert_crf" in meta
    # A clean environment that sees the installed stack, as after `pip install -r requirements.txt`.
    env = tmp_path / "env"
    venv.create(env, with_pip=False, symlinks=True)
    site = next(env.glob("lib/python*/site-packages"))
    here = [path for path in sys.path if path.endswith("site-packages")]
    # addsitedir reads the .pth files there too: that of an editable install among them.
    lines = [f"import site; site.addsitedir({path!r})" for path in here]
    (site / "stack.pth").write_text("\n".join(lines), encoding="utf8")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site)]
    subprocess.run([*pip, str(wheel)], check=True)
    code = f"import spacy; print([e.text for e in spacy.load('zh_toy')({TEXTS[0][0]!r}).ents])"
    done = subprocess.run(
        [str(env / "bin" / "python"), "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert "'王小明', '北京', '清华大学'" in done.stdout, done.stderr


pytestmark = pytest.mark.skipif(os.name == "nt", reason="paths of POSIX environments")
