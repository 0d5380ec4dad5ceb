"""Reviews of keys, whose mails go through the outbox; the database refuses to change one that is closed."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import apikeys.models.review_item
import apikeys.models.text

CHANGED = "keyadmin: a closed review cannot be changed"
DELETED = "keyadmin: a review cannot be deleted"

POSTGRESQL = f"""
CREATE FUNCTION keyadmin_guard_review() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF OLD.closed_at IS NULL THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION '{CHANGED}';
    END IF;
    RAISE EXCEPTION '{DELETED}';
END $$;
CREATE TRIGGER keyadmin_review_update BEFORE UPDATE OR DELETE ON apikeys_review
    FOR EACH ROW EXECUTE FUNCTION keyadmin_guard_review();
CREATE TRIGGER keyadmin_review_truncate BEFORE TRUNCATE ON apikeys_review
    FOR EACH STATEMENT EXECUTE FUNCTION keyadmin_guard_review();

CREATE FUNCTION keyadmin_guard_review_item() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP IN ('DELETE', 'TRUNCATE') THEN
        RAISE EXCEPTION '{DELETED}';
    END IF;
    IF EXISTS (SELECT 1 FROM apikeys_review WHERE id = NEW.review_id AND closed_at IS NOT NULL) THEN
        RAISE EXCEPTION '{CHANGED}';
    END IF;
    IF TG_OP = 'UPDATE' THEN
        IF NEW.review_id IS DISTINCT FROM OLD.review_id OR NEW.key_id IS DISTINCT FROM OLD.key_id THEN
            RAISE EXCEPTION '{CHANGED}';
        END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keyadmin_review_item_update BEFORE INSERT OR UPDATE OR DELETE ON apikeys_reviewitem
    FOR EACH ROW EXECUTE FUNCTION keyadmin_guard_review_item();
CREATE TRIGGER keyadmin_review_item_truncate BEFORE TRUNCATE ON apikeys_reviewitem
    FOR EACH STATEMENT EXECUTE FUNCTION keyadmin_guard_review_item();
"""

_IS_CLOSED = "EXISTS (SELECT 1 FROM apikeys_review WHERE id = NEW.review_id AND closed_at IS NOT NULL)"
SQLITE = [
    f"""
    CREATE TRIGGER keyadmin_review_update BEFORE UPDATE ON apikeys_review WHEN OLD.closed_at IS NOT NULL
    BEGIN SELECT RAISE(ABORT, '{CHANGED}'); END
    """,
    f"""
    CREATE TRIGGER keyadmin_review_delete BEFORE DELETE ON apikeys_review
    BEGIN SELECT RAISE(ABORT, '{DELETED}'); END
    """,
    # INSERT OR REPLACE deletes the older row without firing a DELETE trigger.
    f"""
    CREATE TRIGGER keyadmin_review_replace BEFORE INSERT ON apikeys_review
    WHEN EXISTS (SELECT 1 FROM apikeys_review WHERE id = NEW.id)
    BEGIN SELECT RAISE(ABORT, '{DELETED}'); END
    """,
    f"""
    CREATE TRIGGER keyadmin_review_item_insert BEFORE INSERT ON apikeys_reviewitem
    WHEN {_IS_CLOSED} OR EXISTS (SELECT 1 FROM apikeys_reviewitem WHERE id = NEW.id)
    BEGIN SELECT RAISE(ABORT, '{CHANGED}'); END
    """,
    f"""
    CREATE TRIGGER keyadmin_review_item_update BEFORE UPDATE ON apikeys_reviewitem
    WHEN {_IS_CLOSED} OR NEW.review_id IS NOT OLD.review_id OR NEW.key_id IS NOT OLD.key_id
    BEGIN SELECT RAISE(ABORT, '{CHANGED}'); END
    """,
    f"""
    CREATE TRIGGER keyadmin_review_item_delete BEFORE DELETE ON apikeys_reviewitem
    BEGIN SELECT RAISE(ABORT, '{DELETED}'); END
    """,
]


def guard(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(POSTGRESQL)
        return
    for statement in SQLITE:
        schema_editor.execute(statement)


PROTECT = django.db.models.deletion.PROTECT


class Migration(migrations.Migration):
    dependencies = [("apikeys", "0028_policies")]

    operations = [
        migrations.CreateModel(
            name="Review",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("title", models.CharField(max_length=100, validators=[apikeys.models.text.validate_line])),
                ("note", models.CharField(blank=True, max_length=500, validators=[apikeys.models.text.validate_text])),
                ("keys", models.CharField(max_length=500)),
                ("due_at", models.DateTimeField()),
                ("started_at", models.DateTimeField()),
                ("started_by_label", models.CharField(max_length=254)),
                ("closed_at", models.DateTimeField(null=True)),
                ("closed_by_label", models.CharField(blank=True, max_length=254)),
                ("result", models.JSONField(default=dict)),
                (
                    "closed_by",
                    models.ForeignKey(null=True, on_delete=PROTECT, related_name="+", to=settings.AUTH_USER_MODEL),
                ),
                (
                    "organization",
                    models.ForeignKey(on_delete=PROTECT, related_name="reviews", to="apikeys.organization"),
                ),
                (
                    "started_by",
                    models.ForeignKey(null=True, on_delete=PROTECT, related_name="+", to=settings.AUTH_USER_MODEL),
                ),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [models.Index(fields=["organization", "-id"], name="review_newest")],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("closed_at__isnull", True)),
                        fields=("organization",),
                        name="one_open_review",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="ReviewItem",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "decision",
                    models.CharField(choices=apikeys.models.review_item.decisions, default="open", max_length=16),
                ),
                ("decided_at", models.DateTimeField(null=True)),
                ("decided_by_label", models.CharField(blank=True, max_length=254)),
                ("note", models.CharField(blank=True, max_length=500, validators=[apikeys.models.text.validate_text])),
                ("owner_at_start", models.CharField(max_length=254)),
                ("name", models.CharField(max_length=100)),
                ("environment", models.CharField(max_length=40)),
                ("fingerprint", models.CharField(max_length=40)),
                ("owner", models.CharField(max_length=254)),
                ("last_used_at", models.DateTimeField(null=True)),
                ("key_status", models.CharField(max_length=16)),
                ("ended_at", models.DateTimeField(null=True)),
                (
                    "decided_by",
                    models.ForeignKey(null=True, on_delete=PROTECT, related_name="+", to=settings.AUTH_USER_MODEL),
                ),
                ("key", models.ForeignKey(on_delete=PROTECT, related_name="review_items", to="apikeys.apikey")),
                ("review", models.ForeignKey(on_delete=PROTECT, related_name="items", to="apikeys.review")),
            ],
            options={
                "ordering": ["pk"],
                "indexes": [models.Index(fields=["review", "decision", "id"], name="review_by_decision")],
                "constraints": [models.UniqueConstraint(fields=("review", "key"), name="key_once_per_review")],
            },
        ),
        migrations.CreateModel(
            name="ReviewReminder",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("stage", models.CharField(max_length=16)),
                ("at", models.DateTimeField()),
                ("by_label", models.CharField(max_length=254)),
                ("mails", models.PositiveIntegerField()),
                ("review", models.ForeignKey(on_delete=PROTECT, related_name="reminders", to="apikeys.review")),
            ],
            options={
                "ordering": ["-at", "-pk"],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("stage", "asked"), _negated=True),
                        fields=("review", "stage"),
                        name="each_reminder_once",
                    )
                ],
            },
        ),
        migrations.AddField(
            model_name="delivery",
            name="review",
            field=models.ForeignKey(null=True, on_delete=PROTECT, related_name="deliveries", to="apikeys.review"),
        ),
        migrations.RemoveConstraint(model_name="delivery", name="one_waiting_mail"),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.UniqueConstraint(
                condition=models.Q(
                    ("channel", "mail"), ("is_test", False), ("last_event__isnull", True), ("review__isnull", True)
                ),
                fields=("organization", "email", "is_urgent"),
                name="one_waiting_mail",
            ),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.UniqueConstraint(
                condition=models.Q(("failed_at__isnull", True), ("sent_at__isnull", True)),
                fields=("review", "email"),
                name="one_waiting_reminder",
            ),
        ),
        # No way back: undoing this would take the guards away.
        migrations.RunPython(guard),
    ]
