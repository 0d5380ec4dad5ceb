"""The verifier's statements, for both engines: what it reads of a key, and what it writes of a request.

Everything is read as text or number.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from typing import Final

from apikeys.statements import Statement


class Kind(Enum):
    """What is written of a request."""

    EVENT = auto()
    USED = auto()
    REFUSED = auto()
    GUESS = auto()
    TAKE = auto()


_READ: Final = """
SELECT o.slug, k.id, k.public_id, k.name, e.code, k.version, {digest}, k.pepper_number,
       CAST(k.revoked_at AS text), CAST(k.expires_at AS text), CAST(k.paused_at AS text),
       CAST(k.paused_until AS text),
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
POSTGRESQL_READ: Final = Statement(
    "keyadmin_read",
    _READ.format(
        digest="encode(k.digest, 'hex')", concat="string_agg", wanted="= ANY (CAST(%(public_ids)s AS text[]))"
    ),
)
# What is written of a request, with PostgreSQL's types.
COLUMNS: Final = {
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
    arrays = ", ".join(f"CAST(%({name})s AS {COLUMNS[name]}[])" for name in names)
    return f"SELECT {columns} FROM unnest({arrays}) AS entry ({', '.join(names)})"  # noqa: S608 - of constants


# Each of these writes any number of entries: every parameter is an array.
POSTGRESQL: Final = {
    Kind.USED: Statement(
        "keyadmin_used", _USED.format(rows=_unnested("key, at, at, address", ["key", "at", "address"]))
    ),
    Kind.REFUSED: Statement("keyadmin_refused", _REFUSED.format(rows=_unnested("key, at", ["key", "at"]))),
    Kind.EVENT: Statement("keyadmin_event", _EVENT + _unnested("*", COLUMNS)),
    Kind.GUESS: Statement("keyadmin_guess", f"{_EVENT}{_unnested('*', COLUMNS)} ON CONFLICT DO NOTHING"),
}
_TAKEN: Final = "CASE WHEN EXISTS (SELECT 1 FROM taken) THEN 'valid' ELSE 'rate_limited' END"
POSTGRESQL_TAKE: Final = Statement(
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


# SQLite, whose CTEs cannot write: one statement after the other.


SQLITE_READ: Final = Statement(
    "keyadmin_read", _READ.format(digest="hex(k.digest)", concat="group_concat", wanted="= %(public_id)s")
)
_INSERT: Final = f"{_EVENT}VALUES ({', '.join(f'%({name})s' for name in COLUMNS)})"
SQLITE_EVENT: Final = Statement("keyadmin_event", _INSERT)
SQLITE_REFUSED: Final = Statement("keyadmin_refused", _REFUSED.format(rows="VALUES (%(key)s, %(at)s)"))
SQLITE_TAKE: Final = Statement("keyadmin_take", _TAKE.format(now="%(now)s"))
SQLITE_STATE: Final = Statement("keyadmin_state", _STATE)
SQLITE: Final = {
    Kind.EVENT: [SQLITE_EVENT],
    Kind.USED: [
        Statement("keyadmin_used", _USED.format(rows="VALUES (%(key)s, %(at)s, %(at)s, %(address)s)")),
        SQLITE_EVENT,
    ],
    Kind.REFUSED: [SQLITE_REFUSED, SQLITE_EVENT],
    Kind.GUESS: [Statement("keyadmin_guess", f"{_INSERT} ON CONFLICT DO NOTHING")],
}
