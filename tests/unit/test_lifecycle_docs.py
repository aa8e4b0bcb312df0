"""docs/lifecycle.md says what the lifecycle's table says."""

import re
from collections import defaultdict
from pathlib import Path

import pytest

from taskyard.lifecycle import (
    COUNTED_AS_FAILED,
    COUNTED_AS_PROCESSING,
    COUNTED_AS_QUEUED,
    TRANSITIONS,
    TaskStatus,
)

PAGE = (Path(__file__).parents[2] / "docs/lifecycle.md").read_text()
START_OR_END = "[*]"


def diagram() -> list[tuple[str, str]]:
    """The arrows of the Mermaid diagram, in order. Fails at a line that is none."""
    (body,) = re.findall(r"```mermaid\nstateDiagram-v2\n(.*?)```", PAGE, re.DOTALL)
    arrows: list[tuple[str, str]] = []
    for line in filter(None, map(str.strip, body.splitlines())):
        arrow = re.fullmatch(r"(\[\*\]|[A-Z]+) --> (\[\*\]|[A-Z]+)(?: : [\w ,]+)?", line)
        assert arrow is not None, line
        arrows.append((arrow[1], arrow[2]))
    return arrows


def table() -> dict[str, tuple[str, str, str]]:
    """Meaning, count and targets by state."""
    rows = re.findall(r"^\| `([A-Z]+)` \| (.+?) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
    assert len(rows) == len({row[0] for row in rows})
    return {state: (meaning, counted, targets) for state, meaning, counted, targets in rows}


def test_the_diagram_has_the_arrows_of_the_table() -> None:
    drawn = defaultdict(set)
    for source, target in diagram():
        if START_OR_END not in (source, target):
            drawn[source].add(target)
    assert drawn == {status.value: set(map(str, targets)) for status, targets in TRANSITIONS.items() if targets}


def test_no_arrow_is_drawn_twice() -> None:
    assert len(diagram()) == len(set(diagram()))


def test_a_task_begins_where_it_waits_and_ends_where_nothing_leads_out() -> None:
    assert {target for source, target in diagram() if source == START_OR_END} == {"SUBMITTED", "SCHEDULED", "QUEUED"}
    assert {source for source, target in diagram() if target == START_OR_END} == {
        status.value for status, targets in TRANSITIONS.items() if not targets
    }


def test_the_page_explains_every_state() -> None:
    assert list(table()) == [status.value for status in TaskStatus]


@pytest.mark.parametrize("status", TaskStatus)
def test_the_page_says_where_each_state_leads(status: TaskStatus) -> None:
    meaning, counted, targets = table()[status]
    assert meaning
    assert set(re.findall(r"`([A-Z]+)`", targets)) == set(map(str, TRANSITIONS[status]))
    names = {"queued": COUNTED_AS_QUEUED, "processing": COUNTED_AS_PROCESSING, "failed": COUNTED_AS_FAILED}
    assert [name for name, statuses in names.items() if status in statuses] == ([] if counted == "-" else [counted])
