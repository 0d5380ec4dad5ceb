"""Let an index answer each question of the key list, and give every key its row of activity.

The rows know their organization, so that keys can be read by their last use; a trigger writes it, because the verifier's
statements name no organization. SQLite drops a table's triggers when a later migration remakes the table: such a
migration must run ``make_triggers`` again.
"""

import django.db.models.functions.text
from django.db import migrations, models

import apikeys.models.extremes

# A row that somebody deleted comes back with the key's next request, without an organization.
POSTGRESQL = """
CREATE FUNCTION keyadmin_begin_activity() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO apikeys_keyactivity (key_id, organization_id) VALUES (NEW.id, NEW.organization_id)
    ON CONFLICT (key_id) DO UPDATE SET organization_id = excluded.organization_id;
    RETURN NULL;
END $$;
CREATE TRIGGER keyadmin_begin_activity AFTER INSERT ON apikeys_apikey
    FOR EACH ROW EXECUTE FUNCTION keyadmin_begin_activity();
CREATE FUNCTION keyadmin_place_activity() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE apikeys_keyactivity SET organization_id = k.organization_id FROM apikeys_apikey k
    WHERE k.id = NEW.key_id AND key_id = NEW.key_id;
    RETURN NULL;
END $$;
CREATE TRIGGER keyadmin_place_activity AFTER INSERT ON apikeys_keyactivity
    FOR EACH ROW WHEN (NEW.organization_id IS NULL) EXECUTE FUNCTION keyadmin_place_activity();
"""
SQLITE = [
    """
    CREATE TRIGGER keyadmin_begin_activity AFTER INSERT ON apikeys_apikey
    BEGIN
        INSERT INTO apikeys_keyactivity (key_id, organization_id) VALUES (NEW.id, NEW.organization_id)
        ON CONFLICT (key_id) DO UPDATE SET organization_id = excluded.organization_id;
    END
    """,
    """
    CREATE TRIGGER keyadmin_place_activity AFTER INSERT ON apikeys_keyactivity WHEN NEW.organization_id IS NULL
    BEGIN
        UPDATE apikeys_keyactivity SET organization_id = (SELECT organization_id FROM apikeys_apikey WHERE id = NEW.key_id)
        WHERE key_id = NEW.key_id;
    END
    """,
]
FILL = """
INSERT INTO apikeys_keyactivity (key_id, organization_id) SELECT id, organization_id FROM apikeys_apikey WHERE 1 = 1
ON CONFLICT (key_id) DO UPDATE SET organization_id = excluded.organization_id
"""


def make_triggers(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(POSTGRESQL)
    else:
        for statement in SQLITE:
            schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [("apikeys", "0008_rhythms_and_exemptions")]
    operations = [
        migrations.AddField("keyactivity", "organization_id", models.BigIntegerField(editable=False, null=True)),
        migrations.AddField(
            "keyactivity",
            "last_used_minute",
            models.GeneratedField(
                db_persist=True,
                expression=apikeys.models.extremes.MinuteOrEarliest("last_used_at"),
                output_field=models.DateTimeField(),
            ),
        ),
        migrations.RunPython(make_triggers),
        migrations.RunSQL(FILL),
        migrations.RemoveIndex("apikey", "key_by_name"),
        migrations.RemoveIndex("apikey", "key_by_expiry"),
        migrations.AddIndex(
            "apikey",
            models.Index(
                models.F("organization"),
                django.db.models.functions.text.Lower("name"),
                models.F("id"),
                name="key_by_lower_name",
            ),
        ),
        migrations.AddIndex(
            "apikey",
            models.Index(
                models.F("organization"),
                apikeys.models.extremes.OrLatest("expires_at"),
                models.F("id"),
                name="key_by_end",
            ),
        ),
        migrations.AddIndex(
            "apikey",
            models.Index(
                condition=models.Q(revoked_at__isnull=False),
                fields=["organization", "-created_at", "-id"],
                name="key_revoked",
            ),
        ),
        migrations.AddIndex(
            "apikey",
            models.Index(
                condition=models.Q(paused_at__isnull=False),
                fields=["organization", "-created_at", "-id"],
                name="key_paused",
            ),
        ),
        migrations.AddIndex("apikey", models.Index(fields=["organization", "owner_contact"], name="key_of_contact")),
        migrations.AddIndex(
            "keyactivity",
            models.Index(fields=["organization_id", "last_used_minute", "key"], name="activity_by_last_use"),
        ),
        migrations.AddIndex(
            "keyactivity",
            models.Index(
                condition=models.Q(last_refused_at__isnull=False),
                fields=["organization_id", "last_refused_at"],
                name="activity_by_last_refusal",
            ),
        ),
    ]
