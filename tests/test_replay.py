"""benchmarks/replay.py against the real application behind the real server: every line is counted, exactly once."""

import gzip
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from apikeys.models import ApiKey, Outcome, UsageEvent, UsageHour
from tests.commands.running import ROOT, database_url
from tests.factories import make_key, make_revoked_key, make_rotation
from tests.ports import free_port

AGENT = b"Mozilla/5.0 (X11)"
START_SECONDS = 30


@pytest.fixture
def server(committed) -> Iterator[str]:
    """Serve the test's database and return the server's address."""
    port = free_port()
    command = [
        "granian",
        "--interface",
        "asginl",
        "--loop",
        "uvloop",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            *command,
            "--log-level",
            "error",
            "keyadmin.asgi:application",
        ],
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": database_url()},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url)
        yield url
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{url}/healthz"):  # noqa: S310 - our own server
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def line(client: bytes, second: int = 0, request: bytes = b"GET /v2/orders?page=2 HTTP/1.1", agent: bytes = AGENT):
    at = b"17/May/2015:10:05:%02d +0000" % second
    return b'%s - - [%s] "%s" 200 1234 "-" "%s"\n' % (client, at, request, agent)


def replay(server: str, log: Path, organization: str, keys: str, *arguments: str, stdin: str = ""):
    return subprocess.run(
        [
            *(sys.executable, "benchmarks/replay.py", str(log), "--url", server, "--organization", organization),
            *("--keys", keys, "--json", *arguments),
        ],
        check=False,
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
    )


def counted(key: ApiKey) -> dict[str, int]:
    """Return what the dashboard shows."""
    return UsageHour.objects.by_outcome(key, key.created_at.replace(minute=0, second=0, microsecond=0))


def test_the_dashboard_counts_the_lines_exactly(server, committed, tmp_path):
    good = make_key(committed, "good", scopes=["orders:read"])
    revoked = make_revoked_key(committed, "revoked")
    limited = make_key(committed, "limited", rate_limit=(1, 3600, 5))
    clients = [b"192.0.2.1", b"192.0.2.2", b"2001:db8::3"]
    lines = [line(clients[number % 3], number % 60) for number in range(120)]
    lines += [
        line(b"192.0.2.1", request=b"DELETE /admin HTTP/1.1"),
        line(b"192.0.2.1", request=b"POST /v2/orders HTTP/2.0"),
    ]
    broken = [
        b"",
        b"garbage",
        line(b"192.0.2.1", request=b"-"),
        b'192.0.2.1 - - [yesterday] "GET / HTTP/1.1" 200 1 "-" "-"',
    ]
    broken += [line(b"192.0.2.1", request=rb"\x16\x03\x01\x02")]
    (tmp_path / "access.log").write_bytes(b"".join(lines) + b"\n".join(entry.strip() for entry in broken) + b"\n")
    (tmp_path / "scopes").write_text("# what needs which\nPOST /v2/orders orders:write\n* /v2/orders orders:read\n")
    keys = tmp_path / "keys"
    keys.write_text("\n".join(issued.secret.text for issued in (good, revoked, limited)))

    ran = replay(server, tmp_path / "access.log", committed.slug, str(keys), "--scope-map", str(tmp_path / "scopes"))

    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert (told["lines"], told["sent"], told["malformed"]) == (127, 122, 5)
    assert [entry["line"] for entry in told["malformed_lines"]] == [123, 124, 125, 126, 127]
    assert told["statuses"] == {"200": 41 + 5, "401": 40, "403": 1, "429": 35}
    assert counted(good.key) == {Outcome.VALID: 41, Outcome.SCOPE_MISSING: 1}
    assert counted(revoked.key) == {Outcome.REVOKED: 40}
    assert counted(limited.key) == {Outcome.VALID: 5, Outcome.RATE_LIMITED: 35}
    assert told["keys"][f"ka_prod_{good.key.public_id}"] == {"200": 41, "403": 1}
    for issued in (good, revoked, limited):
        assert issued.secret.secret not in ran.stdout + ran.stderr


def test_each_client_keeps_its_key_and_its_line_arrives_whole(server, committed, tmp_path):
    keys = [make_key(committed) for _ in range(2)]
    lines = [line(b"192.0.2.%d" % (number % 5), request=b"PUT /a/%d?key=no HTTP/1.1" % number) for number in range(50)]
    (tmp_path / "access.log.gz").write_bytes(gzip.compress(b"".join(lines)))

    ran = replay(server, tmp_path / "access.log.gz", committed.slug, ",".join(issued.secret.text for issued in keys))

    assert ran.returncode == 0, ran.stderr
    events = UsageEvent.objects.filter(key_id__in=[issued.key.pk for issued in keys])
    # First come, first served: clients 0, 2 and 4 got the first key, 1 and 3 the second.
    assert Counter(events.values_list("key_id", "address")) == Counter(
        {(keys[number % 2].key.pk, f"192.0.2.{number}"): 10 for number in range(5)}
    )
    assert set(events.values_list("path", flat=True)) == {f"/a/{number}" for number in range(50)}
    assert set(events.values_list("method", "user_agent")) == {("PUT", AGENT.decode())}


def test_any_bytes_are_carried_and_counted(server, committed, tmp_path):
    issued = make_key(committed)
    odd = [
        line(b"192.0.2.1", request=b"GET /caf\xe9/\xff\xfe HTTP/1.1", agent=b"na\xefve \xff"),
        line(b"192.0.2.1", request="GET /café HTTP/1.1".encode(), agent="🚀 agent".encode()),
        line(
            b"192.0.2.1",
            request=rb"GET /\xe2\x82\xac\x00\x0d\x0aX-Evil: 1 HTTP/1.1",
            agent=rb"quote \" backslash \\ \x1b[0m",
        ),
        line(b"192.0.2.1", request=b"GET /" + b"a" * 20_000 + b" HTTP/1.1", agent=b"b" * 20_000),
        line(b"192.0.2.1", agent=b""),
        line(b"crawler.example.net"),
    ]
    (tmp_path / "access.log").write_bytes(b"".join(odd))

    ran = replay(server, tmp_path / "access.log", committed.slug, "-", stdin=issued.secret.text + "\n")

    assert ran.returncode == 0, ran.stdout + ran.stderr
    told = json.loads(ran.stdout)
    assert told["statuses"] == {"200": len(odd)}
    assert told["host_names"] == 1
    assert counted(issued.key) == {Outcome.VALID: len(odd)}


def test_a_server_that_goes_away_is_reported_and_nothing_is_sent_again(committed, tmp_path):
    issued = make_key(committed)
    (tmp_path / "access.log").write_bytes(b"".join(line(b"192.0.2.1") for _ in range(20)))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Answers the health check, then takes one request a connection and hangs up.
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        taken: list[bytes] = []
        _start_rude_server(listener, taken)
        ran = replay(url, tmp_path / "access.log", committed.slug, issued.secret.text, "--concurrency", "2")
    assert ran.returncode == 1
    told = json.loads(ran.stdout)
    assert told["statuses"] == {"no answer": 20}
    assert sum(told["failures"].values()) == 20
    assert len([request for request in taken if b"/authorize" in request]) == 20


def _start_rude_server(listener: socket.socket, taken: list[bytes]) -> None:
    def serve() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                taken.append(peer.recv(65536))
                if taken[-1].startswith(b"GET /healthz"):
                    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    threading.Thread(target=serve, daemon=True).start()


def test_the_logs_own_timing_can_be_kept(server, committed, tmp_path):
    issued = make_key(committed)
    (tmp_path / "access.log").write_bytes(b"".join(line(b"192.0.2.1", second) for second in (0, 5, 10)))
    ran = replay(server, tmp_path / "access.log", committed.slug, issued.secret.text, "--speed", "10x")
    assert ran.returncode == 0
    assert json.loads(ran.stdout)["seconds"] >= 1.0


def write_keys(path: Path, keys) -> str:
    path.write_text("\n".join(issued.secret.text for issued in keys))
    return str(path)


def test_clients_move_to_new_keys_one_after_another_and_nobody_is_refused(server, committed, tmp_path):
    old = [make_key(committed) for _ in range(2)]
    new = [make_rotation(committed, issued.key).issued for issued in old]
    clients = 10
    lines = [line(b"192.0.2.%d" % (number % clients), number % 60) for number in range(400)]
    (tmp_path / "access.log").write_bytes(b"".join(lines))

    ran = replay(
        *(server, tmp_path / "access.log", committed.slug, write_keys(tmp_path / "old", old)),
        *("--move-to", write_keys(tmp_path / "new", new), "--move-between", "0.2", "0.65", "--concurrency", "1"),
    )

    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["statuses"] == {"200": 400}, "not one request was refused"
    assert told["clients_moved"] == clients
    assert set(told["keys"]) == {f"ka_prod_{issued.key.public_id}" for issued in [*old, *new]}
    # A client sends every tenth line. The first moves after line 80, each other one 20 lines later.
    for number in range(clients):
        counts = [
            UsageEvent.objects.of(issued.key).filter(address=f"192.0.2.{number}").count()
            for issued in (old[number % 2], new[number % 2])
        ]
        assert counts == [8 + 2 * number, 32 - 2 * number]
    for issued in (*old, *new):
        assert issued.secret.secret not in ran.stdout + ran.stderr


def test_whoever_comes_after_its_turn_begins_with_the_new_key(server, committed, tmp_path):
    old, new = make_key(committed), make_key(committed)
    lines = [line(b"192.0.2.1") for _ in range(10)] + [b"garbage\n"] + [line(b"192.0.2.2") for _ in range(9)]
    (tmp_path / "access.log").write_bytes(b"".join(lines))
    ran = replay(server, tmp_path / "access.log", committed.slug, old.secret.text, "--move-to", new.secret.text)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    # From a quarter of the log to three quarters of it unless something else is said.
    assert told["keys"] == {f"ka_prod_{old.key.public_id}": {"200": 9}, f"ka_prod_{new.key.public_id}": {"200": 10}}
    assert (told["clients_moved"], told["malformed"]) == (2, 1)


def test_a_request_with_an_old_key_that_is_gone_is_counted_as_refused(server, committed, tmp_path):
    old, new = make_revoked_key(committed), make_key(committed)
    (tmp_path / "access.log").write_bytes(b"".join(line(b"192.0.2.1") for _ in range(10)))
    ran = subprocess.run(
        [
            *(sys.executable, "benchmarks/replay.py", str(tmp_path / "access.log"), "--url", server),
            *("--organization", committed.slug, "--keys", old.secret.text, "--move-to", new.secret.text),
            *("--move-between", "0.5", "0.5"),
        ],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert "1 client moved to its new key" in ran.stdout
    assert [text.split() for text in ran.stdout.splitlines() if "ka_prod" in text] == [
        [f"ka_prod_{old.key.public_id}", "5", "401:", "5"],
        [f"ka_prod_{new.key.public_id}", "5", "200:", "5"],
    ]


KEY = "ka_prod_" + "c" * 12 + "_" + "d" * 49


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--speed", "fast"], "argument --speed: must read like 10x, 0.5x or max"),
        (["--speed", "0x"], "argument --speed"),
        (["--concurrency", "0"], "argument --concurrency: must be a whole number from 1 to 256"),
        (["--url", "localhost:8000"], "argument --url: must look like http://localhost:8000"),
        (["--keys", "ka_prod_abc,ka_prod_def"], "argument --keys: entry 1 is not a whole key"),
        (["--keys", "/nowhere"], "argument --keys: there is no file '/nowhere'"),
        (["--organization", "A B"], "argument --organization: must be an organization's slug"),
        (["--move-to", "/nowhere"], "argument --move-to: there is no file '/nowhere'"),
        (["--move-to", KEY[:-1] + ","], "argument --move-to: entry 1 is not a whole key"),
        (
            ["--move-to", f"{KEY},{KEY}"],
            "argument --move-to: there must be a new key for each old one, not 2 new for 1 of --keys",
        ),
        (
            ["--move-to", "ka_prod_" + "a" * 12 + "_" + "b" * 49],
            "argument --move-to: entry 1 is the key that it is to replace",
        ),
        (["--move-between", "0", "1"], "argument --move-between: needs --move-to, which names the new keys"),
        (["--move-to", KEY, "--move-between", "0.8", "0.2"], "argument --move-between: FROM must not be after TO"),
        (
            ["--move-to", KEY, "--move-between", "0", "2"],
            "argument --move-between: must be two parts of the log from 0 to 1, like 0.25 0.75",
        ),
        (["--move-to", KEY, "--move-between", "0.5"], "argument --move-between: expected 2 arguments"),
    ],
)
def test_wrong_usage_names_the_option(tmp_path, arguments, said):
    (tmp_path / "access.log").write_bytes(line(b"192.0.2.1"))
    (tmp_path / "keys").write_text("ka_prod_" + "a" * 12 + "_" + "b" * 49)
    ran = replay("http://127.0.0.1:1", tmp_path / "access.log", "acme", str(tmp_path / "keys"), *arguments)
    assert ran.returncode == 2
    assert said in ran.stderr


def test_a_server_that_is_not_there_is_named(tmp_path):
    (tmp_path / "access.log").write_bytes(line(b"192.0.2.1"))
    (tmp_path / "keys").write_text("ka_prod_" + "a" * 12 + "_" + "b" * 49)
    ran = replay("http://127.0.0.1:1", tmp_path / "access.log", "acme", str(tmp_path / "keys"))
    assert ran.returncode == 1
    assert "http://127.0.0.1:1 does not answer" in ran.stderr
