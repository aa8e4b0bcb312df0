"""The project's own operations, `graphql/operations/*.graphql`: what its clients send."""

from pathlib import Path


def operation(name: str) -> str:
    """The text of one of the project's own operations, `graphql/operations/<name>.graphql`."""
    package = Path(__file__).parent
    # Beside the package in a checkout, inside it in a wheel.
    folder = next(found for found in (package / "operations", package.parent / "operations") if found.is_dir())
    return (folder / f"{name}.graphql").read_text()
