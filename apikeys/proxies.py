"""Who is asking: the client's address, from forwarded headers only behind proxies that the settings trust."""

import ipaddress
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

type Network = ipaddress.IPv4Network | ipaddress.IPv6Network
type Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_TEXT = 64

# What a proxy may tell; taken off every request whose peer is not trusted.
FORWARDED = (
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_METHOD",
    "HTTP_X_FORWARDED_URI",
    "HTTP_X_ORIGINAL_METHOD",
    "HTTP_X_ORIGINAL_URI",
)


def parse_address(text: str) -> Address | None:
    """Return an IP address, None for anything else; an IPv4 address inside IPv6 becomes IPv4."""
    return _parse_address(text.strip()) if len(text) <= MAX_TEXT else None


@lru_cache(4096)
def _parse_address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return None
        return address.ipv4_mapped or address
    return address


@lru_cache(4096)
def _canonical(text: str) -> str | None:
    address = _parse_address(text)
    return str(address) if address else None


def is_in(address: Address, networks: Sequence[Network]) -> bool:
    """Say whether an address lies in one of some networks; the other family's networks never hold it."""
    # A loop: any() with a generator takes twice as long, and each request asks.
    for network in networks:  # noqa: SIM110
        if address in network:
            return True
    return False


def is_trusted(environ: Mapping[str, Any], trusted: Sequence[Network]) -> bool:
    """Say whether the request's peer is a proxy that may speak for a client."""
    peer = parse_address(environ.get("REMOTE_ADDR", ""))
    return peer is not None and is_in(peer, trusted)


def client_address(environ: Mapping[str, Any], trusted: Sequence[Network]) -> str | None:
    """Return the address of the client of a request.

    Behind a trusted proxy it is the last entry of X-Forwarded-For that is not itself a trusted proxy: what
    stands before it may be forged by the client. None when nobody knows: the server tells no address (a Unix
    socket), or the header is there and cannot be read. The proxy's own address would then be a guess, and one
    that a client can bring about.
    """
    told = environ.get("REMOTE_ADDR", "")
    header = environ.get("HTTP_X_FORWARDED_FOR")
    if header is not None and is_trusted(environ, trusted):
        for told in reversed(header.split(",")):
            address = parse_address(told)
            if address is None or not is_in(address, trusted):
                break
    return _canonical(told.strip()) if len(told) <= MAX_TEXT else None
