"""The servers around a gateway under test: the API behind it, a tap on its line to the verifier, and itself."""

import http.client
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.ports import free_port

RECIPES = Path(__file__).parent.parent.parent / "deploy" / "gateways"
START_SECONDS = 15
# Loopback addresses that no trusted proxy has: the gateway itself speaks from 127.0.0.1.
CLIENT, STRANGER = "127.0.0.2", "127.0.0.3"


class NotInstalledError(Exception):
    """There is no such gateway on this machine, or these tests cannot run on its system."""


def find(program: str) -> str:
    """Return the path of a gateway's program. An ordinary user's PATH may lack the folders that Debian has them in."""
    if sys.platform != "linux":
        raise NotInstalledError("Clients of different addresses, as 127.0.0.2, are on the loopback of Linux only")
    if path := shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"):
        return path
    raise NotInstalledError(f"{program} is not installed")


@dataclass(frozen=True)
class Reached:
    """A request as the API behind the gateway got it; header names are in lower case."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        """Return what an application would see: also a name with underscores counts, and all values together."""
        same = [value for given, value in self.headers if given.replace("_", "-") == name.lower()]
        return ", ".join(same)


class Api:
    """What a gateway protects: it keeps each request and answers 200, or what X-Answer asks for."""

    def __init__(self) -> None:
        self.reached: list[Reached] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        reached = self.reached

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle(self) -> None:
                with suppress(ConnectionResetError):  # a gateway that stops leaves connections behind
                    super().handle()

            def answer(self) -> None:
                headers = [(name.lower(), value) for name, value in self.headers.items()]
                reached.append(Reached(self.command, self.path, headers, self._body()))
                self.send_response(int(self.headers.get("X-Answer", "200")))
                self.send_header("Content-Length", "2")
                self.send_header("X-From-Api", "yes")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(b"ok")

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = answer  # noqa: N815

            def _body(self) -> bytes:
                if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                    return self.rfile.read(int(self.headers.get("Content-Length", "0")))
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Tap:
    """A line to a port that shows what goes over it, and that can be cut or fall silent."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.port = free_port()
        self.sent = b""
        self._silent = False
        self._open: list[socket.socket] = []
        self._listen()

    def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            self._open.append(near)
            far = socket.create_connection(("127.0.0.1", self._to))
            self._open.append(far)
            threading.Thread(target=self._pump, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, False), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, is_question: bool) -> None:
        try:
            while data := source.recv(65536):
                if is_question:
                    self.sent += data
                if not self._silent:
                    target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            with closing(end):
                _hang_up(end)

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Nobody listens, and every connection ends."""
        self._close()
        try:
            yield
        finally:
            self._listen()

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Connections are accepted, and nothing is ever answered."""
        self._silent = True
        try:
            yield
        finally:
            self._silent = False
            for end in self._open:
                _hang_up(end)

    def _close(self) -> None:
        for end in [self._listener, *self._open]:
            _hang_up(end)
        self._listener.close()
        self._open.clear()

    def stop(self) -> None:
        self._close()


def _hang_up(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class Answer:
    """What a client got; header names are found in any case."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


type Headers = Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]]


class Gateway:
    """A real server that runs a recipe of deploy/gateways, with other ports, names and folders in it."""

    def __init__(self, recipe: str, values: Mapping[str, object]) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="keyadmin-gateway-"))
        self.recipe = self.folder / recipe
        text = (RECIPES / recipe).read_text()
        for written, value in {**values, "8080": self.port}.items():
            text, count = re.subn(rf"(?<!\w){re.escape(written)}(?!\w)", str(value), text)
            # Traefik's port stands in its other, static configuration.
            assert count or (recipe, written) == ("traefik.yml", "8080"), f"{recipe} says nothing of {written}"
        self.recipe.write_text(text)
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the server runs

    def start(self, command: Sequence[object], **options: Any) -> None:
        """Start the server, which must stay in the foreground, and wait for its port."""
        self._process = subprocess.Popen(
            [str(word) for word in command], cwd=self.folder, stdout=self._log, stderr=subprocess.STDOUT, **options
        )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    told = self.log()
                    self.stop()
                    raise RuntimeError(f"The gateway did not start:\n{told}") from None
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(START_SECONDS)
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def ask(
        self,
        method: str = "GET",
        path: str = "/",
        key: str = "",
        headers: Headers = (),
        body: bytes | Iterable[bytes] = b"",
        *,
        client: str = CLIENT,
    ) -> Answer:
        """Send a request as a client of the API does. Names and values of headers go out as they are."""
        with closing(
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=20, source_address=(client, 0))
        ) as connection:
            connection.putrequest(method, path, skip_accept_encoding=True)
            if key:
                connection.putheader("Authorization", f"Bearer {key}")
            for name, value in headers.items() if isinstance(headers, Mapping) else headers:
                connection.putheader(name, value)
            if isinstance(body, bytes):
                if body:
                    connection.putheader("Content-Length", str(len(body)))
                connection.endheaders(body or None)
            else:
                connection.putheader("Transfer-Encoding", "chunked")
                connection.endheaders(body, encode_chunked=True)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())


def show(text: bytes) -> str:
    """Return bytes of the line to the verifier as text, in lower case."""
    return text.decode("latin-1").lower()
