"""Policies of organizations, exemptions from them, and which scopes an admin gave to a key."""

import django.core.validators
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import apikeys.models.policy_rule
import apikeys.models.text

# Who made the key is what is known of keys that exist; a command without a person is as good as an admin.
BY_ADMIN = """
UPDATE apikeys_keyscope SET by_admin = true WHERE key_id IN (
    SELECT k.id FROM apikeys_apikey k
    LEFT JOIN apikeys_member m ON m.organization_id = k.organization_id AND m.user_id = k.created_by_id
    WHERE k.created_by_id IS NULL OR m.role = 'admin'
)
"""


class Migration(migrations.Migration):
    dependencies = [
        ("apikeys", "0027_invitations"),
    ]

    operations = [
        migrations.CreateModel(
            name="Policy",
            fields=[
                (
                    "organization",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="policy",
                        serialize=False,
                        to="apikeys.organization",
                    ),
                ),
                (
                    "max_lifetime",
                    models.PositiveIntegerField(
                        blank=True,
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(
                                1, "Between 1 and 3,650 days, or empty for no limit."
                            ),
                            django.core.validators.MaxValueValidator(
                                3650, "Between 1 and 3,650 days, or empty for no limit."
                            ),
                        ],
                    ),
                ),
                ("expiry_required", models.BooleanField(default=False)),
                (
                    "least_purpose",
                    models.PositiveIntegerField(
                        blank=True,
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(
                                1, "Between 1 and 200 characters, or empty: any purpose will do."
                            ),
                            django.core.validators.MaxValueValidator(
                                200, "Between 1 and 200 characters, or empty: any purpose will do."
                            ),
                        ],
                    ),
                ),
                ("owner_required", models.BooleanField(default=False)),
                ("networks_required", models.BooleanField(default=False)),
                ("environments_apart", models.BooleanField(default=False)),
                (
                    "max_rate",
                    models.PositiveIntegerField(
                        blank=True,
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(
                                1, "Between 1 and 1,000,000 requests, or empty for no limit."
                            ),
                            django.core.validators.MaxValueValidator(
                                1000000, "Between 1 and 1,000,000 requests, or empty for no limit."
                            ),
                        ],
                    ),
                ),
                (
                    "max_rate_period",
                    models.PositiveIntegerField(
                        choices=[(1, "second"), (60, "minute"), (3600, "hour"), (86400, "day")], default=1
                    ),
                ),
                ("changed_at", models.DateTimeField(null=True)),
                ("changed_by_label", models.CharField(blank=True, max_length=254)),
            ],
            options={
                "verbose_name_plural": "policies",
            },
        ),
        migrations.AddField(
            model_name="keyscope",
            name="by_admin",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name="organization",
            name="unused_after_days",
            field=models.PositiveIntegerField(
                blank=True,
                null=True,
                validators=[
                    django.core.validators.MinValueValidator(
                        1, "Between 1 and 3,650 days, or empty for the deployment's setting."
                    ),
                    django.core.validators.MaxValueValidator(
                        3650, "Between 1 and 3,650 days, or empty for the deployment's setting."
                    ),
                ],
            ),
        ),
        migrations.AddField(
            model_name="scope",
            name="needs_admin",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.CreateModel(
            name="PolicyExemption",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("rule", models.CharField(choices=apikeys.models.policy_rule.policy_rules, max_length=16)),
                ("reason", models.CharField(max_length=200, validators=[apikeys.models.text.validate_line])),
                ("until", models.DateTimeField()),
                ("changed_at", models.DateTimeField()),
                ("changed_by_label", models.CharField(blank=True, max_length=254)),
                (
                    "changed_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "key",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="policy_exemptions",
                        to="apikeys.apikey",
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="policy_exemptions",
                        to="apikeys.organization",
                    ),
                ),
            ],
            options={
                "ordering": ["until", "id"],
                "indexes": [models.Index(fields=["organization", "until", "id"], name="policy_exemption_by_end")],
                "constraints": [models.UniqueConstraint(fields=("key", "rule"), name="one_policy_exemption_per_rule")],
            },
        ),
        migrations.RunSQL(BY_ADMIN, migrations.RunSQL.noop),
    ]
