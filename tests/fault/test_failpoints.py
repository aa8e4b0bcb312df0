"""Processes that die between two steps that belong together."""

import time
from collections import Counter
from collections.abc import Callable

from tests.fault import oracle
from tests.fault.deployment import Deployment, every
from tests.fault.failing import EXIT_CODE, failing
from tests.fault.index import indexed
from tests.fault.judgement import judge
from tests.fault.program import Program
from tests.fault.record import Record
from tests.fault.rows import row
from tests.fault.scale import Scale

Deploy = Callable[..., Deployment]

#: How long one that must reach its failpoint is waited for.
PATIENCE = 120.0


def dies(yard: Deployment, victim: Program, key: str) -> list[str]:
    """Give it work until it has reached its failpoint; gives the ids of that work."""
    work = {"taskType": "work", "inputData": {"ms": 100}}
    accepted: list[str] = []
    deadline = time.monotonic() + PATIENCE
    while victim.running:
        assert time.monotonic() < deadline, f"it does not reach its failpoint:\n{victim.tail()}"
        # Under the load it may be there before it has said that it works.
        if victim.ready:
            accepted += yard.submit([work] * yard.scale.slots, f"{key}-{len(accepted)}")
        time.sleep(0.2)
    assert victim.ended() == EXIT_CODE, victim.tail()
    return accepted


@row(3, "death after the Lua claim, before its commit", short=True)
def test_death_after_the_claim_in_redis(scale: Scale, deployment: Deploy, record: Record) -> None:
    with deployment() as yard:
        deaths = 0
        accepted: list[str] = []
        with yard.load() as load:
            for number in every(scale.pick(5, 3), lambda: load.lasts):
                # At its first claim: it runs nothing yet whose lease could be lost with it.
                victim = yard.start_worker(failing("claimed", 1), ready=False)
                accepted += dies(yard, victim, f"claimed-{number}")
                deaths += 1
                yard.workers.remove(victim)
        history = judge(yard, record, healed=time.time(), load=load, accepted=accepted)
        # What the dead one had taken out of the index waits for its time there; nothing else is so slow.
        waits = [
            claim.at.timestamp() - history.tasks[claim.task_id].created_at.timestamp()
            for claim in history.claims
            if claim.attempt == 1
        ]
        record.note("deaths", deaths)
        record.note("slowest start, s", max(waits))
        assert max(waits) <= scale.within(6), "what was taken from the index came back too late"
        assert not any(task.lost_count for task in history.tasks.values()), (
            "no attempt was made of what was not begun"
        )


@row(4, "death between the commit and the index")
def test_death_between_the_commit_and_the_index(scale: Scale, deployment: Deploy, record: Record) -> None:
    with deployment(workers=0) as yard:
        (survivor,) = yard.serves
        delays: list[float] = []
        accepted: list[str] = []
        for number in range(scale.pick(20, 3)):
            victim = yard.start_serve(failing("committed", 1))
            yard.drop_serve(victim)
            # Its client hears nothing, and turns to the other server with the same key.
            order = {"taskType": "work", "inputData": {"ms": number + 1}}
            accepted += yard.submit([order], f"cut-{number}", through=[victim, survivor])
            assert victim.ended() == EXIT_CODE, victim.tail()
            delays.append(indexed(yard, accepted[-1]) - (victim.died or 0))
        record.note("deaths", len(delays))
        record.note("slowest to be in the index, s", max(delays))
        for _ in range(scale.workers):
            yard.start_worker()
        judge(yard, record, healed=time.time(), accepted=accepted)
        assert max(delays) <= scale.within(1)


@row(5, "death between the end in SQL and the answer to it", short=True)
def test_death_after_the_end_in_sql(scale: Scale, deployment: Deploy, record: Record) -> None:
    with deployment() as yard:
        pids: list[int] = []
        accepted: list[str] = []
        with yard.load() as load:
            for number in every(scale.pick(5, 3), lambda: load.lasts):
                victim = yard.start_worker(failing("finished", 1 + number % 20), ready=False)
                accepted += dies(yard, victim, f"finished-{number}")
                pids.append(victim.pid)
                yard.workers.remove(victim)
        history = judge(yard, record, healed=time.time(), load=load, accepted=accepted)
        again = [
            run
            for runs in history.runs.values()
            for run in runs
            if (task := history.tasks[run.task_id]).status == "COMPLETED" and run.attempt > task.attempt
        ]
        record.note("deaths", len(pids))
        record.note("runs of what had ended", len(again))
        assert not again
        # Each death left one task behind whose end nobody was told of.
        ended_by = Counter(
            oracle.pid_of(event.actor)
            for event in history.events
            if event.kind == "STATUS" and event.status == "COMPLETED"
        )
        assert all(ended_by[pid] for pid in pids), "a worker died before it had ended anything"
