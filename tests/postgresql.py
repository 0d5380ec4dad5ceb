"""A PostgreSQL server for one run of the tests, from the machine's own binaries, in a temporary folder."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import psycopg

from tests.ports import free_port

START_SECONDS = 30
USER = "keyadmin"
INSTALL = "apt-get install -y postgresql (Debian, Ubuntu) or brew install postgresql@17 (macOS)"
FOLDERS = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
)
# The shell outlives whoever started it: when its input closes, because that process stopped the server, crashed or
# was killed, it stops what still runs, whichever start it was, and removes the folder unless that is to be kept.
GUARD = """
cat >/dev/null
[ -e "$FOLDER/data/postmaster.pid" ] && kill -INT "$(head -n 1 "$FOLDER/data/postmaster.pid")"
tries=0
while [ -e "$FOLDER/data/postmaster.pid" ] && [ $tries -lt 300 ]; do sleep 0.1; tries=$((tries + 1)); done
[ -n "$KEPT" ] || rm -rf "$FOLDER"
"""
type Ending = Literal["fast", "immediate", "kill"]
# What "pg_ctl stop -m" sends, and what no server can catch.
SIGNALS: dict[Ending, signal.Signals] = {
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
    "kill": signal.SIGKILL,
}


class NotInstalledError(Exception):
    """There are no binaries of the PostgreSQL server on this machine."""


def binaries() -> Path:
    """Return the folder with initdb and postgres, of the newest version there is."""
    found = [
        folder
        for name in ("postgres", "initdb")
        if (path := shutil.which(name)) and _is_complete(folder := Path(path).resolve().parent)
    ]
    if config := shutil.which("pg_config"):
        told = subprocess.run([config, "--bindir"], check=False, capture_output=True, text=True)
        found.append(Path(told.stdout.strip()))
    for pattern in FOLDERS:
        found += sorted(Path("/").glob(pattern), key=_version, reverse=True)
    for folder in found:
        if _is_complete(folder):
            return folder
    raise NotInstalledError(f"The PostgreSQL server is not installed: {INSTALL}")


def _is_complete(folder: Path) -> bool:
    return (folder / "initdb").exists() and (folder / "postgres").exists()


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in "".join(c if c.isdigit() else " " for c in str(folder)).split())


class PostgreSQL:
    """A running server. As root it runs as nobody, because PostgreSQL refuses to run as root.

    A durable one flushes each commit to disk before it answers, as in production; the other is fast and may lose data.
    Further settings are PostgreSQL's own: ``shared_buffers="1GB"``. With ``kept`` its data stay in that folder, and
    are those of the last time when there are any.
    """

    def __init__(
        self, *, durable: bool = False, max_connections: int = 60, kept: Path | None = None, **settings: str
    ) -> None:
        self._programs = binaries()
        self._settings = {"max_connections": max_connections} | settings
        if not durable:
            self._settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        is_root = os.geteuid() == 0
        # Not in root's own TMPDIR, which may be closed to nobody.
        self._is_kept = kept is not None
        self._folder = kept or Path(tempfile.mkdtemp(prefix="keyadmin-postgresql-", dir="/tmp" if is_root else None))  # noqa: S108
        self._folder.mkdir(parents=True, exist_ok=True)
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the server runs
        self._as: dict[str, Any] = {}
        if is_root:
            nobody = pwd.getpwnam("nobody")
            os.chown(self._folder, nobody.pw_uid, nobody.pw_gid)
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._guard = self._run(["/bin/sh", "-c", GUARD], stdin=subprocess.PIPE)
        try:
            is_new = not (self._folder / "data" / "PG_VERSION").exists()
            if is_new:
                self._initialize()
            self.port = free_port()
            self.start()
            with self.connect() as connection:
                if is_new:
                    connection.execute(f"CREATE DATABASE {USER}")
                row = connection.execute("SHOW server_version").fetchone()
            self.version = f"PostgreSQL {row[0] if row else ''}"
        except BaseException:
            self.stop()
            raise

    def _initialize(self) -> None:
        made = subprocess.run(
            [
                *(self._programs / "initdb", "-D", self._folder / "data", "-U", USER),
                *("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"),
            ],
            check=False,
            cwd="/",
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **self._as,
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed:\n{made.stdout}")

    def _run(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            cwd="/",
            env={
                "PATH": os.environ["PATH"],
                "LC_ALL": "C",
                "FOLDER": str(self._folder),
                "KEPT": "yes" if self._is_kept else "",
            },
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
            **self._as,
        )

    def start(self) -> None:
        """Start the server and return when it answers."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "shared_buffers": "64MB",
            **self._settings,
        }
        command = [str(self._programs / "postgres"), "-D", str(self._folder / "data")]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        self._server = self._run(command)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return self.connect().close()
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"PostgreSQL did not start: {error}\n{self.log()}") from None
            if self._server.poll() is not None:
                # After a kill the memory is in use until the last of the old server's processes has noticed.
                self._server = self._run(command)
            time.sleep(0.02)

    def end(self, ending: Ending = "fast") -> None:
        """End the server, gently or not, and keep its data: start() continues."""
        self._server.send_signal(SIGNALS[ending])
        self._server.wait(START_SECONDS)

    def restart(self, ending: Ending = "fast") -> None:
        """End the server and start it again."""
        self.end(ending)
        self.start()

    def url(self, database: str) -> str:
        """Return the DATABASE_URL of one of its databases."""
        return f"postgres://{USER}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """Connect to one of its databases, as the owner of everything."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, dbname=database, autocommit=True, connect_timeout=5
        )

    def make_database(self, name: str) -> str:
        """Create an empty database and return its URL."""
        with self.connect() as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def log(self, *, without: str = "") -> str:
        """Return the last of what the server has told, but no line with some text."""
        self._log.seek(0)
        lines = [line for line in self._log if not without or without not in line]
        return "".join(lines)[-20_000:]

    def stop(self) -> None:
        """Stop the server and remove its folder, unless that is kept."""
        if server := getattr(self, "_server", None):
            server.send_signal(signal.SIGINT)
            server.wait(START_SECONDS)
        if self._guard.stdin:
            self._guard.stdin.close()
        self._guard.wait(START_SECONDS)
        self._log.close()
