"""What is no HTTP, or two requests that pass for one, sent to the real server as bytes."""

import socket

import pytest

from apikeys.models import UsageEvent
from tests.factories import make_key
from tests.serving import Server, served

POST = b"POST /accounts/login/ HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
def server(committed):
    with served() as server:
        yield server


def send(server: Server, request: bytes) -> bytes:
    """Send bytes as they stand, and return what comes until the server closes or says nothing more."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        try:
            client.sendall(request)
            return client.recv(65536)
        except (ConnectionError, TimeoutError):
            return b""


def test_what_is_no_http_is_refused_and_the_server_goes_on(committed, server):
    issued = make_key(committed)
    head = f"GET /v1/{committed.slug}/authorize HTTP/1.1\r\nHost: x\r\nX-Api-Key: {issued.secret.text}\r\n".encode()
    hostile = {
        "a header without end": head + b"X: " + b"x" * 1_000_000,
        "too many headers": head + b"".join(b"X-%d: y\r\n" % number for number in range(5000)) + b"\r\n",
        "a header over lines": head + b"X: y\r\n z\r\n\r\n",
        "a NUL in a header": head + b"X: \0\r\n\r\n",
        "no name": head + b": y\r\n\r\n",
        "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
        "a length that is none": POST + b"Content-Length: -1\r\n\r\n",
        "no request": b"\x16\x03\x01\x02\x00\x01\x00" * 50,
        "another version": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    }
    for name, request in hostile.items():
        answer = send(server, request)
        assert not answer or answer[9:12] in {b"400", b"401", b"431", b"505", b"413"}, (name, answer[:80])
    assert server.call("GET", "/healthz").status == 200
    assert "Traceback" not in server.log()


def test_a_length_beside_chunks_smuggles_nothing(committed, server):
    """RFC 9112, 6.3: the chunks count, or it is refused; what follows is no second request."""
    issued = make_key(committed)
    second = f"GET /v1/{committed.slug}/authorize HTTP/1.1\r\nHost: x\r\nX-Api-Key: {issued.secret.text}\r\n\r\n"
    body = f"0\r\n\r\n{second}".encode()
    request = (
        f"POST /v1/{committed.slug}/verify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    ).encode()
    answer = send(server, request + body)
    assert answer[9:12] == b"400"
    assert answer.count(b"HTTP/1.1") == 1
    assert not UsageEvent.objects.filter(key_id=issued.key.pk).exists()


def test_a_large_body_for_a_page_is_refused_without_reading_it(committed, server):
    head = POST + b"Content-Type: application/x-www-form-urlencoded\r\n"
    answer = send(server, head + b"Content-Length: 2000000000\r\n\r\n" + b"login=" + b"x" * 1000)
    assert answer[9:12] in {b"403", b"413"}
