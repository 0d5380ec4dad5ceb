"""Letting a key be silent: who answers for it, until when, and what ends it."""

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from apikeys.models import (
    ApiKey,
    AuditAction,
    ExemptionTerms,
    KeyExemption,
    KeyExpiredError,
    KeyRevokedError,
    OwnsKeysError,
    Role,
    StaleExemptionError,
)
from tests.factories import (
    make_actor,
    make_exemption,
    make_expired_key,
    make_key,
    make_member,
    make_old_key,
    make_organization,
    make_revoked_key,
    make_user,
)
from tests.pages import entries, snapshot

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
OLD = 200 * DAY


@pytest.fixture
def owner(organization):
    return make_member(organization, Role.OPERATOR)


@pytest.fixture
def key(organization):
    return make_old_key(organization, OLD)


def terms(owner, reason="Stands by", days=100):
    return ExemptionTerms(owner, reason, timezone.now() + days * DAY)


def grant(key, exemption_terms, seen=None):
    return KeyExemption.objects.grant(key, exemption_terms, by=make_actor(), seen=seen)


def stored(key):
    return ApiKey.objects.for_pages().get(pk=key.pk)


def test_an_exempted_key_does_not_count_as_unused_and_the_entry_says_who_and_why(organization, key, owner):
    assert list(organization.keys.unused()) == [key]
    asked = terms(owner)
    assert grant(key, asked)
    assert not organization.keys.unused().exists()
    assert list(organization.keys.exempted()) == [key]
    found = stored(key)
    assert not found.is_unused
    assert found.silence.is_unused
    assert (found.exemption_now.owner, found.exemption_now.reason) == (owner, "Stands by")
    [entry] = entries(organization, AuditAction.KEY_EXEMPT)
    assert entry.key_id == key.pk
    assert entry.changes == {
        "owner": [None, owner.user.email],
        "reason": [None, "Stands by"],
        "until": [None, asked.until.isoformat()],
    }


def test_it_counts_as_unused_again_by_itself_when_the_exemption_has_run_out(organization, key):
    make_exemption(key, until=timedelta(seconds=-1))
    assert list(organization.keys.unused()) == [key]
    assert not organization.keys.exempted().exists()
    assert stored(key).is_unused
    assert stored(key).exemption_now is None


def test_an_exemption_ends_at_its_very_instant(organization, key):
    exemption = make_exemption(key)
    assert key not in organization.keys.unused(exemption.until - timedelta(microseconds=1))
    assert key in organization.keys.unused(exemption.until)


def test_the_same_again_changes_nothing(organization, key, owner):
    asked = terms(owner)
    grant(key, asked)
    before = snapshot()
    assert not grant(key, asked)
    assert snapshot() == before


def test_a_change_is_recorded_with_what_was_before(organization, key, owner):
    other = make_member(organization)
    grant(key, terms(owner))
    exemption = stored(key).exemption
    assert grant(key, ExemptionTerms(other, "Stands by", exemption.until), seen=exemption.changed_at)
    assert entries(organization, AuditAction.KEY_EXEMPT)[-1].changes == {"owner": [owner.user.email, other.user.email]}
    assert KeyExemption.objects.get(pk=key.pk).owner == other


def test_a_change_that_somebody_made_meanwhile_is_not_overwritten(organization, key, owner):
    grant(key, terms(owner, "Mine"))
    before = snapshot()
    for seen in (None, timezone.now()):
        with pytest.raises(StaleExemptionError):
            grant(key, terms(owner, "Theirs"), seen=seen)
    assert snapshot() == before


def test_an_exemption_that_was_ended_is_not_granted_again_by_a_form_sent_twice(key, owner):
    asked = terms(owner)
    grant(key, asked)
    stored(key).exemption.end(by=make_actor())
    with pytest.raises(StaleExemptionError):
        grant(key, asked)
    assert grant(key, asked, seen=stored(key).exemption_version)


@pytest.mark.parametrize(
    ("days", "message"), [(0, "in the future"), (-1, "in the future"), (731.01, "two years"), (9000, "two years")]
)
def test_it_ends_between_now_and_two_years_from_now(key, owner, days, message):
    before = snapshot()
    with pytest.raises(ValidationError) as caught:
        grant(key, terms(owner, days=days))
    assert message in caught.value.message_dict["until"][0]
    assert snapshot() == before


@pytest.mark.parametrize("reason", ["", "   ", "x" * 201, "two\nlines", "a\u202eb", "a\0b"])
def test_it_has_a_reason_in_one_line(key, owner, reason):
    with pytest.raises(ValidationError) as caught:
        grant(key, terms(owner, reason))
    assert list(caught.value.message_dict) == ["reason"]


def test_its_owner_is_a_member_of_the_organization_with_an_open_account(organization, key, owner):
    gone = make_member(organization)
    pk = gone.pk
    gone.remove(by=make_actor())
    gone.pk = pk
    closed = make_member(organization, user=make_user(is_active=False))
    for nobody in (gone, closed, make_member(make_organization())):
        with pytest.raises(ValidationError) as caught:
            grant(key, terms(nobody))
        assert list(caught.value.message_dict) == ["owner"]


def test_a_dead_key_cannot_be_exempted(organization, owner):
    for make, error in ((make_revoked_key, KeyRevokedError), (make_expired_key, KeyExpiredError)):
        key = make(organization).key
        before = snapshot()
        with pytest.raises(error):
            grant(key, terms(owner))
        assert snapshot() == before


def test_ending_it_lets_the_key_count_as_unused_at_once_and_is_recorded(organization, key):
    exemption = make_exemption(key, reason="Spare")
    assert exemption.end(by=make_actor())
    assert list(organization.keys.unused()) == [key]
    [entry] = entries(organization, AuditAction.KEY_EXEMPT_END)
    assert entry.changes["reason"] == ["Spare", None]
    assert set(entry.changes) == {"owner", "reason", "until"}
    assert not stored(key).exemption.end(by=make_actor())
    assert len(entries(organization, AuditAction.KEY_EXEMPT_END)) == 1


def test_what_somebody_changed_meanwhile_is_not_ended(key, owner):
    exemption = make_exemption(key, owner)
    with pytest.raises(StaleExemptionError):
        exemption.end(by=make_actor(), seen=exemption.changed_at - DAY)
    assert stored(key).exemption_now


def test_one_that_has_run_out_cannot_be_ended(organization, key):
    assert not make_exemption(key, until=-DAY).end(by=make_actor())
    assert not entries(organization, AuditAction.KEY_EXEMPT_END)


def test_a_member_who_answers_for_a_silence_is_removed_only_when_somebody_takes_it_over(organization, key, owner):
    make_exemption(key, owner)
    before = snapshot()
    with pytest.raises(OwnsKeysError):
        owner.remove(by=make_actor())
    assert snapshot() == before
    taker, address = make_member(organization), owner.user.email
    owner.remove(by=make_actor(), keys_to=taker)
    assert stored(key).exemption_now.owner == taker
    changes = entries(organization, AuditAction.KEY_EXEMPT)[-1].changes
    assert changes == {"owner": [address, taker.user.email]}


def test_what_has_run_out_or_is_of_a_revoked_key_keeps_nobody(organization, key, owner):
    make_exemption(key, owner, until=-DAY)
    revoked = make_key(organization).key
    make_exemption(revoked, owner)
    revoked.revoke(reason="unused", by=make_actor())
    owner.remove(by=make_actor())
    assert not KeyExemption.objects.filter(key__in=[key, revoked]).exists()


def test_the_key_that_replaces_one_may_be_silent_on_the_same_terms(organization, owner):
    key = make_key(organization).key
    exemption = make_exemption(key, owner)
    new = key.regenerate(by=make_actor()).key
    found = stored(new).exemption_now
    assert (found.owner, found.reason, found.until) == (owner, exemption.reason, exemption.until)
    assert [entry.key_id for entry in entries(organization, AuditAction.KEY_EXEMPT)] == [key.pk, new.pk]
    assert not organization.keys.exempted().filter(pk=key.pk).exists()


def test_an_exemption_that_has_run_out_does_not_go_on_in_the_key_that_replaces_one(organization):
    key = make_key(organization).key
    make_exemption(key, until=-DAY)
    assert stored(key.regenerate(by=make_actor()).key).exemption_version is None
