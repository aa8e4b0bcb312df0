"""Fixtures of the fault tests: a deployment of one's own, and a record of what was measured.

TASKYARD_FAULT_SCALE=short runs every row with the short load, TASKYARD_FAULT_ROWS="1 6 7" only these rows;
TASKYARD_FAULT_RECORDS names the folder for the figures.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fault.deployment import Deployment
from tests.fault.record import Record
from tests.fault.scale import FULL, SHORT, Scale

_OUTCOME = pytest.StashKey[str]()
_DEPLOYMENT = pytest.StashKey[Deployment]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = os.environ.get("TASKYARD_FAULT_ROWS", "").split()
    if not wanted:
        return
    rows = {item: item.get_closest_marker("row") for item in items if item.get_closest_marker("fault")}
    left_out = [item for item, mark in rows.items() if mark is None or str(mark.args[0]) not in wanted]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    report = yield
    if report.when == "call":
        item.stash[_OUTCOME] = "passed" if report.passed else "failed"
        deployment = item.stash.get(_DEPLOYMENT, None)
        if report.failed and deployment is not None:
            report.sections.append(("what the processes said", deployment.logs()))
    return report


@pytest.fixture
def scale(request: pytest.FixtureRequest) -> Scale:
    if request.param == "short" or os.environ.get("TASKYARD_FAULT_SCALE") == "short":
        return SHORT
    return FULL


@pytest.fixture
def record(request: pytest.FixtureRequest, scale: Scale) -> Iterator[Record]:
    """Figures of this row; saved at its end if it was run with the whole load."""
    mark = request.node.get_closest_marker("row")
    made = Record(*mark.args)
    yield made
    folder = os.environ.get("TASKYARD_FAULT_RECORDS")
    if folder and scale.full:
        made.save(Path(folder), request.node.stash.get(_OUTCOME, "failed"))


@pytest.fixture
def deployment(request: pytest.FixtureRequest, tmp_path: Path, scale: Scale) -> Callable[..., Deployment]:
    """Makes the deployment of this test; what its processes said is shown if the test fails."""

    def make(**options: Any) -> Deployment:
        made = Deployment(tmp_path, scale, **options)
        request.node.stash[_DEPLOYMENT] = made
        return made

    return make
