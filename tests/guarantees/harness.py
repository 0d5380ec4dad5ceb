"""The product as it runs in production: several worker processes on one database, both of which may be killed."""

import http.client
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.database import setting_variables
from tests.guarantees.clients import Target
from tests.ports import free_port
from tests.postgresql import PostgreSQL

ROOT = Path(__file__).parent.parent.parent
START_SECONDS = 60


class Store:
    """A database of its own for one server: a SQLite file, or a PostgreSQL that keeps what it has committed."""

    def __init__(self, engine: str, *, max_connections: int = 60) -> None:
        self.engine = engine
        self._folder = Path(tempfile.mkdtemp(prefix="keyadmin-guarantees-"))
        self.postgresql = PostgreSQL(durable=True, max_connections=max_connections) if engine == "postgresql" else None
        self.file = self._folder / "keyadmin.sqlite3"
        self.url = self.postgresql.url("keyadmin") if self.postgresql else f"sqlite:///{self.file}"

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return what a query finds, past the product."""
        if self.postgresql:
            with self.postgresql.connect("keyadmin") as connection:
                return connection.execute(query.encode()).fetchall()
        with closing(sqlite3.connect(self.file, timeout=20)) as connection:
            return connection.execute(query).fetchall()

    def close(self) -> None:
        if self.postgresql:
            self.postgresql.stop()
        shutil.rmtree(self._folder)


class Stage:
    """The process that does what a test needs done inside the product: tests/guarantees/stage.py."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.guarantees.stage"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def do(self, verb: str, *arguments: Any) -> Any:
        assert self._process.stdin
        self._process.stdin.write(json.dumps([verb, *arguments]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("The stage failed; its error is above.")
        return json.loads(line)

    def key(self, **terms: Any) -> dict[str, Any]:
        """Make a key: its id, public_id and text."""
        made: dict[str, Any] = self.do("key", terms)
        return made

    def targets(self, count: int, **terms: Any) -> list[Target]:
        """Make keys to present; each is called by its id in the database."""
        made = [self.key(**terms) for _ in range(count)]
        return [Target(key["id"], key["text"]) for key in made]

    def close(self) -> None:
        self._process.communicate()


class Server:
    """granian with several worker processes that are started anew when they die, as under systemd."""

    def __init__(self, store: Store, *, workers: int = 2) -> None:
        self.store = store
        self.port = free_port()
        self._workers = workers
        self._environment = {name: value for name, value in os.environ.items() if name not in setting_variables()} | {
            "ENVIRONMENT": "development",
            "DEBUG": "false",
            "DATABASE_URL": store.url,
            "BASE_URL": f"http://localhost:{self.port}",
        }
        self.stage = Stage(self._environment)
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the server runs
        self.start()

    def start(self) -> None:
        """Start the server and return when it answers."""
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "granian", "--interface", "asginl", "--loop", "uvloop"),
                *("--host", "127.0.0.1", "--port", str(self.port), "--workers", str(self._workers)),
                *("--respawn-failed-workers", "--log-level", "warning", "keyadmin.asgi:application"),
            ],
            cwd=ROOT,
            env=self._environment,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_SECONDS
        while not self.is_healthy() or len(self.workers()) < self._workers:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The server did not start:\n{self.log()}")
            time.sleep(0.05)

    def is_healthy(self) -> bool:
        """Whether a worker process answers; that needs no database."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)) as connection:
            try:
                connection.request("GET", "/healthz")
                return connection.getresponse().status == 200
            except OSError:
                return False

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        told = subprocess.run(["pgrep", "-P", str(self._process.pid)], check=False, capture_output=True, text=True)
        return [int(line) for line in told.stdout.split()]

    def kill_worker(self, pid: int) -> None:
        """Kill one worker process, which nothing can catch."""
        os.kill(pid, signal.SIGKILL)

    def kill(self) -> None:
        """Kill the server with all its worker processes."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(START_SECONDS)

    def is_running(self) -> bool:
        """Whether the server's first process, which starts the workers, is the one that was started."""
        return self._process.poll() is None

    def log(self) -> str:
        """Return what the server has logged."""
        self._log.seek(0)
        return self._log.read()

    def close(self) -> None:
        """Stop the server and its stage."""
        self.stage.close()
        self._process.terminate()
        self._process.wait(START_SECONDS)
        self._log.close()
