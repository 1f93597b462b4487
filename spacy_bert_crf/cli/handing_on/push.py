"""`bert-crf push`: a trained pipeline to a model hub."""

from pathlib import Path
from typing import TYPE_CHECKING, Optional

import typer

from ...errors import BertCrfError
from ..app import command
from .inputs import ABOUT, DATA, HISTORY, METRICS, read_inputs

if TYPE_CHECKING:
    from ...export.hub.layout import Layout

_MODELSCOPE = "modelscope"


@command("push")
def push_command(
    pipeline: Path = typer.Argument(..., help="Folder of a trained pipeline"),
    repo_id: str = typer.Argument(..., metavar="REPO", help="OWNER/NAME of the repository"),
    metrics: Optional[Path] = METRICS,
    data: Optional[Path] = DATA,
    about: Optional[Path] = ABOUT,
    history: Optional[Path] = HISTORY,
    wheel: bool = typer.Option(True, "--wheel/--no-wheel", help="Also upload a wheel for pip"),
    export: Optional[Path] = typer.Option(
        None, "--export", help="Also upload this folder, which `export` wrote"
    ),
    endpoint: str = typer.Option(
        "", "--endpoint", help="Address of a mirror of the hub; else HF_ENDPOINT, else the hub"
    ),
    private: Optional[bool] = typer.Option(
        None, "--private/--public", help="Who may read a new repository"
    ),
    branch: str = typer.Option("main", "--branch", "--revision", help="Branch to commit to"),
    message: str = typer.Option("", "--message", "-m", help="Message of the commit"),
    token_file: Optional[Path] = typer.Option(
        None,
        "--token-file",
        help="File with the token; else HF_TOKEN, else that of `hf auth login`",
    ),
    dry_run: Optional[Path] = typer.Option(
        None, "--dry-run", help="Write the complete folder here, and contact nobody"
    ),
    to: Optional[tuple[str, Path]] = typer.Option(
        None,
        "--to",
        metavar="modelscope FOLDER",
        help="Write the folder for another hub, and contact nobody. Its git uploads it",
    ),
    force: bool = typer.Option(
        False, "--force", "-F", help="Also add to a repository of something else"
    ),
) -> None:
    """Upload a pipeline to a repository of a model hub: files, wheel, exports and model card.

    All files go there in one commit. The repository is made if need be. `spacy.load` takes a clone
    of it. Files of an earlier upload that are not there any more are removed, others stay. The card
    is that of `bert-crf card`.

    --dry-run writes the folder to look at. --to modelscope writes it in ModelScope's layout.

    \b
    Example:
      python -m spacy bert-crf push training/mine/model-best me/zh_names \\
        --metrics training/mine/metrics.json --about package.yml --dry-run hub
      python -m spacy bert-crf push training/mine/model-best me/zh_names \\
        --metrics training/mine/metrics.json --about package.yml
    """
    import tempfile

    from ..._files import atomic_folder
    from ...export.hub.layout import Source, write_repository
    from ...export.hub.modelscope import write_modelscope
    from ...export.hub.push import DOWNLOAD, check_repo_id, find_token, push_folder
    from ...export.package.card import Place

    check_repo_id(repo_id)
    folder = dry_run
    if to is not None:
        if to[0] != _MODELSCOPE or dry_run is not None:
            raise BertCrfError(f"--to takes {_MODELSCOPE} and a folder, without --dry-run.")
        folder = to[1]
    if folder is not None:
        _check_folder(folder)
    token = "" if folder is not None else find_token(token_file)
    nlp, said, found = read_inputs(pipeline, about, metrics, data, history)
    source = Source(pipeline, found, said, wheel, export)
    place = Place(folder=repo_id.split("/")[-1], repo=repo_id, download=DOWNLOAD)
    if folder is not None:
        with atomic_folder(folder) as tmp:
            if to is None:
                layout = write_repository(tmp, source, place, nlp=nlp)
            else:
                layout = write_modelscope(tmp, source, repo_id)
            size = _size(layout)
        print(f"wrote {folder}: {size}. Nothing was uploaded")
        _print_gaps(layout)
        return
    with tempfile.TemporaryDirectory(prefix="spacy-push-") as name:
        layout = write_repository(Path(name), source, place, nlp=nlp)
        print(f"uploading {_size(layout)} to {repo_id}", flush=True)
        done = push_folder(
            Path(name),
            repo_id,
            token=token,
            endpoint=endpoint,
            private=private,
            branch=branch,
            message=message,
            force=force,
        )
    print(f"{done.url}: {'new, ' if done.is_new else ''}commit {done.commit[:12]}")
    for path in done.removed:
        print(f"removed there: {path}")
    _print_gaps(layout)
    print("Next:")
    mirror = f"HF_ENDPOINT={endpoint} " if endpoint else ""
    code = f"{DOWNLOAD}; import spacy; spacy.load(snapshot_download({repo_id!r}))"
    print(f'  {mirror}python -c "{code}"')


def _check_folder(folder: Path) -> None:
    """Raise BertCrfError for a folder with something else than an earlier dry run."""
    if folder.is_file() or (
        folder.is_dir() and any(folder.iterdir()) and not (folder / ".gitattributes").is_file()
    ):
        raise BertCrfError(f"{folder} exists and is no folder of a repository: name a new one.")


def _size(layout: "Layout") -> str:
    size = sum(path.stat().st_size for path in layout.files.values())
    return f"{len(layout.files)} files, {size / 1e6:.1f} MB"


def _print_gaps(layout: "Layout") -> None:
    for gap in layout.gaps:
        print(f"note: {gap}")
