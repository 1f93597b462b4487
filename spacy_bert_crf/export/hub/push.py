"""Uploads the folder of a repository to a model hub, in one commit.

The upload is `create_commit` of huggingface_hub. Its `upload_folder` makes several commits in later
versions. Endpoints other than the hub itself get files by Git LFS, since few speak Xet.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Optional

from ...errors import BertCrfError
from .layout import files_of
from .refusals import explained

if TYPE_CHECKING:
    from huggingface_hub import HfApi

HUB, MAIN = "https://huggingface.co", "main"
#: The line of code that imports the download of a repository, for the card.
DOWNLOAD = "from huggingface_hub import snapshot_download"
#: Files of a new repository, and of a pipeline of spaCy.
_EMPTY = {".gitattributes", "README.md", "LICENSE"}
_PIPELINE = {"config.cfg", "meta.json"}


@dataclass(frozen=True)
class Pushed:
    """A repository after an upload.

    url: its address.
    commit: the commit with the files.
    is_new: whether the repository was made.
    files: number of files of the folder.
    removed: files of an earlier upload that were removed, by their paths.
    """

    url: str
    commit: str
    is_new: bool
    files: int
    removed: list[str]


def find_token(file: Optional[Path] = None) -> str:
    """The token that allows the upload.

    file: file with the token; None for the environment variable HF_TOKEN, or what `hf auth login`
        saved.
    RETURNS: the token. It is never printed.
    Raises BertCrfError if there is none.
    """
    if file is not None:
        try:
            token = file.read_text(encoding="utf8").strip()
        except (OSError, UnicodeDecodeError) as err:
            raise BertCrfError(f"can't read the token in {file}: name a file with it.") from err
        if not token or len(token.split()) != 1:
            raise BertCrfError(f"{file} has no token: write it to the file, without anything else.")
        return token
    from huggingface_hub import get_token

    if found := get_token():
        return str(found)
    raise BertCrfError(
        "an upload needs a token with the right to write. Set the environment variable HF_TOKEN, "
        "name a file with --token-file, or run: hf auth login"
    )


def check_repo_id(repo_id: str) -> None:
    """Raise BertCrfError unless a name is one of a repository, with its owner."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo_id)
        has_owner = "/" in repo_id
    except HFValidationError:
        has_owner = False
    if not has_owner:
        raise BertCrfError(
            f"{repo_id!r} is no name of a repository: write OWNER/NAME, with letters, digits and "
            "single - _ or . inside."
        )


def push_folder(
    folder: Path,
    repo_id: str,
    *,
    token: str,
    endpoint: str = "",
    private: Optional[bool] = None,
    branch: str = MAIN,
    message: str = "",
    force: bool = False,
) -> Pushed:
    """Upload a folder to a repository of models, in one commit. The repository is made if need be.

    In folders that the upload has files in, files of earlier uploads are removed. So are earlier
    wheels. All other files of the repository stay.

    folder: the folder, as `write_repository` made it.
    repo_id: owner and name of the repository.
    token: see `find_token`.
    endpoint: address of the hub; by default huggingface_hub's, which HF_ENDPOINT sets.
    private: whether a new repository is private; None for the owner's default.
    branch: branch to commit to. It is made if need be.
    message: message of the commit.
    force: also upload to a repository of something else than a spaCy pipeline.
    RETURNS: the repository, once its files are listed there with their sizes.
    Raises BertCrfError where the endpoint can't be reached or refuses, for a repository of
    something else, and if files are missing after the upload.
    """
    check_repo_id(repo_id)
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(endpoint=endpoint or None, token=token)
    where = str(api.endpoint)
    files = files_of(folder)
    with _at(where):
        is_new = _create(api, repo_id, private)
        if branch != MAIN:
            with explained(where, f"to make the branch {branch} of {repo_id}"):
                api.create_branch(repo_id, branch=branch, exist_ok=True)
        with explained(where, f"to list the files of {repo_id}"):
            present = _sizes(api, repo_id, branch)
        if not force:
            _check_ours(repo_id, set(present))
        removed = _stale(set(present), set(files))
        operations = [
            *(CommitOperationDelete(path_in_repo=name) for name in removed),
            *(CommitOperationAdd(name, path) for name, path in files.items()),
        ]
        with explained(where, f"the files for {repo_id}", files):
            done = api.create_commit(
                repo_id,
                operations,
                commit_message=message or "Upload a spaCy pipeline",
                revision=branch,
            )
        with explained(where, f"to list the files of {repo_id} after the upload"):
            _check_complete(files, _sizes(api, repo_id, str(done.oid)), repo_id)
    return Pushed(f"{where}/{repo_id}", str(done.oid), is_new, len(files), removed)


def _create(api: "HfApi", repo_id: str, private: Optional[bool]) -> bool:
    """Make a repository. RETURNS: whether it is new."""
    from huggingface_hub.errors import HfHubHTTPError

    with explained(str(api.endpoint), f"to make the repository {repo_id}"):
        try:
            api.create_repo(repo_id, private=private)
        except HfHubHTTPError as err:
            if err.response is None or err.response.status_code != 409:
                raise
            return False
    return True


def _sizes(api: "HfApi", repo_id: str, revision: str) -> dict[str, int]:
    """The files of a repository with their sizes, in bytes."""
    from huggingface_hub.hf_api import RepoFile

    tree = api.list_repo_tree(repo_id, recursive=True, revision=revision)
    return {item.path: item.size for item in tree if isinstance(item, RepoFile)}


def _check_ours(repo_id: str, present: set[str]) -> None:
    """Raise BertCrfError for a repository with files that are no pipeline of spaCy."""
    if present <= _EMPTY or present >= _PIPELINE:
        return
    others = sorted(present - _EMPTY)
    raise BertCrfError(
        f"the repository {repo_id} is there, and has no spaCy pipeline but {others[0]}"
        + (f" and {len(others) - 1} other files" if len(others) > 1 else "")
        + ": name another one, or add to it with --force. Nothing was uploaded."
    )


def _stale(present: set[str], new: set[str]) -> list[str]:
    """What earlier uploads left: wheels, and files in folders that have new files."""
    folders = {PurePosixPath(name).parts[0] for name in new if "/" in name}
    return sorted(
        name
        for name in present - new
        if (PurePosixPath(name).parts[0] in folders if "/" in name else name.endswith(".whl"))
    )


def _check_complete(files: dict[str, Path], there: dict[str, int], repo_id: str) -> None:
    """Raise BertCrfError unless all files are in the repository, with their sizes."""
    wrong = [name for name, path in files.items() if there.get(name) != path.stat().st_size]
    if wrong:
        raise BertCrfError(
            f"after the upload, {wrong[0]} in {repo_id} is missing or has another size"
            + (f", and {len(wrong) - 1} more" if len(wrong) > 1 else "")
            + ": push again."
        )


@contextmanager
def _at(endpoint: str) -> Iterator[None]:
    """Within the block, huggingface_hub works with an endpoint, and there without Xet.

    Its version 0.36 reads the address of a finished commit by the default endpoint, whatever
    endpoint it was made at.
    """
    from huggingface_hub import constants

    before = constants.ENDPOINT, constants.HF_HUB_DISABLE_XET
    constants.ENDPOINT = endpoint
    constants.HF_HUB_DISABLE_XET = before[1] or endpoint != HUB
    try:
        yield
    finally:
        constants.ENDPOINT, constants.HF_HUB_DISABLE_XET = before
