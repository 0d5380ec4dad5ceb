"""The networks of keys by their addresses, so that those which overlap one are found without reading them all."""

import ipaddress

import django.db.models.deletion
from django.db import migrations, models


def fill(apps, schema_editor):
    key_model, row_model = apps.get_model("apikeys", "ApiKey"), apps.get_model("apikeys", "KeyNetwork")
    keys = key_model.objects.exclude(networks=[]).order_by().values_list("pk", "environment_id", "networks")
    rows = []
    for pk, environment_id, networks in keys.iterator(chunk_size=2000):
        for network in map(ipaddress.ip_network, networks):
            packed = bytes([network.max_prefixlen, *network.network_address.packed, network.prefixlen])
            rows.append(row_model(key_id=pk, environment_id=environment_id, network=packed))
        if len(rows) > 2000:
            row_model.objects.bulk_create(rows)
            rows.clear()
    row_model.objects.bulk_create(rows)


class Migration(migrations.Migration):
    dependencies = [("apikeys", "0031_checkpoint_deliveries")]

    operations = [
        migrations.CreateModel(
            name="KeyNetwork",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("network", models.BinaryField(max_length=18)),
                (
                    "environment",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="apikeys.environment",
                    ),
                ),
                (
                    "key",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="apikeys.apikey"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("environment", "network", "key"), name="key_network_once")
                ],
            },
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
