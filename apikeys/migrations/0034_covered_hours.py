"""Let the primary key's index of a key's hours hold their counts, so that a chart reads them without their rows.

A key's hours lie apart, each among those that all other keys had in the same hour.
"""

from django.db import migrations

POSTGRESQL = """
ALTER TABLE apikeys_usagehour DROP CONSTRAINT apikeys_usagehour_pkey,
    ADD CONSTRAINT apikeys_usagehour_pkey PRIMARY KEY (key_id, hour, outcome){}
"""


def cover(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(POSTGRESQL.format(" INCLUDE (count)"))


def uncover(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(POSTGRESQL.format(""))


class Migration(migrations.Migration):
    dependencies = [("apikeys", "0033_paused_keys_by_index")]
    operations = [migrations.RunPython(cover, uncover)]
