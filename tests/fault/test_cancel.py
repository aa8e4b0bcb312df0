"""Cancels that meet a run at every step of it."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable

from tests.fault.deployment import Deployment
from tests.fault.judgement import judge
from tests.fault.load import CANCEL, CREATE, GRACE, Client, Refused
from tests.fault.record import Record
from tests.fault.rows import row
from tests.fault.scale import Scale

from taskyard.lifecycle import ENDED

#: Tasks that race at a time.
RACERS = 16

Deploy = Callable[..., Deployment]


@row(25, "cancel race: 5,000 tasks, each cancelled at a random step")
def test_cancel_race(scale: Scale, deployment: Deploy, record: Record) -> None:
    with deployment() as yard:
        ids = asyncio.run(_race(yard, scale))
        history = judge(yard, record, healed=time.time(), accepted=ids, failed=ids)
        ends = {
            task_id: [event.status for event in history.by_task[task_id] if _is_end(event.kind, event.status)]
            for task_id in ids
        }
        wrong = {task_id: found for task_id, found in ends.items() if len(found) != 1}
        assert not wrong, list(wrong.items())[:5]
        outcomes = Counter(found[0] for found in ends.values())
        begun = sum(1 for task_id in ids if history.runs.get(task_id))
        record.note("cancelled", outcomes["CANCELLED"])
        record.note("of these while running", begun - outcomes["COMPLETED"])
        record.note("completed before the cancel", outcomes["COMPLETED"])
        assert set(outcomes) == {"CANCELLED", "COMPLETED"}
        assert min(outcomes.values()) > scale.crowd / 20, "one side came too late nearly always: that is no race"


def _is_end(kind: str, status: str) -> bool:
    return kind == "STATUS" and status in ENDED


async def _race(yard: Deployment, scale: Scale) -> list[str]:
    """Submit each and cancel it after a random time, from at once to after its end.

    Racers go one task after the other, and not at a rate: a cancel that waited for its turn would always be late.
    """
    randomness = random.Random(1)
    client = Client(yard.addresses, yard.token)
    numbers = iter(range(scale.crowd))

    async def racer() -> list[str]:
        return [
            await one(number, ms := randomness.randint(1, 300), randomness.uniform(0, ms / 500)) for number in numbers
        ]

    async def one(number: int, ms: int, pause: float) -> str:
        deadline = time.monotonic() + GRACE
        order = {"taskType": "telling", "inputData": {"ms": ms}, "idempotencyKey": f"race-{number}"}
        data, _ = await client.until_done(CREATE, {"input": order}, deadline)
        task_id: str = data["createAITask"]["id"]
        await asyncio.sleep(pause)
        codes = await cancelled(task_id, deadline)
        # It may have ended before.
        assert codes <= {"ILLEGAL_TRANSITION"}, codes
        return task_id

    async def cancelled(task_id: str, deadline: float) -> set[str]:
        """How it was refused, if it was; a cancel whose answer is lost is sent again."""
        while True:
            try:
                body = await client.once(CANCEL, {"id": task_id})
                return {error["extensions"]["code"] for error in body.get("errors", [])}
            except Refused:
                assert time.monotonic() < deadline

    try:
        return [task_id for ids in await asyncio.gather(*(racer() for _ in range(RACERS))) for task_id in ids]
    finally:
        await client.aclose()
