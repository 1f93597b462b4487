"""`bert-crf serve`: pipelines over HTTP."""

import os
from pathlib import Path
from typing import Optional

import typer

from ...errors import BertCrfError
from ..app import command

#: Environment variable with the token of a server.
TOKEN = "SPACY_BERT_CRF_TOKEN"


@command("serve")
def serve_command(
    pipelines: list[str] = typer.Argument(
        ...,
        metavar="[NAME=]PIPELINE...",
        help="Folders of trained pipelines, with or without names",
    ),
    host: str = typer.Option("127.0.0.1", help="Address to listen on; 0.0.0.0 for all"),
    port: int = typer.Option(8000, min=0, max=65535, help="Port to listen on; 0 for a free one"),
    token_file: Optional[Path] = typer.Option(
        None, help=f"File with a token that requests must have; otherwise ${TOKEN} if it is set"
    ),
    allowed_host: list[str] = typer.Option(
        [], help="Name of the server that requests may use; may be given several times"
    ),
    max_chars: int = typer.Option(10_000, min=1, help="Characters of a text"),
    max_texts: int = typer.Option(256, min=1, help="Texts of a request"),
    max_body: int = typer.Option(2**20, min=1, help="Bytes of a request"),
    max_stream_body: int = typer.Option(64 * 2**20, min=1, help="Bytes of a streamed request"),
    timeout: float = typer.Option(60.0, min=0.1, help="Seconds to receive, and to answer"),
    queue: int = typer.Option(1024, min=1, help="Texts that may wait; beyond it, 429"),
    batch: int = typer.Option(64, min=1, help="Texts of a batch"),
    batch_chars: int = typer.Option(8192, min=1, help="Characters of a batch"),
    wait_ms: float = typer.Option(
        3.0, min=0, max=1000, help="Milliseconds to wait for further requests under load"
    ),
    threads: int = typer.Option(
        0, min=0, help="Threads of torch; 0: $OMP_NUM_THREADS, or the cores to use"
    ),
    grace: int = typer.Option(30, min=0, help="Seconds to finish after SIGTERM"),
    component: str = typer.Option("", "--component", help="Which bert_crf, if there are several"),
    gpu_id: int = typer.Option(-1, "--gpu-id", "-g", help="GPU number, -1 for the CPU"),
) -> None:
    """Serve pipelines over HTTP, with a page to try them in a browser.

    Texts of several requests are annotated in one batch. POST /annotate takes texts and options,
    POST /annotate/stream takes JSON lines. /openapi.json describes all requests. /health, /ready
    and /metrics are for those who run the server. SIGTERM ends it after what it has taken. It
    needs FastAPI, uvicorn and prometheus-client: pip install 'spacy-bert-crf[serve]'.

    \b
    Example:
      python -m spacy bert-crf serve training/quickstart/model-best
      curl http://127.0.0.1:8000/annotate -H 'Content-Type: application/json' \\
        -d '{"texts": ["王小明在北京。"], "scores": true}'
    """
    try:
        from ...serving.server import named_pipelines, read_token, serve
    except ImportError as err:
        raise BertCrfError(
            f"serve needs FastAPI, uvicorn and prometheus-client ({err}): "
            "pip install 'spacy-bert-crf[serve]'"
        ) from err
    from ...serving.batcher import BatchLimits
    from ...serving.settings import RequestLimits, ServerSettings

    token = read_token(token_file) if token_file else os.environ.get(TOKEN, "")
    settings = ServerSettings(
        host=host,
        port=port,
        token=token,
        hosts=tuple(allowed_host),
        requests=RequestLimits(max_chars, max_texts, max_body, max_stream_body, timeout=timeout),
        batches=BatchLimits(batch, batch_chars, wait_ms / 1000, queue, queue * 1000),
        threads=threads,
        grace=grace,
    )
    if not settings.is_local and not token:
        typer.secho(
            f"⚠ everyone who reaches {host} can use this server: set a token (--token-file).",
            fg=typer.colors.YELLOW,
        )
    serve(
        named_pipelines(pipelines),
        settings,
        component=component,
        gpu_id=gpu_id,
        started=lambda address: print(f"ready: {address}", flush=True),
    )
    print("stopped; all that was taken is answered")
