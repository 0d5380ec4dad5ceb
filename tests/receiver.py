"""A receiver of webhooks: a real HTTP server on this machine that keeps what it was sent, and behaves as told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

MEBIBYTE = 1024 * 1024


@dataclass
class Got:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """Where it listens, what it answers, and what it got."""

    url: str = ""
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    # What answers instead.
    behave: Callable[[Receiver, BaseHTTPRequestHandler], None] | None = None
    got: list[Got] = field(default_factory=list)
    # How much of a long answer was taken from it, in bytes.
    sent: int = 0
    # Ends what hangs.
    released: Event = field(default_factory=Event)

    @property
    def ids(self) -> list[str]:
        """Return the ids of what it was told, in that order."""
        return [got.headers["webhook-id"] for got in self.got]


def hang(here: Receiver, handler: BaseHTTPRequestHandler) -> None:
    """Answer when released."""
    here.released.wait(60)
    answer(here, handler)


def drip(here: Receiver, handler: BaseHTTPRequestHandler) -> None:
    """Send a byte of a header now and then, and never come to an end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    with suppress(OSError):
        while not here.released.wait(0.05):
            handler.wfile.write(b"a")


def flood(here: Receiver, handler: BaseHTTPRequestHandler) -> None:
    """Send a gigabyte."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
    with suppress(OSError):
        for _ in range(1024):
            handler.wfile.write(b"x" * MEBIBYTE)
            here.sent += MEBIBYTE


def flood_headers(here: Receiver, handler: BaseHTTPRequestHandler) -> None:
    """Send a header without an end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    with suppress(OSError):
        for _ in range(1024):
            handler.wfile.write(b"x" * MEBIBYTE)
            here.sent += MEBIBYTE


def close_early(here: Receiver, handler: BaseHTTPRequestHandler) -> None:
    """Close in the middle of the status line."""
    handler.wfile.write(b"HTTP/1.")


def babble(here: Receiver, handler: BaseHTTPRequestHandler) -> None:
    """Answer what is not HTTP."""
    handler.wfile.write(b"220 mail.example.com ESMTP\r\n")


def answer(here: Receiver, handler: BaseHTTPRequestHandler) -> None:
    """Answer with the status and the headers."""
    handler.send_response(here.status)
    for name, value in ({"Content-Length": "0"} | here.headers).items():
        handler.send_header(name, value)
    handler.end_headers()


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Listen until the block ends."""
    here = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            here.got.append(Got(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            with suppress(OSError):
                (here.behave or answer)(here, self)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield here
    finally:
        here.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
