"""What a verification reads of a key and writes of a request: the only SQL of the hot path.

It goes past the ORM, which took longer than all else of a request together, on Django's own connection of the
thread, in two prepared statements: one reads the key, one writes what became of the request. The second is made of
parts, which PostgreSQL runs as one statement with CTEs; SQLite's CTEs cannot write, it runs one after the other. What
the threads of a process write at the same moment is one transaction: a flush to disk costs more than all of it.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import select
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import psycopg
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from apikeys.group_commit import GroupCommit
from apikeys.models import Outcome, RateLimit

# "Last used" is exact to this: a busy key's activity is written once a second, not at every request.
ACTIVITY_GRANULARITY: Final = timedelta(seconds=1)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

# Everything as text or number, the same on both engines.
_READ: Final = """
SELECT k.id, k.public_id, k.name, e.code, {digest}, k.pepper_number,
       CAST(k.revoked_at AS text), CAST(k.expires_at AS text), CAST(k.paused_at AS text),
       CAST(k.networks AS text), k.rate_limit, k.rate_period, k.rate_burst,
       (SELECT {concat}(s.name, ' ') FROM apikeys_keyscope ks JOIN apikeys_scope s ON s.id = ks.scope_id
        WHERE ks.key_id = k.id),
       CAST(a.last_used_at AS text), CAST(a.last_refused_at AS text)
FROM apikeys_apikey k
JOIN apikeys_organization o ON o.id = k.organization_id
JOIN apikeys_environment e ON e.id = k.environment_id
LEFT JOIN apikeys_keyactivity a ON a.key_id = k.id
WHERE k.public_id = %(public_id)s AND o.slug = %(organization)s
"""
_EVENT: Final = """
INSERT INTO apikeys_usageevent (key_id, at, nonce, outcome, address, user_agent, method, path, scope)
VALUES (%(key)s, %(at)s, %(nonce)s, {outcome}, %(address)s, %(user_agent)s, %(method)s, %(path)s, %(scope)s)
"""
_USED: Final = """
INSERT INTO apikeys_keyactivity (key_id, first_used_at, last_used_at, last_address)
VALUES (%(key)s, %(at)s, %(at)s, %(address)s)
ON CONFLICT (key_id) DO UPDATE SET
    first_used_at = COALESCE(apikeys_keyactivity.first_used_at, excluded.first_used_at),
    last_used_at = excluded.last_used_at,
    last_address = excluded.last_address
WHERE apikeys_keyactivity.last_used_at IS NULL OR apikeys_keyactivity.last_used_at < excluded.last_used_at
"""
_REFUSED: Final = """
INSERT INTO apikeys_keyactivity (key_id, last_refused_at)
VALUES (%(key)s, %(at)s)
ON CONFLICT (key_id) DO UPDATE SET last_refused_at = excluded.last_refused_at
WHERE apikeys_keyactivity.last_refused_at IS NULL OR apikeys_keyactivity.last_refused_at < excluded.last_refused_at
"""
# GCRA keeps one instant a key: when its bucket would be empty again. A request passes while that is at most
# burst - 1 intervals ahead. https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm
# An instant more than burst intervals ahead cannot come from this limit: it is the debt of an older, slower one, and
# is forgotten. For that the clock is the database's, read while the row is locked.
_AHEAD: Final = "{now} + CAST(%(tolerance)s AS bigint)"
_TAKE: Final = f"""
INSERT INTO apikeys_keyactivity (key_id, first_used_at, last_used_at, last_address, limited_until)
VALUES (%(key)s, %(at)s, %(at)s, %(address)s, {{now}} + CAST(%(interval)s AS bigint))
ON CONFLICT (key_id) DO UPDATE SET
    first_used_at = COALESCE(apikeys_keyactivity.first_used_at, excluded.first_used_at),
    last_used_at = excluded.last_used_at,
    last_address = excluded.last_address,
    limited_until = CAST(%(interval)s AS bigint) + CASE
        WHEN apikeys_keyactivity.limited_until BETWEEN {{now}} AND {_AHEAD} + CAST(%(interval)s AS bigint)
        THEN apikeys_keyactivity.limited_until ELSE {{now}} END
WHERE apikeys_keyactivity.limited_until IS NULL
   OR apikeys_keyactivity.limited_until <= {_AHEAD}
   OR apikeys_keyactivity.limited_until > {_AHEAD} + CAST(%(interval)s AS bigint)
RETURNING limited_until
"""  # noqa: S608 - of constants
_LIMITED_UNTIL: Final = "SELECT limited_until FROM apikeys_keyactivity WHERE key_id = %(key)s"

_RECORD: Final = _EVENT.format(outcome="%(outcome)s")
_GUESS: Final = f"{_RECORD} ON CONFLICT DO NOTHING"


class KeyRecord(NamedTuple):
    """A key as the verifier needs it."""

    id: int
    public_id: str
    name: str
    environment: str
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


class Taken(NamedTuple):
    """What came of taking a request out of a limit: whether it passes, and how far ahead the bucket is empty again."""

    passes: bool
    ahead: timedelta


def read_key(public_id: str, organization: str) -> KeyRecord | None:
    """Return the key of an organization with a public id, as it is now."""
    parameters = {"public_id": public_id, "organization": organization}
    database = _database()
    if database.vendor == "sqlite":
        row = _sqlite(database, _SQLITE_READ, parameters)
    else:
        row = _postgresql(database, _POSTGRESQL_READ, parameters)
    return _key_record(row) if row else None


def record(key: KeyRecord, request: RequestRecord, outcome: Outcome) -> None:
    """Write a request with its outcome, and that the key was used or refused."""
    accepted = outcome is Outcome.VALID
    before = key.last_used_at if accepted else key.last_refused_at
    if before is not None and request.at - before < ACTIVITY_GRANULARITY:
        kind = _Kind.EVENT
    else:
        kind = _Kind.USED if accepted else _Kind.REFUSED
    _writes.submit(_Write(kind, _parameters(key, request) | {"outcome": outcome.value}))


def record_guess(key: KeyRecord, request: RequestRecord) -> None:
    """Write that somebody presented a wrong secret: once a minute and caller, however many guesses there are."""
    caller = hashlib.blake2b((request.address or "").encode(), digest_size=7).digest()
    minute = request._replace(at=request.at.replace(second=0, microsecond=0))
    parameters = _parameters(key, minute) | {"outcome": Outcome.UNKNOWN.value, "nonce": int.from_bytes(caller)}
    _writes.submit(_Write(_Kind.GUESS, parameters))


def take_and_record(key: KeyRecord, limit: RateLimit, request: RequestRecord) -> Taken:
    """Take a request out of the key's limit, exactly, across processes, and write it as valid or rate_limited."""
    interval = timedelta(seconds=limit.period) / limit.requests
    parameters = _parameters(key, request) | {
        "interval": interval // _MICROSECOND,
        "tolerance": interval * (limit.burst - 1) // _MICROSECOND,
    }
    taken, until, now = _writes.submit(_Write(_Kind.TAKE, parameters)) or (None, None, 0)
    return Taken(taken is not None, timedelta(microseconds=int(taken or until or now) - int(now)))


class _Kind(Enum):
    EVENT = auto()
    USED = auto()
    REFUSED = auto()
    GUESS = auto()
    TAKE = auto()


class _Write(NamedTuple):
    kind: _Kind
    parameters: dict[str, Any]


def _write_group(writes: Sequence[_Write]) -> list[Sequence[Any] | None]:
    """Commit some writes together and return the row of each, None where it has none."""
    database = _database()
    # In the order of keys: two processes that write the same keys wait for one another, never in a circle.
    order = sorted(range(len(writes)), key=lambda number: writes[number].parameters["key"])
    write = _sqlite_group if database.vendor == "sqlite" else _postgresql_group
    rows = dict(zip(order, write(database, [writes[number] for number in order]), strict=True))
    return [rows[number] for number in range(len(writes))]


_writes: GroupCommit[_Write, Sequence[Any] | None] = GroupCommit(_write_group)


def _parameters(key: KeyRecord, request: RequestRecord) -> dict[str, Any]:
    return {"key": key.id, "nonce": secrets.randbits(62), **request._asdict()}


def _key_record(row: Sequence[Any]) -> KeyRecord:
    number, public_id, name, environment, digest, pepper, revoked, expires, paused, networks, *rest = row
    requests, period, burst, scopes, used, refused = rest
    return KeyRecord(
        id=int(number),
        public_id=public_id,
        name=name,
        environment=environment,
        digest=bytes.fromhex(digest),
        pepper_number=int(pepper),
        revoked_at=_instant(revoked),
        expires_at=_instant(expires),
        paused_at=_instant(paused),
        networks=json.loads(networks),
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


# PostgreSQL


class _Statement:
    """A prepared statement, run by libpq itself in one call that waits without Python's lock.

    psycopg's cursor would do the same with five times the Python; Django's puts the parameters into the text, and
    such a text is never prepared. Parameters and results are PostgreSQL's text format.
    """

    def __init__(self, name: str, sql: str) -> None:
        self.name = name.encode()
        self.parameters = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", sql)))
        for number, parameter in enumerate(self.parameters, 1):
            sql = sql.replace(f"%({parameter})s", f"${number}")
        self.sql = sql.encode()

    def run(self, raw: psycopg.Connection[Any], values: Mapping[str, Any]) -> list[str | None] | None:
        """Return the first row, None without one. Raises a psycopg.Error when statement or connection fail."""
        self.prepare(raw)
        return _row(raw.pgconn.exec_prepared(self.name, self._texts(values)))

    def send(self, raw: psycopg.Connection[Any], values: Mapping[str, Any]) -> None:
        """Send it, already prepared, without waiting."""
        raw.pgconn.send_query_prepared(self.name, self._texts(values))

    def prepare(self, raw: psycopg.Connection[Any]) -> None:
        """Prepare it on a connection that has not seen it."""
        names = _prepared.setdefault(raw, set())
        if self.name not in names:
            _row(raw.pgconn.prepare(self.name, self.sql))
            names.add(self.name)

    def _texts(self, values: Mapping[str, Any]) -> Any:
        return [None if (value := values[name]) is None else str(value).encode() for name in self.parameters]


def _row(result: PGresult) -> list[str | None] | None:
    if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
        raise psycopg.OperationalError(result.error_message.decode("utf-8", "replace"))
    if not result.ntuples:
        return None
    values = (result.get_value(0, column) for column in range(result.nfields))
    return [None if value is None else value.decode() for value in values]


_prepared: WeakKeyDictionary[psycopg.Connection[Any], set[bytes]] = WeakKeyDictionary()

_NOW: Final = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)"
_TAKEN: Final = "CASE WHEN EXISTS (SELECT 1 FROM taken) THEN 'valid' ELSE 'rate_limited' END"
_POSTGRESQL_READ: Final = _Statement(
    "keyadmin_read", _READ.format(digest="encode(k.digest, 'hex')", concat="string_agg")
)
_POSTGRESQL: Final = {
    _Kind.EVENT: _Statement("keyadmin_event", _RECORD),
    _Kind.USED: _Statement("keyadmin_used", f"WITH activity AS ({_USED}) {_RECORD}"),
    _Kind.REFUSED: _Statement("keyadmin_refused", f"WITH activity AS ({_REFUSED}) {_RECORD}"),
    _Kind.GUESS: _Statement("keyadmin_guess", _GUESS),
    _Kind.TAKE: _Statement(
        "keyadmin_take",
        f"WITH taken AS ({_TAKE.format(now=_NOW)}), event AS ({_EVENT.format(outcome=_TAKEN)}), "  # noqa: S608 - constants
        "refused AS (UPDATE apikeys_keyactivity SET last_refused_at = %(at)s WHERE key_id = %(key)s "
        "AND NOT EXISTS (SELECT 1 FROM taken) AND (last_refused_at IS NULL OR last_refused_at < %(at)s)) "
        f"SELECT (SELECT limited_until FROM taken), ({_LIMITED_UNTIL}), {_NOW}",
    ),
}


def _postgresql_group(database: BaseDatabaseWrapper, writes: Sequence[_Write]) -> list[Sequence[Any] | None]:
    """Send all, then wait once: between two synchronizations libpq's pipeline is one transaction."""
    raw = database.connection
    with database.wrap_database_errors:
        if len(writes) == 1:
            return [_POSTGRESQL[writes[0].kind].run(raw, writes[0].parameters)]
        for kind in {write.kind for write in writes}:
            _POSTGRESQL[kind].prepare(raw)
        raw.pgconn.enter_pipeline_mode()
        for write in writes:
            _POSTGRESQL[write.kind].send(raw, write.parameters)
        raw.pgconn.pipeline_sync()
        results = _pipeline_results(raw.pgconn)
        raw.pgconn.exit_pipeline_mode()
        return [_row(result) for result in results]


def _pipeline_results(pgconn: PGconn) -> list[PGresult]:
    """Return the result of each statement of a pipeline, waiting without Python's lock until all of it is done."""
    ready = select.poll()
    ready.register(pgconn.socket, select.POLLIN)
    results: list[PGresult] = []
    while True:
        while pgconn.is_busy():
            ready.poll()
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:
            if pgconn.status != ConnStatus.OK:
                raise psycopg.OperationalError(pgconn.get_error_message())
        elif result.status == ExecStatus.PIPELINE_SYNC:
            return results
        else:
            results.append(result)


def _postgresql(
    database: BaseDatabaseWrapper, statement: _Statement, parameters: Mapping[str, Any]
) -> list[str | None] | None:
    with database.wrap_database_errors:
        return statement.run(database.connection, parameters)


# SQLite

_SQLITE_READ, _SQLITE_EVENT, _SQLITE_USED, _SQLITE_REFUSED, _SQLITE_GUESS, _SQLITE_TAKE, _SQLITE_LIMITED_UNTIL = (
    # %(name)s is :name there.
    part.replace("%(", ":").replace(")s", "")
    for part in (
        _READ.format(digest="hex(k.digest)", concat="group_concat"),
        *(_RECORD, _USED, _REFUSED, _GUESS, _TAKE.format(now="%(now)s"), _LIMITED_UNTIL),
    )
)
_SQLITE: Final = {
    _Kind.EVENT: [_SQLITE_EVENT],
    _Kind.USED: [_SQLITE_USED, _SQLITE_EVENT],
    _Kind.REFUSED: [_SQLITE_REFUSED, _SQLITE_EVENT],
    _Kind.GUESS: [_SQLITE_GUESS],
}


def _sqlite_group(database: BaseDatabaseWrapper, writes: Sequence[_Write]) -> list[Sequence[Any] | None]:
    with transaction.atomic():
        return [_sqlite_write(database, write) for write in writes]


def _sqlite_write(database: BaseDatabaseWrapper, write: _Write) -> Sequence[Any] | None:
    if write.kind is _Kind.TAKE:
        return _sqlite_take(database, write.parameters)
    for part in _SQLITE[write.kind]:
        _sqlite(database, part, write.parameters)
    return None


def _sqlite_take(database: BaseDatabaseWrapper, parameters: dict[str, Any]) -> Sequence[Any]:
    now = (datetime.now(UTC) - _EPOCH) // _MICROSECOND
    taken = _sqlite(database, _SQLITE_TAKE, parameters | {"now": now})
    outcome = Outcome.VALID if taken else Outcome.RATE_LIMITED
    for part in [_SQLITE_EVENT] if taken else [_SQLITE_REFUSED, _SQLITE_EVENT]:
        _sqlite(database, part, parameters | {"outcome": outcome.value})
    until = _sqlite(database, _SQLITE_LIMITED_UNTIL, parameters)
    return taken[0] if taken else None, until[0], now


def _sqlite(database: BaseDatabaseWrapper, statement: str, parameters: Mapping[str, Any]) -> Any:
    if isinstance(at := parameters.get("at"), datetime):
        parameters = {**parameters, "at": str(at.replace(tzinfo=None))}
    with database.wrap_database_errors:
        return database.connection.execute(statement, parameters).fetchone()
