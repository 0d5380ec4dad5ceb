"""Posting to addresses that people type in, so that nothing inside of our own network is reached by it.

The name is resolved once, every address that it has is checked, and the connection goes to one of those that were
checked: a name that resolves to something else a moment later (DNS rebinding) is no way around. A redirect is not
followed. https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

type Address = ipaddress.IPv4Address | ipaddress.IPv6Address
type Network = ipaddress.IPv4Network | ipaddress.IPv6Network

DEADLINE: Final = 15.0
MOST_READ: Final = 64 * 1024
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_PORTS: Final = {"http": 80, "https": 443}


class OutgoingError(Exception):
    """Nothing was accepted; says in a sentence why. ``status`` is the receiver's, where it answered."""

    def __init__(self, words: str, status: int | None = None, retry_after: int | None = None) -> None:
        super().__init__(words)
        self.status, self.retry_after = status, retry_after


class UnsafeAddressError(OutgoingError):
    """The address is one that must not be reached."""


class Target(NamedTuple):
    """Where to connect: an address that was checked, and what the receiver is to be called."""

    address: str
    port: int
    host: str
    is_tls: bool
    path: str


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL that may be posted to; raises OutgoingError saying what is wrong with it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise OutgoingError("This is not a URL.") from error
    if parts.scheme not in _PORTS:
        raise OutgoingError("The URL must begin with https://.")
    if not parts.hostname or port == 0:
        raise OutgoingError("The URL names no host.")
    if parts.username is not None or parts.password is not None:
        raise OutgoingError("The URL must not hold a user name or a password.")
    if any(ord(character) <= 32 or ord(character) == 127 for character in url):
        raise OutgoingError("The URL must not hold spaces or control characters.")
    return parts


def check_url(url: str, allowed: Iterable[Network]) -> None:
    """Check what can be told of a URL without resolving its name; raises OutgoingError."""
    parts, allowed = split_url(url), list(allowed)
    if parts.scheme == "http" and not allowed:
        raise OutgoingError("The URL must begin with https://.")
    with suppress(ValueError):
        _require_safe(ipaddress.ip_address((parts.hostname or "").partition("%")[0]), parts.scheme, allowed)
    if (parts.hostname or "").rstrip(".").lower() == "localhost" and not allowed:
        raise UnsafeAddressError("localhost is this machine itself, and may not be reached.")


def resolve(url: str, allowed: Iterable[Network]) -> Target:
    """Return where to connect for a URL; raises OutgoingError when any of its addresses must not be reached."""
    parts, networks = split_url(url), list(allowed)
    host = parts.hostname or ""
    port = parts.port or _PORTS[parts.scheme]
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise OutgoingError(f"The name {host} could not be resolved.") from error
    addresses = list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))
    for address in addresses:
        _require_safe(ipaddress.ip_address(address), parts.scheme, networks)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(addresses[0], port, host, parts.scheme == "https", path)


def _require_safe(address: Address, scheme: str, allowed: Iterable[Network]) -> None:
    inner = _embedded(address)
    if any(one.version == network.version and one in network for network in allowed for one in inner):
        return
    if any(not one.is_global or one.is_multicast for one in inner):
        raise UnsafeAddressError(f"{address} is a private or reserved address, and may not be reached.")
    if scheme == "http":
        raise UnsafeAddressError("Without https the secret parts of an alert could be read on the way.")


def _embedded(address: Address) -> list[Address]:
    """Return an address and the IPv4 address that it stands for, if it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    # A mapped address is its IPv4 address and nothing else.
    if address.ipv4_mapped:
        return [address.ipv4_mapped]
    found: list[Address] = [address]
    if address.sixtofour:
        found.append(address.sixtofour)
    if address.teredo:
        found += address.teredo
    if address in _NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return found


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, allowed: Iterable[Network], deadline: float = DEADLINE
) -> int:
    """Post a body and return the status, which is between 200 and 299; raises OutgoingError for all else.

    All of it takes ``deadline`` seconds at most, after the name is resolved.
    """
    target = resolve(url, allowed)
    try:
        status, retry_after = _exchange(target, body, headers, deadline)
    except ssl.SSLError as error:
        raise OutgoingError(f"The TLS connection failed: {error.reason or 'unknown reason'}.") from error
    except (TimeoutError, http.client.HTTPException, OSError) as error:
        raise OutgoingError(_reason(error, deadline)) from error
    if 300 <= status < 400:
        raise OutgoingError(f"It answered {status}, a redirect, which is not followed.", status)
    if not 200 <= status < 300:
        raise OutgoingError(f"It answered {status}.", status, retry_after)
    return status


def _reason(error: Exception, deadline: float) -> str:
    if isinstance(error, TimeoutError | _LateError):
        return f"It did not answer within {deadline:g} seconds."
    if isinstance(error, ConnectionRefusedError):
        return "The connection was refused."
    if isinstance(error, http.client.HTTPException):
        return "It closed the connection or answered something that is not HTTP."
    return (
        f"The connection failed: {error.strerror or type(error).__name__}."
        if isinstance(error, OSError)
        else str(error)
    )


class _LateError(OSError):
    """The deadline passed."""


def _exchange(target: Target, body: bytes, headers: Mapping[str, str], deadline: float) -> tuple[int, int | None]:
    sock = socket.create_connection((target.address, target.port), timeout=deadline)
    late = threading.Event()

    def cut() -> None:
        late.set()
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    # A receiver that sends a byte now and then would never run into the socket's own timeout.
    watch = threading.Timer(deadline, cut)
    watch.daemon = True
    watch.start()
    try:
        with closing(sock):
            wrapped = _tls(sock, target.host) if target.is_tls else sock
            with closing(wrapped):
                return _request(wrapped, target, body, headers, late)
    except (OSError, http.client.HTTPException) as error:
        raise (_LateError() if late.is_set() else error) from error
    finally:
        watch.cancel()


def _tls(sock: socket.socket, host: str) -> ssl.SSLSocket:
    return ssl.create_default_context().wrap_socket(sock, server_hostname=host)


def _request(
    sock: socket.socket, target: Target, body: bytes, headers: Mapping[str, str], late: threading.Event
) -> tuple[int, int | None]:
    connection = http.client.HTTPConnection(target.host, target.port)
    connection.sock = sock
    shown = f"[{target.host}]" if ":" in target.host else target.host
    usual = target.port == _PORTS["https" if target.is_tls else "http"]
    host = shown if usual else f"{shown}:{target.port}"
    connection.request("POST", target.path, body, {"Host": host, "Connection": "close", **headers})
    response = connection.getresponse()
    # Headers that were cut off look like headers that ended.
    if late.is_set():
        raise _LateError
    # What it says is of no use; a little is read so that a short answer ends in good order.
    with suppress(OSError, http.client.HTTPException):
        response.read(MOST_READ)
    wait = response.headers.get("Retry-After", "")
    return response.status, int(wait) if wait.isascii() and wait.isdigit() and len(wait) < 12 else None
