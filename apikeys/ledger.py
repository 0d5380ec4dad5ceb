"""What a verification reads of a key and writes of a request: the only SQL of the hot path.

It goes past the ORM, which took longer than all else of a request together. Requests that are judged together are
read in one statement, and written in one transaction. Nothing here waits: each function yields calls and is sent their
rows (statements.Steps).
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from django.db import connection

from apikeys import ledger_sql
from apikeys.ledger_sql import Kind
from apikeys.models import Outcome, RateLimit
from apikeys.models.extremes import EPOCH, floor_minute
from apikeys.statements import Call, Row, Steps, array

# "Last used" is exact to this: a busy key's activity is written once a second, not at every request.
ACTIVITY_GRANULARITY: Final = timedelta(seconds=1)

# Told once: in an event loop Django would make a connection's wrapper anew for each task that looks at it.
_IS_SQLITE: Final = connection.vendor == "sqlite"
_MICROSECOND: Final = timedelta(microseconds=1)
_KEY_AND_NONCE: Final = itemgetter(0, 2)
# Those that move no row of a key's activity, and those whose event is not written with all others.
_RESTING: Final = frozenset({Kind.EVENT, Kind.GUESS})
_APART: Final = frozenset({Kind.TAKE, Kind.GUESS})


class KeyRecord(NamedTuple):
    """A key as the verifier needs it."""

    organization: str
    id: int
    public_id: str
    name: str
    environment: str
    version: int
    digest: bytes
    pepper_number: int
    revoked_at: datetime | None
    expires_at: datetime | None
    paused_at: datetime | None
    paused_until: datetime | None
    networks: Sequence[str]
    limit: RateLimit | None
    scopes: Sequence[str]
    last_used_at: datetime | None
    last_refused_at: datetime | None


class RequestRecord(NamedTuple):
    """What is kept of a request; lengths are cut by who made it."""

    at: datetime
    address: str | None
    user_agent: str
    method: str
    path: str
    scope: str


class Entry(NamedTuple):
    """A request with what became of it. With a limit it is taken out of that first, and may be rate_limited."""

    key: KeyRecord
    request: RequestRecord
    outcome: Outcome
    limit: RateLimit | None = None


class Taken(NamedTuple):
    """What came of taking a request out of a limit: whether it passes, and how far ahead the bucket is empty again.

    When the key was changed since it was read, and its limit used since, nothing is taken and nothing recorded:
    the request has to be judged again.
    """

    passes: bool
    ahead: timedelta
    is_outdated: bool = False


def read_keys(public_ids: Collection[str]) -> Steps[dict[str, KeyRecord]]:
    """Return the keys with some public ids, as they are now, by public id."""
    if _IS_SQLITE:
        found = yield [Call(ledger_sql.SQLITE_READ, {"public_id": public_id}) for public_id in public_ids]
    else:
        found = yield [Call(ledger_sql.POSTGRESQL_READ, {"public_ids": array(list(public_ids))})]
    keys = (_key_record(row) for rows in found for row in rows)
    return {key.public_id: key for key in keys}


def write(entries: Sequence[Entry]) -> Steps[list[Taken | None]]:
    """Write some requests, all or none, and that their keys were used or refused; return what came of the limits.

    A wrong secret (Outcome.UNKNOWN) is written once a minute and caller, however often it is presented.
    """
    if not entries:
        return []
    # In the order of keys: two processes that write the same keys wait for one another, never in a circle.
    order = sorted(range(len(entries)), key=lambda number: entries[number].key.id)
    write = _sqlite_write if _IS_SQLITE else _postgresql_write
    written = yield from write([_Write.of(entries[number]) for number in order])
    taken = dict(zip(order, written, strict=True))
    return [taken[number] for number in range(len(entries))]


class _Write(NamedTuple):
    """What is written of a request: its event, in the order of ledger_sql.COLUMNS, and the terms of its limit."""

    kind: Kind
    event: tuple[Any, ...]
    terms: Mapping[str, int] = MappingProxyType({})

    @classmethod
    def of(cls, entry: Entry) -> _Write:
        key, request, outcome, limit = entry
        at, *told = request
        if outcome is Outcome.UNKNOWN:
            caller = hashlib.blake2b((request.address or "").encode(), digest_size=7).digest()
            return cls(Kind.GUESS, (key.id, floor_minute(at), int.from_bytes(caller), outcome.value, *told))
        event = (key.id, at, random.getrandbits(62), outcome.value, *told)
        if limit is not None:
            interval = timedelta(seconds=limit.period) / limit.requests
            tolerance = interval * (limit.burst - 1)
            terms = {"interval": interval // _MICROSECOND, "tolerance": tolerance // _MICROSECOND}
            return cls(Kind.TAKE, event, terms | {"version": key.version})
        accepted = outcome is Outcome.VALID
        before = key.last_used_at if accepted else key.last_refused_at
        if before is not None and at - before < ACTIVITY_GRANULARITY:
            return cls(Kind.EVENT, event)
        return cls(Kind.USED if accepted else Kind.REFUSED, event)

    @property
    def parameters(self) -> dict[str, Any]:
        return {**dict(zip(ledger_sql.COLUMNS, self.event, strict=True)), **self.terms}


def _taken(row: Row) -> Taken:
    """Return what a row of a TAKE says: the new instant of the limit, the one before, whether outdated, and now."""
    until, before, is_outdated, now = (None if value is None else int(value) for value in row)
    ahead = (until or before or now or 0) - (now or 0)
    return Taken(until is not None, timedelta(microseconds=ahead), bool(is_outdated and until is None))


def _key_record(row: Row) -> KeyRecord:
    organization, number, public_id, name, environment, version, digest, pepper, *rest = row
    revoked, expires, paused, until, networks, requests, period, burst, scopes, used, refused = rest
    # By position: with names it would take twice as long.
    return KeyRecord(
        organization,
        int(number),
        public_id,
        name,
        environment,
        int(version),
        bytes.fromhex(digest),
        int(pepper),
        _instant(revoked) if revoked else None,
        _instant(expires) if expires else None,
        _instant(paused) if paused else None,
        _instant(until) if until else None,
        json.loads(networks) if networks != "[]" else [],
        RateLimit(int(requests), int(period), int(burst or requests)) if requests else None,
        sorted(scopes.split(" ")) if scopes else [],
        _instant(used) if used else None,
        _instant(refused) if refused else None,
    )


def _instant(text: str) -> datetime:
    # SQLite's have no offset, and are in UTC as all of Django's.
    return datetime.fromisoformat(text if text[-3] == "+" else f"{text}+00:00")


# PostgreSQL


def _postgresql_write(writes: Sequence[_Write]) -> Steps[list[Taken | None]]:
    calls, takes = _calls(writes)
    results = yield calls
    return [_taken(results[takes[number]][0]) if number in takes else None for number in range(len(writes))]


def _calls(writes: Sequence[_Write]) -> tuple[list[Call], dict[int, int]]:
    """Return the statements for some writes, and the position among them of each that takes from a limit.

    Rows of keys first, in the order of keys, then events: so nobody waits in a circle.
    """
    calls: list[Call] = []
    takes: dict[int, int] = {}
    moving = [number for number, write in enumerate(writes) if write.kind not in _RESTING]
    for kind, run in groupby(moving, key=lambda number: writes[number].kind):
        if kind is Kind.TAKE:
            for number in run:
                takes[number] = len(calls)
                calls.append(Call(ledger_sql.POSTGRESQL_TAKE, writes[number].parameters))
        else:
            # A statement may touch a row once.
            moved = {writes[number].event[0]: writes[number].event for number in run}
            calls.append(_call(kind, moved.values()))
    guesses = sorted((write.event for write in writes if write.kind is Kind.GUESS), key=_KEY_AND_NONCE)
    events = [write.event for write in writes if write.kind not in _APART]
    calls += [_call(kind, rows) for kind, rows in ((Kind.GUESS, guesses), (Kind.EVENT, events)) if rows]
    return calls, takes


def _call(kind: Kind, events: Iterable[tuple[Any, ...]]) -> Call:
    statement = ledger_sql.POSTGRESQL[kind]
    columns = dict(zip(ledger_sql.COLUMNS, zip(*events, strict=True), strict=True))
    return Call(statement, {name: array(columns[name]) for name in statement.parameters})


# SQLite, whose CTEs cannot write: one statement after the other.


def _sqlite_write(writes: Sequence[_Write]) -> Steps[list[Taken | None]]:
    taken: list[Taken | None] = []
    for write in writes:
        kind, values = write.kind, write.parameters
        parameters = values | {"at": str(values["at"].replace(tzinfo=None))}
        if kind is Kind.TAKE:
            taken.append((yield from _sqlite_take(parameters)))
        else:
            yield [Call(statement, parameters) for statement in ledger_sql.SQLITE[kind]]
            taken.append(None)
    return taken


def _sqlite_take(parameters: dict[str, Any]) -> Steps[Taken]:
    now = (datetime.now(UTC) - EPOCH) // _MICROSECOND
    taken, [state] = yield [
        Call(ledger_sql.SQLITE_TAKE, parameters | {"now": now}),
        Call(ledger_sql.SQLITE_STATE, parameters),
    ]
    found = _taken((taken[0][0] if taken else None, *state, now))
    if not found.is_outdated:
        outcome = Outcome.VALID if found.passes else Outcome.RATE_LIMITED
        written = [ledger_sql.SQLITE_EVENT] if found.passes else [ledger_sql.SQLITE_REFUSED, ledger_sql.SQLITE_EVENT]
        yield [Call(statement, parameters | {"outcome": outcome.value}) for statement in written]
    return found
