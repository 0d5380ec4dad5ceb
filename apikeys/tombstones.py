"""Tombstones: what was revoked, kept outside of the database, so that a restored backup brings no key back to life.

A file that only grows, a line of JSON for each key. It is written when a revocation has been committed; what a crash, a
full disk or a file that was away has left out is written by the next run of finish_rotations or apply_tombstones.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import batched
from pathlib import Path
from typing import IO, Any, Final

from django.conf import settings
from django.dispatch import receiver
from django.utils import timezone

from apikeys.key_secret import PUBLIC_ID_LENGTH
from apikeys.models import ApiKey, RevocationReason
from apikeys.models.key import key_revoked

_MAX_LINE: Final = 10_000
_BATCH: Final = 500
# A revocation that is missing for longer than this is found by apply_tombstones alone.
_CAUGHT_UP: Final = timedelta(days=7)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A key that was revoked: its public id, when, by whom and why."""

    key: str
    revoked_at: datetime
    by: str
    reason: str


class TombstoneError(Exception):
    """The file cannot be read, or holds a line that is none; the message says which."""


def is_used() -> bool:
    """Say whether tombstones are kept."""
    return bool(settings.TOMBSTONE_FILE)


# Writing


@receiver(key_revoked)
def _key_revoked(key: ApiKey, **_facts: object) -> None:
    if not is_used():
        return
    try:
        append([key])
    except OSError as error:
        # The key is revoked whatever becomes of its tombstone.
        log.error("TOMBSTONE_FILE: %s. The tombstone of %s is written later.", error.strerror, key.public_id)


def append(keys: Iterable[ApiKey], *, create: bool = False) -> int:
    """Add the tombstones of revoked keys, on the disk when this returns; return how many. Raises OSError.

    A file that is not there is not made, unless ``create``: where its disk is not mounted, a new one would hide that.
    """
    lines = [_line(key) for key in keys]
    if not lines and not create:
        return 0
    flags = os.O_RDWR | os.O_APPEND | (os.O_CREAT if create else 0)
    with os.fdopen(os.open(settings.TOMBSTONE_FILE, flags, 0o600), "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = file.seek(0, os.SEEK_END)
        torn = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
        file.write(b"\n" * torn + b"".join(lines))
        file.flush()
        os.fsync(file.fileno())
    return len(lines)


def _line(key: ApiKey) -> bytes:
    told = {
        "key": key.public_id,
        "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
        "by": key.revoked_by_label,
        "reason": key.revoked_reason,
    }
    return json.dumps(told).encode() + b"\n"


def catch_up() -> int:
    """Add the tombstones that the last days' revocations lack; return how many. Raises OSError, TombstoneError."""
    if not is_used():
        return 0
    since = timezone.now() - _CAUGHT_UP
    return append(lacking(ApiKey.objects.filter(revoked_at__gte=since)))


def lacking(keys: Any) -> list[ApiKey]:
    """Return which of the revoked keys of a queryset have no tombstone."""
    known = {stone.key for stone in read(skip=True)}
    revoked = keys.filter(revoked_at__isnull=False).order_by("revoked_at", "pk")
    return [key for key in revoked.iterator(chunk_size=_BATCH) if key.public_id not in known]


# Reading


def read(start: int = 0, *, skip: bool = False) -> Iterator[Tombstone]:
    """Yield the tombstones from some byte on. Raises TombstoneError, but ``skip`` passes over a line that is none."""
    try:
        with Path(settings.TOMBSTONE_FILE).open("rb") as file:
            file.seek(start)
            yield from _parsed(file, skip=skip)
    except OSError as error:
        raise TombstoneError(f"TOMBSTONE_FILE: {settings.TOMBSTONE_FILE}: {error.strerror}") from error


def _parsed(file: IO[bytes], *, skip: bool) -> Iterator[Tombstone]:
    while line := file.readline(_MAX_LINE):
        if not line.strip():
            continue
        try:
            yield _tombstone(line)
        except (ValueError, KeyError, TypeError, RecursionError):
            if not skip:
                raise TombstoneError(f"TOMBSTONE_FILE: no tombstone at byte {file.tell() - len(line)}.") from None


def _tombstone(line: bytes) -> Tombstone:
    told = json.loads(line)
    key, at = told["key"], datetime.fromisoformat(told["revoked_at"])
    if len(key) != PUBLIC_ID_LENGTH or not key.isalnum() or at.tzinfo is None:
        raise ValueError
    reason = told["reason"] if told["reason"] in RevocationReason.values else RevocationReason.OTHER
    return Tombstone(key, at, str(told["by"])[:254], reason)


def alive(stones: Iterable[Tombstone]) -> Iterator[tuple[Tombstone, ApiKey]]:
    """Yield the keys that are not revoked in this database, each with its tombstone."""
    for some in batched(stones, _BATCH, strict=False):
        found = ApiKey.objects.filter(public_id__in=[stone.key for stone in some], revoked_at__isnull=True)
        keys = {key.public_id: key for key in found.select_related("organization", "environment")}
        for stone in some:
            # Once, however often it stands there.
            if key := keys.pop(stone.key, None):
                yield stone, key


class _Seen:
    """Up to which byte of the file every key is revoked in this database; nobody restores one under a server."""

    until = 0


def are_applied() -> bool:
    """Say whether every key that has a tombstone is revoked here. Asks the database about new ones alone.

    Raises TombstoneError for a file that is not there: a key of which it told might be alive.
    """
    if not is_used():
        return True
    try:
        size = Path(settings.TOMBSTONE_FILE).stat().st_size
    except OSError as error:
        raise TombstoneError(f"TOMBSTONE_FILE: {settings.TOMBSTONE_FILE}: {error.strerror}") from error
    if size < _Seen.until:
        _Seen.until = 0
    if size > _Seen.until:
        # A line that is none stops nobody: apply_tombstones tells of it.
        for _ in alive(read(_Seen.until, skip=True)):
            return False
        if _ends_a_line(size):
            _Seen.until = size
    return True


def _ends_a_line(size: int) -> bool:
    """Say whether the file has whole lines up to there: somebody may be writing one."""
    with Path(settings.TOMBSTONE_FILE).open("rb") as file:
        file.seek(size - 1)
        return file.read(1) == b"\n"
