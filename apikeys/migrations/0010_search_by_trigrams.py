"""Find a part of a key's name, purpose, contact or id by an index, on PostgreSQL.

The extension pg_trgm comes with PostgreSQL, and whoever owns a database may install it there. Where that cannot be done
the search works without: it reads the organization's keys. docs/performance.md tells how to add the index later.
"""

import sys

from django.db import DatabaseError, migrations, transaction

CREATE = """
CREATE INDEX key_by_text ON apikeys_apikey USING gin (
    UPPER(name::text) gin_trgm_ops, UPPER(purpose::text) gin_trgm_ops,
    UPPER(owner_contact::text) gin_trgm_ops, UPPER(public_id::text) gin_trgm_ops
) WITH (fastupdate = off)
"""


def create(apps, schema_editor):
    database = schema_editor.connection
    if database.vendor != "postgresql":
        return
    try:
        with transaction.atomic(database.alias), database.cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
            cursor.execute(CREATE)
    except DatabaseError as error:
        told = str(error).strip().partition("\n")[0]
        print(f"\n  Search goes without an index: {told} See docs/performance.md.", file=sys.stderr)


def tell_planner(apps, schema_editor):
    """Let the planner know what the new indexes hold; autovacuum would, some minutes after the first pages."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("ANALYZE apikeys_apikey, apikeys_keyactivity")


def drop(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP INDEX IF EXISTS key_by_text")


class Migration(migrations.Migration):
    dependencies = [("apikeys", "0009_lists_by_index")]
    operations = [
        migrations.RunPython(create, drop),
        migrations.RunPython(tell_planner, migrations.RunPython.noop),
    ]
