"""How far those who are handed audit entries have got."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("apikeys", "0024_sessions"),
    ]

    operations = [
        migrations.CreateModel(
            name="AuditStreamPosition",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=100)),
                ("number", models.BigIntegerField()),
                ("sequence", models.BigIntegerField()),
            ],
            options={
                "verbose_name": "position of a stream of audit entries",
                "constraints": [models.UniqueConstraint(fields=("name", "number"), name="audit_stream_position")],
            },
        ),
    ]
