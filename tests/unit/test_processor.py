"""What `@processor` makes of a function."""

from collections.abc import Awaitable
from datetime import timedelta
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, ValidationError, computed_field

from taskyard import processor
from taskyard.processor import PermanentError, Processor, TaskContext, marked
from taskyard.retry import Backoff


class Page(BaseModel):
    url: str
    depth: int = 1


class Summary(BaseModel):
    text: str
    words: int = 0

    @computed_field
    def short(self) -> bool:
        return self.words < 10


@processor("summarize", timeout=2.5, max_retries=7, capabilities=["text", "web"], backoff=Backoff(2, 9))
async def summarize(page: Page, ctx: TaskContext) -> Summary:
    """Sum a page up."""
    return Summary(text=page.url, words=ctx.attempt)


@processor("anything")
async def anything(value, ctx):  # type: ignore[no-untyped-def]  # without annotations is the point
    return value


def found(candidate: object) -> Processor:
    mark = marked(candidate)
    assert mark is not None
    return mark


async def test_the_function_stays_what_it_was() -> None:
    assert found(summarize).run is summarize
    assert await anything(5, None) == 5


def test_what_the_decorator_was_told() -> None:
    mark = found(summarize)
    assert (mark.name, mark.description) == ("summarize", "Sum a page up.")
    assert mark.timeout == timedelta(seconds=2.5)
    assert mark.max_retries == 7
    assert mark.capabilities == ("text", "web")
    assert mark.backoff == Backoff(2, 9)


def test_the_defaults_leave_the_choice_to_the_service() -> None:
    mark = found(anything)
    assert (mark.timeout, mark.max_retries, mark.capabilities, mark.description) == (None, None, (), "")
    assert mark.backoff == Backoff()


def test_the_schemas_come_from_the_annotations() -> None:
    declared = found(summarize).declared()
    assert declared.name == "summarize"
    assert declared.input_schema["required"] == ["url"]
    assert declared.input_schema["properties"]["depth"]["type"] == "integer"
    assert declared.output_schema is not None
    assert set(declared.output_schema["properties"]) == {"text", "words", "short"}
    assert (declared.timeout, declared.max_retries) == (timedelta(seconds=2.5), 7)
    assert declared.capabilities == ("text", "web")


def test_without_annotations_anything_goes() -> None:
    declared = found(anything).declared()
    assert declared.input_schema == {}
    assert declared.output_schema == {}


def test_constraints_of_an_annotation_are_kept() -> None:
    @processor("score")
    async def score(value: Annotated[int, Field(ge=0, le=10)], ctx: TaskContext) -> int:
        return value

    assert found(score).declared().input_schema == {"type": "integer", "minimum": 0, "maximum": 10}
    with pytest.raises(ValidationError):
        found(score).input_type.validate_python(11)


def test_a_timedelta_is_a_timeout_too() -> None:
    async def run(value: Any, ctx: TaskContext) -> None: ...

    assert found(processor("slow", timeout=timedelta(minutes=3))(run)).timeout == timedelta(minutes=3)


def test_a_process_of_its_own() -> None:
    async def run(value: Any, ctx: TaskContext) -> None: ...

    assert found(summarize).isolated is False
    assert found(processor("apart", isolation="process")(run)).isolated is True
    with pytest.raises(ValueError, match="the isolation of the processor 'apart' is \"process\", or it is left out"):
        processor("apart", isolation="thread")(run)  # type: ignore[arg-type]  # what a checker would not let pass


def test_a_sync_function_is_refused() -> None:
    def blocking(value: Any, ctx: TaskContext) -> Any:
        return value

    with pytest.raises(TypeError, match=r"'blocking' must be an async function.*asyncio\.to_thread"):
        processor("blocking")(blocking)
    assert marked(blocking) is None


def test_a_sync_function_that_gives_an_awaitable_is_refused() -> None:
    def sly(value: Any, ctx: TaskContext) -> Awaitable[Any]:
        return anything(value, ctx)

    with pytest.raises(TypeError, match="must be an async function"):
        processor("sly")(sly)


def test_a_function_without_an_input_is_refused() -> None:
    async def empty() -> None: ...

    with pytest.raises(TypeError, match=r"'empty' must take an input and a context: \(input, ctx\)"):
        processor("empty")(empty)


def test_a_function_without_a_context_is_refused() -> None:
    async def alone(value: Any) -> None: ...

    with pytest.raises(TypeError, match=r"'alone' must take an input and a context: \(input, ctx\)"):
        processor("alone")(alone)


@pytest.mark.parametrize(
    "limits",
    [{"timeout": 0}, {"timeout": timedelta(days=8)}, {"max_retries": -1}, {"max_retries": 3_000_000_000}],
)
def test_limits_that_no_task_may_have_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="'bounded' must lie between"):
        processor("bounded", **limits)(anything)


@pytest.mark.parametrize("candidate", [None, 5, "text", print, Page, object()])
def test_what_is_not_marked_is_no_processor(candidate: object) -> None:
    assert marked(candidate) is None


def test_only_a_real_mark_counts() -> None:
    """A module may hold objects that answer to every attribute."""

    class Anything:
        def __getattr__(self, name: str) -> str:
            return name

    assert marked(Anything()) is None


def test_a_permanent_error_has_a_code() -> None:
    assert PermanentError("no").code == "PROCESSOR_ERROR"
    assert PermanentError("no", code="TOO_LONG").code == "TOO_LONG"
    assert str(PermanentError("no")) == "no"
