"""The page to try a pipeline, and the files that it needs."""

from functools import cache
from pathlib import Path

from fastapi import APIRouter, Response

from .problems import Problem

_FOLDER = Path(__file__).parents[1] / "page"
_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "words.js": "text/javascript; charset=utf-8",
}
#: The page loads nothing from other sites, and no other site shows it in a frame.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def page_routes() -> APIRouter:
    """The routes `/` and `/page/FILE`."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def page() -> Response:
        return _file("index.html")

    @router.get("/page/{name}")
    async def file(name: str) -> Response:
        if name not in _TYPES:
            raise Problem(404, f"the page has no file {name!r}", "path")
        return _file(name)

    return router


def _file(name: str) -> Response:
    return Response(_content(name), media_type=_TYPES[name], headers=_HEADERS)


@cache
def _content(name: str) -> bytes:
    return (_FOLDER / name).read_bytes()
