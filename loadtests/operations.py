"""The project's own named operations, as they are sent."""

import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parents[1] / "graphql" / "operations"


def operation(name: str) -> str:
    """The text of `graphql/operations/<name>.graphql`. Reads the file: no server code is loaded for it."""
    return (_FOLDER / f"{name}.graphql").read_text()


def request_body(name: str, variables: dict[str, Any]) -> bytes:
    """The body of a POST that sends this operation."""
    return json.dumps({"query": operation(name), "variables": variables, "operationName": name}).encode()


def headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
