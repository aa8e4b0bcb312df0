"""Processors that block, kill their process, or all fail at once."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from tests.fault.deployment import Deployment
from tests.fault.judgement import judge
from tests.fault.record import Record
from tests.fault.rows import row
from tests.fault.scale import Scale

Deploy = Callable[..., Deployment]

BINS = 10
#: Smaller waves tell nothing of their shape.
SMALLEST_WAVE = 500


@row(16, "blocked loop: 10 s of pure Python, in a process of its own and in the loop")
def test_blocked_loop(scale: Scale, deployment: Deploy, record: Record) -> None:
    with deployment() as yard:
        spin = {"inputData": {"ms": 1000 * max(scale.outage, 3 * scale.lease)}}
        with yard.load() as load:
            apart = yard.submit([spin | {"taskType": "spin_apart"}] * 2, "apart")
            yard.until_ended(apart)
            lost_before = yard.lost_leases()
            inside = yard.submit([spin | {"taskType": "spin"}], "inside")
            yard.until_ended(inside)
        history = judge(yard, record, healed=time.time(), load=load, accepted=[*apart, *inside])
        record.note("leases lost beside the process that spins", lost_before)
        record.note("leases lost with the loop that is blocked", yard.lost_leases() - lost_before)
        assert lost_before == 0
        assert history.tasks[inside[0]].lost_count > 0, "the loop was not blocked for a lease"
        assert any(event.task_id == inside[0] for event in history.thrown_away), "the late end was not refused"


@row(17, "poison: the processor ends its process", short=True)
def test_poison(scale: Scale, deployment: Deploy, record: Record) -> None:
    with deployment() as yard, yard.revived():
        poisoned: list[str] = []
        with yard.load() as load:
            for number in range(scale.pick(3, 1)):
                time.sleep(1)
                poisoned += yard.submit([{"taskType": "poison", "inputData": {"ms": 100}}], f"poison-{number}")
                yard.until_ended(poisoned)
        history = judge(yard, record, healed=time.time(), load=load, accepted=poisoned, failed=poisoned)
        found = [history.tasks[task_id] for task_id in poisoned]
        record.note("poison tasks", len(found))
        record.note("most attempts at one", max(task.attempt for task in found))
        record.note("worker processes lost", len(yard.all_workers) - scale.workers)
        assert {(task.status, task.error_code) for task in found} == {("FAILED", "POISON")}
        assert max(task.attempt for task in found) <= 4


@row(22, "herd: the dependency of 5,000 tasks is down for 30 s")
def test_herd(scale: Scale, deployment: Deploy, record: Record) -> None:
    with deployment() as yard:
        yard.down.touch()
        orders = [{"taskType": "dependent", "inputData": {}, "maxRetries": 12}] * scale.crowd
        accepted = yard.submit(orders, "herd")
        time.sleep(scale.pick(30, 6))
        yard.down.unlink()
        healed = time.time()
        history = judge(yard, record, healed=healed, accepted=accepted)
        begins: defaultdict[int, list[float]] = defaultdict(list)
        waits: defaultdict[int, list[float]] = defaultdict(list)
        for task_id in accepted:
            for run in history.runs[task_id]:
                begins[run.attempt].append(run.begun)
            for event in history.by_task[task_id]:
                if event.kind == "STATUS" and event.status == "RETRYING":
                    waits[event.attempt].append(int(event.run_at or 0) / 1000 - event.at.timestamp())
        record.note("retries", sum(len(wave) for attempt, wave in begins.items() if attempt > 1))
        # The waits are what the law of retries gives. Of when they begin, waiting for a slot decides as well.
        record.note("highest peak over the mean of a wave, of the begins", max(_peaks(begins, scale)))
        record.note("of the waits", max(_peaks(waits, scale)))
        # Of a small crowd, chance alone makes higher peaks.
        assert max(_peaks(waits, scale)) <= scale.pick(2, 3)
        assert max(_peaks(begins, scale)) <= scale.pick(2, 3)


def _peaks(waves: Mapping[int, Sequence[float]], scale: Scale) -> list[float]:
    """Of the waves that are large enough to tell something, but for the first runs, which wait for a free slot."""
    return [
        _peak(wave)
        for attempt, wave in waves.items()
        if attempt > 1 and len(wave) >= min(SMALLEST_WAVE, scale.crowd // 2)
    ]


def _peak(wave: Sequence[float]) -> float:
    """How much fuller than the mean the fullest tenth of the wave is; its two thin ends are left out."""
    line = sorted(wave)
    line = line[len(line) // 100 : len(line) - len(line) // 100]
    width = (line[-1] - line[0]) / BINS
    counts = [0] * BINS
    for at in line:
        counts[min(int((at - line[0]) / width), BINS - 1)] += 1
    return max(counts) * BINS / len(line)
