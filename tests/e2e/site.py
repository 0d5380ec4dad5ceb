"""The product as it runs: a real server in a process of its own, and a real mail server that it sends to."""

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.database import setting_variables
from tests.mailbox import mail_server
from tests.ports import free_port

ROOT = Path(__file__).parent.parent.parent
START_SECONDS = 30
ORGANIZATION = "acme"


class Site:
    """A server on a database of its own, filled by tests/e2e/seed.py."""

    def __init__(self, database_url: str, **environment: str) -> None:
        self._ends = ExitStack()
        self.mailbox = self._ends.enter_context(mail_server())
        self.port = free_port()
        self.url = f"http://localhost:{self.port}"
        self._environment = {name: value for name, value in os.environ.items() if name not in setting_variables()} | {
            "ENVIRONMENT": "development",
            "DEBUG": "false",
            "DATABASE_URL": database_url,
            "BASE_URL": self.url,
            "EMAIL_URL": self.mailbox.url,
            # People sign in once for all tests.
            "STEP_UP_MINUTES": "240",
            **environment,
        }
        self.seeded: dict[str, Any] = json.loads(self._run("tests.e2e.seed"))
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the server runs
        self._server = self._start()

    def age_proof(self, session: str) -> None:
        """Let it be long ago that somebody showed who they are, in a session of that key."""
        self._run("tests.e2e.age_proof", session)

    def manage(self, *arguments: str) -> str:
        """Run a command, and return what it prints."""
        return self._run("manage", *arguments)

    def _run(self, module: str, *arguments: str) -> str:
        ran = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            check=False,
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
        )
        if ran.returncode:
            raise RuntimeError(f"{module} failed:\n{ran.stderr}")
        return ran.stdout

    def _start(self) -> subprocess.Popen[str]:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "granian", "--interface", "asginl", "--loop", "uvloop", "--host", "127.0.0.1"),
                # Stopped as a deployment is: deploy/keyadmin.service.
                *("--port", str(self.port), "--workers", "1", "--workers-kill-timeout", "25"),
                *("--log-level", "warning", "keyadmin.asgi:application"),
            ],
            cwd=ROOT,
            env=self._environment,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            text=True,
        )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.request("GET", "/healthz")
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    server.kill()
                    raise RuntimeError(f"The server did not start:\n{self.log()}") from None
                time.sleep(0.1)
            else:
                return server

    def stop(self) -> str:
        """Stop both servers and return what the site's server logged."""
        self._ends.close()
        self._server.terminate()
        self._server.wait(START_SECONDS)
        log = self.log()
        self._log.close()
        return log

    def log(self) -> str:
        """Return what the server has logged."""
        self._log.seek(0)
        return self._log.read()

    # What services and gateways ask

    def request(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: object = None
    ) -> tuple[int, bytes]:
        """Send a request to the server and return status and body."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def verify(self, key: str, scope: str = "orders:read") -> tuple[int, str]:
        """Ask as a service does; returns status and outcome."""
        status, body = self.request("POST", f"/v1/{ORGANIZATION}/verify", body={"key": key, "scope": scope})
        return status, json.loads(body)["outcome"]

    def authorize(self, key: str, scope: str = "orders:read", address: str = "203.0.113.9") -> int:
        """Ask as a gateway in front of a service does; returns the status."""
        path = f"/v1/{ORGANIZATION}/authorize?{urlencode({'scope': scope})}"
        headers = {
            "Authorization": f"Bearer {key}",
            "User-Agent": "orders-report/2.1",
            "X-Forwarded-For": address,
            "X-Forwarded-Method": "GET",
            "X-Forwarded-Uri": "/v2/orders?page=2",
        }
        return self.request("GET", path, headers)[0]
