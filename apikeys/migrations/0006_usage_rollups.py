"""Tables for usage by day, organization and rhythm.

What was recorded before is counted into them by the next roll-up: each hour with events is noted as if they came late.
"""

import django.db.models.deletion
from django.db import migrations, models
from django.utils import timezone

import apikeys.models.busiest
import apikeys.models.rollup
import apikeys.models.usage

HOUR_OF = {"postgresql": "date_trunc('hour', at, 'UTC')", "sqlite": "strftime('%Y-%m-%d %H:00:00', at)"}
# Hours that were counted before the first event that is left are not to be counted again.
FIRST_WHOLE_DAY = {
    "postgresql": "date_trunc('day', MIN(at), 'UTC') + interval '1 day'",
    "sqlite": "strftime('%Y-%m-%d 00:00:00', MIN(at), '+1 day')",
}
DAY_OF = {"postgresql": "CAST(hour AT TIME ZONE 'UTC' AS date)", "sqlite": "date(hour)"}
_BEFORE = "LAG(hour) OVER (PARTITION BY key_id ORDER BY hour)"
GAP = {
    "postgresql": f"CAST(EXTRACT(EPOCH FROM hour - {_BEFORE}) AS bigint)",
    "sqlite": f"CAST(strftime('%s', hour) AS integer) - CAST(strftime('%s', {_BEFORE}) AS integer)",
}
FROM_HOURS = [
    """
    INSERT INTO apikeys_organizationhour (organization_id, hour, environment_id, outcome, count)
    SELECT organization_id, hour, environment_id, outcome, SUM(count)
    FROM apikeys_usagehour JOIN apikeys_apikey ON id = key_id
    GROUP BY organization_id, hour, environment_id, outcome
    """,
    """
    INSERT INTO apikeys_organizationday (organization_id, day, owner_member_id, owner_contact, accepted, refused)
    SELECT organization_id, {day} AS day_of_hour, COALESCE(owner_id, 0) AS member, owner_contact,
           SUM(CASE WHEN outcome = 'valid' THEN count ELSE 0 END),
           SUM(CASE WHEN outcome = 'valid' THEN 0 ELSE count END)
    FROM apikeys_usagehour JOIN apikeys_apikey ON id = key_id
    GROUP BY organization_id, day_of_hour, member, owner_contact
    """,
    """
    INSERT INTO apikeys_keyrhythm (key_id, first_hour, last_hour, longest_gap, gaps, computed_at)
    SELECT key_id, MIN(hour), MAX(hour), COALESCE(MAX(gap), 0), COUNT(CASE WHEN gap > 3600 THEN 1 END), MAX(hour)
    FROM (SELECT key_id, hour, {gap} AS gap FROM apikeys_usagehour WHERE outcome = 'valid') gaps GROUP BY key_id
    """,
]


def begin(apps, schema_editor):
    """Say since when usage is recorded, and note what is to be counted."""
    vendor = schema_editor.connection.vendor
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT (SELECT MIN(at) FROM apikeys_usageevent), (SELECT MIN(hour) FROM apikeys_usagehour)")
        event, hour = cursor.fetchone()
        earliest = min((at for at in (event, hour) if at is not None), default=None)
        now = schema_editor.connection.ops.adapt_datetimefield_value(timezone.now())
        cursor.execute("INSERT INTO apikeys_usagewatermark (id) VALUES (1) ON CONFLICT DO NOTHING")
        cursor.execute(
            "UPDATE apikeys_usagewatermark SET recording_since = %s",
            [earliest if earliest is not None and str(earliest) < str(now) else now],
        )
        if event is not None and hour is not None and hour < event:
            cursor.execute(
                f"UPDATE apikeys_usagewatermark SET raw_from = (SELECT {FIRST_WHOLE_DAY[vendor]} FROM apikeys_usageevent)"
            )
        cursor.execute(
            f"INSERT INTO apikeys_latehour (key_id, hour) SELECT DISTINCT key_id, {HOUR_OF[vendor]} "
            "FROM apikeys_usageevent, apikeys_usagewatermark WHERE at < until AND (raw_from IS NULL OR at >= raw_from)"
        )
        for statement in FROM_HOURS:
            cursor.execute(statement.replace("{gap}", GAP[vendor]).replace("{day}", DAY_OF[vendor]))


class Migration(migrations.Migration):
    dependencies = [
        ("apikeys", "0005_limit_version"),
    ]

    operations = [
        migrations.CreateModel(
            name="BusiestKey",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "organization_id",
                        "kind",
                        "days",
                        "key_id",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("organization_id", models.BigIntegerField()),
                ("kind", models.CharField(choices=apikeys.models.busiest.rank_kinds, max_length=8)),
                ("days", models.PositiveSmallIntegerField()),
                ("key_id", models.BigIntegerField()),
                ("rank", models.PositiveSmallIntegerField()),
                ("number", models.PositiveBigIntegerField()),
                ("accepted", models.PositiveBigIntegerField()),
                ("refused", models.PositiveBigIntegerField()),
                ("last_hour", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="JobRun",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("job", models.CharField(max_length=40)),
                ("started_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField(null=True)),
                ("done", models.CharField(blank=True, max_length=500)),
                ("error", models.CharField(blank=True, max_length=500)),
            ],
        ),
        migrations.CreateModel(
            name="KeyRhythm",
            fields=[
                (
                    "key",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="rhythm",
                        serialize=False,
                        to="apikeys.apikey",
                    ),
                ),
                ("first_hour", models.DateTimeField()),
                ("last_hour", models.DateTimeField()),
                ("longest_gap", models.PositiveBigIntegerField(default=0)),
                ("median_gap", models.PositiveBigIntegerField(null=True)),
                ("gaps", models.PositiveIntegerField(default=0)),
                ("computed_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="LateHour",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key_id", models.BigIntegerField()),
                ("hour", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="OrganizationDay",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "organization_id",
                        "day",
                        "owner_member_id",
                        "owner_contact",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("organization_id", models.BigIntegerField()),
                ("day", models.DateField()),
                ("owner_member_id", models.BigIntegerField(default=0)),
                ("owner_contact", models.CharField(blank=True, max_length=254)),
                ("accepted", models.PositiveBigIntegerField()),
                ("refused", models.PositiveBigIntegerField()),
            ],
        ),
        migrations.CreateModel(
            name="OrganizationHour",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "organization_id",
                        "hour",
                        "environment_id",
                        "outcome",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("organization_id", models.BigIntegerField()),
                ("hour", models.DateTimeField()),
                ("environment_id", models.BigIntegerField()),
                ("outcome", models.CharField(choices=apikeys.models.usage.outcomes, max_length=16)),
                ("count", models.PositiveBigIntegerField()),
            ],
        ),
        migrations.CreateModel(
            name="UsageDay",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "key_id",
                        "dimension",
                        "day",
                        "value",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("key_id", models.BigIntegerField()),
                ("dimension", models.CharField(choices=apikeys.models.rollup.dimensions, max_length=8)),
                ("day", models.DateField()),
                ("value", models.CharField(max_length=520)),
                ("accepted", models.PositiveBigIntegerField()),
                ("refused", models.PositiveBigIntegerField()),
                ("first_at", models.DateTimeField()),
                ("last_at", models.DateTimeField()),
            ],
        ),
        migrations.AddField(
            model_name="usagewatermark",
            name="raw_from",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="usagewatermark",
            name="recording_since",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="usagewatermark",
            name="settled_until",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddIndex(
            model_name="usagehour",
            index=models.Index(
                condition=models.Q(("outcome__in", ["revoked", "expired"])), fields=["hour"], name="usage_of_dead_keys"
            ),
        ),
        migrations.AddIndex(
            model_name="jobrun",
            index=models.Index(fields=["job", "-started_at"], name="newest_runs"),
        ),
        migrations.AddIndex(
            model_name="latehour",
            index=models.Index(fields=["key_id", "hour"], name="late_hour_of_key"),
        ),
        migrations.AddIndex(
            model_name="latehour",
            index=models.Index(fields=["hour"], name="late_hour"),
        ),
        migrations.AddIndex(
            model_name="organizationday",
            index=models.Index(fields=["day"], name="organization_usage_by_day"),
        ),
        migrations.AddIndex(
            model_name="organizationhour",
            index=models.Index(fields=["hour"], name="organization_usage_by_hour"),
        ),
        migrations.AddIndex(
            model_name="usageday",
            index=models.Index(fields=["day"], name="usage_by_day"),
        ),
        migrations.RunPython(begin),
    ]
