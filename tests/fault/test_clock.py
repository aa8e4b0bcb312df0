"""Machines whose clocks are wrong."""

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from tests.fault.deployment import Deployment
from tests.fault.judgement import judge
from tests.fault.record import Record
from tests.fault.rows import row
from tests.fault.scale import Scale
from tests.fault.skewed import skewed

Deploy = Callable[..., Deployment]


@row(21, "clocks of the workers an hour ahead and an hour behind")
def test_clock_skew(scale: Scale, deployment: Deploy, record: Record) -> None:
    randomness = random.Random(1)
    with deployment(workers=0) as yard:
        for number in range(scale.workers):
            yard.start_worker(skewed(3600 if number % 2 else -3600))
        with yard.load() as load:
            now = datetime.now(UTC)
            # Sent before they are due, however long the sending takes.
            orders = [
                {
                    "taskType": "work",
                    "inputData": {"ms": 1},
                    "priority": "URGENT",
                    "scheduledFor": (now + timedelta(seconds=randomness.uniform(5, scale.seconds + 5))).isoformat(),
                }
                for _ in range(scale.pick(1000, 50))
            ]
            accepted = yard.submit(orders, "due")
        history = judge(yard, record, healed=time.time(), load=load, accepted=accepted)
        due = {
            task_id: datetime.fromisoformat(str(order["scheduledFor"])).timestamp()
            for task_id, order in zip(accepted, orders, strict=True)
        }
        late = [
            claim.at.timestamp() - due[claim.task_id]
            for claim in history.claims
            if claim.task_id in due and claim.attempt == 1
        ]
        record.note("scheduled tasks", len(late))
        record.note("slowest start after it was due, s", max(late))
        assert len(late) == len(accepted)
        # Times are stored in milliseconds.
        assert min(late) >= -0.001
        assert max(late) <= scale.within(1)
