"""Note events that come late, and on PostgreSQL keep the events of each day in a partition of its own.

The table as it was becomes the default partition, where an event goes whose day has none: no event is copied or lost.
Its days are moved into partitions of their own by roll_up_usage, or end there. SQLite drops a table's trigger when a
later migration remakes the table: such a migration must make it again, as those of 0002.
"""

from datetime import timedelta

from django.db import migrations, models

DAYS_AHEAD = 14

# An event is noted when its hour may have been rolled up already: roll-ups end with the hour of five minutes ago. Who
# notes an hour holds its note until the event is committed, so that nobody counts and removes the note before.
POSTGRESQL_NOTES = """
CREATE FUNCTION keyadmin_note_late() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    hour_of_event timestamptz := date_trunc('hour', NEW.at, 'UTC');
BEGIN
    PERFORM 1 FROM apikeys_latehour WHERE key_id = NEW.key_id AND hour = hour_of_event FOR KEY SHARE;
    IF NOT FOUND THEN
        INSERT INTO apikeys_latehour (key_id, hour) VALUES (NEW.key_id, hour_of_event);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER keyadmin_late_event AFTER INSERT ON apikeys_usageevent FOR EACH ROW
    WHEN (NEW.at < date_trunc('hour', clock_timestamp() - interval '5 minutes', 'UTC'))
    EXECUTE FUNCTION keyadmin_note_late();
"""
SQLITE_NOTES = """
CREATE TRIGGER keyadmin_late_event AFTER INSERT ON apikeys_usageevent
WHEN NEW.at < strftime('%Y-%m-%d %H:00:00', 'now', '-5 minutes') AND NOT EXISTS (
    SELECT 1 FROM apikeys_latehour WHERE key_id = NEW.key_id AND hour = strftime('%Y-%m-%d %H:00:00', NEW.at)
)
BEGIN
    INSERT INTO apikeys_latehour (key_id, hour) VALUES (NEW.key_id, strftime('%Y-%m-%d %H:00:00', NEW.at));
END
"""
PARENT = """
ALTER TABLE apikeys_usageevent RENAME TO apikeys_usageevent_default;
ALTER INDEX event_by_time RENAME TO apikeys_usageevent_default_at_idx;
CREATE TABLE apikeys_usageevent (LIKE apikeys_usageevent_default INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
    PARTITION BY RANGE (at);
ALTER TABLE apikeys_usageevent ADD PRIMARY KEY (key_id, at, nonce);
CREATE INDEX event_by_time ON apikeys_usageevent USING brin (at) WITH (autosummarize = on);
"""
PARTITION = """
CREATE TABLE apikeys_usageevent_{0:%Y%m%d} PARTITION OF apikeys_usageevent
FOR VALUES FROM ('{0:%Y-%m-%d} 00:00:00+00') TO ('{1:%Y-%m-%d} 00:00:00+00')
"""


def change(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        partition(schema_editor)
        schema_editor.execute(POSTGRESQL_NOTES)
    else:
        schema_editor.execute(SQLITE_NOTES)


def partition(schema_editor):
    with schema_editor.connection.cursor() as cursor:
        # The name is Django's, of a time when the table had no partitions.
        cursor.execute(
            "SELECT conname FROM pg_constraint WHERE conrelid = 'apikeys_usageevent'::regclass AND contype = 'p'"
        )
        [(key,)] = cursor.fetchall()
        cursor.execute(f'ALTER INDEX "{key}" RENAME TO apikeys_usageevent_default_pkey')
        for statement in PARENT.strip().split(";\n"):
            cursor.execute(statement)
        cursor.execute("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date")
        [(today,)] = cursor.fetchall()
        cursor.execute(
            "SELECT DISTINCT (at AT TIME ZONE 'UTC')::date FROM apikeys_usageevent_default WHERE at >= %s", [today]
        )
        # Days that have events in the default partition, today as a rule, stay there for now.
        taken = {day for (day,) in cursor.fetchall()}
        for number in range(DAYS_AHEAD + 1):
            day = today + timedelta(days=number)
            if day not in taken:
                cursor.execute(PARTITION.format(day, day + timedelta(days=1)))
        cursor.execute("ALTER TABLE apikeys_usageevent ATTACH PARTITION apikeys_usageevent_default DEFAULT")


class Migration(migrations.Migration):
    dependencies = [("apikeys", "0006_usage_rollups")]
    # No way back: events are worth more than the table's old shape.
    operations = [
        migrations.AddField("usagewatermark", "removing_up_to", models.BigIntegerField(null=True)),
        migrations.RunPython(change),
    ]
