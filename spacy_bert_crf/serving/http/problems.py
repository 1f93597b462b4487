"""Errors as answers: each says what is wrong and where, in one form."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException


class ProblemItem(BaseModel):
    """One thing that is wrong."""

    where: str = Field(description="The part of the request, such as `texts[2].entities[0].start`")
    message: str = Field(description="What is wrong, and what to do")


class ProblemAnswer(BaseModel):
    """The answer to a request that can't be answered."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": "texts[0].threshold: Input should be less than or equal to 1",
                    "problems": [
                        {
                            "where": "texts[0].threshold",
                            "message": "Input should be less than or equal to 1",
                        }
                    ],
                }
            ]
        }
    )
    error: str = Field(description="All problems on one line")
    problems: list[ProblemItem]


class Problem(HTTPException):
    """A request that can't be answered.

    status: the status of HTTP.
    message: what is wrong, and what to do.
    where: the part of the request.
    headers: headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        where: str = "request",
        headers: Optional[Mapping[str, str]] = None,
    ) -> None:
        super().__init__(status, message, dict(headers) if headers else None)
        self.items = [(where, message)]

    @classmethod
    def of(cls, status: int, items: Sequence[tuple[str, str]]) -> "Problem":
        """One with several things wrong, each a place and a message."""
        problem = cls(status, items[0][1], items[0][0])
        problem.items = list(items)
        return problem


def problem_body(items: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The JSON of an answer, see ProblemAnswer.

    items: place and message of each thing that is wrong.
    """
    return {
        "error": "; ".join(f"{where}: {message}" for where, message in items),
        "problems": [{"where": where, "message": message} for where, message in items],
    }


def place(parts: Sequence[Any]) -> str:
    """A path into a request as text: `texts[2].label` for ("texts", 2, "label")."""
    out = ""
    for part in parts:
        out += f"[{part}]" if isinstance(part, int) else f"{'.' if out else ''}{part}"
    return out


def validation_items(
    errors: Sequence[Mapping[str, Any]], fields: Sequence[str] = (), whole: str = "body"
) -> list[tuple[str, str]]:
    """The errors of pydantic as places and messages.

    errors: as `ValidationError.errors()` gives them.
    fields: names of the fields that there are, for unknown ones.
    whole: name of all that was checked.
    """
    items, limit = [], 10
    for err in errors[:limit]:
        parts = [part for part in err["loc"] if part not in _NO_PLACES]
        message = str(err["msg"])
        if err["type"] == "extra_forbidden":
            message = "there is no such field" + (f": use {', '.join(fields)}" if fields else "")
        elif err["type"] == "missing":
            message = "this field is missing"
        items.append((place(parts) or whole, message))
    if len(errors) > limit:
        items.append((whole, f"and {len(errors) - limit} more problems"))
    return list(dict.fromkeys(items))


#: Parts of pydantic's places that are not in the request: where it came, and members of unions.
_NO_PLACES = ("body", "query", "a string", "an object")


def add_handlers(app: FastAPI) -> None:
    """Let an application answer all errors in this form."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, err: RequestValidationError) -> JSONResponse:
        return JSONResponse(problem_body(validation_items(err.errors())), 422)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, err: HTTPException) -> JSONResponse:
        items = getattr(err, "items", None)
        if items is None:
            path, method = request.url.path, request.method
            told = {
                404: f"there is nothing at {path}: see /openapi.json",
                405: f"{path} does not take {method}: use {(err.headers or {}).get('Allow', '')}",
            }
            items = [("path", told.get(err.status_code, str(err.detail)))]
        return JSONResponse(problem_body(items), err.status_code, headers=err.headers)
