"""`bert-crf train`: the training loop."""

from pathlib import Path
from typing import Optional

import typer
from spacy.cli._util import import_code, parse_config_overrides

from .app import command

_OVERRIDES = {"allow_extra_args": True, "ignore_unknown_options": True}


@command("train", context_settings=_OVERRIDES)
def train_command(
    ctx: typer.Context,
    config_path: Path = typer.Argument(..., metavar="CONFIG", help="Training config (.cfg)"),
    output: Path = typer.Argument(..., metavar="OUT", help="Folder for model-best, model-last"),
    resume: bool = typer.Option(
        False, "--resume", help="Continue from the state of an interrupted training in OUT"
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
    interrupted training. The logger in [training.logger] shows the progress.

    \b
    Example:
      python -m spacy bert-crf train configs/bert_crf.cfg training/mine \\
        --paths.train corpus/train.spacy --paths.dev corpus/dev.spacy \\
        --components.bert_crf.model.tok2vec.name encoders/mine
    """
    overrides = parse_config_overrides(ctx.args)
    import_code(code_path)

    from spacy.util import load_config

    from ..errors import BertCrfError
    from ..training.loop import train

    if not config_path.is_file():
        raise BertCrfError(f"there is no config {config_path}: copy configs/bert_crf.cfg.")
    try:
        config = load_config(config_path, overrides=overrides, interpolate=False)
    except ValueError as err:
        raise BertCrfError(f"{config_path} is not a config that can be used: {err}") from err
    history = train(
        config,
        output,
        use_gpu=gpu_id,
        resume=resume,
        keep_state=state,
        save_minutes=save_minutes,
    )
    best = next(row for row in history["epochs"] if row["epoch"] == history["best_epoch"])
    print(
        f"best epoch {history['best_epoch']} (score {best['score'] * 100:.2f}) "
        f"in {output / 'model-best'}"
    )
