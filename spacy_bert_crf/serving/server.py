"""Run the server: uvicorn, the threads of torch, and the end by a signal."""

import os
import socket
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Optional

import torch
import uvicorn

from .._devices import use_device
from ..errors import BertCrfError, first_line
from .annotator import Annotator
from .http.app import create_app
from .settings import ServerSettings, usable_cores


class _Server(uvicorn.Server):
    """uvicorn, which tells the application when it begins to stop."""

    async def shutdown(self, sockets: Optional[list[socket.socket]] = None) -> None:
        self.config.app.state.service.draining.set()  # type: ignore[union-attr]
        await super().shutdown(sockets)


def serve(
    pipelines: Mapping[str, Path],
    settings: ServerSettings,
    *,
    component: str = "",
    gpu_id: int = -1,
    started: Optional[Callable[[str], None]] = None,
) -> None:
    """Serve pipelines until SIGTERM or SIGINT. What was taken by then is answered.

    pipelines: folder of each pipeline by its name. The first one is the default.
    settings: the settings of the server.
    component: name of the bert_crf component that options concern, if a pipeline has several.
    gpu_id: number of the GPU, -1 for the CPU.
    started: called with the address as soon as all pipelines are loaded.
    Raises BertCrfError if a pipeline can't be loaded or the address can't be used.
    """
    for path in pipelines.values():
        if not path.is_dir():
            raise BertCrfError(
                f"there is no pipeline folder {path}: name the folder of a pipeline."
            )
    listening = listen(settings)
    host, port = listening.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    failures: list[BaseException] = []

    def prepare() -> None:
        """In the thread that annotates: threads and devices belong to a thread."""
        if settings.threads or "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(settings.threads or usable_cores())
        use_device(gpu_id)

    def load(name: str, path: Path) -> Annotator:
        prepare()
        return Annotator.load(path, name, component)

    def loaded(failure: Optional[BaseException]) -> None:
        if failure is not None:
            failures.append(failure)
            server.should_exit = True
        elif started is not None:
            started(address)

    loaders = {name: partial(load, name, path) for name, path in pipelines.items()}
    app = create_app(loaders, settings, loaded)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False,
        timeout_graceful_shutdown=settings.grace, timeout_keep_alive=30, lifespan="on",
    )  # fmt: skip
    server = _Server(config)
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:  # uvicorn raises its signal again, after all was answered
        pass
    finally:
        listening.close()
    if failures:
        raise BertCrfError(first_line(failures[0])) from failures[0]


def listen(settings: ServerSettings) -> socket.socket:
    """A socket that listens. Raises BertCrfError if the address can't be used."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named. Without it the body of an answer
    # waits about 40 ms, until the client has acknowledged the head.
    out = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    out.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        out.bind((settings.host, settings.port))
        out.listen(2048)
    except (OSError, OverflowError) as err:
        out.close()
        reason = first_line(err)
        raise BertCrfError(
            f"can't listen on {settings.host}, port {settings.port}: {reason}. Use another --port "
            "or --host."
        ) from err
    return out


def read_token(path: Path) -> str:
    """The token in a file. Raises BertCrfError if the file can't be read or is empty."""
    try:
        token = path.read_text(encoding="utf8").strip()
    except (OSError, UnicodeDecodeError) as err:
        raise BertCrfError(f"can't read the token in {path}: {first_line(err)}") from err
    if not token:
        raise BertCrfError(f"{path} is empty: it must hold the token.")
    return token


def named_pipelines(arguments: list[str]) -> dict[str, Path]:
    """Names and folders from arguments of the form PIPELINE or NAME=PIPELINE.

    A folder without a name has its own one; `model-best` and `model-last` that of the folder above.
    Raises BertCrfError for a name that comes twice.
    """
    out: dict[str, Path] = {}
    for argument in arguments:
        name, sign, folder = argument.partition("=")
        if not sign or Path(argument).exists():
            folder = argument
            path = Path(argument).resolve()
            name = path.parent.name if path.name in ("model-best", "model-last") else path.name
        if not name or not folder:
            raise BertCrfError(f"{argument!r}: write NAME=PIPELINE, or PIPELINE alone.")
        if name in out:
            raise BertCrfError(f"two pipelines are called {name!r}: write NAME=PIPELINE.")
        out[name] = Path(folder)
    return out
