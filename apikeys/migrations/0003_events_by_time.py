"""Find events by time. On PostgreSQL a BRIN: events come in order of time, and a B-tree would cost each one a write."""

from django.db import migrations

CREATE = {
    "postgresql": "CREATE INDEX event_by_time ON apikeys_usageevent USING brin (at) WITH (autosummarize = on)",
    "sqlite": "CREATE INDEX event_by_time ON apikeys_usageevent (at)",
}


def create(apps, schema_editor):
    schema_editor.execute(CREATE[schema_editor.connection.vendor])


def drop(apps, schema_editor):
    schema_editor.execute("DROP INDEX event_by_time")


class Migration(migrations.Migration):
    dependencies = [("apikeys", "0002_guards")]
    operations = [migrations.RunPython(create, drop)]
