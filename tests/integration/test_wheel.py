"""The wheel holds what an installed Taskyard needs beside its code: browser files, SDL, operations, scripts."""

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("assets")
def test_wheel_holds_assets_pages_sdl_and_operations(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path],
        cwd=ROOT,
        env={**os.environ, "npm_config_offline": "true"},  # set-up has built the assets: nothing is fetched
        check=True,
    )

    (wheel,) = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        files = {info.filename: info.file_size for info in archive.infolist()}
    expected = {
        "taskyard/__init__.py",
        "taskyard_workers/__init__.py",
        *(f"taskyard/queue/lua/{path.name}" for path in (ROOT / "server/taskyard/queue/lua").iterdir()),
        "taskyard_web/pages/start.html",
        "taskyard_graphql/schema.graphql",
        *(f"taskyard_graphql/operations/{path.name}" for path in (ROOT / "graphql/operations").iterdir()),
        *(f"taskyard_graphql/pages/graphiql{end}" for end in (".html", ".css", ".js", "_missing.html")),
        *(
            f"taskyard_graphql/static/graphiql/{name}"
            for name in ("graphiql.min.js", "graphiql.min.css", "react.min.js", "react-dom.min.js")
        ),
        "taskyard_graphql/static/graphiql/graphql-ws.min.js",
    }
    assert expected - files.keys() == set()
    assert min(files[name] for name in expected if "/static/" in name) > 5_000
    roots = {name.split("/")[0] for name in files if ".dist-info/" not in name}
    assert roots == {"taskyard", "taskyard_web", "taskyard_graphql", "taskyard_workers"}
