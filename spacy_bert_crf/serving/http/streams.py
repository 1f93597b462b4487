"""Many texts as JSON lines: read, annotated and answered in order, while they come."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from fastapi import Request
from pydantic import TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..options import Answer, Refused, TextTask
from .json_body import LINES_TYPES, parse_json
from .messages import StreamOptions, Text, TextObject, answer_of, field_names
from .problems import Problem, problem_body, validation_items
from .service import AnyText, Service, failure

if TYPE_CHECKING:
    from ..annotator import Annotator

#: Lines that are annotated together, as one request among others.
_CHUNK = 32
#: Chunks of a stream that are in work at once.
_CHUNKS = 2
_TEXT: TypeAdapter[Any] = TypeAdapter(Text)


class _Line(NamedTuple):
    """A line of a stream: a text with its task, or a problem."""

    number: int
    text: AnyText = ""
    task: Optional[TextTask] = None
    problem: Optional[Problem] = None


class _Body:
    """The lines of a body as they come. They are read ahead, whether or not answers are read.

    Many clients send a whole body before they read. The size of a body is bounded, see Guard.
    """

    def __init__(self, request: Request, service: Service) -> None:
        self.lines: deque[tuple[int, bytes]] = deque()
        #: Why the body ended early; None if it did not.
        self.problem: Optional[Problem] = None
        self.is_whole = self.is_gone = False
        self._changed = asyncio.Event()
        self._stopping = service.draining
        self._task = asyncio.ensure_future(self._read(request))

    async def wait(self) -> bool:
        """Wait for a line. RETURNS: False if none comes any more."""
        while not self.lines and not self.is_whole:
            await self._changed.wait()
            self._changed.clear()
        return bool(self.lines)

    def close(self) -> None:
        """Read no more."""
        self._task.cancel()

    async def _read(self, request: Request) -> None:
        number, rest = 0, b""
        stopping = asyncio.ensure_future(self._stopping.wait())
        stream = request.stream()
        try:
            while True:
                part = asyncio.ensure_future(anext(stream, None))
                await asyncio.wait({part, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not part.done():
                    part.cancel()
                    raise Problem(503, "the server is stopping: send the rest again", "server")
                data = part.result()
                if data is None:
                    break
                *lines, rest = (rest + data).split(b"\n") if b"\n" in data else [rest + data]
                for line in lines:
                    number += 1
                    self._add(number, line)
            self._add(number + 1, rest)
        except Problem as err:
            self.problem = err
        except ClientDisconnect:
            self.is_gone = True
        finally:
            stopping.cancel()
            self.is_whole = True
            self._changed.set()

    def _add(self, number: int, line: bytes) -> None:
        if line.strip():
            self.lines.append((number, line))
            self._changed.set()


class LinesResponse(Response):
    """Lines that are sent as they are made. A client that does not read them is left.

    lines: the lines, without line breaks.
    timeout: seconds in which the client must take a line.
    """

    media_type = LINES_TYPES[0]

    def __init__(self, lines: AsyncIterator[str], timeout: float, status_code: int = 200) -> None:
        super().__init__(status_code=status_code)
        del self.headers["content-length"]
        self._lines, self._timeout = lines, timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        try:
            await send(start)
            async for line in self._lines:
                body = {"type": "http.response.body", "body": f"{line}\n".encode(),
                        "more_body": True}  # fmt: skip
                await asyncio.wait_for(send(body), self._timeout)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            aclose = getattr(self._lines, "aclose", None)
            if aclose is not None:
                await aclose()


async def annotate_lines(
    service: Service, annotator: "Annotator", options: StreamOptions, request: Request
) -> AsyncIterator[str]:
    """The answers to the lines of a request, in order, as JSON without line breaks.

    An answer has the number of its line. A line that can't be used has its problem instead. If the
    body ends early, the last answer says why.

    service: the pipelines.
    annotator: the pipeline.
    options: options of all lines.
    request: the request, whose body is read.
    """
    body = _Body(request, service)
    service.streams += 1
    chunks: deque[tuple[list[_Line], asyncio.Future[list[Answer]]]] = deque()
    try:
        while True:
            while body.lines and len(chunks) < _CHUNKS:
                taken = [body.lines.popleft() for _ in range(min(_CHUNK, len(body.lines)))]
                lines = [_read_line(service, annotator, options, *line) for line in taken]
                tasks = [line.task for line in lines if line.task is not None]
                chunks.append((lines, await _submit(service, annotator.about.name, tasks)))
            if chunks:
                lines, future = chunks.popleft()
                answers = iter(await future)
                for line in lines:
                    yield _dump(_answered(line, answers))
            elif not await body.wait():
                break
        if body.problem is not None:
            yield _dump(problem_body(body.problem.items))
    finally:
        service.streams -= 1
        body.close()
        for _, future in chunks:
            future.cancel()


async def _submit(
    service: Service, pipeline: str, tasks: list[TextTask]
) -> "asyncio.Future[list[Answer]]":
    """Queue texts as soon as there is a place for them."""
    while True:
        try:
            return asyncio.wrap_future(service.submit(pipeline, tasks))
        except Problem as err:
            if err.status_code != 429:
                raise
            await asyncio.sleep(0.02)


def _read_line(
    service: Service, annotator: "Annotator", options: StreamOptions, number: int, line: bytes
) -> _Line:
    try:
        value = parse_json(line, "line")
        try:
            text = _TEXT.validate_python(value)
        except ValidationError as err:
            items = validation_items(err.errors(), field_names(TextObject), "line")
            raise Problem.of(422, items) from err
        return _Line(number, text, service.check(annotator, text, options))
    except Problem as err:
        return _Line(number, problem=err)


def _answered(line: _Line, answers: Any) -> dict[str, Any]:
    """The answer to a line. The answers of those with a task come from `answers`."""
    if line.problem is not None:
        return {"line": line.number, **problem_body(line.problem.items)}
    answer = next(answers)
    if isinstance(answer, Refused):
        return {"line": line.number, **problem_body([(answer.where, str(answer))])}
    if isinstance(answer, Exception):
        return {"line": line.number, **problem_body([("text", failure(answer))])}
    return {"line": line.number, **answer_of(line.text, answer)}


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
