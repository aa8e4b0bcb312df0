"""Where a process writes what it has to say: the standard error stream, a line each, with time, level and part."""

import logging

#: Taskyard's own parts, which also tell what is over again; of libraries only what goes wrong.
_OURS = ("taskyard", "taskyard_graphql", "taskyard_web", "taskyard_workers")


def log_to_stderr() -> None:
    """For processes that run on; a program that uses the library says itself what becomes of its log."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    for name in _OURS:
        logging.getLogger(name).setLevel(logging.INFO)
