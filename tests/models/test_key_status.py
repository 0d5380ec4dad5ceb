"""Status, expiring and unused: one definition, said in Python and in SQL."""

from datetime import timedelta

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apikeys.models import ApiKey, KeyActivity, Status
from apikeys.models.key_status import status_at
from tests.factories import make_key, make_old_key

pytestmark = pytest.mark.django_db

ends = st.one_of(st.none(), st.integers(-200, 200))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(revoked=st.booleans(), expires=ends, paused=st.booleans(), until=ends, age=st.integers(0, 400), used=ends)
def test_python_and_sql_agree_on_every_key(organization, revoked, expires, paused, until, age, used):
    key = make_old_key(organization, timedelta(days=age))
    now = timezone.now()
    ApiKey.objects.filter(pk=key.pk).update(
        expires_at=None if expires is None else now + timedelta(days=expires),
        paused_at=now - timedelta(days=300) if paused else None,
        paused_until=now + timedelta(hours=until) if paused and until is not None else None,
        revoked_at=now if revoked else None,
    )
    if used is not None:
        use(key, last_used_at=now - timedelta(days=abs(used), seconds=5))
    stored = ApiKey.objects.for_pages().get(pk=key.pk)
    status = status_at(now, stored.revoked_at, stored.expires_at, stored.paused_at, stored.paused_until)
    mine = ApiKey.objects.filter(pk=key.pk)
    assert [s for s in Status if mine.with_status(s, now).exists()] == [status]
    assert mine.usable(now).exists() == (status in {Status.ACTIVE, Status.PAUSED})
    assert mine.unused().exists() == stored.is_unused
    assert mine.expiring().exists() == stored.is_expiring


def use(key, **times):
    assert KeyActivity.objects.filter(key=key).update(**times) == 1


def test_a_key_expires_at_the_very_instant():
    now = timezone.now()
    assert status_at(now, None, now, None, None) is Status.EXPIRED
    assert status_at(now - timedelta(microseconds=1), None, now, None, None) is Status.ACTIVE


def test_a_pause_ends_by_itself_at_the_very_instant():
    now = timezone.now()
    assert status_at(now, None, None, now - timedelta(minutes=5), now) is Status.ACTIVE
    assert status_at(now - timedelta(microseconds=1), None, None, now - timedelta(minutes=5), now) is Status.PAUSED
    assert status_at(now, None, None, now - timedelta(days=900), None) is Status.PAUSED


def test_unused_counts_from_creation_until_the_first_request(organization):
    old = make_old_key(organization, timedelta(days=91))
    new = make_key(organization).key
    made_beside = organization.keys.exclude(pk__in=[old.pk, new.pk])
    assert not made_beside.unused().exists()
    assert list(organization.keys.unused()) == [old]
    use(old, last_used_at=timezone.now() - timedelta(days=89))
    use(new, last_refused_at=timezone.now())
    assert not organization.keys.unused().exists()
    assert list(organization.keys.unused(days=30)) == [old]
