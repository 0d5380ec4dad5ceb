"""Servers to put under load, and the figures of what was measured, which the end of the run shows."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.guarantees.harness import Server, Store

figures_key = pytest.StashKey[list[str]]()
type Start = Callable[..., Server]


def pytest_configure(config: pytest.Config) -> None:
    config.stash[figures_key] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    figures = terminalreporter.config.stash.get(figures_key, [])
    if figures:
        terminalreporter.write_sep("-", "guarantees, measured")
        for line in figures:
            terminalreporter.write_line(line)


@pytest.fixture
def note(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Return a function that keeps a sentence for the end of the run."""
    return pytestconfig.stash[figures_key].append


@pytest.fixture
def start(pytestconfig: pytest.Config) -> Iterator[Start]:
    """Return a function that starts a server on a database of its own, on the engine of the run."""
    with ExitStack() as running:

        def start_server(*, workers: int = 2, max_connections: int = 60) -> Server:
            return running.enter_context(_server(pytestconfig.getoption("--db"), workers, max_connections))

        yield start_server


@contextmanager
def _server(engine: str, workers: int, max_connections: int) -> Iterator[Server]:
    store = Store(engine, max_connections=max_connections)
    try:
        server = Server(store, workers=workers)
        try:
            yield server
        finally:
            server.close()
    finally:
        store.close()


@pytest.fixture
def postgresql_only(pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("--db") != "postgresql":
        pytest.skip("SQLite has no server to restart and no connections to run out of")


@pytest.fixture
def sqlite_only(pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("--db") != "sqlite":
        pytest.skip("PostgreSQL has no file that another process could lock")
