"""Signed checkpoints of audit logs, and whom they are mailed to."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("apikeys", "0022_audit_chain"),
    ]

    operations = [
        migrations.AddField(
            model_name="organization",
            name="checkpoint_mail",
            field=models.EmailField(blank=True, db_default="", default="", max_length=254),
        ),
        migrations.CreateModel(
            name="AuditCheckpoint",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.BigIntegerField()),
                ("sequence", models.BigIntegerField()),
                ("hash", models.CharField(max_length=64)),
                ("at", models.DateTimeField()),
                ("key", models.CharField(max_length=44)),
                ("signature", models.CharField(max_length=88)),
                ("sent_at", models.DateTimeField(null=True)),
            ],
            options={
                "verbose_name": "checkpoint of audit entries",
                "ordering": ["number", "sequence"],
                "constraints": [models.UniqueConstraint(fields=("number", "sequence"), name="audit_checkpoint_place")],
            },
        ),
    ]
