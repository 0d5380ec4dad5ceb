"""What only the wire can show: the real server with requests that no well-meaning client sends."""

import json
import socket
import threading

import pytest

from apikeys.models import ApiKey, UsageEvent
from tests.factories import make_key
from tests.guarantees.clients import Wire
from tests.serving import Server, served

TRUSTED = "127.0.0.0/8"


@pytest.fixture
def server(committed):
    with served(TRUSTED_PROXIES=TRUSTED) as started:
        yield started


def ask(server: Server, request: str | bytes):
    wire = Wire(server.port)
    try:
        return wire.ask(request if isinstance(request, bytes) else request.encode())
    finally:
        wire.close()


def authorize(server, committed, key, *lines: str):
    head = [f"GET /v1/{committed.slug}/authorize HTTP/1.1", "Host: localhost", f"Authorization: Bearer {key}", *lines]
    return ask(server, "\r\n".join([*head, "", ""]))


def recorded(issued) -> UsageEvent:
    return UsageEvent.objects.get(key_id=issued.key.pk)


def test_a_header_with_underscores_passes_for_no_other(committed, server):
    issued = make_key(committed)
    reply = authorize(
        server,
        committed,
        issued.secret.text,
        "X_Forwarded_For: 203.0.113.9",
        "X-Forwarded-For: 198.51.100.7",
        "X_Original_URI: /forged",
    )
    assert reply.status == 200
    assert (recorded(issued).address, recorded(issued).path) == ("198.51.100.7", "")
    page = ask(
        server,
        "GET /accounts/login/ HTTP/1.1\r\nHost: localhost\r\nX_Forwarded_For: 203.0.113.9\r\nCookie_: a=b\r\n\r\n",
    )
    assert page.status == 200


def test_a_header_that_comes_twice_is_read_as_one(committed, server):
    issued = make_key(committed)
    reply = authorize(
        server, committed, issued.secret.text, "X-Forwarded-For: 203.0.113.9", "X-Forwarded-For: 198.51.100.7"
    )
    assert (reply.status, recorded(issued).address) == (200, "198.51.100.7")
    assert authorize(server, committed, issued.secret.text, "Authorization: Bearer nonsense").status == 401


def test_text_beyond_ascii_is_no_error(committed, server):
    issued = make_key(committed)
    head = (
        f"GET /v1/{committed.slug}/authorize HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {issued.secret.text}"
    )
    hostile = b"\r\nX-Original-URI: /caf\xc3\xa9/\xff\r\nUser-Agent: caf\xc3\xa9 \xff\r\n\r\n"
    assert ask(server, head.encode() + hostile).status == 200
    assert recorded(issued).path.startswith("/café/")
    assert recorded(issued).user_agent.startswith("café ")
    query = b"GET /accounts/login/?next=/caf\xc3\xa9/%ff HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert ask(server, query).status in {200, 400}
    path = b"GET /%ff%fe/%00/ HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert ask(server, path).status in {302, 400, 404}
    assert server.call("GET", "/healthz").status == 200


def test_a_body_may_come_in_chunks_and_has_its_limit(committed, server):
    issued = make_key(committed)
    body = json.dumps({"key": issued.secret.text, "path": "/chunks"}).encode()
    head = (
        f"POST /v1/{committed.slug}/verify HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    )
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:20], body[20:]))
    assert ask(server, head + chunks + b"0\r\n\r\n").status == 200
    assert recorded(issued).path == "/chunks"
    large = b'{"key": "' + b"x" * 20_000 + b'"}'
    told = (
        f"POST /v1/{committed.slug}/verify HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(large)}\r\n\r\n".encode()
    )
    assert ask(server, told + large).status == 413


def test_an_answer_to_head_has_no_body(committed, server):
    issued = make_key(committed)
    request = (
        f"HEAD /v1/{committed.slug}/authorize HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {issued.secret.text}\r\n\r\n"
    )
    wire = Wire(server.port)
    try:
        # On one connection: a body would be taken for the beginning of the second answer.
        assert [wire.ask(request.encode()).status for _ in range(2)] == [200, 200]
    finally:
        wire.close()


def test_half_a_form_changes_nothing(committed, server):
    """A client that goes away in the middle has sent nothing, not the half of it."""
    before = ApiKey.objects.count()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(
            b"POST /accounts/login/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            b"Content-Length: 500\r\n\r\nlogin=somebody%40example.com&pass"
        )
    assert server.call("GET", "/accounts/login/").status == 200
    assert ApiKey.objects.count() == before
    assert "Traceback" not in server.log()


def test_many_refusals_at_once_hold_up_nobody(committed, server):
    """A refusal waits before it is answered; what is accepted meanwhile does not wait behind it."""
    issued = make_key(committed)
    statuses: list[int] = []

    def refused() -> None:
        wire = Wire(server.port)
        head = f"GET /v1/{committed.slug}/authorize HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: nonsense\r\n\r\n".encode()
        statuses.extend(wire.ask(head).status for _ in range(20))
        wire.close()

    threads = [threading.Thread(target=refused) for _ in range(40)]
    for thread in threads:
        thread.start()
    accepted = [authorize(server, committed, issued.secret.text).status for _ in range(20)]
    for thread in threads:
        thread.join()
    assert accepted == [200] * 20
    assert statuses == [401] * 800
