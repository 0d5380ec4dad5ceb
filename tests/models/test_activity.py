"""The row of what moves at a key's requests: the database makes it with the key."""

import pytest

from apikeys.models import KeyActivity
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
