"""Single sign-on: mapped domains, who is who at the provider, and who was removed and stays out."""

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

ROLES = [("viewer", "viewer"), ("operator", "operator"), ("admin", "admin")]


def remember_who_was_removed(apps, schema_editor):
    """Keep who was removed before this was kept, as the audit log tells it."""
    entries, members, people, former = (
        apps.get_model("apikeys", name) for name in ("AuditEntry", "Member", "User", "FormerMember")
    )
    removals = entries.objects.filter(action="member.remove", organization__isnull=False).order_by("id")
    last = {
        (organization, label): at
        for organization, label, at in removals.values_list("organization_id", "target_label", "at").iterator()
    }
    # A label is an address cut to 200 characters.
    known = {user.email[:200]: user.pk for user in people.objects.filter(email__in={label for _, label in last})}
    still = set(members.objects.values_list("organization_id", "user_id"))
    former.objects.bulk_create(
        former(organization_id=organization, user_id=known[label], removed_at=at)
        for (organization, label), at in last.items()
        if label in known and (organization, known[label]) not in still
    )


class Migration(migrations.Migration):
    dependencies = [
        ("apikeys", "0029_reviews"),
    ]

    operations = [
        migrations.CreateModel(
            name="SignOnDomain",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("domain", models.CharField(max_length=253, unique=True)),
                ("role", models.CharField(choices=ROLES, max_length=16)),
                ("is_required", models.BooleanField(default=False)),
                ("mapped_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="sign_on_domains",
                        to="apikeys.organization",
                    ),
                ),
            ],
            options={"ordering": ["domain"]},
        ),
        migrations.CreateModel(
            name="FormerMember",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("removed_at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="former_members",
                        to="apikeys.organization",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("organization", "user"), name="one_former_membership"),
                ],
            },
        ),
        migrations.CreateModel(
            name="SignOnIdentity",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("issuer", models.CharField(max_length=255)),
                ("subject", models.CharField(max_length=255)),
                ("email", models.EmailField(max_length=254)),
                ("linked_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="sign_on_identities",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "sign on identities",
                "constraints": [
                    models.UniqueConstraint(fields=("issuer", "subject"), name="one_account_of_an_identity"),
                    models.UniqueConstraint(fields=("issuer", "user"), name="one_identity_of_an_account"),
                ],
            },
        ),
        migrations.RunPython(remember_who_was_removed, migrations.RunPython.noop),
    ]
