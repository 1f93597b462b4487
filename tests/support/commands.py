"""Commands, run within this process or killed in one of their own."""

import subprocess
import time


def kill_once_saved(words, output):
    """Start a training command and kill it as soon as there is a state under `output`."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (output / "state").exists() and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()


def cli(*words, code=0):
    """Run a command in this process. RETURNS what a person sees of it, lines and all."""
    from typer.testing import CliRunner

    from spacy_bert_crf.cli import cli as app

    done = CliRunner().invoke(app, [str(word) for word in words])
    text = done.output
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, text
    return text
