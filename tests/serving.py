"""The real server on the test's database, started as deploy/keyadmin.service starts it."""

import http.client
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.commands.running import ROOT, database_url
from tests.ports import free_port
from tests.verifier import Answer

START_SECONDS = 30


def unit_flags() -> list[str]:
    """Return granian's arguments in the systemd unit."""
    text = (ROOT / "deploy/keyadmin.service").read_text()
    [line] = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    return shlex.split(line)[1:]


class Server:
    """A running server, with some flags other than the unit's, on the test's database or that of ``url``."""

    def __init__(
        self, *, workers: int, threads: int, url: str = "", flags: dict[str, str] | None = None, **environment: str
    ) -> None:
        self.port = free_port()
        changed = {"--port": str(self.port), "--workers": str(workers)}
        changed["--log-level"] = "info"  # says when a worker has started
        arguments = unit_flags()
        for flag, value in (changed | (flags or {})).items():
            if flag in arguments:
                arguments[arguments.index(flag) + 1] = value
            else:
                arguments[:0] = [flag, value]
        self._workers = workers
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the server runs
        self.process = subprocess.Popen(
            [sys.executable, "-m", "granian", *arguments],
            cwd=ROOT,
            env=os.environ | {"DATABASE_URL": url or database_url(), "PAGE_THREADS": str(threads)} | environment,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def wait(self) -> None:
        """Wait until each worker has started: granian loses a signal to stop that comes while one starts."""
        self._wait_for_an_answer()
        wait_until(lambda: self.log().count("Started worker-") == self._workers, START_SECONDS)

    def _wait_for_an_answer(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.call("GET", "/healthz")
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"The server did not start:\n{self.log()}") from None
                time.sleep(0.05)
            else:
                return

    def call(self, method: str, path: str, headers: dict[str, str] | None = None, timeout: float = 30) -> Answer:
        """Send a request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, headers=headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())  # type: ignore[arg-type]
        finally:
            connection.close()

    def authorize(self, organization: object, key: str) -> Answer:
        """Ask as a gateway does."""
        slug = getattr(organization, "slug", organization)
        return self.call("GET", f"/v1/{slug}/authorize", {"Authorization": f"Bearer {key}"})

    def workers(self) -> list[int]:
        """Return the process ids of its workers."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(word) for word in path.read_text().split()]

    def log(self) -> str:
        """Return what it has logged."""
        # Not by seek(): the server writes where this file's offset is.
        return os.pread(self._log.fileno(), 1_000_000, 0).decode("utf-8", "replace")

    def terminate(self) -> None:
        """Ask each of its processes to stop, as systemd does."""
        for process in (self.process.pid, *self.workers()):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)

    def stop(self) -> int:
        """Ask it to stop, again where a worker has missed the signal (docs/operations.md); return its exit status."""
        for _ in range(5):
            self.terminate()
            with suppress(subprocess.TimeoutExpired):
                return self.process.wait(3)
        return self.process.wait(START_SECONDS)

    def close(self) -> None:
        """Stop it if it runs, and forget what it has logged."""
        if self.process.poll() is None:
            self.stop()
        self._log.close()


def wait_until(true: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until something is so. Raises AssertionError when it does not come about."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "That did not happen in time."
        time.sleep(0.02)


@contextmanager
def served(
    *, workers: int = 1, threads: int = 4, url: str = "", flags: dict[str, str] | None = None, **environment: str
) -> Iterator[Server]:
    """Serve until the block ends."""
    server = Server(workers=workers, threads=threads, url=url, flags=flags, **environment)
    try:
        server.wait()
        yield server
    finally:
        server.close()
