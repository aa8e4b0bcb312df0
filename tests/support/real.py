"""What a machine may lack: a test that needs it is skipped, or fails where everything must be real."""

import os
from typing import NoReturn

import pytest

from taskyard_graphql import graphiql


def cannot(reason: str) -> NoReturn:
    """Skip, and say so loudly; fail where TASKYARD_REQUIRE_REAL=1 asks for the real thing."""
    if os.environ.get("TASKYARD_REQUIRE_REAL") == "1":
        pytest.fail(f"{reason}, and TASKYARD_REQUIRE_REAL=1 asks for it", pytrace=False)
    pytest.skip(f"TEST NOT RUN: {reason}")


def need_assets() -> None:
    """Go on only if GraphiQL's files are built."""
    if not (graphiql.ASSETS / "STAMP").is_file():
        cannot("GraphiQL's files are not built (TASKYARD_SKIP_ASSETS)")
