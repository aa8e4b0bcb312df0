"""The lifecycle: every pair of states, legal or not."""

import pytest

from taskyard.errors import IllegalTransition
from taskyard.lifecycle import ENDED, TRANSITIONS, TaskStatus, check_move

# Written out a second time, from the design, so that a slip in the table cannot hide.
LEGAL = {
    "SUBMITTED": "QUEUED SCHEDULED CANCELLED FAILED",
    "SCHEDULED": "QUEUED CANCELLED FAILED",
    "QUEUED": "ASSIGNED PLANNING PROCESSING CANCELLED FAILED",
    "ASSIGNED": "PLANNING PROCESSING QUEUED CANCELLED FAILED",
    "PLANNING": "ASSIGNED PROCESSING REVIEW QUEUED RETRYING FAILED CANCELLED",
    "PROCESSING": "REVIEW COMPLETED QUEUED RETRYING FAILED CANCELLED",
    "REVIEW": "COMPLETED QUEUED REJECTED CANCELLED FAILED",
    "RETRYING": "QUEUED CANCELLED FAILED",
    "FAILED": "QUEUED",
    "REJECTED": "QUEUED",
    "CANCELLED": "QUEUED",
    "COMPLETED": "",
}


@pytest.mark.parametrize("current", TaskStatus)
@pytest.mark.parametrize("wanted", TaskStatus)
def test_every_pair(current: TaskStatus, wanted: TaskStatus) -> None:
    if wanted in LEGAL[current].split():
        check_move(current, wanted)
        return
    with pytest.raises(IllegalTransition) as caught:
        check_move(current, wanted)
    assert current in caught.value.message
    assert wanted in caught.value.message
    assert (caught.value.current, caught.value.wanted) == (current, wanted)


def test_the_table_names_every_status() -> None:
    assert set(TRANSITIONS) == set(TaskStatus)
    assert set(LEGAL) == set(TaskStatus)


def test_an_end_is_left_only_for_the_queue() -> None:
    assert {target for status in ENDED for target in TRANSITIONS[status]} == {TaskStatus.QUEUED}
