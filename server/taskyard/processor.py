"""The seam for those who write processors: `from taskyard import processor`.

A processor is an async function of a typed input and a `TaskContext`; its annotations become the JSON
Schema by which the API checks an input before it is queued.
"""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, get_type_hints

from pydantic import TypeAdapter

from taskyard.retry import Backoff
from taskyard.task import MAX_RETRIES, MAX_TIMEOUT, MIN_TIMEOUT, Json, LogLevel, StepStatus, TaskTypeSpec

_MARK = "__taskyard_processor__"


class PermanentError(Exception):
    """Raised by a processor whose task cannot succeed however often it is tried: it fails at once.

    `code` is shown as the task's error code.
    """

    def __init__(self, message: str, *, code: str = "PROCESSOR_ERROR") -> None:
        super().__init__(message)
        self.code = code


class TaskContext(Protocol):
    """What a processor may know and say of its run."""

    @property
    def task_id(self) -> str: ...
    @property
    def instance_id(self) -> str: ...
    @property
    def agent_id(self) -> str | None: ...

    @property
    def attempt(self) -> int:
        """Number of this run; the first is 1."""
        ...

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this task: give it to services that must act only once."""
        ...

    @property
    def cancelled(self) -> bool:
        """Whether the run should stop. An awaiting processor need not look: it is interrupted."""
        ...

    async def progress(self, percent: float, step: str | None = None) -> None:
        """Tell how far the run is: `percent` from 0 to 100, `step` a short text of what goes on."""
        ...

    async def step(self, name: str, status: StepStatus = StepStatus.RUNNING, output: Json = None) -> None:
        """Write an entry of the plan, or change the one of that name."""
        ...

    async def log(self, message: str, level: LogLevel = LogLevel.INFO) -> None:
        """Add a line to the task's own log."""
        ...

    def report(self, *, actual_cost: float | None = None, quality_score: float | None = None) -> None:
        """Set figures to be stored with the result: cost, and quality from 0 to 1."""
        ...


Run: TypeAlias = Callable[[Any, TaskContext], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Processor:
    """A function that does a task type, with what its worker must know of it."""

    name: str
    run: Run
    input_type: TypeAdapter[Any]
    output_type: TypeAdapter[Any]
    description: str = ""
    timeout: timedelta | None = None
    max_retries: int | None = None
    capabilities: Sequence[str] = ()
    backoff: Backoff = Backoff()  # noqa: RUF009 - frozen
    #: Whether each run has a process of its own.
    isolated: bool = False

    def declared(self) -> TaskTypeSpec:
        """What the worker tells the service of this type."""
        return TaskTypeSpec(
            name=self.name,
            description=self.description,
            input_schema=self.input_type.json_schema(mode="validation"),
            output_schema=self.output_type.json_schema(mode="serialization"),
            timeout=self.timeout,
            max_retries=self.max_retries,
            capabilities=tuple(self.capabilities),
        )


F = TypeVar("F", bound=Callable[..., Any])


def processor(
    name: str,
    /,
    *,
    timeout: float | timedelta | None = None,
    max_retries: int | None = None,
    capabilities: Sequence[str] = (),
    backoff: Backoff = Backoff(),  # noqa: B008 - frozen
    isolation: Literal["process"] | None = None,
) -> Callable[[F], F]:
    """Mark an async function `(input, ctx) -> output` as the processor of the task type `name`.

    `timeout` is seconds (or a timedelta) for one run; `max_retries` how many failed runs are tried
    again. Both are defaults that a task may override. With `isolation="process"` each run has a process
    of its own, which is killed where it does not end when told to: for work that blocks or may crash.
    Nothing is registered here: a worker finds the mark in the modules that it loads.
    """

    def mark(function: F) -> F:
        found = processor_of(
            function,
            name,
            timeout=timeout,
            max_retries=max_retries,
            capabilities=capabilities,
            backoff=backoff,
            isolation=isolation,
        )
        setattr(function, _MARK, found)
        return function

    return mark


def processor_of(
    function: Callable[..., Any],
    name: str,
    *,
    timeout: float | timedelta | None = None,
    max_retries: int | None = None,
    capabilities: Sequence[str] = (),
    backoff: Backoff = Backoff(),  # noqa: B008 - frozen
    isolation: Literal["process"] | None = None,
) -> Processor:
    """What `@processor` makes of a function. Raises `TypeError` or `ValueError` for what cannot be one."""
    if not inspect.iscoroutinefunction(function):
        raise TypeError(
            f"the processor {name!r} must be an async function; for blocking work await asyncio.to_thread(...)"
        )
    hints = get_type_hints(function, include_extras=True)
    signature = inspect.signature(function)
    try:
        signature.bind("input", "ctx")
    except TypeError as error:
        raise TypeError(f"the processor {name!r} must take an input and a context: (input, ctx)") from error
    first = next(iter(signature.parameters))
    limit = timedelta(seconds=timeout) if isinstance(timeout, int | float) else timeout
    if limit is not None and not MIN_TIMEOUT <= limit <= MAX_TIMEOUT:
        raise ValueError(f"the time-out of the processor {name!r} must lie between 1 ms and 7 days")
    if max_retries is not None and not 0 <= max_retries <= MAX_RETRIES:
        raise ValueError(f"the retries of the processor {name!r} must lie between 0 and {MAX_RETRIES}")
    if isolation not in (None, "process"):
        raise ValueError(f'the isolation of the processor {name!r} is "process", or it is left out')
    return Processor(
        name=name,
        run=function,
        input_type=TypeAdapter(hints.get(first, Any)),
        output_type=TypeAdapter(hints.get("return", Any)),
        description=inspect.getdoc(function) or "",
        timeout=limit,
        max_retries=max_retries,
        capabilities=tuple(capabilities),
        backoff=backoff,
        isolated=isolation == "process",
    )


def marked(candidate: object) -> Processor | None:
    """The processor that `@processor` put on this object, if it did."""
    found = getattr(candidate, _MARK, None)
    return found if isinstance(found, Processor) else None
