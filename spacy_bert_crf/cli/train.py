"""`bert-crf init-config`, `train` and `distill`: a training config, and the training loop."""

import sys
from pathlib import Path
from typing import Any, Optional

import typer
from spacy.cli._util import import_code, parse_config_overrides

from .app import command

_OVERRIDES = {"allow_extra_args": True, "ignore_unknown_options": True}
#: Options of `train` and `distill`.
_RESUME = typer.Option(
    False, "--resume", help="Continue from the state of an interrupted training in OUT"
)
_OVERWRITE = typer.Option(
    False, "--overwrite", help="Start anew where OUT holds an interrupted training"
)
_STATE = typer.Option(
    True, "--state/--no-state", help="Save states from which it can be resumed, until it ends"
)
_SAVE_MINUTES = typer.Option(
    10.0, "--save-minutes", help="Minutes between saved states; each evaluation saves one too"
)
_GPU_ID = typer.Option(-1, "--gpu-id", "-g", help="GPU number, -1 for the CPU")
_CODE = typer.Option(None, "--code", "-c", help="Python file with registered functions of your own")


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
    resume: bool = _RESUME,
    overwrite: bool = _OVERWRITE,
    state: bool = _STATE,
    save_minutes: float = _SAVE_MINUTES,
    gpu_id: int = _GPU_ID,
    code_path: Optional[Path] = _CODE,
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
    import_code(code_path)

    from ..training.loop import train

    config = _read_config(config_path, ctx.args)
    history = train(
        config,
        output,
        use_gpu=gpu_id,
        resume=resume,
        keep_state=state,
        save_minutes=save_minutes,
        overwrite=overwrite or _start_anew(output, resume),
    )
    _print_best(history, output)


@command("distill", context_settings=_OVERRIDES)
def distill_command(
    ctx: typer.Context,
    teacher: Path = typer.Argument(..., metavar="TEACHER", help="Folder of a trained pipeline"),
    config_path: Path = typer.Argument(
        ..., metavar="CONFIG", help="Training config (.cfg) of the student"
    ),
    output: Path = typer.Argument(..., metavar="OUT", help="Folder for model-best, model-last"),
    layers: Optional[int] = typer.Option(
        None, "--layers", help="Encoder layers of the student, from the teacher's  [default: 4]"
    ),
    which_layers: Optional[str] = typer.Option(
        None, "--which-layers", help="even or first: which layers it has  [default: even]"
    ),
    inner_width: Optional[int] = typer.Option(
        None,
        "--inner-width",
        help="Channels inside of its feed-forward networks, the most important of the teacher's  "
        "[default: all]",
    ),
    text: Optional[Path] = typer.Option(
        None,
        "--text",
        help="More texts, without gold: .txt with a text on each line, .jsonl, or any corpus",
    ),
    gold_weight: Optional[float] = typer.Option(
        None, "--gold-weight", help="Weight of learning from gold  [default: 0.5]"
    ),
    teacher_weight: Optional[float] = typer.Option(
        None, "--teacher-weight", help="Weight of learning from the teacher  [default: 0.5]"
    ),
    temperature: Optional[float] = typer.Option(
        None, "--temperature", help="Divides the scores of teacher and student  [default: 1]"
    ),
    teacher_quantize: Optional[str] = typer.Option(
        None, "--teacher-quantize", help="int8: the teacher reads in 8-bit integers, on a CPU"
    ),
    resume: bool = _RESUME,
    overwrite: bool = _OVERWRITE,
    state: bool = _STATE,
    save_minutes: float = _SAVE_MINUTES,
    gpu_id: int = _GPU_ID,
    code_path: Optional[Path] = _CODE,
) -> None:
    """Train a smaller, faster student from a trained pipeline.

    The student begins with some layers of the teacher's encoder and with its classifier and CRF. It
    learns from the gold of the training corpus and from the probabilities that the teacher's CRF
    has for each text. Texts without gold help: name a file of them with --text.

    CONFIG is a config as `init-config` makes it. Language, tokenizer, tag scheme and labels must be
    the teacher's. The encoder that it names is not used. The student does not need the teacher
    afterwards. The other options are those of `train`.

    \b
    Example:
      python -m spacy bert-crf init-config student.cfg --lang zh --scheme BIOES \\
        --train corpus/train.spacy --dev corpus/dev.spacy
      python -m spacy bert-crf distill training/mine/model-best student.cfg training/small \\
        --layers 4 --text texts.txt
    """
    import_code(code_path)

    from ..training.distillation.distill import distill

    chosen = {
        "layers": layers,
        "which_layers": which_layers,
        "inner_width": inner_width,
        "texts": text.as_posix() if text else None,
        "gold_weight": gold_weight,
        "teacher_weight": teacher_weight,
        "temperature": temperature,
        "teacher_quantize": teacher_quantize,
    }
    config = _read_config(config_path, ctx.args)
    history = distill(
        teacher,
        config,
        output,
        settings={key: value for key, value in chosen.items() if value is not None},
        use_gpu=gpu_id,
        resume=resume,
        keep_state=state,
        save_minutes=save_minutes,
        overwrite=overwrite or _start_anew(output, resume),
    )
    _print_best(history, output)


def _read_config(path: Path, words: list[str]) -> Any:
    """A training config, not interpolated.

    path: its file.
    words: options that override settings of it.
    Raises BertCrfError if it is not there or can't be used.
    """
    from spacy.util import load_config

    from ..errors import BertCrfError

    if not path.is_file():
        raise BertCrfError(
            f"there is no config {path}: make one with `spacy bert-crf init-config`."
        )
    try:
        return load_config(path, overrides=parse_config_overrides(words), interpolate=False)
    except ValueError as err:
        raise BertCrfError(f"{path} is not a config that can be used: {err}") from err


def _start_anew(output: Path, resume: bool) -> bool:
    """Whether to replace an interrupted training. On a terminal, a person decides."""
    from ..training.state import FOLDER

    if resume or not (output / FOLDER).is_dir() or not sys.stdin.isatty():
        return False
    return typer.confirm(f"{output} holds an interrupted training. Start anew?")


def _print_best(history: dict[str, Any], output: Path) -> None:
    best = next(row for row in history["epochs"] if row["epoch"] == history["best_epoch"])
    print(
        f"best epoch {history['best_epoch']} (score {best['score'] * 100:.2f}) "
        f"in {output / 'model-best'}"
    )
