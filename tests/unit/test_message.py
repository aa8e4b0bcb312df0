"""What goes through the pipe comes out as it was, and what is none of ours is refused."""

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from taskyard.errors import InvalidInput
from taskyard.task import ErrorCode, LogLevel, Metrics, StepStatus
from taskyard_workers.context import Identity
from taskyard_workers.message import (
    FROM_RUN,
    LENGTH,
    MAX_MESSAGE,
    TO_RUN,
    Answer,
    BadMessage,
    Ended,
    Fault,
    LogLine,
    Progress,
    Start,
    StepChange,
    Stop,
    decode,
    encode,
    size,
)
from taskyard_workers.outcome import Completed, Failed, Interrupted, Reason

WHO = Identity("t1", "default", None, 3)


def through(message: Any, kinds: TypeAdapter[Any]) -> Any:
    frame = encode(message)
    body = frame[LENGTH.size :]
    assert size(frame[: LENGTH.size]) == len(body)
    return decode(body, kinds)


@pytest.mark.parametrize(
    "message",
    [
        Start("my.module", ["/a", ""], "mail", WHO, {"text": ["ho", 1, None, 2.5]}),
        Stop(),
        Answer(1, None),
        Answer(2, Fault("LEASE_LOST", "gone")),
    ],
)
def test_what_the_worker_says(message: Any) -> None:
    assert through(message, TO_RUN) == message


@pytest.mark.parametrize(
    "message",
    [
        Progress(1, 12.5, None),
        Progress(2, math.inf, "far"),
        StepChange(3, "read", StepStatus.COMPLETED, {"pages": 2}),
        LogLine(4, LogLevel.WARNING, "slow"),
        Ended(Completed({"a": [1]}, Metrics(actual_cost=0.5, processing_ms=7))),
        Ended(Completed(None, Metrics())),
        Ended(Failed(ErrorCode.INVALID_OUTPUT, "no", False, 3)),
        Ended(Failed("MY_OWN", "no", True, 0)),
        Ended(Interrupted(Reason.LOST)),
    ],
)
def test_what_a_run_says(message: Any) -> None:
    assert through(message, FROM_RUN) == message


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_a_result_stays_what_it_was(output: Any) -> None:
    assert through(Ended(Completed(output, Metrics())), FROM_RUN).outcome.output == output


def test_half_of_a_surrogate_pair_and_no_number() -> None:
    """In a result they stay, to be refused as anywhere; in a text a mark is put in their place."""
    assert through(Ended(Completed("\udcff", Metrics())), FROM_RUN).outcome.output == "\udcff"
    assert math.isnan(through(Ended(Completed(math.nan, Metrics())), FROM_RUN).outcome.output)
    assert through(Ended(Failed("C", "\udcff", False, 0)), FROM_RUN).outcome.message == "?"
    assert through(LogLine(1, LogLevel.INFO, "\udcff"), FROM_RUN).message == "?"


def test_what_the_store_writes_as_text_is_that_text() -> None:
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    assert through(StepChange(1, "s", StepStatus.RUNNING, moment), FROM_RUN).output == "2026-03-01T00:00:00+00:00"


@pytest.mark.parametrize("output", [{1j}, object(), "x" * (MAX_MESSAGE + 1)])
def test_what_cannot_travel(output: Any) -> None:
    with pytest.raises(InvalidInput, match=r"it cannot be stored as JSON|it is larger than"):
        encode(Ended(Completed(output, Metrics())))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x80\x04N.",  # a pickle
        b"null",
        b"[" * 100_000,
        json.dumps({"kind": "start"}).encode(),
        json.dumps({"kind": "progress", "number": 1, "percent": "far", "step": None}).encode(),
        json.dumps({"kind": "ended", "outcome": {"code": "X"}}).encode(),
    ],
)
def test_what_is_no_message(body: bytes) -> None:
    with pytest.raises(BadMessage):
        decode(body, FROM_RUN)


def test_a_length_that_cannot_be() -> None:
    with pytest.raises(BadMessage, match="a message of 1347374675 bytes"):
        size(b"PONS")
