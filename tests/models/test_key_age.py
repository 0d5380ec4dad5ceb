"""By when a key should be rotated: one definition, said in Python and in SQL."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apikeys.models import ApiKey, RevocationReason
from apikeys.models.key_age import ROTATE_SOON, days_to_rotation, rotation_date
from tests.factories import make_actor, make_key, make_old_key, make_organization
from tests.pages import age_limit

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limit=st.one_of(st.none(), st.integers(1, 400), st.just(3650)),
    age=st.integers(0, 400),
    ends=st.one_of(st.none(), st.integers(-20, 20)),
    revoked=st.booleans(),
    paused=st.booleans(),
)
def test_python_and_sql_agree_on_every_key(organization, limit, age, ends, revoked, paused):
    age_limit(organization, limit)
    now = timezone.now()
    key = make_old_key(organization, age * DAY + 5 * SECOND)
    ApiKey.objects.filter(pk=key.pk).update(
        expires_at=None if ends is None else now + ends * DAY + 5 * SECOND,
        revoked_at=now if revoked else None,
        paused_at=now if paused else None,
    )
    stored, mine = ApiKey.objects.get(pk=key.pk), ApiKey.objects.filter(pk=key.pk)
    for one in (None, organization):
        assert mine.to_rotate(organization=one).exists() == stored.is_rotation_due
        assert mine.to_rotate(within=ROTATE_SOON, organization=one).exists() == stored.is_to_rotate(ROTATE_SOON)
        assert mine.to_rotate_soon(organization=one).exists() == stored.is_rotation_soon
    told = mine.values_list(rotation_date(), days_to_rotation(now)).get()
    left = (stored.rotate_by - now) / DAY if stored.rotate_by else None
    assert told == (stored.rotate_by, None if left is None else int(left))


@pytest.mark.parametrize(
    ("ago", "due", "soon"),
    [
        (180 * DAY + SECOND, True, False),
        (180 * DAY, True, False),
        (180 * DAY - timedelta(microseconds=1), False, True),
        (180 * DAY - ROTATE_SOON, False, True),
        (180 * DAY - ROTATE_SOON - timedelta(microseconds=1), False, False),
    ],
)
def test_the_borders_are_exact(organization, ago, due, soon):
    age_limit(organization, 180)
    key = make_old_key(organization, timedelta())
    keys, now = organization.keys.filter(pk=key.pk), key.created_at + ago
    for one in (None, organization):
        assert keys.to_rotate(now, organization=one).exists() == due
        assert keys.to_rotate_soon(now, organization=one).exists() == soon
        assert keys.to_rotate(now, ROTATE_SOON, organization=one).exists() == (due or soon)


def test_without_a_maximum_no_key_is_to_be_rotated(organization):
    key = make_old_key(organization, 9000 * DAY)
    assert key.rotate_by is None
    assert (key.is_rotation_due, key.is_rotation_soon) == (False, False)
    for one in (None, organization):
        assert not organization.keys.to_rotate(within=9000 * DAY, organization=one).exists()
        assert not organization.keys.to_rotate_soon(organization=one).exists()


def test_revoked_and_expired_keys_are_left_out_and_paused_ones_are_not(organization):
    age_limit(organization, 100)
    make_old_key(organization, 200 * DAY, name="active")
    make_old_key(organization, 200 * DAY, name="paused").pause(by=make_actor())
    make_old_key(organization, 200 * DAY, name="revoked").revoke(reason=RevocationReason.UNUSED, by=make_actor())
    expired = make_old_key(organization, 200 * DAY, name="expired", expires_at=timezone.now() + DAY)
    ApiKey.objects.filter(pk=expired.pk).update(expires_at=timezone.now() - SECOND)
    for one in (None, organization):
        keys = organization.keys.to_rotate(organization=one)
        assert set(keys.values_list("name", flat=True)) == {"active", "paused"}


def test_each_organization_has_a_maximum_of_its_own(organization):
    for name, limit in (("strict", 30), ("lax", 300), ("free", None)):
        other = make_organization(name)
        make_old_key(other, 100 * DAY, name=name)
        age_limit(other, limit)
    age_limit(organization, 90)
    make_old_key(organization, 89 * DAY, name="soon")
    assert set(ApiKey.objects.to_rotate().values_list("name", flat=True)) == {"strict"}
    assert set(ApiKey.objects.to_rotate_soon().values_list("name", flat=True)) == {"soon"}


def test_of_one_organization_nothing_is_joined(organization):
    age_limit(organization, 90)
    make_key(organization)
    with CaptureQueriesContext(connection) as queries:
        list(organization.keys.to_rotate(organization=organization))
    assert "JOIN" not in queries[0]["sql"]
