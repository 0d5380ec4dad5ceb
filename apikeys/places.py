"""Where an address is, in words, from the database of GEOIP_DATABASE: it is looked up here, and nobody is asked.

The database is a file of MaxMind's format that the operator supplies. It may be missing, damaged or replaced at any
time, and what it says is not ours.
"""

from __future__ import annotations

import atexit
import ipaddress
import logging
import os
import stat
import unicodedata
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from threading import Lock
from typing import Any, Final

import maxminddb
from django.conf import settings

from apikeys.proxies import Address, is_in, parse_address

THIS_MACHINE: Final = "this machine"
PRIVATE: Final = "private network"
# RFC 1918, 3927 and 6598, and 4193 and 4291 for IPv6. Python's is_private holds the addresses of examples as well.
_PRIVATE: Final = [
    ipaddress.ip_network(one)
    for one in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10"),
        *("fc00::/7", "fe80::/10"),
    )
]
_MAX_NAME: Final = 60
# A database of cities or countries names one in its first records; so many are looked at.
_SAMPLE: Final = 1000
_DAMAGED: Final = "it is no MaxMind database, or damaged"
# Whose licence asks for a word and a link where the data is shown, by the beginning of a database's type.
_CREDITS: Final = {
    "GeoLite": ("GeoLite data created by MaxMind", "https://www.maxmind.com"),
    "DBIP-City-Lite": ("IP geolocation by DB-IP", "https://db-ip.com"),
    "DBIP-Country-Lite": ("IP geolocation by DB-IP", "https://db-ip.com"),
}

_log = logging.getLogger(__name__)


class PlaceError(Exception):
    """The database cannot be read; the message says why."""


def place_of(text: str | None) -> str:
    """Return in words where an address is, "Berlin, Germany", or an empty text where nobody knows."""
    address = parse_address(text or "")
    if address is None:
        return ""
    if address.is_loopback:
        return THIS_MACHINE
    if is_in(address, _PRIVATE):
        return PRIVATE
    return _words(_database.record(address))


def credit() -> tuple[str, str] | None:
    """Return the words and the link that the licence of the database in use asks for, if it is known to."""
    kind = _database.kind()
    return next((words for start, words in _CREDITS.items() if kind.startswith(start)), None)


def database_fault() -> str:
    """Return what is wrong with the file of GEOIP_DATABASE: an empty text where nothing is, or none is set."""
    if not settings.GEOIP_DATABASE:
        return ""
    try:
        with closing(_open(settings.GEOIP_DATABASE)) as reader:
            if any(_words(record) for _, record in islice(reader, _SAMPLE)):
                return ""
            return f"it tells of no cities or countries, and calls itself {_clean(reader.metadata().database_type)!r}"
    except PlaceError as error:
        return str(error)
    except Exception:  # A damaged file fails in whatever way.
        return _DAMAGED


class _Database:
    """The file, open until another one stands in its place."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._reader: maxminddb.Reader | None = None
        self._identity: tuple[object, ...] = ()
        self._told: tuple[object, ...] = ()

    def record(self, address: Address) -> Any:
        """Return what the database says of an address, None where it says nothing or cannot be read."""
        with self._lock:
            return self._ask(lambda reader: _found(reader, address))

    def kind(self) -> str:
        """Return what the database calls itself, an empty text where there is none."""
        with self._lock:
            return str(self._ask(lambda reader: reader.metadata().database_type) or "")

    def close(self) -> None:
        """Close the file."""
        if self._reader:
            self._reader.close()
        self._reader = None

    def _ask(self, question: Callable[[maxminddb.Reader], Any]) -> Any:
        if not settings.GEOIP_DATABASE:
            return None
        identity = _identity_of(settings.GEOIP_DATABASE)
        try:
            return question(self._current(settings.GEOIP_DATABASE, identity))
        except Exception as error:  # A page is shown without places, whatever the file is.
            if identity != self._told:
                why = error if isinstance(error, PlaceError) else f"{_DAMAGED} ({error})"
                _log.error("GEOIP_DATABASE: %s: %s. Addresses are shown without places.", identity[0], why)
                self._told = identity
            return None

    def _current(self, path: str, identity: tuple[object, ...]) -> maxminddb.Reader:
        if self._reader is None or identity != self._identity:
            self.close()
            self._reader, self._identity, self._told = _open(path), identity, ()
        return self._reader


def _identity_of(path: str) -> tuple[object, ...]:
    """Return what changes when a file is replaced or written anew."""
    try:
        found = os.stat(path)  # noqa: PTH116 - no Path for each lookup
    except OSError as error:
        return path, error.errno
    return path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _open(path: str) -> maxminddb.Reader:
    try:
        is_file = stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 - as above
        # Not mapped into memory: when somebody writes over a mapped file, reading it may kill the process (SIGBUS),
        # the verifier with it.
        reader = maxminddb.open_database(path, maxminddb.MODE_FILE) if is_file else None
    except OSError as error:
        raise PlaceError(error.strerror or str(error)) from error
    except Exception as error:
        raise PlaceError(_DAMAGED) from error
    if reader is None:
        raise PlaceError("it is no file")
    return reader


def _found(reader: maxminddb.Reader, address: Address) -> Any:
    if address.version > reader.metadata().ip_version:
        return None
    return reader.get(address)


def _words(record: Any) -> str:
    names = (_name(record, part) for part in ("city", "country"))
    # Singapore lies in Singapore.
    return ", ".join(dict.fromkeys(name for name in names if name))


def _name(record: Any, part: str) -> str:
    try:
        return _clean(record[part]["names"]["en"])
    except (KeyError, IndexError, TypeError):
        return ""


def _clean(text: Any) -> str:
    """Return a text of the file as one short line without control characters and what turns its direction."""
    if not isinstance(text, str):
        return ""
    kept = (one for one in text[:1000] if one.isspace() or unicodedata.category(one)[0] != "C")
    line = " ".join("".join(kept).split())
    return line if len(line) <= _MAX_NAME else f"{line[: _MAX_NAME - 1].rstrip()}…"


_database = _Database()
atexit.register(_database.close)
