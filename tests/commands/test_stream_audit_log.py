"""stream_audit_log: a syslog server is told of each entry, in order, also when it was away."""

import json
import re
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress

import pytest

from apikeys import audit_stream
from apikeys.audit_proof import follow, linked_in
from apikeys.models import AuditAction, AuditChain, AuditEntry, AuditStreamPosition
from apikeys.models.audit_chain import link_now
from tests.commands.running import ROOT, database_url, run, run_process
from tests.factories import make_actor, make_key
from tests.ports import free_port

HEAD = re.compile(r"<110>1 \d{4}-\d\d-\d\dT[\d:.]+Z \S+ keyadmin \d+ audit - (?P<entry>\{.*\})", re.DOTALL)


class Server:
    """A syslog server over TCP, that can go away and come back."""

    def __init__(self, context=None):
        self.port, self.messages, self._server, self._context = free_port(), [], None, context
        self._connections = []

    def start(self):
        messages, connections, context = self.messages, self._connections, self._context

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                taken = self.request
                if context:
                    taken = context.wrap_socket(taken, server_side=True, do_handshake_on_connect=False)
                    try:
                        taken.do_handshake()
                    except OSError:
                        taken.close()
                        return
                connections.append(taken)
                with taken, taken.makefile("rb") as stream:
                    while size := b"".join(iter(lambda: stream.read(1).strip(), b"")):
                        messages.append(stream.read(int(size)).decode())

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def entries(self, number=None):
        """Return what it was told, of one chain."""
        found = [json.loads(HEAD.fullmatch(message)["entry"]) for message in self.messages]
        return [entry for entry in found if number is None or (entry["organization"] or 0) == number]


@contextmanager
def server(context=None):
    made = Server(context).start()
    try:
        yield made
    finally:
        made.stop()


def record(organization, target):
    AuditEntry.objects.record(AuditAction.SCOPE_CREATE, by=make_actor(), organization=organization, target=target)


def wait_for(true, seconds=15):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "That did not happen in time."
        time.sleep(0.05)


def is_whole(entries, tmp_path):
    path = tmp_path / "entries"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    with path.open("rb") as file:
        verdict = follow(linked_in(file))
    return verdict.fault is None and verdict.entries == len(entries)


@pytest.mark.django_db
def test_a_syslog_server_is_told_once_and_can_prove_it(organization, tmp_path):
    make_key(organization, "Zahlung 💶 <script>")
    link_now()
    with server() as syslog:
        ran = run("stream_audit_log", f"tcp://127.0.0.1:{syslog.port}", "--once")
        assert ran.status == 0
        wait_for(lambda: len(syslog.messages) == AuditEntry.objects.count())
        assert is_whole(syslog.entries(organization.pk), tmp_path)
        assert (
            run("stream_audit_log", f"tcp://127.0.0.1:{syslog.port}", "--once").err.strip()
            == "0 entries were handed on."
        )
        make_key(organization)
        link_now()
        run("stream_audit_log", f"tcp://127.0.0.1:{syslog.port}", "--once")
        wait_for(lambda: len(syslog.messages) == AuditEntry.objects.count())
        # Another receiver begins at the beginning.
        run("stream_audit_log", f"tcp://127.0.0.1:{syslog.port}", "--once", "--name", "archive")
        wait_for(lambda: len(syslog.messages) == 2 * AuditEntry.objects.count())


@pytest.mark.django_db
def test_many_entries_go_in_parts(organization, monkeypatch):
    monkeypatch.setattr(audit_stream, "_BATCH", 3)
    for number in range(10):
        record(organization, str(number))
    link_now()
    with server() as syslog:
        run("stream_audit_log", f"tcp://127.0.0.1:{syslog.port}", "--once")
        end = AuditChain.objects.get(number=organization.pk).sequence
        wait_for(lambda: len(syslog.entries(organization.pk)) == end)
        assert [entry["sequence"] for entry in syslog.entries(organization.pk)] == list(range(1, end + 1))


@pytest.mark.django_db
def test_what_was_not_taken_is_sent_again(organization):
    record(organization, "one")
    link_now()
    port = free_port()
    ran = run("stream_audit_log", f"tcp://127.0.0.1:{port}", "--once")
    assert (ran.status, "refused" in ran.err) == (1, True)
    assert not AuditStreamPosition.objects.exists()


def test_it_follows_what_happens_and_goes_on_when_the_server_is_back(committed):
    syslog = Server().start()
    process = subprocess.Popen(
        [sys.executable, "manage.py", "stream_audit_log", f"tcp://127.0.0.1:{syslog.port}"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "DATABASE_URL": database_url()},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:

        def targets():
            return [entry["target"] for entry in syslog.entries(committed.pk)]

        record(committed, "while it follows")
        wait_for(lambda: "while it follows" in targets(), 60)
        syslog.stop()
        record(committed, "while it is away")
        time.sleep(1.5)
        syslog.start()
        wait_for(lambda: "while it is away" in targets(), 60)
        record(committed, "afterwards")
        wait_for(lambda: "afterwards" in targets(), 60)
        sequences = [entry["sequence"] for entry in syslog.entries(committed.pk)]
        assert sorted(set(sequences)) == list(range(1, max(sequences) + 1))
    finally:
        process.terminate()
        assert process.wait(20) == 0
        assert process.stderr
        told = process.stderr.read()
        process.stderr.close()
        syslog.stop()
    assert "is tried again" in told


def test_a_pipe_gets_json_lines(committed, tmp_path):
    record(committed, "piped")
    ran = run_process("stream_audit_log", "-", "--once", "--name", committed.slug)
    entries = [json.loads(line) for line in ran.out.splitlines()]
    assert is_whole([entry for entry in entries if entry["organization"] == committed.pk], tmp_path)
    ran = run_process("stream_audit_log", "-", "--once", "--name", committed.slug)
    assert (ran.out, ran.err) == ("", "0 entries were handed on.\n")


@pytest.mark.django_db
def test_by_udp_each_is_a_datagram(organization):
    record(organization, "by datagram")
    link_now()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.settimeout(5)
        assert run("stream_audit_log", f"udp://127.0.0.1:{taken.getsockname()[1]}", "--once").status == 0
        got = [taken.recv(65_536).decode() for _ in range(AuditEntry.objects.count())]
    assert "by datagram" in {json.loads(HEAD.fullmatch(message)["entry"])["target"] for message in got}


@pytest.mark.django_db
def test_a_server_that_nobody_vouches_for_is_told_nothing(organization, tmp_path):
    record(organization, "secret")
    link_now()
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with server(context) as syslog:
        ran = run("stream_audit_log", f"tls://localhost:{syslog.port}", "--once")
        assert (ran.status, "certificate" in ran.err.lower()) == (1, True)
        assert not syslog.messages
        trusting = ssl.create_default_context(cafile=str(certificate))
        target = audit_stream.Syslog("tls", "localhost", syslog.port, context=trusting)
        audit_stream.stream("tls", target)
        wait_for(lambda: "secret" in {entry["target"] for entry in syslog.entries(organization.pk)})
        target.close()


@pytest.mark.parametrize(
    "target",
    [
        "",
        "http://x",
        "tcp://",
        "tcp://x:0",
        "tcp://x:99999",
        "tcp://x:y",
        "tcp://x/path",
        "tcp://x?a=1",
        "x:601",
        "file:///x",
    ],
)
def test_a_target_that_is_none_is_told(target):
    with pytest.raises(audit_stream.TargetError, match="must be"):
        audit_stream.target_of(target)


def test_the_usual_ports_need_not_be_said():
    for scheme, port in (("tcp", 601), ("tls", 6514), ("udp", 514)):
        assert audit_stream.target_of(f"{scheme}://logs.example.com")._address == ("logs.example.com", port)
