"""Let the primary key's index of a key's days hold their counts, so that its callers are read without their rows.

Each day's rows of a key lie among those that all other keys had on that day.
"""

from django.db import migrations

POSTGRESQL = """
ALTER TABLE apikeys_usageday DROP CONSTRAINT apikeys_usageday_pkey,
    ADD CONSTRAINT apikeys_usageday_pkey PRIMARY KEY (key_id, dimension, day, value){}
"""


def cover(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(POSTGRESQL.format(" INCLUDE (accepted, refused, first_at, last_at)"))


def uncover(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(POSTGRESQL.format(""))


class Migration(migrations.Migration):
    dependencies = [("apikeys", "0034_covered_hours")]
    operations = [migrations.RunPython(cover, uncover)]
