"""What the tasks of a history do: runs of all kinds, and a log of them outside the store."""

from collections.abc import Mapping
from typing import Any

from tests.simulation.host import HOST
from tests.simulation.oracle import Oracle

from taskyard.processor import PermanentError, Processor, TaskContext, marked, processor
from taskyard.retry import Backoff

TYPES = ("read", "write")
_STEP = 0.2


def processors(oracle: Oracle) -> Mapping[str, Processor]:
    """The processor of each type: it does what its input says.

    `seconds` is how long a run takes, `fails` how many attempts fail before one returns, `how` what else
    is peculiar: "hang" never returns, "permanent" fails for good, "tell" tells of its progress.
    """
    found = [_processor(name, oracle) for name in TYPES]
    return {one.name: one for one in found}


def _processor(name: str, oracle: Oracle) -> Processor:
    @processor(name, backoff=Backoff(base=0.6, cap=3))
    async def work(value: Any, ctx: TaskContext) -> Any:
        host = HOST.get()
        oracle.begun(ctx.task_id, ctx.attempt)
        left = value["seconds"]
        while left > 0 or value["how"] == "hang":
            await host.pause(min(_STEP, left) if left > 0 else _STEP)
            left -= _STEP
            oracle.going_on(host, ctx.task_id, ctx.attempt)
            if value["how"] == "tell":
                await ctx.progress(50.0)
        if value["how"] == "permanent":
            raise PermanentError("it cannot be done", code="PERMANENT")
        if ctx.attempt <= value["fails"]:
            raise RuntimeError("no luck")
        oracle.returned(ctx.task_id, ctx.attempt)
        return {"attempt": ctx.attempt}

    found = marked(work)
    assert found is not None
    return found
