"""The audit of the packages: a fault fails it, an exception needs a reason, and it ends when nobody answers."""

import json
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from tests.package_audit import EXCEPTIONS, FOUND, NOT_ASKED, audit, exceptions
from tests.test_architecture import ROOT

pytestmark = pytest.mark.any_engine

# The one that ./dev uses.
UV = shutil.which("uv") or str(ROOT / ".uv/bin/uv")
FAULT = {
    "id": "PYSEC-2026-1",
    "modified": "2026-01-01T00:00:00Z",
    "published": "2026-01-01T00:00:00Z",
    "summary": "A fault",
    "details": "A fault",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "django"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}],
        }
    ],
}


class Osv(BaseHTTPRequestHandler):
    """Knows a fault of Django."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
        fault = {"vulns": [{"id": FAULT["id"], "modified": FAULT["modified"]}]}
        self.answer({"results": [fault if one["package"]["name"] == "django" else {} for one in asked]})

    def do_GET(self) -> None:
        self.answer(FAULT)

    def answer(self, told: object) -> None:
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@contextmanager
def osv() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Osv)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_known_fault_fails_and_is_named_unless_there_is_an_exception():
    with osv() as service:
        status, told = audit(UV, service)
        assert status == FOUND, told
        assert "PYSEC-2026-1" in told
        assert "django" in told
        status, told = audit(UV, service, "PYSEC-2026-1 It concerns a function that keyadmin never calls.")
        assert status == 0, told


def test_it_ends_when_nobody_answers_or_nobody_is_there():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        status, _ = audit(UV, f"http://127.0.0.1:{silent.getsockname()[1]}", seconds=3)
        assert (status, time.monotonic() - began < 10) == (NOT_ASKED, True)
    assert audit(UV, "http://127.0.0.1:9")[0] == NOT_ASKED


@pytest.mark.parametrize("line", ["PYSEC-2026-1", "PYSEC-2026-1 too short", "because I say so, and it is long"])
def test_an_exception_without_a_reason_is_none(line):
    with pytest.raises(ValueError, match="reason"):
        exceptions(f"# A comment\n\n{line}\n")


def test_each_exception_that_there_is_has_its_reason():
    for name, reason in exceptions(EXCEPTIONS.read_text()).items():
        assert len(reason) >= 20, name
    assert "tests.package_audit" in (ROOT / "dev").read_text()
