"""Hands audit entries on as they happen: to a syslog server (RFC 5424), or as JSON Lines to a file or pipe.

Each entry at least once, in the order of its chain: how far it has got is kept when the other machine has taken it.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import ssl
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from django.db.models import F, OuterRef, Subquery
from django.db.models.functions import Coalesce

from apikeys.models import AuditChain, AuditLink, AuditStreamPosition
from apikeys.models.audit_chain import COLUMNS, line_of

# Facility 13, "log audit", severity 6, "informational".
_PRIORITY: Final = 13 * 8 + 6
_BATCH: Final = 500
_PORTS: Final = {"tcp": 601, "tls": 6514, "udp": 514}
_TIMEOUT: Final = 10.0
# RFC 5426: what any network carries whole; a longer entry is cut there, and whole over TCP.
_MOST_OF_A_DATAGRAM: Final = 8192


class TargetError(Exception):
    """An address that is none; the message says what one looks like."""


class Target(Protocol):
    """Where entries go."""

    def send(self, lines: list[dict[str, Any]]) -> None:
        """Hand on some entries; returns when they are taken. Raises OSError."""

    def close(self) -> None:
        """End it."""


class Output:
    """JSON Lines on standard output."""

    def send(self, lines: list[dict[str, Any]]) -> None:
        """Write them."""
        for line in lines:
            sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
        sys.stdout.flush()

    def close(self) -> None:
        """Leave it open."""


class Syslog:
    """A syslog server: RFC 5424 messages, octet-counted over TCP and TLS (RFC 6587, 5425), one a datagram over UDP."""

    def __init__(self, scheme: str, host: str, port: int, *, context: ssl.SSLContext | None = None) -> None:
        self._scheme, self._address, self._context = scheme, (host, port), context
        self._socket: socket.socket | None = None

    def send(self, lines: list[dict[str, Any]]) -> None:
        """Send them, on a new connection where there is none."""
        messages = [_message(line) for line in lines]
        try:
            connection = self._connection()
            if self._scheme == "udp":
                for message in messages:
                    connection.send(message[:_MOST_OF_A_DATAGRAM])
                return
            # A server that went away shows when something is sent twice; what it has closed is seen before that.
            _raise_if_closed(connection)
            connection.sendall(b"".join(b"%d %b" % (len(message), message) for message in messages))
            _wait_until_taken(connection)
        except OSError:
            self.close()
            raise

    def _connection(self) -> socket.socket:
        if self._socket is None:
            if self._scheme == "udp":
                family, kind, proto, _, address = socket.getaddrinfo(*self._address, type=socket.SOCK_DGRAM)[0]
                self._socket = socket.socket(family, kind, proto)
                self._socket.connect(address)
                return self._socket
            plain = socket.create_connection(self._address, timeout=_TIMEOUT)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._scheme == "tls":
                context = self._context or ssl.create_default_context()
                try:
                    plain = context.wrap_socket(plain, server_hostname=self._address[0])
                except OSError:
                    plain.close()
                    raise
            self._socket = plain
        return self._socket

    def close(self) -> None:
        """End the connection."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
            self._socket = None


def _raise_if_closed(connection: socket.socket) -> None:
    connection.setblocking(False)
    try:
        if connection.recv(1) == b"":
            raise ConnectionResetError("The server closed the connection.")
    except (BlockingIOError, ssl.SSLWantReadError):
        pass
    finally:
        connection.settimeout(_TIMEOUT)


def _wait_until_taken(connection: socket.socket) -> None:
    """Wait until the other machine has acknowledged everything: syslog over TCP has no answers of its own."""
    until = time.monotonic() + _TIMEOUT
    while _unacknowledged(connection):
        if time.monotonic() > until:
            raise TimeoutError("The server does not take what it is sent.")
        time.sleep(0.01)


def _unacknowledged(connection: socket.socket) -> int:
    left = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4))
    return int(left[0])


def _message(line: dict[str, Any]) -> bytes:
    host = socket.gethostname().encode("ascii", "ignore").decode()[:255] or "-"
    head = f"<{_PRIORITY}>1 {line['at']} {host} keyadmin {os.getpid()} audit - "
    return head.encode() + json.dumps(line, ensure_ascii=False).encode()


def target_of(address: str) -> Target:
    """Return what an address names: "-", or "tcp", "tls" or "udp" with host and port. Raises TargetError."""
    if address == "-":
        return Output()
    parts = urlsplit(address)
    try:
        port = _PORTS.get(parts.scheme, 0) if parts.port is None else parts.port
    except ValueError:
        port = 0
    if parts.scheme not in _PORTS or not parts.hostname or not port or parts.path.strip("/") or parts.query:
        raise TargetError(
            f'must be "-" or read like tcp://host:601, tls://host:6514 or udp://host:514, not {address!r}.'
        )
    return Syslog(parts.scheme, parts.hostname, port)


def stream(name: str, target: Target) -> int:
    """Hand on what is new since the last time under a name; return how many entries. Raises OSError."""
    sent = 0
    for number, position in _behind(name):
        for lines in _new(number, position):
            target.send(lines)
            AuditStreamPosition.objects.update_or_create(
                name=name, number=number, defaults={"sequence": lines[-1]["sequence"]}
            )
            sent += len(lines)
    return sent


def _behind(name: str) -> list[tuple[int, int]]:
    """Return the chains that have entries that were not handed on, with the last that was."""
    reached = AuditStreamPosition.objects.filter(name=name, number=OuterRef("number")).values("sequence")
    chains = AuditChain.objects.annotate(reached=Coalesce(Subquery(reached), 0)).filter(sequence__gt=F("reached"))
    return list(chains.order_by("number").values_list("number", "reached"))


def _new(number: int, position: int) -> Iterator[list[dict[str, Any]]]:
    columns = ("sequence", "previous", "hash", *(f"entry__{one}" for one in COLUMNS.values()))
    links = AuditLink.objects.filter(chain=number).order_by("sequence").values_list(*columns)
    while rows := list(links.filter(sequence__gt=position)[:_BATCH]):
        yield [line_of(sequence, previous, link, values) for sequence, previous, link, *values in rows]
        position = rows[-1][0]


def follow(
    name: str,
    target: Target,
    told: Callable[[str], None],
    *,
    every: float = 1.0,
    ends: Callable[[], bool] = lambda: False,
) -> None:
    """Hand on what happens until ``ends`` says so; a receiver that is away is tried again, less and less often."""
    wait = every
    while not ends():
        try:
            stream(name, target)
        except OSError as error:
            wait = min(max(wait * 2, every), 60.0)
            told(f"The receiver did not take it, and is tried again in {wait:,.0f} seconds: {error}")
        else:
            wait = every
        until = time.monotonic() + wait
        while time.monotonic() < until and not ends():
            time.sleep(min(0.2, every))
