"""The forms of requests and answers. The OpenAPI description is made of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, Optional, Union

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator

from ...component.decoding.dictionary import Name
from ..options import MAX_NAMES, MAX_NBEST, MIN_CANDIDATES, FixedSpan, Options, TextTask

Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
#: Names of the two forms of a text, which are no part of a place in a request.
A_STRING, AN_OBJECT = "a string", "an object"


class OptionFields(BaseModel):
    """Options of all texts of a request."""

    model_config = ConfigDict(extra="forbid")

    pipeline: Optional[str] = Field(None, description="Name of a pipeline; the first one if absent")
    scores: Optional[bool] = Field(
        None, description="Probability of each entity, and log_probability and entropy of the text"
    )
    candidates: Optional[Probability] = Field(
        None,
        description="Also other entities with at least this probability; 0 for none. The smallest "
        f"one is {MIN_CANDIDATES}.",
    )
    threshold: Optional[Probability] = Field(None, description="Leave out less probable entities")
    nbest: int = Field(0, ge=0, le=MAX_NBEST, description="Number of the best readings to list")
    labels: Optional[list[str]] = Field(
        None, description="Entity types that may be predicted; all if absent. The exclusion is "
        "exact: tag paths with other labels do not count.",
    )  # fmt: skip

    @field_validator("candidates")
    @classmethod
    def _not_too_many(cls, value: Optional[float]) -> Optional[float]:
        if value is not None and 0 < value < MIN_CANDIDATES:
            raise ValueError(f"it must be 0, or from {MIN_CANDIDATES} to 1")
        return value


class NamedEntry(BaseModel):
    """A name of a dictionary, tried on the texts of this request."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str = Field(min_length=1, pattern=r"\S", description="The name")
    label: str = Field(description="Its entity type")
    mode: Literal["hard", "soft", "not"] = Field(
        "soft", description="Always an entity of the label, more likely one, or never one"
    )


class StreamOptions(OptionFields):
    """Options of all texts of a stream, in the query of the address."""


class Given(BaseModel):
    """An entity that is known. The rest of the text is decoded around it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    start: int = Field(description="Offset of its first character (Unicode code points, from 0)")
    end: int = Field(description="Offset after its last character")
    label: Optional[str] = Field(description="Its entity type; null if there is no entity here")


class TextObject(BaseModel):
    """A text with what is known of it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str
    id: Optional[Union[int, str]] = Field(None, description="Returned with the answer")
    entities: list[Given] = Field(default_factory=list, description="Known entities")
    labels: Optional[list[str]] = Field(
        None, description="Entity types of this text, instead of those of the request"
    )


def _form(value: Any) -> Optional[str]:
    if isinstance(value, str):
        return A_STRING
    return AN_OBJECT if isinstance(value, (dict, TextObject)) else None


#: A text alone, or an object with a text.
Text = Annotated[
    Union[Annotated[str, Tag(A_STRING)], Annotated[TextObject, Tag(AN_OBJECT)]],
    Discriminator(
        _form,
        custom_error_type="text",
        custom_error_message="Input should be a text, or an object with a text",
    ),
]


class AnnotateRequest(OptionFields):
    """Texts, and what to compute for them."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {"texts": ["王小明昨天在北京。"]},
                {"texts": ["王小明昨天在北京。"], "scores": True, "candidates": 0.05, "nbest": 3},
                {
                    "texts": [
                        {
                            "id": 7,
                            "text": "王小明昨天在北京。",
                            "entities": [{"start": 0, "end": 3, "label": "PER"}],
                            "labels": ["LOC"],
                        }
                    ]
                },
            ]
        },
    )

    texts: list[Text] = Field(description="The texts: strings, or objects with a text")
    dictionary: list[NamedEntry] = Field(
        default_factory=list,
        max_length=MAX_NAMES,
        description="Names that take part in decoding, in place of the pipeline's own names of the "
        "same text",
    )


class Entity(BaseModel):
    """An entity of a text."""

    start: int = Field(description="Offset of its first character (Unicode code points, from 0)")
    end: int = Field(description="Offset after its last character")
    label: str
    text: str
    probability: Optional[float] = Field(
        None, description="With `scores`; null if another component found the entity"
    )
    fixed: Optional[bool] = Field(None, description="True for an entity that was given")


class ReadingAnswer(BaseModel):
    """A reading: a tag path with its entities."""

    probability: float
    entities: list[Entity]


class TextAnswer(BaseModel):
    """What was found in a text."""

    id: Optional[Union[int, str]] = None
    entities: list[Entity]
    candidates: Optional[list[Entity]] = Field(None, description="With `candidates`")
    log_probability: Optional[float] = Field(
        None, description="Natural logarithm of the probability of the best tag path"
    )
    entropy: Optional[float] = Field(
        None, description="Entropy of the distribution over tag paths, in nats"
    )
    readings: Optional[list[ReadingAnswer]] = Field(None, description="With `nbest`, best first")


class AnnotateAnswer(BaseModel):
    """Answers in the order of the texts."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "pipeline": "news",
                    "texts": [
                        {
                            "entities": [
                                {"start": 0, "end": 3, "label": "PER", "text": "王小明"},
                                {"start": 6, "end": 8, "label": "LOC", "text": "北京"},
                            ]
                        }
                    ],
                }
            ]
        }
    )
    pipeline: str
    texts: list[TextAnswer]


class PipelineSettings(BaseModel):
    """The pipeline's own settings, for options that a request leaves out."""

    scores: bool
    candidates: float
    threshold: float


class PipelineAnswer(BaseModel):
    """A pipeline that is served."""

    name: str
    lang: str
    version: str
    description: str
    labels: list[str]
    options: bool = Field(description="Whether requests may have options")
    settings: Optional[PipelineSettings] = None


class LimitsAnswer(BaseModel):
    """Bounds of a request."""

    chars: int = Field(description="Characters of a text")
    texts: int = Field(description="Texts of a request")
    body: int = Field(description="Bytes of a request")
    stream_body: int = Field(description="Bytes of a streamed request")
    nbest: int
    min_candidates: float


class PipelinesAnswer(BaseModel):
    """The pipelines that are served, the default one first, and the bounds of a request."""

    pipelines: list[PipelineAnswer]
    limits: LimitsAnswer


class StateAnswer(BaseModel):
    """The state of the server."""

    status: str


def options_of(fields: OptionFields) -> Options:
    """The options of a request."""
    labels = None if fields.labels is None else tuple(fields.labels)
    given = fields.dictionary if isinstance(fields, AnnotateRequest) else []
    names = tuple(Name(entry.text, entry.label, entry.mode) for entry in given)
    return Options(fields.scores, fields.candidates, fields.threshold, fields.nbest, labels, names)


def task_of(text: Union[str, TextObject], options: Options) -> TextTask:
    """A text with its options."""
    if isinstance(text, str):
        return TextTask(text, options)
    if text.labels is not None:
        options = replace(options, labels=tuple(text.labels))
    return TextTask(
        text.text, options, tuple(FixedSpan(e.start, e.end, e.label) for e in text.entities)
    )


def answer_of(text: Union[str, TextObject], answer: dict[str, Any]) -> dict[str, Any]:
    """The answer for a text, with its id if it has one."""
    if isinstance(text, str) or text.id is None:
        return answer
    return {"id": text.id, **answer}


def field_names(model: type[BaseModel]) -> Sequence[str]:
    """The names of a form's fields."""
    return list(model.model_fields)
