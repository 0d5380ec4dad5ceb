"""Invitations, and operators who are limited to environments."""

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import apikeys.models.text


class Migration(migrations.Migration):
    dependencies = [
        ("apikeys", "0026_second_factor"),
    ]

    operations = [
        migrations.CreateModel(
            name="Invitation",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("email", models.EmailField(max_length=254)),
                ("name", models.CharField(blank=True, max_length=100, validators=[apikeys.models.text.validate_line])),
                (
                    "role",
                    models.CharField(
                        choices=[("viewer", "viewer"), ("operator", "operator"), ("admin", "admin")], max_length=16
                    ),
                ),
                ("digest", models.BinaryField(max_length=32)),
                ("invited_by_label", models.CharField(max_length=254)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("expires_at", models.DateTimeField()),
                ("mailed_at", models.DateTimeField(blank=True, null=True)),
                ("taken_at", models.DateTimeField(blank=True, null=True)),
                ("withdrawn_at", models.DateTimeField(blank=True, null=True)),
                (
                    "invited_by",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="invitations",
                        to="apikeys.organization",
                    ),
                ),
                (
                    "taken_by",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="InvitationEnvironment",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "environment",
                    models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to="apikeys.environment"),
                ),
                ("invitation", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="apikeys.invitation")),
            ],
        ),
        migrations.AddField(
            model_name="invitation",
            name="environments",
            field=models.ManyToManyField(
                related_name="+", through="apikeys.InvitationEnvironment", to="apikeys.environment"
            ),
        ),
        migrations.CreateModel(
            name="MemberEnvironment",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "environment",
                    models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to="apikeys.environment"),
                ),
                ("member", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="apikeys.member")),
            ],
        ),
        migrations.AddField(
            model_name="member",
            name="environments",
            field=models.ManyToManyField(
                related_name="+", through="apikeys.MemberEnvironment", to="apikeys.environment"
            ),
        ),
        migrations.AddConstraint(
            model_name="invitationenvironment",
            constraint=models.UniqueConstraint(
                fields=("invitation", "environment"), name="environment_once_per_invitation"
            ),
        ),
        migrations.AddIndex(
            model_name="invitation",
            index=models.Index(fields=["digest"], name="invitation_by_link"),
        ),
        migrations.AddIndex(
            model_name="invitation",
            index=models.Index(fields=["organization", "-created_at"], name="invitation_newest"),
        ),
        migrations.AddConstraint(
            model_name="invitation",
            constraint=models.UniqueConstraint(
                condition=models.Q(("taken_at__isnull", True), ("withdrawn_at__isnull", True)),
                fields=("organization", "email"),
                name="one_open_invitation_of_address",
            ),
        ),
        migrations.AddConstraint(
            model_name="invitation",
            constraint=models.CheckConstraint(
                condition=models.Q(("taken_at__isnull", True), ("withdrawn_at__isnull", True), _connector="OR"),
                name="invitation_ends_once",
            ),
        ),
        migrations.AddConstraint(
            model_name="memberenvironment",
            constraint=models.UniqueConstraint(fields=("member", "environment"), name="environment_once_per_member"),
        ),
    ]
