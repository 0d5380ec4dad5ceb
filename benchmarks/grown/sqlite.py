"""The same data in SQLite: copied from PostgreSQL, where they are made."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import uuid
from datetime import UTC, date, datetime
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Final

from tests.postgresql import PostgreSQL

ROOT: Final = Path(__file__).resolve().parent.parent.parent
FILE: Final = ROOT / "var" / "benchmark" / "lists.sqlite3"
_TABLES: Final = (
    *("user", "organization", "environment", "member", "scope", "apikey", "keyscope", "keyactivity", "keyrhythm"),
    *("keyexemption", "usageevent", "usagehour", "usageday", "organizationhour", "organizationday", "busiestkey"),
    "usagewatermark",
)


def copy(server: PostgreSQL, name: str) -> str:
    """Copy a database into FILE; return its DATABASE_URL."""
    for old in FILE.parent.glob(f"{FILE.name}*"):
        old.unlink()
    url = f"sqlite:///{FILE}"
    for command in (["migrate", "--verbosity=0"], ["createcachetable"]):
        environment = os.environ | {"DATABASE_URL": url, "DEBUG": "false"}
        subprocess.run([sys.executable, "manage.py", *command], cwd=ROOT, env=environment, check=True)
    target = sqlite3.connect(FILE)
    with server.connect(name) as source:
        for table in _TABLES:
            _copy_table(source, target, f"apikeys_{table}")
    # They are counted already: the trigger that notes what comes late cannot know.
    target.execute("DELETE FROM apikeys_latehour")
    target.commit()
    target.execute("ANALYZE")
    target.close()
    return url


def _copy_table(source: Any, target: sqlite3.Connection, table: str) -> None:
    with source.transaction(), source.cursor("copying") as cursor:
        # Generated columns, which are hidden, make themselves.
        names = [name for _, name, *_, hidden in target.execute(f"PRAGMA table_xinfo({table})") if not hidden]
        cursor.execute(f"SELECT {', '.join(names)} FROM {table}")
        marks = ", ".join("?" for _ in names)
        insert = f"INSERT OR REPLACE INTO {table} ({', '.join(names)}) VALUES ({marks})"
        target.executemany(insert, (tuple(map(_adapted, row)) for row in cursor))
    target.commit()


def _adapted(value: Any) -> Any:
    """Return a value as Django keeps it in SQLite."""
    if isinstance(value, datetime):
        return str(value.astimezone(UTC).replace(tzinfo=None))
    if isinstance(value, date | IPv4Address | IPv6Address):
        return str(value)
    if isinstance(value, uuid.UUID):
        return value.hex
    return json.dumps(value) if isinstance(value, list | dict) else value
