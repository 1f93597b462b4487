"""`bert-crf init-config` and `bert-crf train`: a training config, and the training loop."""

import sys
from pathlib import Path
from typing import Optional

import typer
from spacy.cli._util import import_code, parse_config_overrides

from .app import command

_OVERRIDES = {"allow_extra_args": True, "ignore_unknown_options": True}


@command("init-config", context_settings=_OVERRIDES)
def init_config_command(
    ctx: typer.Context,
    output: Path = typer.Argument(..., metavar="OUT", help="Config to write (.cfg)"),
    lang: str = typer.Option(..., "--lang", "-l", help="Code of the language, such as en or zh"),
    encoder: str = typer.Option("", "--encoder", help="Folder of a Hugging Face encoder"),
    train: Optional[Path] = typer.Option(
        None, "--train", help="Training corpus (.spacy); its size sets epochs and batch size"
    ),
    dev: Optional[Path] = typer.Option(None, "--dev", help="Dev corpus (.spacy)"),
    labels: str = typer.Option("", "--labels", help="JSON file of the labels, else found in train"),
    scheme: str = typer.Option("BIOES", "--scheme", help="Tags: BIO, BIOES, BMES or BILUO"),
    force: bool = typer.Option(False, "--force", "-F", help="Replace OUT if it is there"),
) -> None:
    """Write a complete training config for a language and a corpus.

    The tokenizer is that of the language. The encoder's learning rate follows its width. Epochs and
    batch size follow the size of the corpus. Options such as --training.max_epochs 3 set any
    setting. `spacy init config -p bert_crf` knows none of these: use this command in its place.

    \b
    Example:
      python -m spacy bert-crf init-config config.cfg --lang en --encoder encoders/mine \\
        --train corpus/train.spacy --dev corpus/dev.spacy
      python -m spacy bert-crf train config.cfg training/mine
    """
    overrides = parse_config_overrides(ctx.args)

    from spacy.vocab import Vocab

    from .._files import write_text
    from ..annotation.docbin import read_docbin
    from ..errors import BertCrfError
    from ..training.config import make_config

    if output.exists() and not force:
        raise BertCrfError(f"{output} is there already: name another file, or use --force.")
    sentences = sum(1 for _ in read_docbin(train, Vocab())) if train else 0
    config = make_config(
        lang=lang,
        encoder=encoder,
        scheme=scheme,
        train=train.as_posix() if train else "",
        dev=dev.as_posix() if dev else "",
        labels=labels,
        sentences=sentences,
        settings=overrides,
    )
    write_text(output, config.to_str(interpolate=False) + "\n")
    training = config["training"]
    of = f" for {sentences:,} training texts" if sentences else ""
    print(
        f"{output}: {training['max_epochs']} epochs, batches of {training['batcher']['size']}{of}"
    )
    todo = {"--encoder": encoder, "--train": train, "--dev": dev}
    if missing := [name for name, value in todo.items() if not value]:
        print(f"before training, set what was left out: {', '.join(missing)}")


@command("train", context_settings=_OVERRIDES)
def train_command(
    ctx: typer.Context,
    config_path: Path = typer.Argument(..., metavar="CONFIG", help="Training config (.cfg)"),
    output: Path = typer.Argument(..., metavar="OUT", help="Folder for model-best, model-last"),
    resume: bool = typer.Option(
        False, "--resume", help="Continue from the state of an interrupted training in OUT"
    ),
    overwrite: bool = typer.Option(
        False, "--overwrite", help="Start anew where OUT holds an interrupted training"
    ),
    state: bool = typer.Option(
        True,
        "--state/--no-state",
        help="Save states from which the training can be resumed, until it ends",
    ),
    save_minutes: float = typer.Option(
        10.0,
        "--save-minutes",
        help="Minutes between saved states; each evaluation saves one too",
    ),
    gpu_id: int = typer.Option(-1, "--gpu-id", "-g", help="GPU number, -1 for the CPU"),
    code_path: Optional[Path] = typer.Option(
        None, "--code", "-c", help="Python file with registered functions of your own"
    ),
) -> None:
    """Train a pipeline as `spacy train` does, and evaluate it at the end of every epoch.

    It takes the same config and writes the same folders, model-best and model-last. The best epoch
    is the one with the highest score on the dev corpus. Options override settings of the config:
    --training.max_epochs 3 changes max_epochs in [training].

    Folders are replaced by rename, so that they are always complete. --resume continues an
    interrupted training. Without it, a new training in its folder needs --overwrite. The logger in
    [training.logger] shows the progress.

    \b
    Example:
      python -m spacy bert-crf train config.cfg training/mine --training.max_epochs 5
    """
    overrides = parse_config_overrides(ctx.args)
    import_code(code_path)

    from spacy.util import load_config

    from ..errors import BertCrfError
    from ..training.loop import train
    from ..training.state import FOLDER

    if not config_path.is_file():
        raise BertCrfError(
            f"there is no config {config_path}: make one with `spacy bert-crf init-config`."
        )
    try:
        config = load_config(config_path, overrides=overrides, interpolate=False)
    except ValueError as err:
        raise BertCrfError(f"{config_path} is not a config that can be used: {err}") from err
    if not (resume or overwrite) and (output / FOLDER).is_dir() and sys.stdin.isatty():
        overwrite = typer.confirm(f"{output} holds an interrupted training. Start anew?")
    history = train(
        config,
        output,
        use_gpu=gpu_id,
        resume=resume,
        keep_state=state,
        save_minutes=save_minutes,
        overwrite=overwrite,
    )
    best = next(row for row in history["epochs"] if row["epoch"] == history["best_epoch"])
    print(
        f"best epoch {history['best_epoch']} (score {best['score'] * 100:.2f}) "
        f"in {output / 'model-best'}"
    )
