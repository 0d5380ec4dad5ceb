"""Running our commands as a shell does, in the test's own transaction or in a process of their own."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from django.core.management import CommandError, load_command_class
from django.db import connection

ROOT = Path(__file__).parent.parent.parent


@dataclass
class Ran:
    """What a command answered."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.out)
        return answer

    @property
    def json_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


def run(name: str, *arguments: str, stdin: str = "") -> Ran:
    """Run a command in the test's transaction, its arguments parsed as those of a shell."""
    out, err = io.StringIO(), io.StringIO()
    command = load_command_class("apikeys", name)
    status = 0
    with patch("sys.stdin", io.StringIO(stdin)), redirect_stderr(err):
        try:
            parser = command.create_parser("manage.py", name)
            parser.called_from_command_line = True
            options = vars(parser.parse_args(list(arguments)))
            options.pop("args", None)
            command.execute(**options | {"stdout": out, "stderr": err})
        except CommandError as error:
            err.write(f"CommandError: {error}")
            status = error.returncode
        except SystemExit as stop:
            status = int(stop.code or 0)
    return Ran(status, out.getvalue(), err.getvalue())


def database_url() -> str:
    """Return the URL of the database that the tests use now."""
    settings = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{settings['NAME']}"
    return f"postgres://{settings['USER']}@{settings['HOST']}:{settings['PORT']}/{settings['NAME']}"


def run_process(*arguments: str, stdin: str = "", **environment: str) -> Ran:
    """Run manage.py in a process of its own; it sees what is committed."""
    ran = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        check=False,
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": database_url()} | environment,
        input=stdin,
        capture_output=True,
        text=True,
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)
