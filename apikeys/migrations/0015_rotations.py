"""Rotations, and of each key which one its lineage began with."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import apikeys.models.rotation
import apikeys.models.text


class Migration(migrations.Migration):
    dependencies = [
        ("apikeys", "0014_maximum_key_age"),
    ]

    operations = [
        migrations.AddField(
            model_name="apikey",
            name="root",
            field=models.ForeignKey(
                blank=True,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="apikeys.apikey",
            ),
        ),
        migrations.CreateModel(
            name="Rotation",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("reason", models.CharField(choices=apikeys.models.rotation.rotation_reasons, max_length=16)),
                ("note", models.CharField(blank=True, max_length=500, validators=[apikeys.models.text.validate_line])),
                ("overlap_seconds", models.PositiveIntegerField()),
                (
                    "clock",
                    models.CharField(
                        choices=[("now", "now"), ("first_use", "the first use of the new key")], max_length=16
                    ),
                ),
                ("finishes_when_safe", models.BooleanField(default=False)),
                ("own_expiry", models.DateTimeField(null=True)),
                ("new_expires_at", models.DateTimeField(null=True)),
                ("planned_end", models.DateTimeField()),
                ("form_token", models.UUIDField(editable=False, null=True)),
                ("link_digest", models.BinaryField(max_length=32, null=True)),
                ("link_until", models.DateTimeField(null=True)),
                ("link_sent_to", models.EmailField(blank=True, max_length=254)),
                ("started_at", models.DateTimeField()),
                ("started_by_label", models.CharField(max_length=254)),
                ("closed_at", models.DateTimeField(null=True)),
                ("closed_by_label", models.CharField(blank=True, max_length=254)),
                ("ending", models.CharField(blank=True, choices=apikeys.models.rotation.endings, max_length=16)),
                (
                    "new_key",
                    models.OneToOneField(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="made_by_rotation",
                        to="apikeys.apikey",
                    ),
                ),
                (
                    "old_key",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="rotations", to="apikeys.apikey"
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="rotations", to="apikeys.organization"
                    ),
                ),
                (
                    "started_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [
                    models.Index(fields=["organization", "-id"], name="rotation_newest"),
                    models.Index(
                        condition=models.Q(("closed_at__isnull", True)), fields=["organization"], name="rotation_open"
                    ),
                    models.Index(
                        condition=models.Q(("link_digest__isnull", False)),
                        fields=["link_digest"],
                        name="rotation_by_link",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("closed_at__isnull", True)),
                        fields=("old_key",),
                        name="one_open_rotation_of_key",
                    ),
                    models.UniqueConstraint(fields=("organization", "form_token"), name="one_rotation_per_form"),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("closed_at__isnull", True), models.Q(("ending", ""), _negated=True), _connector="XOR"
                        ),
                        name="closed_rotation_has_ending",
                    ),
                ],
            },
        ),
    ]
