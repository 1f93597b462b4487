"""Bodies in JSON, with errors that name the place."""

import json
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute

from .problems import Problem

#: What JSON lines are called.
LINES_TYPES = ("application/x-ndjson", "application/jsonl", "application/json-lines",
               "application/x-jsonlines")  # fmt: skip


def parse_json(data: bytes, where: str = "body") -> Any:
    """The value of a JSON text in UTF-8.

    where: name of the text, for messages.
    Raises Problem that names line and column.
    """
    try:
        return json.loads(data.decode("utf8"), parse_constant=_no_constant)
    except UnicodeDecodeError as err:
        raise Problem(400, f"byte {err.start} is not UTF-8", where) from err
    except json.JSONDecodeError as err:
        message = f"no JSON: {err.msg} (line {err.lineno}, column {err.colno})"
        raise Problem(400, message, where) from err
    except (ValueError, RecursionError) as err:  # a number too long, or lists too deep
        raise Problem(400, f"no JSON that can be read: {err}", where) from err


def need_type(request: Request, types: tuple[str, ...]) -> None:
    """Raise Problem unless a request has one of these content types."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in types:
        given = given or "missing"
        raise Problem(415, f"the content type is {given}: send {types[0]}", "Content-Type")


class JsonRequest(Request):
    """A request whose body is JSON, and says so."""

    async def json(self) -> Any:
        """The value of the body. Raises Problem."""
        return parse_json(await self.body())


class JsonRoute(APIRoute):
    """A route whose bodies are read by `parse_json`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            if self.body_field is not None:
                need_type(request, ("application/json",))
                request = JsonRequest(request.scope, request.receive)
                if not await request.body():
                    raise Problem(400, "it is empty: send a JSON object", "body")
            return await handle(request)

        return checked


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
