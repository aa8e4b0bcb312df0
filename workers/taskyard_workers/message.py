"""What a worker and a run in a process of its own say to each other: frames of JSON over two pipes.

JSON and nothing richer: what a processor says is data, and reading it runs no code. The module `json` and
not a faster one, because a number that is not finite or half of a surrogate pair must come through as it
is: the worker refuses it then as it does where there is no pipe.
"""

import json
from dataclasses import fields, replace
from struct import Struct
from typing import Annotated, Literal, TypeAlias, TypeVar

import orjson
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from taskyard.errors import InvalidInput
from taskyard.task import Json, LogLevel, Metrics, StepStatus
from taskyard_workers.context import Identity
from taskyard_workers.outcome import Completed, Failed, Interrupted, Outcome

T = TypeVar("T")

#: Before each message stands its length in bytes.
LENGTH = Struct(">I")
#: Well above the largest input or output that is stored, however it is escaped.
MAX_MESSAGE = 16 << 20


class BadMessage(ValueError):
    """What came through the pipe is no message."""


def _text(value: object) -> object:
    """With a mark in place of half a surrogate pair, as the store would write it."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


Text: TypeAlias = Annotated[str, BeforeValidator(_text)]


# -- from the worker --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """Run this processor: `source` is what `source_of` gives, `path` the worker's `sys.path`."""

    source: str
    path: list[str]
    processor: str
    identity: Identity
    input: Json
    kind: Literal["start"] = "start"


@dataclass(frozen=True, slots=True)
class Stop:
    """End soon, or be killed."""

    kind: Literal["stop"] = "stop"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why something was not written: the code and the message of a `TaskyardError`."""

    code: str
    message: Text


@dataclass(frozen=True, slots=True)
class Answer:
    """What was told under this number is written, or is not."""

    number: int
    fault: Fault | None
    kind: Literal["answer"] = "answer"


# -- from the run -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Progress:
    """`TaskContext.progress`."""

    number: int
    percent: float
    step: Text | None
    kind: Literal["progress"] = "progress"


@dataclass(frozen=True, slots=True)
class StepChange:
    """`TaskContext.step`."""

    number: int
    name: Text
    status: StepStatus
    output: Json
    kind: Literal["step"] = "step"


@dataclass(frozen=True, slots=True)
class LogLine:
    """`TaskContext.log`."""

    number: int
    level: LogLevel
    message: Text
    kind: Literal["log"] = "log"


@dataclass(frozen=True, slots=True)
class Ended:
    """The run is over; nothing follows."""

    outcome: Outcome
    kind: Literal["ended"] = "ended"


ToRun: TypeAlias = Annotated[Start | Stop | Answer, Field(discriminator="kind")]
Telling: TypeAlias = Progress | StepChange | LogLine
FromRun: TypeAlias = Annotated[Telling | Ended, Field(discriminator="kind")]

TO_RUN: TypeAdapter[Start | Stop | Answer] = TypeAdapter(ToRun)
FROM_RUN: TypeAdapter[Telling | Ended] = TypeAdapter(FromRun)

_OURS = (
    *(Start, Stop, Answer, Progress, StepChange, LogLine, Ended),
    *(Fault, Identity, Completed, Failed, Interrupted, Metrics),
)


def encode(message: Start | Stop | Answer | Telling | Ended) -> bytes:
    """The frame of a message. Raises `InvalidInput` for what JSON cannot say or is too large."""
    try:
        body = json.dumps(message, default=_plain).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"it cannot be stored as JSON: {error}") from error
    if len(body) > MAX_MESSAGE:
        raise InvalidInput(f"it is larger than {MAX_MESSAGE} bytes")
    return LENGTH.pack(len(body)) + body


def size(header: bytes) -> int:
    """How many bytes follow. Raises `BadMessage` if they are too many to be ours."""
    (length,) = LENGTH.unpack(header)
    if length > MAX_MESSAGE:
        raise BadMessage(f"a message of {length} bytes")
    return int(length)


def decode(body: bytes, kinds: TypeAdapter[T]) -> T:
    """The message in a frame, one of `TO_RUN` or `FROM_RUN`. Raises `BadMessage`."""
    try:
        return kinds.validate_python(json.loads(body))
    except (ValidationError, ValueError, RecursionError) as error:
        raise BadMessage(str(error)) from error


def _plain(value: object) -> Json:
    if isinstance(value, Failed):
        value = replace(value, code=str(_text(str(value.code))), message=str(_text(value.message)))
    if isinstance(value, _OURS):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    # A date or the like that the worker's own JSON would know: it becomes the same text here.
    return orjson.loads(orjson.dumps(value))
