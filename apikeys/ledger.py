"""What a verification reads of a key and writes of a request: the only SQL of the hot path.

It goes past the ORM, which took longer than all else of a request together, on Django's own connection of the
thread. Requests that are judged together are read in one statement, and written in one transaction.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from itertools import groupby
from typing import Any, Final, NamedTuple

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from apikeys import pipeline
from apikeys.models import Outcome, RateLimit
from apikeys.pipeline import Call, Statement, array

# "Last used" is exact to this: a busy key's activity is written once a second, not at every request.
ACTIVITY_GRANULARITY: Final = timedelta(seconds=1)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


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


def group() -> AbstractContextManager[object]:
    """Return what to read and write a group of requests in.

    SQLite has one writer at a time, and one transaction for all costs the least. On PostgreSQL each reading and each
    writing is a transaction of its own.
    """
    return transaction.atomic() if _database().vendor == "sqlite" else nullcontext()


def read_keys(public_ids: Collection[str]) -> dict[str, KeyRecord]:
    """Return the keys with some public ids, as they are now, by public id."""
    database = _database()
    read = _sqlite_read if database.vendor == "sqlite" else _postgresql_read
    keys = (_key_record(row) for row in read(database, public_ids))
    return {key.public_id: key for key in keys}


def write(entries: Sequence[Entry]) -> list[Taken | None]:
    """Write some requests, all or none, and that their keys were used or refused; return what came of the limits.

    A wrong secret (Outcome.UNKNOWN) is written once a minute and caller, however often it is presented.
    """
    if not entries:
        return []
    database = _database()
    # In the order of keys: two processes that write the same keys wait for one another, never in a circle.
    order = sorted(range(len(entries)), key=lambda number: entries[number].key.id)
    write = _sqlite_write if database.vendor == "sqlite" else _postgresql_write
    written = write(database, [_Write.of(entries[number]) for number in order])
    taken = dict(zip(order, written, strict=True))
    return [taken[number] for number in range(len(entries))]


class _Kind(Enum):
    EVENT = auto()
    USED = auto()
    REFUSED = auto()
    GUESS = auto()
    TAKE = auto()


class _Write(NamedTuple):
    kind: _Kind
    parameters: dict[str, Any]

    @classmethod
    def of(cls, entry: Entry) -> _Write:
        key, request, outcome, limit = entry
        values = {"key": key.id, "nonce": random.getrandbits(62), "outcome": outcome.value, **request._asdict()}
        if outcome is Outcome.UNKNOWN:
            caller = hashlib.blake2b((request.address or "").encode(), digest_size=7).digest()
            minute = request.at.replace(second=0, microsecond=0)
            return cls(_Kind.GUESS, values | {"at": minute, "nonce": int.from_bytes(caller)})
        if limit is not None:
            interval = timedelta(seconds=limit.period) / limit.requests
            tolerance = interval * (limit.burst - 1)
            terms = {"interval": interval // _MICROSECOND, "tolerance": tolerance // _MICROSECOND}
            return cls(_Kind.TAKE, values | terms | {"version": key.version})
        accepted = outcome is Outcome.VALID
        before = key.last_used_at if accepted else key.last_refused_at
        if before is not None and request.at - before < ACTIVITY_GRANULARITY:
            return cls(_Kind.EVENT, values)
        return cls(_Kind.USED if accepted else _Kind.REFUSED, values)


def _taken(row: Sequence[Any]) -> Taken:
    """Return what a row of a TAKE says: the new instant of the limit, the one before, whether outdated, and now."""
    until, before, is_outdated, now = (None if value is None else int(value) for value in row)
    ahead = (until or before or now or 0) - (now or 0)
    return Taken(until is not None, timedelta(microseconds=ahead), bool(is_outdated and until is None))


def _key_record(row: Sequence[Any]) -> KeyRecord:
    organization, number, public_id, name, environment, version, digest, pepper, *rest = row
    revoked, expires, paused, networks, requests, period, burst, scopes, used, refused = rest
    return KeyRecord(
        organization=organization,
        id=int(number),
        public_id=public_id,
        name=name,
        environment=environment,
        version=int(version),
        digest=bytes.fromhex(digest),
        pepper_number=int(pepper),
        revoked_at=_instant(revoked),
        expires_at=_instant(expires),
        paused_at=_instant(paused),
        networks=json.loads(networks) if networks != "[]" else [],
        limit=RateLimit(int(requests), int(period), int(burst or requests)) if requests else None,
        scopes=sorted(scopes.split(" ")) if scopes else [],
        last_used_at=_instant(used),
        last_refused_at=_instant(refused),
    )


def _instant(text: str | None) -> datetime | None:
    # SQLite's have no offset, and are in UTC as all of Django's.
    return datetime.fromisoformat(text if text[-3] == "+" else f"{text}+00:00") if text else None


def _database() -> BaseDatabaseWrapper:
    """Return the thread's connection, open. Looked up once: Django's ``connection`` looks it up at every name."""
    database = connections[DEFAULT_DB_ALIAS]
    database.ensure_connection()
    return database


# The statements of both engines. Everything is read as text or number.

_READ: Final = """
SELECT o.slug, k.id, k.public_id, k.name, e.code, k.version, {digest}, k.pepper_number,
       CAST(k.revoked_at AS text), CAST(k.expires_at AS text), CAST(k.paused_at AS text),
       CAST(k.networks AS text), k.rate_limit, k.rate_period, k.rate_burst,
       (SELECT {concat}(s.name, ' ') FROM apikeys_keyscope ks JOIN apikeys_scope s ON s.id = ks.scope_id
        WHERE ks.key_id = k.id),
       CAST(a.last_used_at AS text), CAST(a.last_refused_at AS text)
FROM apikeys_apikey k
JOIN apikeys_organization o ON o.id = k.organization_id
JOIN apikeys_environment e ON e.id = k.environment_id
LEFT JOIN apikeys_keyactivity a ON a.key_id = k.id
WHERE k.public_id {wanted}
"""
_EVENT: Final = """
INSERT INTO apikeys_usageevent (key_id, at, nonce, outcome, address, user_agent, method, path, scope)
"""
_USED: Final = """
INSERT INTO apikeys_keyactivity (key_id, first_used_at, last_used_at, last_address)
{rows}
ON CONFLICT (key_id) DO UPDATE SET
    first_used_at = COALESCE(apikeys_keyactivity.first_used_at, excluded.first_used_at),
    last_used_at = excluded.last_used_at,
    last_address = excluded.last_address
WHERE apikeys_keyactivity.last_used_at IS NULL OR apikeys_keyactivity.last_used_at < excluded.last_used_at
"""
_REFUSED: Final = """
INSERT INTO apikeys_keyactivity (key_id, last_refused_at)
{rows}
ON CONFLICT (key_id) DO UPDATE SET last_refused_at = excluded.last_refused_at
WHERE apikeys_keyactivity.last_refused_at IS NULL OR apikeys_keyactivity.last_refused_at < excluded.last_refused_at
"""
# GCRA keeps one instant a key: when its bucket would be empty again. A request passes while that is at most
# burst - 1 intervals ahead. https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm
# An instant more than burst intervals ahead cannot come from this limit: it is the debt of an older, slower one, and
# is forgotten; but a request judged by the older of two limits must not forget the newer one's, and takes nothing
# after that. For all of it the clock is the database's, read while the row is locked.
_AHEAD: Final = "{now} + CAST(%(tolerance)s AS bigint)"
_TAKE: Final = f"""
INSERT INTO apikeys_keyactivity (key_id, first_used_at, last_used_at, last_address, limited_until, limited_by_version)
VALUES (%(key)s, %(at)s, %(at)s, %(address)s, {{now}} + CAST(%(interval)s AS bigint), CAST(%(version)s AS integer))
ON CONFLICT (key_id) DO UPDATE SET
    first_used_at = COALESCE(apikeys_keyactivity.first_used_at, excluded.first_used_at),
    last_used_at = excluded.last_used_at,
    last_address = excluded.last_address,
    limited_by_version = excluded.limited_by_version,
    limited_until = CAST(%(interval)s AS bigint) + CASE
        WHEN apikeys_keyactivity.limited_until BETWEEN {{now}} AND {_AHEAD} + CAST(%(interval)s AS bigint)
        THEN apikeys_keyactivity.limited_until ELSE {{now}} END
WHERE COALESCE(apikeys_keyactivity.limited_by_version, 0) <= excluded.limited_by_version
  AND (apikeys_keyactivity.limited_until IS NULL
       OR apikeys_keyactivity.limited_until <= {_AHEAD}
       OR apikeys_keyactivity.limited_until > {_AHEAD} + CAST(%(interval)s AS bigint))
RETURNING limited_until
"""  # noqa: S608 - of constants
_STATE: Final = """
SELECT limited_until, CASE WHEN limited_by_version > CAST(%(version)s AS integer) THEN 1 ELSE 0 END AS outdated
FROM apikeys_keyactivity WHERE key_id = %(key)s
"""

# PostgreSQL

_NOW: Final = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)"
_POSTGRESQL_READ: Final = Statement(
    "keyadmin_read",
    _READ.format(
        digest="encode(k.digest, 'hex')", concat="string_agg", wanted="= ANY (CAST(%(public_ids)s AS text[]))"
    ),
)
_COLUMNS: Final = {
    "key": "bigint",
    "at": "timestamptz",
    "nonce": "bigint",
    "outcome": "text",
    "address": "inet",
    "user_agent": "text",
    "method": "text",
    "path": "text",
    "scope": "text",
}


def _unnested(columns: str, names: Iterable[str]) -> str:
    arrays = ", ".join(f"CAST(%({name})s AS {_COLUMNS[name]}[])" for name in names)
    return f"SELECT {columns} FROM unnest({arrays}) AS entry ({', '.join(names)})"  # noqa: S608 - of constants


# Each of these writes any number of entries: every parameter is an array.
_POSTGRESQL: Final = {
    _Kind.USED: Statement(
        "keyadmin_used", _USED.format(rows=_unnested("key, at, at, address", ["key", "at", "address"]))
    ),
    _Kind.REFUSED: Statement("keyadmin_refused", _REFUSED.format(rows=_unnested("key, at", ["key", "at"]))),
    _Kind.EVENT: Statement("keyadmin_event", _EVENT + _unnested("*", _COLUMNS)),
    _Kind.GUESS: Statement("keyadmin_guess", f"{_EVENT}{_unnested('*', _COLUMNS)} ON CONFLICT DO NOTHING"),
}
_TAKEN: Final = "CASE WHEN EXISTS (SELECT 1 FROM taken) THEN 'valid' ELSE 'rate_limited' END"
_POSTGRESQL_TAKE: Final = Statement(
    "keyadmin_take",
    f"WITH taken AS ({_TAKE.format(now=_NOW)}), state AS ({_STATE}), "  # noqa: S608 - of constants
    "judged AS (SELECT 1 WHERE EXISTS (SELECT 1 FROM taken) OR NOT EXISTS (SELECT 1 FROM state WHERE outdated = 1)), "
    f"event AS ({_EVENT} SELECT %(key)s, %(at)s, %(nonce)s, {_TAKEN}, %(address)s, %(user_agent)s, %(method)s, "
    "%(path)s, %(scope)s FROM judged), "
    "refused AS (UPDATE apikeys_keyactivity SET last_refused_at = %(at)s FROM judged WHERE key_id = %(key)s "
    "AND NOT EXISTS (SELECT 1 FROM taken) AND (last_refused_at IS NULL OR last_refused_at < %(at)s)) "
    "SELECT (SELECT limited_until FROM taken), (SELECT limited_until FROM state), (SELECT outdated FROM state), "
    f"{_NOW}",
)


def _postgresql_read(database: BaseDatabaseWrapper, public_ids: Collection[str]) -> Iterable[Sequence[Any]]:
    with database.wrap_database_errors:
        return pipeline.run(database.connection, [Call(_POSTGRESQL_READ, {"public_ids": array(public_ids)})])[0]


def _postgresql_write(database: BaseDatabaseWrapper, writes: Sequence[_Write]) -> list[Taken | None]:
    calls, takes = _calls(writes)
    with database.wrap_database_errors:
        results = pipeline.run(database.connection, calls)
    return [_taken(results[takes[number]][0]) if number in takes else None for number in range(len(writes))]


def _calls(writes: Sequence[_Write]) -> tuple[list[Call], dict[int, int]]:
    """Return the statements for some writes, and the position among them of each that takes from a limit.

    Rows of keys first, in the order of keys, then events: so nobody waits in a circle.
    """
    calls: list[Call] = []
    takes: dict[int, int] = {}
    moving = [number for number, write in enumerate(writes) if write.kind not in {_Kind.EVENT, _Kind.GUESS}]
    for kind, run in groupby(moving, key=lambda number: writes[number].kind):
        if kind is _Kind.TAKE:
            for number in run:
                takes[number] = len(calls)
                calls.append(Call(_POSTGRESQL_TAKE, writes[number].parameters))
        else:
            # A statement may touch a row once.
            rows = {writes[number].parameters["key"]: writes[number].parameters for number in run}
            calls.append(_call(kind, list(rows.values())))
    guesses = sorted((w.parameters for w in writes if w.kind is _Kind.GUESS), key=lambda p: (p["key"], p["nonce"]))
    events = [write.parameters for write in writes if write.kind not in {_Kind.TAKE, _Kind.GUESS}]
    calls += [_call(kind, rows) for kind, rows in ((_Kind.GUESS, guesses), (_Kind.EVENT, events)) if rows]
    return calls, takes


def _call(kind: _Kind, rows: Sequence[Mapping[str, Any]]) -> Call:
    statement = _POSTGRESQL[kind]
    return Call(statement, {name: array(row[name] for row in rows) for name in statement.parameters})


# SQLite, whose CTEs cannot write: one statement after the other.


def _named(sql: str) -> str:
    # %(name)s is :name there.
    return sql.replace("%(", ":").replace(")s", "")


_SQLITE_READ: Final = _named(_READ.format(digest="hex(k.digest)", concat="group_concat", wanted="= %(public_id)s"))
_SQLITE_EVENT: Final = _named(_EVENT + f"VALUES ({', '.join(f'%({name})s' for name in _COLUMNS)})")
_SQLITE_REFUSED: Final = _named(_REFUSED.format(rows="VALUES (%(key)s, %(at)s)"))
_SQLITE_TAKE: Final = _named(_TAKE.format(now="%(now)s"))
_SQLITE_STATE: Final = _named(_STATE)
_SQLITE: Final = {
    _Kind.EVENT: [_SQLITE_EVENT],
    _Kind.USED: [_named(_USED.format(rows="VALUES (%(key)s, %(at)s, %(at)s, %(address)s)")), _SQLITE_EVENT],
    _Kind.REFUSED: [_SQLITE_REFUSED, _SQLITE_EVENT],
    _Kind.GUESS: [f"{_SQLITE_EVENT} ON CONFLICT DO NOTHING"],
}


def _sqlite_read(database: BaseDatabaseWrapper, public_ids: Collection[str]) -> Iterable[Sequence[Any]]:
    rows = [_sqlite(database, _SQLITE_READ, {"public_id": public_id}) for public_id in public_ids]
    return [row for row in rows if row is not None]


def _sqlite_write(database: BaseDatabaseWrapper, writes: Sequence[_Write]) -> list[Taken | None]:
    return [_sqlite_write_one(database, write) for write in writes]


def _sqlite_write_one(database: BaseDatabaseWrapper, write: _Write) -> Taken | None:
    parameters = write.parameters | {"at": str(write.parameters["at"].replace(tzinfo=None))}
    if write.kind is _Kind.TAKE:
        return _sqlite_take(database, parameters)
    for part in _SQLITE[write.kind]:
        _sqlite(database, part, parameters)
    return None


def _sqlite_take(database: BaseDatabaseWrapper, parameters: dict[str, Any]) -> Taken:
    now = (datetime.now(UTC) - _EPOCH) // _MICROSECOND
    taken = _sqlite(database, _SQLITE_TAKE, parameters | {"now": now})
    until, outdated = _sqlite(database, _SQLITE_STATE, parameters)
    found = _taken((taken[0] if taken else None, until, outdated, now))
    if not found.is_outdated:
        outcome = Outcome.VALID if found.passes else Outcome.RATE_LIMITED
        for part in [_SQLITE_EVENT] if found.passes else [_SQLITE_REFUSED, _SQLITE_EVENT]:
            _sqlite(database, part, parameters | {"outcome": outcome.value})
    return found


def _sqlite(database: BaseDatabaseWrapper, statement: str, parameters: Mapping[str, Any]) -> Any:
    with database.wrap_database_errors:
        return database.connection.execute(statement, parameters).fetchone()
