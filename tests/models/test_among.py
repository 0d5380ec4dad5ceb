"""Membership of many numbers sent as one value: the same rows as with ``in``, by the same index."""

import pytest
from django.db import connection
from django.db.models import F

from apikeys.models import ApiKey
from apikeys.models.among import Among
from tests.pages import make_keys

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("chosen", [slice(0), slice(1), slice(None, None, 3), slice(None)])
def test_it_keeps_what_in_keeps(organization, chosen):
    make_keys(organization, 12)
    ids = list(organization.keys.order_by("pk").values_list("pk", flat=True))[chosen]
    wanted = [*ids, *ids[:1], 2**63 - 1, -1]
    assert set(ApiKey.objects.filter(Among(F("pk"), wanted)).values_list("pk", flat=True)) == set(ids)
    assert set(ApiKey.objects.exclude(Among(F("pk"), wanted))) == set(ApiKey.objects.exclude(pk__in=wanted))
    either = Among(F("pk"), ids) | Among(F("replaces_id"), ids)
    assert ApiKey.objects.filter(either).count() == len(ids)


def test_it_is_one_value_however_many_there_are():
    text, values = ApiKey.objects.filter(Among(F("pk"), range(1, 5000))).query.sql_with_params()
    assert len(values) == 1
    assert text.count("%s") == 1
    assert not ApiKey.objects.filter(Among(F("pk"), range(1, 5000))).exists()


def test_it_is_found_by_the_index():
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            # Of a table with nothing in it, all would be read.
            cursor.execute("SET LOCAL enable_seqscan = off")
    plan = ApiKey.objects.filter(Among(F("pk"), [1, 2, 3])).order_by().explain()
    assert {"postgresql": "Index", "sqlite": "USING INTEGER PRIMARY KEY"}[connection.vendor] in plan
