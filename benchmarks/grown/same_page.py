"""A database of few keys in which a page lists the very keys that it lists among many."""

from __future__ import annotations

from typing import Any, Final

from psycopg import Connection, sql

from tests.postgresql import PostgreSQL

NAME: Final = "lists_same_page"
# A copy of the database of few keys: one that somebody is connected to cannot be copied.
_ORIGINAL: Final = "lists_same_page_original"
# What a key has, apart from its events, which no list reads.
_TABLES: Final = """
SELECT c.table_name, array_agg(c.column_name::text ORDER BY c.ordinal_position)
FROM information_schema.columns c JOIN pg_class t ON t.oid = to_regclass(c.table_name)
WHERE c.table_schema = 'public' AND c.is_generated = 'NEVER' AND t.relkind IN ('r', 'p') AND NOT t.relispartition
    AND c.table_name <> 'apikeys_usageevent' AND (c.table_name = 'apikeys_apikey'
    OR c.table_name IN (SELECT o.table_name FROM information_schema.columns o WHERE o.column_name = 'key_id'))
GROUP BY c.table_name
"""
_CLEARED: Final = """
DELETE FROM apikeys_apikey WHERE id = ANY(%(ids)s) OR public_id = ANY(%(public_ids)s) OR id IN (
    SELECT id FROM apikeys_apikey WHERE id <> ALL(%(ids)s) AND public_id <> ALL(%(public_ids)s)
    ORDER BY md5(id::text) LIMIT %(surplus)s)
"""


def prepare(server: PostgreSQL, few: str) -> None:
    """Copy the database of few keys, to which nobody is connected yet."""
    _copy_database(server, few, _ORIGINAL)


def make(server: PostgreSQL, many: str, public_ids: list[str]) -> None:
    """Make the database ``NAME`` of few keys, in which some that ``many`` has take the place of others."""
    _copy_database(server, _ORIGINAL, NAME)
    with server.connect(many) as source, server.connect(NAME) as target:
        wanted = "SELECT id FROM apikeys_apikey WHERE public_id = ANY(%s)"
        ids = [row[0] for row in source.execute(wanted, [public_ids]).fetchall()]
        target.execute("SET session_replication_role = replica")
        tables = source.execute(_TABLES).fetchall()
        _clear(target, [table for table, _ in tables], ids, public_ids)
        for table, columns in tables:
            _copy(source, target, table, columns, ids)
        target.execute("VACUUM (ANALYZE)")


def _copy_database(server: PostgreSQL, source: str, target: str) -> None:
    copying = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(target), sql.Identifier(source))
    with server.connect() as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(target)))
        connection.execute(copying)


def _clear(target: Connection[Any], tables: list[str], ids: list[int], public_ids: list[str]) -> None:
    """Leave as many keys as make up the number together with those that come."""
    values: dict[str, Any] = {"ids": ids, "public_ids": public_ids}
    same = "SELECT count(*) FROM apikeys_apikey WHERE id = ANY(%(ids)s) OR public_id = ANY(%(public_ids)s)"
    [(taken,)] = target.execute(same, values).fetchall()
    target.execute(_CLEARED, {**values, "surplus": len(ids) - taken})
    for table in tables:
        if table != "apikeys_apikey":
            of_none = "DELETE FROM {} WHERE key_id NOT IN (SELECT id FROM apikeys_apikey) OR key_id = ANY(%s)"
            target.execute(sql.SQL(of_none).format(sql.Identifier(table)), [ids])


def _copy(source: Connection[Any], target: Connection[Any], table: str, columns: list[str], ids: list[int]) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    key = sql.Identifier("id" if table == "apikeys_apikey" else "key_id")
    whole = sql.SQL("COPY (SELECT {} FROM {} WHERE {} = ANY({})) TO STDOUT (FORMAT binary)")
    read = whole.format(names, sql.Identifier(table), key, sql.Literal(ids))
    write = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(sql.Identifier(table), names)
    with source.cursor().copy(read) as rows, target.cursor().copy(write) as into:
        for data in rows:
            into.write(data)
