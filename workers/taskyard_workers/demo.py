"""Processors to try Taskyard with. TASKYARD_DEMO_PROCESSORS=false leaves them out."""

import asyncio
import random
from typing import Any, Literal

from pydantic import BaseModel, Field

from taskyard.processor import TaskContext, processor
from taskyard.task import StepStatus


@processor("echo")
async def echo(value: Any, ctx: TaskContext) -> Any:  # noqa: ARG001 - the seam's signature
    """Give back whatever was sent."""
    return value


class ContentOrder(BaseModel):
    """What to write about, and how much."""

    topic: str = Field(min_length=1, max_length=200)
    length: Literal["short", "medium", "long"] = "medium"


class Content(BaseModel):
    """A text with its parts."""

    title: str
    sections: list[str]
    words: int


_SECTIONS = {"short": 2, "medium": 4, "long": 8}


@processor("mock_content", timeout=120, capabilities=["writing"])
async def mock_content(order: ContentOrder, ctx: TaskContext) -> Content:
    """Write a made-up text in steps, as a model would, with its plan and progress."""
    sections: list[str] = []
    total = _SECTIONS[order.length]
    for number in range(1, total + 1):
        name = f"section {number}"
        await ctx.step(name)
        await asyncio.sleep(0.25)
        sections.append(f"Part {number} of {total} on {order.topic}: what is known, and what follows from it.")
        await ctx.step(name, StepStatus.COMPLETED)
        await ctx.progress(100 * number / total, f"wrote {name} of {total}")
    words = sum(len(section.split()) for section in sections)
    ctx.report(actual_cost=words * 0.0001, quality_score=0.9)
    return Content(title=f"On {order.topic}", sections=sections, words=words)


class Delay(BaseModel):
    """How long to wait."""

    seconds: float = Field(ge=0, le=3600)


class Delayed(BaseModel):
    """How long it was."""

    seconds: float


@processor("delay", timeout=3700)
async def delay(order: Delay, ctx: TaskContext) -> Delayed:
    """Wait, and tell how far the wait is about once a second."""
    parts = max(1, round(order.seconds))
    for part in range(1, parts + 1):
        await asyncio.sleep(order.seconds / parts)
        if part < parts:
            await ctx.progress(100 * part / parts, f"{order.seconds * part / parts:.1f} of {order.seconds:g} s")
    return Delayed(seconds=order.seconds)


class Luck(BaseModel):
    """The share of runs that fail, 0 to 1."""

    rate: float = Field(ge=0, le=1)


@processor("random_failure")
async def random_failure(order: Luck, ctx: TaskContext) -> dict[str, int]:
    """Fail at random, to see retries at work."""
    if random.random() < order.rate:  # noqa: S311 - chance, not a secret
        raise RuntimeError("bad luck")
    return {"attempt": ctx.attempt}
