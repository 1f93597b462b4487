"""What every request passes: name of the server, token, bounds of the body, and metrics."""

import asyncio
import hmac
import time
from typing import Any, Optional

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import Problem, problem_body
from .service import Service

#: Paths that need no token. They say nothing of texts and pipelines.
_OPEN = ("/", "/health", "/ready")
_OPEN_PREFIX = "/page/"
#: Bytes of a body that are read and dropped after it was refused, so that the client reads why.
_DRAINED = 8 * 2**20
STREAM = "/annotate/stream"


class Guard:
    """The outermost layer of the application.

    app: the application.
    service: its pipelines and settings.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service
        self._token = service.settings.token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        metrics, begin, status = self._service.metrics, time.perf_counter(), 500

        async def send_seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        metrics.open.inc()
        try:
            problem = self._problem(scope)
            if problem is None:
                await self._app(scope, self._bounded(scope, receive), send_seen)
            else:
                answer = JSONResponse(
                    problem_body(problem.items), problem.status_code, headers=problem.headers
                )
                await _drain(receive)
                await answer(scope, receive, send_seen)
        finally:
            metrics.open.dec()
            path = _label(scope)
            metrics.requests.labels(path, status).inc()
            metrics.seconds.labels(path).observe(time.perf_counter() - begin)

    def _problem(self, scope: Scope) -> Optional[Problem]:
        """Why a request is refused before it is read; None if it is not."""
        headers, path = Headers(scope=scope), scope["path"]
        hosts = self._service.settings.allowed_hosts
        host = headers.get("host", "")
        if hosts and _without_port(host) not in hosts:
            return Problem(
                421, f"this server is not {host!r}: it answers to {', '.join(hosts)} "
                "(--allowed-host adds a name)", "Host",
            )  # fmt: skip
        is_open = path in _OPEN or path.startswith(_OPEN_PREFIX)
        if self._token and not is_open and not self._has_token(headers):
            return Problem(
                401, "the token is missing or wrong: send Authorization: Bearer TOKEN",
                "Authorization", {"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._limit(scope):
            return _too_large(self._limit(scope))
        return None

    def _has_token(self, headers: Headers) -> bool:
        kind, _, token = headers.get("authorization", "").partition(" ")
        is_equal = hmac.compare_digest(token.strip().encode("latin-1", "replace"), self._token)
        return kind.lower() == "bearer" and is_equal

    def _limit(self, scope: Scope) -> int:
        limits = self._service.settings.requests
        return limits.stream_body if scope["path"] == STREAM else limits.body

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """Receive a body of bounded size, in bounded time."""
        limit, n_bytes, is_whole = self._limit(scope), 0, False
        timeout = self._service.settings.requests.timeout
        until = time.monotonic() + timeout

        async def bounded() -> Message:
            nonlocal n_bytes, is_whole, until
            if is_whole:  # what comes is the end of the connection
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(until - time.monotonic(), 0))
            except asyncio.TimeoutError as err:
                raise Problem(408, f"no whole request within {timeout:g} s", "body") from err
            n_bytes += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if n_bytes > limit:
                raise _too_large(limit)
            if scope["path"] == STREAM:  # as long as something comes
                until = time.monotonic() + timeout
            return message

        return bounded


def _too_large(limit: int) -> Problem:
    return Problem(413, f"the request has more than {limit:,} bytes: send it in parts", "body")


def _without_port(host: str) -> str:
    return host if host.endswith("]") else host.rpartition(":")[0] or host


async def _drain(receive: Receive) -> None:
    """Read what a client still sends. It may not read an answer before it has sent all."""
    n_bytes, until = 0, time.monotonic() + 2.0
    try:
        while n_bytes < _DRAINED:
            message: Any = await asyncio.wait_for(receive(), max(until - time.monotonic(), 0))
            n_bytes += len(message.get("body", b""))
            if not message.get("more_body", False):
                return
    except asyncio.TimeoutError:
        return


def _label(scope: Scope) -> str:
    """The path as a metric has it. Unknown paths are one, so that they can't fill the memory."""
    route = scope.get("route")
    return str(getattr(route, "path", "other"))
