"""The end of every row: wait until all is done, read what is left, hold it against the invariants, note figures."""

import time
from collections.abc import Collection, Sequence

from tests.fault import oracle
from tests.fault.deployment import Deployment
from tests.fault.history import History, read_history, unended
from tests.fault.load import Load
from tests.fault.record import Record

#: Longer than the bound that is judged, so that a late end is told with its time.
SLACK = 60.0
#: Types that no worker runs.
RESTING = ("waiting",)


def judge(
    yard: Deployment,
    record: Record,
    *,
    healed: float,
    load: Load | None = None,
    accepted: Sequence[str] = (),
    patience: float | None = None,
    failed: Collection[str] = (),
) -> History:
    """Invariants A to D and G of what the deployment has left. `healed`: when the fault was over (`time.time`).

    `accepted` are tasks that were submitted beside the load. `patience` is how long all may take to end, where
    it is not the bound of C. Every task must be COMPLETED but those in `failed`.
    """
    bound = yard.scale.heal if patience is None else patience
    _wait_for_the_end(yard, max(healed, time.time()) + bound + SLACK)
    history = read_history(yard.database_url, yard.run_log)
    acknowledged = [one.task_id for one in load.acknowledged] if load else []
    oracle.none_lost(history, [*acknowledged, *accepted], RESTING)
    if load is not None:
        assert len(load.acknowledged) == load.total, "the load was not acknowledged as a whole"
        assert not load.unexpected, load.unexpected[:3]
        oracle.one_row_a_key(history, [one.key for one in load.acknowledged])
    oracle.one_commit(history)
    oracle.gapless(history)
    oracle.lawful(history)
    unfit = [
        task
        for task in history.tasks.values()
        if task.status != "COMPLETED" and task.task_type not in RESTING and task.id not in failed
    ]
    assert not unfit, unfit[:5]
    slowest = oracle.slowest_end(history, healed, RESTING)
    _note(record, history, load, slowest)
    assert slowest <= bound, f"the slowest task ended {slowest:.1f} s after the fault"
    return history


def _wait_for_the_end(yard: Deployment, deadline: float) -> None:
    while unended(yard.database_url, RESTING):
        if time.time() > deadline:
            return
        time.sleep(0.5)


def _note(record: Record, history: History, load: Load | None, slowest: float) -> None:
    ended = [task for task in history.tasks.values() if task.task_type not in RESTING]
    record.note("tasks", len(ended))
    record.note("runs beyond one a task", max(0, history.run_count - len(ended)))
    record.note("writes refused as too late", len(history.thrown_away))
    if load is not None:
        record.note("submissions tried again", load.refused.total())
    record.note("slowest end, s", slowest)
