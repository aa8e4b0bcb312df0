"""The oracle of the fault tests sees each breach of each invariant."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.fault import oracle
from tests.fault.history import EventRow, History, TaskRow
from tests.fault.runlog import RunLine, read_runs

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
LOST = '{"reason": "LEASE_LOST", "holder": "box-11-ab"}'
TOO_LATE = '{"level": "WARNING", "message": "attempt 1 ended as COMPLETED ...; that was thrown away"}'


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def a_task(task_id: str = "a", **values: object) -> TaskRow:
    row: dict[str, object] = {
        "id": task_id,
        "status": "COMPLETED",
        "task_type": "work",
        "version": 3,
        "attempt": 1,
        "lost_count": 0,
        "retry_count": 0,
        "generation": 1,
        "priority": 5,
        "queue_seq": 1,
        "idempotency_key": f"key-{task_id}",
        "error_code": None,
        "created_at": at(0),
        "completed_at": at(2),
    }
    return TaskRow(**(row | values))  # type: ignore[arg-type]  # as the table gives them


def an_event(seq: int, version: int, status: str, attempt: int, **values: object) -> EventRow:
    row: dict[str, object] = {
        "seq": seq,
        "task_id": "a",
        "version": version,
        "attempt": attempt,
        "kind": "STATUS",
        "actor": "worker:box-11-ab",
        "at": at(seq - 1),
        "status": status,
        "run_at": None,
        "priority": 5,
        "queue_seq": 1,
        "detail": None,
    }
    return EventRow(**(row | values))  # type: ignore[arg-type]  # as the table gives them


def a_run(attempt: int = 1, task_id: str = "a") -> RunLine:
    return RunLine(task_id, attempt, 11, at(1).timestamp(), at(2).timestamp(), True)


EVENTS = [an_event(1, 1, "QUEUED", 0), an_event(2, 2, "PROCESSING", 1), an_event(3, 3, "COMPLETED", 1)]
GOOD = History({"a": a_task()}, EVENTS, {"a": [a_run()]})
#: Its worker died, and another did it.
RECOVERED = History(
    {"a": a_task(attempt=2, version=5, lost_count=1, completed_at=at(4))},
    [
        *EVENTS[:2],
        an_event(3, 3, "QUEUED", 1, detail=LOST, actor="system:janitor"),
        an_event(4, 4, "PROCESSING", 2, actor="worker:box-12-cd"),
        an_event(5, 5, "COMPLETED", 2, actor="worker:box-12-cd"),
    ],
    {"a": [replace(a_run(), ended=None, whole=False), a_run(2)]},
)


def check(history: History) -> None:
    oracle.none_lost(history, ["a"])
    oracle.one_row_a_key(history, ["key-a"])
    oracle.one_commit(history)
    oracle.gapless(history)
    oracle.lawful(history)


@pytest.mark.parametrize("history", [GOOD, RECOVERED], ids=["plain", "recovered"])
def test_a_lawful_history_passes(history: History) -> None:
    check(history)


def without(number: int) -> list[EventRow]:
    return [event for event in EVENTS if event.seq != number]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (History({}, []), "accepted tasks are gone"),
        (replace(GOOD, tasks={"a": a_task(status="PROCESSING")}), "tasks never ended"),
        (replace(GOOD, tasks={"a": a_task(), "b": a_task("b", idempotency_key="key-a")}), "keys have not one row"),
        (replace(GOOD, tasks={"a": a_task(attempt=2)}), "not completed once by their newest attempt"),
        (
            replace(GOOD, tasks={"a": a_task(version=4)}, events=[*EVENTS, an_event(4, 4, "COMPLETED", 1)]),
            "not completed once by their newest attempt",
        ),
        (replace(GOOD, runs={}), "completed attempts never ran"),
        (replace(GOOD, runs={"a": [a_run(), a_run()]}), "attempts began twice"),
        (replace(GOOD, runs={"a": [a_run(), a_run(2)]}), "an attempt that nobody claimed"),
        (replace(GOOD, events=without(2)), "a gap in seq"),
        (
            replace(GOOD, events=[*EVENTS[:1], replace(EVENTS[1], version=3), replace(EVENTS[2], version=4)]),
            r"have the versions \[1, 3, 4\]",
        ),
        (replace(GOOD, tasks={"a": a_task(version=4)}), "has 3 events"),
        (replace(GOOD, events=[EVENTS[0], replace(EVENTS[1], status="COMPLETED"), EVENTS[2]]), "completed once"),
        (
            replace(GOOD, events=[EVENTS[0], replace(EVENTS[1], status="RETRYING", attempt=0), EVENTS[2]]),
            "against the law at version 2",
        ),
        (
            replace(GOOD, events=[EVENTS[0], replace(EVENTS[1], attempt=2), replace(EVENTS[2], attempt=1)]),
            "against the law at version 2",
        ),
        (replace(GOOD, events=[replace(EVENTS[0], status="PROCESSING"), *EVENTS[1:]]), "the law at version 1"),
        (
            replace(
                GOOD,
                tasks={"a": a_task(status="FAILED")},
                events=[*EVENTS[:2], an_event(3, 3, "CANCELLED", 1)],
            ),
            "not as its last event",
        ),
    ],
)
def test_a_breach_is_seen(broken: History, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check(broken)


def test_a_resting_task_may_wait_and_must() -> None:
    waiting = a_task("b", task_type="waiting", status="QUEUED")
    oracle.none_lost(replace(GOOD, tasks={"a": a_task(), "b": waiting}), ["a", "b"], ["waiting"])
    with pytest.raises(AssertionError, match="do not rest"):
        oracle.none_lost(replace(GOOD, tasks={"b": replace(waiting, status="COMPLETED")}), ["b"], ["waiting"])


def test_the_slowest_end_counts_from_the_fault_or_a_later_submission() -> None:
    healed = at(1).timestamp()
    later = a_task("b", created_at=at(10), completed_at=at(13))
    assert oracle.slowest_end(GOOD, healed) == 1
    assert oracle.slowest_end(replace(GOOD, tasks={"a": a_task(), "b": later}), healed) == 3


def test_what_was_thrown_away_is_found() -> None:
    late = an_event(4, 4, "COMPLETED", 1, kind="LOG", detail=TOO_LATE)
    assert History({}, [*EVENTS, late]).thrown_away == [late]


def test_a_late_result_is_a_whole_run_of_an_attempt_that_was_not_the_last() -> None:
    assert oracle.late_results(GOOD) == 0
    assert oracle.late_results(RECOVERED) == 0
    assert oracle.late_results(replace(RECOVERED, runs={"a": [a_run(), a_run(2)]})) == 1


def test_recovery_is_from_the_death_to_the_next_claim() -> None:
    died = at(1).timestamp() + 0.5
    assert oracle.recoveries(RECOVERED, [(11, died)]) == [pytest.approx(1.5)]
    assert oracle.recoveries(RECOVERED, [(13, died)]) == []
    # Claimed by another process that was given the same number later: it was not its death.
    assert oracle.recoveries(RECOVERED, [(11, at(0).timestamp())]) == []


@pytest.mark.parametrize(
    ("line", "most"), [([1, 2, 3], 0), ([2, 1, 3], 1), ([2, 3, 4, 1], 3), ([4, 1, 2, 3], 1), ([3, 2, 1], 2)]
)
def test_overtaking_is_counted_inside_a_priority(line: list[int], most: int) -> None:
    tasks = {str(number): a_task(str(number)) for number in line}
    claims = [
        an_event(position, 2, "PROCESSING", 1, task_id=str(number), queue_seq=number)
        for position, number in enumerate(line, 1)
    ]
    urgent = an_event(9, 2, "PROCESSING", 1, task_id="1", queue_seq=0, priority=10)
    assert oracle.most_overtaken(History(tasks, [*claims, urgent]), {"work"}) == most


def test_the_run_log_tells_how_each_run_ended(tmp_path: Path) -> None:
    log = tmp_path / "runs.txt"
    assert read_runs(log) == {}
    log.write_text("b a 1 11 1.0\nb b 1 11 1.5\nx b 1 11 2.0\nb a 2 12 3.0\ne a 2 12 4.0\n")
    assert read_runs(log) == {
        "a": [RunLine("a", 1, 11, 1.0, None, False), RunLine("a", 2, 12, 3.0, 4.0, True)],
        "b": [RunLine("b", 1, 11, 1.5, 2.0, False)],
    }
