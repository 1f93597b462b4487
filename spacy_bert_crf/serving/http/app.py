"""The FastAPI application: its routes and their descriptions."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any, Optional

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRouter

from ... import __version__
from ..options import MAX_NBEST, MIN_CANDIDATES
from ..settings import ServerSettings
from . import metrics as metrics_module
from .guard import STREAM, Guard
from .json_body import LINES_TYPES, JsonRoute, need_type
from .messages import (
    AnnotateAnswer,
    AnnotateRequest,
    LimitsAnswer,
    PipelineAnswer,
    PipelinesAnswer,
    StateAnswer,
    StreamOptions,
)
from .page import page_routes
from .problems import Problem, ProblemAnswer, add_handlers
from .service import Service
from .streams import LinesResponse, annotate_lines

if TYPE_CHECKING:
    from ..annotator import Annotator

_DESCRIPTION = """Named entities by BERT and a CRF. Offsets count characters (Unicode code points).
Errors have one form: `error` is a line for people, `problems` lists places and messages."""
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The body is no JSON"},
    401: {"description": "The token is missing or wrong"},
    404: {"description": "There is no such pipeline"},
    408: {"description": "The request did not come in time"},
    413: {"description": "The request, a text or the number of texts is too large"},
    415: {"description": "The content type is another one"},
    422: {"description": "A field, an option or a given entity can't be used"},
    429: {"description": "The server is busy: try again after `Retry-After` seconds"},
    503: {"description": "The server loads, stops, or took too long"},
}
_PROBLEMS = {status: {"model": ProblemAnswer, **each} for status, each in _PROBLEMS.items()}


def create_app(
    loaders: Mapping[str, Callable[[], "Annotator"]],
    settings: ServerSettings,
    loaded: Optional[Callable[[Optional[BaseException]], None]] = None,
) -> FastAPI:
    """The application. `app.state.service` is its Service.

    loaders: for each name a function that loads its pipeline. The first one is the default.
    settings: the settings of the server.
    loaded: called as soon as all pipelines are loaded, with the error if one can't be, else None.
    """
    service = Service(loaders, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.batcher.start()
        watcher = asyncio.ensure_future(_watch(service, loaded))
        yield
        watcher.cancel()
        await asyncio.to_thread(service.batcher.close, settings.grace)

    app = FastAPI(
        title="spacy-bert-crf", version=__version__, description=_DESCRIPTION, lifespan=lifespan,
        docs_url=None, redoc_url=None,  # these pages load scripts of other sites
    )  # fmt: skip
    app.state.service = service
    app.include_router(_annotation(service))
    app.include_router(_operation(service))
    app.include_router(page_routes())
    add_handlers(app)
    app.add_middleware(Guard, service=service)
    return app


async def _watch(
    service: Service, loaded: Optional[Callable[[Optional[BaseException]], None]]
) -> None:
    failure: Optional[BaseException] = None
    try:
        await asyncio.to_thread(service.batcher.wait_ready)
    except Exception as err:
        failure = err
    if loaded is not None:
        loaded(failure)


def _annotation(service: Service) -> APIRouter:
    """The routes that annotate."""
    router = APIRouter(route_class=JsonRoute, tags=["annotate"])

    @router.post("/annotate", responses={200: {"model": AnnotateAnswer}, **_PROBLEMS},
                 response_model=None)  # fmt: skip
    async def annotate(request: Request, body: AnnotateRequest) -> Response:
        """Annotate texts."""
        name, answers = await service.annotate(body, body.texts, lambda: _gone(request))
        return JSONResponse({"pipeline": name, "texts": answers})

    lines = {"schema": {"type": "string"}, "example": '{"id": 1, "text": "王小明在北京。"}\n'}
    answer = '{"line":1,"id":1,"entities":[{"start":0,"end":3,"label":"PER","text":"王小明"}]}\n'

    @router.post(
        STREAM,
        responses={
            200: {"content": {LINES_TYPES[0]: {"schema": {"type": "string"}, "example": answer}},
                  "description": "A line for each line, in order, with its number"},
            **_PROBLEMS,
        },
        response_class=LinesResponse,
        openapi_extra={"requestBody": {"required": True, "content": {LINES_TYPES[0]: lines}}},
    )  # fmt: skip
    async def stream(request: Request, options: Annotated[StreamOptions, Query()]) -> Response:
        """Annotate many texts, as JSON lines.

        A line is a string, or an object as in `texts` of /annotate. Answers come while the request
        is still being sent. A line that can't be used has an error as its answer.
        """
        need_type(request, LINES_TYPES)
        annotator, limits = service.annotator(options.pipeline), service.settings.requests
        if service.streams >= limits.streams:
            message = f"{service.streams} streams are in work: try again later"
            raise Problem(429, message, "server", {"Retry-After": "5"})
        if service.draining.is_set():
            raise Problem(503, "the server is stopping", "server", {"Retry-After": "5"})
        found = annotate_lines(service, annotator, options, request)
        return LinesResponse(found, limits.timeout)

    @router.get("/pipelines", responses={503: _PROBLEMS[503]})
    async def pipelines() -> PipelinesAnswer:
        """The pipelines that are served, and the bounds of a request."""
        service.annotator(None)  # raises while they are loaded
        limits = service.settings.requests
        return PipelinesAnswer(
            pipelines=[_about(each) for each in service.annotators.values()],
            limits=LimitsAnswer(
                chars=limits.chars, texts=limits.texts, body=limits.body,
                stream_body=limits.stream_body, nbest=MAX_NBEST, min_candidates=MIN_CANDIDATES,
            ),
        )  # fmt: skip

    return router


def _operation(service: Service) -> APIRouter:
    """The routes for those who run the server."""
    router = APIRouter(tags=["operation"])
    not_now: dict[int | str, dict[str, Any]] = {503: {"model": StateAnswer}}

    @router.get("/health", response_model=StateAnswer, responses=not_now)
    async def health() -> Response:
        """200 while the server works. With 503 it should be started again."""
        is_healthy = service.is_healthy
        return JSONResponse({"status": "ok" if is_healthy else "stuck"}, 200 if is_healthy else 503)

    @router.get("/ready", response_model=StateAnswer, responses=not_now)
    async def ready() -> Response:
        """200 while requests are answered; 503 while pipelines are loaded, and before the end."""
        state = service.state
        return JSONResponse({"status": state}, 200 if state == "ready" else 503)

    @router.get("/metrics", response_class=Response,
                responses={200: {"content": {"text/plain": {}}}})  # fmt: skip
    async def metrics() -> Response:
        """Metrics in the format of Prometheus."""
        return Response(service.metrics.text(), media_type=metrics_module.CONTENT_TYPE)

    return router


async def _gone(request: Request) -> None:
    """Return when the client has gone. The body must have been read."""
    with suppress(Exception):
        while (await request.receive())["type"] != "http.disconnect":
            pass


def _about(annotator: "Annotator") -> PipelineAnswer:
    about = annotator.about
    return PipelineAnswer(
        name=about.name, lang=about.lang, version=about.version, description=about.description,
        labels=list(about.labels), options=about.has_options,
        settings=about.settings or None,  # type: ignore[arg-type]
    )  # fmt: skip
