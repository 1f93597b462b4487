"""What the routes share: the pipelines, their queue, and the bounds of a request."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Optional, TypeVar, Union

from ...errors import first_line
from ..batcher import Batcher, Closed, QueueFull
from ..options import Answer, Refused, TextTask
from ..settings import ServerSettings
from .messages import OptionFields, TextObject, answer_of, options_of, task_of
from .metrics import Metrics
from .problems import Problem, place

if TYPE_CHECKING:
    from ..annotator import Annotator

T = TypeVar("T")
AnyText = Union[str, TextObject]

_LOG = logging.getLogger("spacy_bert_crf")
#: A batch that takes longer than this number of time-outs is stuck.
_STUCK_TIMEOUTS = 5


class Service:
    """The pipelines of a server, and the work that waits for them.

    loaders: for each name a function that loads its pipeline. They are called one after the other,
        in the thread that annotates.
    settings: the settings of the server.
    """

    def __init__(
        self, loaders: Mapping[str, Callable[[], "Annotator"]], settings: ServerSettings
    ) -> None:
        self.settings, self._loaders = settings, dict(loaders)
        self.annotators: dict[str, Annotator] = {}
        self.batcher = Batcher(
            lambda name, tasks: self.annotators[name].annotate(tasks),
            settings.batches,
            begin=self._load,
            after=lambda facts: self.metrics.add_batch(facts),
        )
        self.metrics = Metrics(lambda: self.batcher.waiting)
        #: Set when the server begins to stop.
        self.draining = asyncio.Event()
        #: Number of streams in work.
        self.streams = 0

    def _load(self) -> None:
        for name, load in self._loaders.items():
            self.annotators[name] = load()

    @property
    def state(self) -> str:
        """One of "ready", "loading" and "stopping"."""
        if self.draining.is_set():
            return "stopping"
        return "ready" if self.batcher.is_ready else "loading"

    @property
    def is_healthy(self) -> bool:
        """Whether the thread that annotates runs and is not stuck."""
        limit = _STUCK_TIMEOUTS * self.settings.requests.timeout
        return self.batcher.is_alive and self.batcher.busy_seconds() < limit

    def annotator(self, name: Optional[str]) -> "Annotator":
        """The pipeline of this name; the first one for None.

        Raises Problem if it is not ready, or there is none.
        """
        if not self.batcher.is_ready and not self.draining.is_set():
            raise Problem(503, "the pipelines are being loaded", "server", {"Retry-After": "2"})
        names = list(self.annotators)
        name = names[0] if name is None else name
        if name not in self.annotators:
            raise Problem(404, f"there is no {name!r}: use {', '.join(names)}", "pipeline")
        return self.annotators[name]

    def check(self, annotator: "Annotator", text: AnyText, fields: OptionFields) -> TextTask:
        """A text as a task. Raises Problem if it can't be used, at its place in the text's form."""
        task, limit = task_of(text, options_of(fields)), self.settings.requests.chars
        if len(task.text) > limit:
            raise Problem(
                413, f"the text has {len(task.text):,} characters: at most {limit:,} are taken. "
                "Divide it at the ends of paragraphs.", "text",
            )  # fmt: skip
        for i, character in enumerate(task.text):
            if "\ud800" <= character <= "\udfff":
                message = f"character {i} is half of a surrogate pair: send whole characters"
                raise Problem(422, message, "text")
        try:
            annotator.check(task)
        except Refused as err:
            raise Problem(422, str(err), err.where) from err
        return task

    async def annotate(
        self, fields: OptionFields, texts: Sequence[AnyText], gone: Callable[[], Awaitable[Any]]
    ) -> tuple[str, list[dict[str, Any]]]:
        """Annotate the texts of a request.

        fields: its options.
        texts: its texts.
        gone: returns when the client has gone.
        RETURNS: the name of the pipeline, and the answers.
        Raises Problem with all that is wrong.
        """
        limits, annotator = self.settings.requests, self.annotator(fields.pipeline)
        if len(texts) > limits.texts:
            raise Problem(
                413, f"{len(texts):,} texts: at most {limits.texts:,} are taken. Send several "
                "requests, or JSON lines to /annotate/stream.", "texts",
            )  # fmt: skip
        tasks, problems = [], []
        for i, text in enumerate(texts):
            try:
                tasks.append(self.check(annotator, text, fields))
            except Problem as err:
                problems.append((err.status_code, _in_text(i, err)))
        if problems:
            raise Problem.of(problems[0][0], [item for _, item in problems[:10]])
        future = self.submit(annotator.about.name, tasks)
        answers = await self._wait(future, gone)
        refused = [
            (f"texts[{i}].{err.where}".rstrip("."), str(err))
            for i, err in enumerate(answers)
            if isinstance(err, Refused)
        ]
        if refused:
            raise Problem.of(422, refused[:10])
        failed = [(i, err) for i, err in enumerate(answers) if isinstance(err, Exception)]
        for i, error in failed[:1]:
            raise Problem(500, failure(error), f"texts[{i}]") from error
        found = [
            answer_of(text, answer)
            for text, answer in zip(texts, answers, strict=True)
            if isinstance(answer, dict)
        ]
        return annotator.about.name, found

    def submit(self, pipeline: str, tasks: Sequence[TextTask]) -> "Future[list[Answer]]":
        """Queue texts. Raises Problem if there is no place for them."""
        try:
            return self.batcher.submit(pipeline, tasks)
        except QueueFull as err:
            seconds = str(err.seconds)
            raise Problem(
                429, f"the server is busy: try again in {seconds} s", "server",
                {"Retry-After": seconds},
            ) from err  # fmt: skip
        except Closed as err:
            raise Problem(503, "the server is stopping", "server", {"Retry-After": "5"}) from err

    async def _wait(self, future: "Future[T]", gone: Callable[[], Awaitable[Any]]) -> T:
        """The result of work. Where it takes too long or the client has gone, it is cancelled."""
        timeout = self.settings.requests.timeout
        result, leaving = asyncio.wrap_future(future), asyncio.ensure_future(gone())
        try:
            await asyncio.wait(
                {result, leaving}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
            if result.done():
                return result.result()
            if leaving.done():
                raise Problem(499, "the client has gone", "connection")
            raise Problem(
                503, f"no answer within {timeout:g} s: send fewer or shorter texts, or try later",
                "server", {"Retry-After": "5"},
            )  # fmt: skip
        finally:
            result.cancel()
            leaving.cancel()


def failure(err: Exception) -> str:
    """What to say of an error that is not the client's. It is logged."""
    _LOG.error("a text could not be annotated", exc_info=err)
    return f"the text could not be annotated: {first_line(err)}"


def _in_text(i: int, problem: Problem) -> tuple[str, str]:
    where, message = problem.items[0]
    return place(["texts", i]) + (f".{where}" if where else ""), message
