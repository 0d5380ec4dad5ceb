"""The row of what moves at a key's requests: the database makes it with the key."""

from datetime import UTC, datetime

import pytest

from apikeys.models import KeyActivity
from apikeys.models.extremes import EARLIEST
from tests.factories import make_key
from tests.pages import make_keys

pytestmark = pytest.mark.django_db


def test_every_key_has_one_that_knows_its_organization(organization):
    make_key(organization)
    make_keys(organization, 5)
    rows = KeyActivity.objects.values_list("key_id", "organization_id")
    assert set(rows) == {(pk, organization.pk) for pk in organization.keys.values_list("pk", flat=True)}


def test_one_that_was_deleted_comes_back_with_its_organization(organization):
    key = make_key(organization).key
    KeyActivity.objects.filter(key=key).delete()
    KeyActivity.objects.create(key=key)
    assert KeyActivity.objects.get(key=key).organization_id == organization.pk


def test_its_minute_is_that_of_the_last_use_or_the_earliest_where_there_was_none(organization):
    activity = KeyActivity.objects.get(key=make_key(organization).key)
    assert activity.last_used_minute == EARLIEST
    for used_at in (
        datetime(2026, 3, 29, 1, 59, 59, 999_999, tzinfo=UTC),
        datetime(2026, 3, 29, 1, 59, tzinfo=UTC),
    ):
        activity.last_used_at = used_at
        activity.save()
        assert KeyActivity.objects.get().last_used_minute == datetime(2026, 3, 29, 1, 59, tzinfo=UTC)
