"""A machine that lacks something skips its tests; one that must have everything fails them."""

from pathlib import Path

import pytest
from tests.support.real import need_assets

from taskyard_graphql import graphiql


@pytest.mark.parametrize(
    ("real", "outcome"), [("", pytest.skip.Exception), ("0", pytest.skip.Exception), ("1", pytest.fail.Exception)]
)
def test_missing_assets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, real: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setattr(graphiql, "ASSETS", tmp_path)
    monkeypatch.setenv("TASKYARD_REQUIRE_REAL", real)
    with pytest.raises(outcome, match="not built"):
        need_assets()
    (tmp_path / "STAMP").touch()
    need_assets()
