"""Clients in processes of their own that send requests as fast as they are answered, and note what came of each.

No Django here: a process starts quickly, and knows nothing but the wire.
"""

import json
import multiprocessing
import random
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple

ORGANIZATION = "acme"
SCOPES = ("", "orders:read", "orders:write")
INSIDE, OUTSIDE = "198.51.100.7", "203.0.113.9"
# A connection belongs to one worker process of the server; a new one may come to another.
REQUESTS_PER_CONNECTION = 50
TIMEOUT = 30


class Target(NamedTuple):
    """A key to present: what the test calls it, and its text."""

    number: int
    text: str


class Asked(NamedTuple):
    """One request and what came of it; times are time.time_ns(). Status 0: the connection broke first."""

    path: str
    key: int
    scope: str
    address: str
    sent: int
    arrived: int
    status: int
    outcome: str
    retry_after: str


class Reply(NamedTuple):
    """An answer as it came over the wire, its header names in lower case."""

    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str:
        for line in self.head.split(b"\r\n")[1:]:
            found, _, value = line.partition(b":")
            if found.decode().lower() == name:
                return value.strip().decode()
        return ""


class Wire:
    """One connection that is kept; after a failure the next request opens another."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def ask(self, request: bytes) -> Reply:
        """Send a request and read the whole answer. Raises OSError when the connection breaks or is refused."""
        try:
            if self._socket is None:
                self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=TIMEOUT)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.sendall(request)
            return self._read(self._socket)
        except OSError:
            self.close()
            raise

    def _read(self, stream: socket.socket) -> Reply:
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._more(stream)
        head, body = received[:end], received[end + 4 :]
        reply = Reply(int(head[9:12]), head, body)
        length = int(reply.header("content-length") or 0)
        while len(body) < length:
            body += self._more(stream)
        return reply._replace(body=body)

    @staticmethod
    def _more(stream: socket.socket) -> bytes:
        part = stream.recv(65536)
        if not part:
            raise ConnectionResetError("The server closed the connection.")
        return part

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def verify_request(key: str, scope: str = "", address: str = INSIDE, path: str = "") -> bytes:
    """Return the bytes with which a service asks."""
    body = json.dumps({"key": key, "scope": scope, "address": address, "path": path}).encode()
    head = f"POST /v1/{ORGANIZATION}/verify HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def authorize_request(key: str, scope: str = "", address: str = INSIDE, path: str = "") -> bytes:
    """Return the bytes with which a gateway asks."""
    query = f"?scope={scope}" if scope else ""
    return (
        f"GET /v1/{ORGANIZATION}/authorize{query} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        f"X-Forwarded-For: {address}\r\nX-Original-URI: {path}\r\n\r\n"
    ).encode()


class Client:
    """One connection's worth of requests, each with a path that no other request has."""

    def __init__(self, port: int, name: str, seed: object) -> None:
        self._wire = Wire(port)
        self._name = name
        self._random = random.Random(f"{seed} {name}")  # noqa: S311 - a test's choice, to be repeated
        self.asked: list[Asked] = []

    def ask(self, targets: Sequence[Target]) -> None:
        """Ask about one of some keys, from a random side, for a random scope."""
        choose = self._random.choice
        target, scope, address = choose(targets), choose(SCOPES), choose((INSIDE, OUTSIDE))
        path = f"/{self._name}/{len(self.asked)}"
        by_service = choose((True, False))
        request = (verify_request if by_service else authorize_request)(target.text, scope, address, path)
        if len(self.asked) % REQUESTS_PER_CONNECTION == 0:
            self._wire.close()
        status, outcome, retry_after = 0, "", ""
        sent = time.time_ns()
        try:
            reply = self._wire.ask(request)
        except OSError:
            time.sleep(0.02)  # as a client does that finds nobody there
        else:
            status, retry_after = reply.status, reply.header("retry-after")
            if by_service and reply.body:
                outcome = json.loads(reply.body).get("outcome") or ""
        arrived = time.time_ns()
        self.asked.append(Asked(path, target.number, scope, address, sent, arrived, status, outcome, retry_after))

    def close(self) -> None:
        self._wire.close()


class Crew:
    """The clients of one process, each in a thread."""

    def __init__(self, port: int, name: str, threads: int, seed: object) -> None:
        self.targets: list[Target] = []
        self.quota = 0
        self._begin, self._stop = threading.Event(), threading.Event()
        self._clients = [Client(port, f"{name}-{number}", seed) for number in range(threads)]
        self._faults: list[Exception] = []
        self._threads = [threading.Thread(target=self._work, args=[client], daemon=True) for client in self._clients]
        for thread in self._threads:
            thread.start()

    def _work(self, client: Client) -> None:
        self._begin.wait()
        try:
            while not self._stop.is_set() and len(client.asked) < self.quota:
                client.ask(self.targets)
        except Exception as error:
            self._faults.append(error)
        finally:
            client.close()

    def begin(self, quota: int) -> None:
        """Let each client send so many requests."""
        self.quota = quota
        self._begin.set()

    @property
    def is_done(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def end(self) -> list[Asked]:
        """Stop, and return everything that was asked."""
        self._stop.set()
        self._begin.set()
        for thread in self._threads:
            thread.join()
        if self._faults:
            raise self._faults[0]
        return [asked for client in self._clients for asked in client.asked]


def run(control: Connection, port: int, name: str, threads: int, seed: object) -> None:
    """Be a process of clients: obey what comes through the pipe, and at the end send everything that was asked.

    Messages: a list of targets; how many requests each client sends, at most, which lets them begin; None, to end.
    None goes back when the clients have sent all they should.
    """
    crew, told = Crew(port, name, threads, seed), False
    while True:
        if crew.is_done and not told:
            told = True
            control.send(None)
        if not control.poll(0.05):
            continue
        message = control.recv()
        if message is None:
            break
        if isinstance(message, int):
            crew.begin(message)
        else:
            crew.targets = message
    control.send(crew.end())


class Load:
    """Several processes of clients: show() what keys there are, go(), and collect() what came of it."""

    def __init__(self, port: int, *, processes: int, threads: int, seed: object = 0) -> None:
        self.clients = processes * threads
        context = multiprocessing.get_context("spawn")
        self._pipes, self._processes = [], []
        for number in range(processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=run, args=[theirs, port, f"p{number}", threads, seed], daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def show(self, targets: Sequence[Target]) -> None:
        """Tell every client which keys to present from now on."""
        for pipe in self._pipes:
            pipe.send(list(targets))

    def go(self, requests: int = 10**9) -> None:
        """Let the clients begin; together they send about so many requests."""
        for pipe in self._pipes:
            pipe.send(-(-requests // self.clients))

    @property
    def is_done(self) -> bool:
        """Whether every client has sent all its requests, or is no more."""
        return all(pipe.poll() for pipe in self._pipes)

    def collect(self) -> list[Asked]:
        """Stop the clients and return every request in the order of sending."""
        asked: list[Asked] = []
        for pipe in self._pipes:
            pipe.send(None)
        for pipe in self._pipes:
            while (received := pipe.recv()) is None:
                pass
            asked += received
        self.end()
        return sorted(asked, key=lambda request: request.sent)

    def end(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(1)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
        self._pipes, self._processes = [], []


@contextmanager
def load(port: int, *, processes: int = 2, threads: int = 4, seed: object = 0) -> Iterator[Load]:
    """Clients that end with the block, whatever happens in it."""
    clients = Load(port, processes=processes, threads=threads, seed=seed)
    try:
        yield clients
    finally:
        clients.end()
