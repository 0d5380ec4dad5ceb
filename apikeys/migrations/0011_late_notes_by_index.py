"""Let the trigger that notes late events find a note by its index, whatever PostgreSQL believes of the table.

A session keeps the plan that it made when there were hardly any notes: to read them all. When many events came late, as
in a replay, each of them then read the notes of all before it.
"""

from django.db import migrations

FUNCTION = "ALTER FUNCTION keyadmin_note_late() {} enable_seqscan"


def by_index(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(FUNCTION.format("SET") + " = off")


def as_before(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(FUNCTION.format("RESET"))


class Migration(migrations.Migration):
    dependencies = [("apikeys", "0010_search_by_trigrams")]
    operations = [migrations.RunPython(by_index, as_before)]
