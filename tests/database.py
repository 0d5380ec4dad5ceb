"""The options ``--db``, which engine the suite runs on, and ``--part``, which of the tests it runs.

Loaded with ``-p``, because Django reads its settings early.
"""

import argparse
import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.postgresql import NotInstalledError, PostgreSQL

ENGINES = ("sqlite", "postgresql")
SETTINGS = Path(__file__).parent.parent / "keyadmin" / "settings.py"
# What hangs fails with its statement instead of holding up the whole run.
HANGS_END = {"statement_timeout": "300s", "lock_timeout": "120s", "idle_in_transaction_session_timeout": "600s"}
server_key = pytest.StashKey[PostgreSQL]()


def setting_variables() -> list[str]:
    """Return the name of every environment variable that the settings read."""
    names = re.findall(r'environment\.\w+\(\s*"([A-Z_]+)"', SETTINGS.read_text())
    return list(dict.fromkeys(names))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--db", choices=ENGINES, default="sqlite", help="The engine to run on (default: sqlite).")
    parser.addoption(
        "--part",
        type=_part,
        default=(1, 1),
        metavar="N/M",
        help="Of the tests that are selected each M-th, beginning with the N-th: 1/2 and 2/2 are all of them.",
    )


def _part(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not N/M, with N from 1 to M.")
    return int(found[1]), int(found[2])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the part that was asked for of what the other options have selected."""
    number, parts = config.getoption("--part")
    if parts > 1:
        config.hook.pytest_deselected(items=[item for place, item in enumerate(items, 1 - number) if place % parts])
        items[:] = items[number - 1 :: parts]


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, parser: pytest.Parser, args: list[str]) -> None:
    """Point the settings at a database of our own, before pytest-django loads them."""
    for name in setting_variables():
        os.environ.pop(name, None)  # what a developer has set must not change what the tests find
    folder = tempfile.mkdtemp(prefix="keyadmin-tests-")
    early_config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    os.environ["DATABASE_URL"] = f"sqlite:///{folder}/development.sqlite3"
    options = parser.parse_known_args(args)
    if options.db != "postgresql" or options.help or options.version or options.collectonly:
        return
    try:
        server = PostgreSQL(**HANGS_END)
    except NotInstalledError as error:
        raise pytest.UsageError(str(error)) from None
    early_config.add_cleanup(server.stop)
    early_config.stash[server_key] = server
    os.environ["DATABASE_URL"] = server.url("keyadmin")


def pytest_report_header(config: pytest.Config) -> str:
    server = config.stash.get(server_key, None)
    return f"database: {server.version}" if server else "database: SQLite"
