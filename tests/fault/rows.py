"""How a row of the table of faults is written as a test."""

from collections.abc import Callable
from typing import Any, TypeVar

import pytest

F = TypeVar("F", bound=Callable[..., Any])


def row(number: int, fault: str, *, short: bool = False) -> Callable[[F], F]:
    """Mark a test as the row of this number. `fault` is how the table tells of it.

    It runs with the whole load in `make faults`, and if `short` with a short one in `make test`, too.
    """
    scales = [pytest.param("full", id="full", marks=pytest.mark.fault)]
    if short:
        scales.append(pytest.param("short", id="short", marks=pytest.mark.slow))

    def mark(function: F) -> F:
        scaled: F = pytest.mark.parametrize("scale", scales, indirect=True)(function)
        marked: F = pytest.mark.row(number, fault)(scaled)
        return marked

    return mark
