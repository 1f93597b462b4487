"""Commands, run within this process."""


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
