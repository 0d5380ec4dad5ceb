"""What may be done to a key: each verb changes it, leaves one audit entry, or refuses and changes nothing."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from apikeys import key_secret
from apikeys.models import (
    Actor,
    AlreadyIssuedError,
    ApiKey,
    AuditAction,
    AuditEntry,
    KeyExpiredError,
    KeyRevokedError,
    KeyTerms,
    RateLimit,
    RevocationReason,
    StaleKeyError,
    Status,
)
from tests.factories import make_key, make_member, make_organization, make_scope

pytestmark = pytest.mark.django_db
BY = Actor.command()


def actions(key):
    return list(AuditEntry.objects.filter(key_id=key.pk).order_by("id").values_list("action", flat=True))


def terms(organization, **changes):
    scope = organization.scopes.first() or make_scope(organization)
    values = {"name": "checkout", "purpose": "Payments", "scopes": [scope], "owner_contact": "team@example.com"}
    return KeyTerms(**(values | changes))


def issue(organization, form_token=None, **changes):
    environment = organization.environments.get(code="prod")
    return ApiKey.objects.issue(organization, environment, terms(organization, **changes), by=BY, form_token=form_token)


def test_an_issued_key_keeps_a_digest_of_its_text_and_not_the_text(organization, settings):
    key, secret = issue(organization)
    stored = ApiKey.objects.get(pk=key.pk)
    assert key_secret.matches(secret, bytes(stored.digest), stored.pepper_number, settings.KEY_PEPPERS)
    for value in ApiKey.objects.filter(pk=key.pk).values().get().values():
        assert secret.secret not in str(value)


def test_issuing_records_the_issue_and_the_showing(organization):
    key, _ = issue(organization)
    assert actions(key) == [AuditAction.KEY_ISSUE, AuditAction.KEY_SHOW]
    entry = AuditEntry.objects.get(key_id=key.pk, action=AuditAction.KEY_ISSUE)
    assert entry.changes["name"] == [None, "checkout"]
    assert entry.key_fingerprint == key.fingerprint


def test_a_new_key_is_signed_by_the_highest_pepper_and_an_older_one_still_matches(organization, settings):
    key, secret = issue(organization)
    settings.KEY_PEPPERS = {**settings.KEY_PEPPERS, 2: b"another pepper of thirty-two bytes!!"}
    newer, _ = issue(organization)
    assert newer.pepper_number == 2
    assert key_secret.matches(secret, bytes(key.digest), key.pepper_number, settings.KEY_PEPPERS)


FAULTS = {
    "an empty name": ({"name": "  "}, "name"),
    "a name over its limit": ({"name": "x" * 101}, "name"),
    "a name with a control character": ({"name": "a\x07b"}, "name"),
    "a name that turns the direction of the line": ({"name": "a\u202eb"}, "name"),
    "no purpose": ({"purpose": ""}, "purpose"),
    "a purpose over its limit": ({"purpose": "x" * 501}, "purpose"),
    "no scope": ({"scopes": []}, "scopes"),
    "no owner": ({"owner_contact": ""}, "owner"),
    "an owner that is no address": ({"owner_contact": "the team"}, "owner_contact"),
    "an expiry in the past": ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "expires_at"),
    "an expiry beyond 2100": ({"expires_at": datetime(2101, 1, 1, tzinfo=UTC)}, "expires_at"),
    "a network with host bits set": ({"networks": ["10.0.0.1/24"]}, "networks"),
    "a network that is none": ({"networks": ["10.0.0.0/33"]}, "networks"),
    "too many networks": ({"networks": [f"10.0.{n}.0/24" for n in range(51)]}, "networks"),
    "a rate limit of nothing": ({"rate_limit": RateLimit(0, 1, 1)}, "rate_limit"),
    "a burst over its limit": ({"rate_limit": RateLimit(1, 1, 10_000_000)}, "rate_burst"),
    "a period that is none": ({"rate_limit": RateLimit(1, 7, 1)}, "rate_period"),
}


@pytest.mark.parametrize(("changes", "field"), FAULTS.values(), ids=FAULTS)
def test_bad_terms_are_refused_by_the_name_of_their_field(organization, changes, field):
    before = AuditEntry.objects.count()
    with pytest.raises(ValidationError) as caught:
        issue(organization, **changes)
    assert list(caught.value.message_dict) == [field]
    assert not organization.keys.exists()
    assert AuditEntry.objects.count() == before


def test_all_faults_are_told_at_once(organization):
    with pytest.raises(ValidationError) as caught:
        issue(organization, name="", scopes=[], networks=["x", "10.0.0.1/8"])
    assert set(caught.value.message_dict) == {"name", "scopes", "networks"}
    assert "Did you mean 10.0.0.0/8?" in caught.value.message_dict["networks"][1]


@pytest.mark.parametrize("name", ["مفتاح الدفع", "🔑 emoji", "  trimmed  ", "x" * 100])
def test_names_of_any_script_are_welcome_and_trimmed(organization, name):
    key, _ = issue(organization, name=name)
    assert ApiKey.objects.get(pk=key.pk).name == name.strip()


def test_two_keys_may_have_one_name_and_differ_in_fingerprint(organization):
    first, second = issue(organization).key, issue(organization).key
    assert first.name == second.name
    assert first.fingerprint != second.fingerprint


def test_nothing_of_another_organization_can_be_part_of_a_key(organization):
    other = make_organization()
    stranger = make_member(other)
    for changes in ({"scopes": [make_scope(other)]}, {"owner": stranger, "owner_contact": ""}):
        with pytest.raises(ValidationError):
            issue(organization, **changes)
    with pytest.raises(ValidationError):
        ApiKey.objects.issue(organization, other.environments.first(), terms(organization), by=BY)


def test_the_same_form_makes_one_key(organization):
    token = uuid.uuid4()
    first = issue(organization, form_token=token).key
    with pytest.raises(AlreadyIssuedError) as caught:
        issue(organization, form_token=token)
    assert caught.value.key == first
    assert organization.keys.count() == 1


def test_editing_records_what_changed_and_only_that(organization):
    key = issue(organization).key
    key.edit(terms(organization, name="renamed", networks=["10.0.0.0/8"]), by=BY)
    entry = AuditEntry.objects.get(key_id=key.pk, action=AuditAction.KEY_EDIT)
    assert entry.changes == {"name": ["checkout", "renamed"], "networks": [[], ["10.0.0.0/8"]]}


def test_editing_without_a_change_records_nothing(organization):
    key = issue(organization).key
    key.edit(key.terms, by=BY)
    assert AuditAction.KEY_EDIT not in actions(key)
    assert ApiKey.objects.get(pk=key.pk).version == 1


def test_an_edit_of_an_older_version_is_refused(organization):
    key = issue(organization).key
    key.edit(terms(organization, name="first"), by=BY, version=1)
    with pytest.raises(StaleKeyError):
        key.edit(terms(organization, name="second"), by=BY, version=1)
    assert ApiKey.objects.get(pk=key.pk).name == "first"


def test_narrowing_takes_scopes_away_and_records_which(organization):
    key = make_key(organization, scopes=["orders:read", "orders:write"]).key
    key.narrow(["orders:write"], by=BY, version=1)
    current = ApiKey.objects.get(pk=key.pk)
    assert (current.scope_names, current.version) == (["orders:read"], 2)
    entry = AuditEntry.objects.get(key_id=key.pk, action=AuditAction.KEY_NARROW)
    assert entry.changes == {"scopes": [["orders:read", "orders:write"], ["orders:read"]]}


@pytest.mark.parametrize(
    ("scopes", "version", "error"),
    [
        (["orders:write"], 2, StaleKeyError),
        (["orders:delete"], 1, StaleKeyError),
        ([], 1, ValidationError),
        (["orders:read", "orders:write"], 1, ValidationError),
    ],
)
def test_narrowing_that_is_stale_or_leaves_nothing_changes_nothing(organization, scopes, version, error):
    key = make_key(organization, scopes=["orders:read", "orders:write"]).key
    with pytest.raises(error):
        key.narrow(scopes, by=BY, version=version)
    assert ApiKey.objects.get(pk=key.pk).scope_names == ["orders:read", "orders:write"]
    assert AuditAction.KEY_NARROW not in actions(key)


def test_an_expiry_that_has_passed_may_stay_when_something_else_is_edited(organization):
    key = make_key(organization, expires_at=timezone.now() + timedelta(seconds=0.2)).key
    past = timezone.now() - timedelta(days=1)
    ApiKey.objects.filter(pk=key.pk).update(expires_at=past)
    key.edit(terms(organization, name="renamed", expires_at=past), by=BY)
    assert ApiKey.objects.get(pk=key.pk).name == "renamed"


def test_pausing_and_resuming_are_reversible_and_recorded_once(organization):
    key = issue(organization).key
    assert key.pause(by=BY)
    assert not key.pause(by=BY)
    assert ApiKey.objects.get(pk=key.pk).status == Status.PAUSED
    assert key.resume(by=BY)
    assert not key.resume(by=BY)
    assert ApiKey.objects.get(pk=key.pk).status == Status.ACTIVE
    assert actions(key)[2:] == [AuditAction.KEY_PAUSE, AuditAction.KEY_RESUME]


def test_a_revoked_key_refuses_every_verb(organization):
    key = issue(organization).key
    key.revoke(reason=RevocationReason.LEAKED, note="In a public repository", by=BY)
    stored = ApiKey.objects.get(pk=key.pk)
    assert stored.status == Status.REVOKED
    assert stored.revoked_note == "In a public repository"
    for verb in (
        lambda: stored.revoke(reason=RevocationReason.OTHER, by=BY),
        lambda: stored.edit(stored.terms, by=BY),
        lambda: stored.narrow(["orders:read"], by=BY, version=1),
        lambda: stored.pause(by=BY),
        lambda: stored.resume(by=BY),
        lambda: stored.regenerate(by=BY),
    ):
        with pytest.raises(KeyRevokedError):
            verb()
    assert actions(key).count(AuditAction.KEY_REVOKE) == 1


def test_regenerating_revokes_the_old_and_issues_a_new_one_on_the_same_terms(organization):
    old = issue(organization, networks=["10.0.0.0/8"], rate_limit=RateLimit(5, 60, 7)).key
    new, secret = old.regenerate(by=BY)
    stored = ApiKey.objects.get(pk=old.pk)
    assert stored.status == Status.REVOKED
    assert stored.revoked_reason == RevocationReason.REGENERATED
    assert stored.replaced_by == new
    assert ApiKey.objects.get(pk=new.pk).terms == stored.terms
    assert new.fingerprint != old.fingerprint
    assert secret.public_id == new.public_id


def test_regenerating_by_the_same_form_twice_makes_one_key(organization):
    old, token = issue(organization).key, uuid.uuid4()
    new = old.regenerate(by=BY, form_token=token).key
    with pytest.raises(AlreadyIssuedError) as caught:
        ApiKey.objects.get(pk=old.pk).regenerate(by=BY, form_token=token)
    assert caught.value.key == new


def test_an_expired_key_is_not_regenerated(organization):
    key = issue(organization).key
    ApiKey.objects.filter(pk=key.pk).update(expires_at=timezone.now() - timedelta(days=1))
    with pytest.raises(KeyExpiredError):
        key.regenerate(by=BY)
    assert organization.keys.count() == 1


def test_a_verb_that_fails_leaves_neither_change_nor_entry(organization):
    key = issue(organization).key
    before = AuditEntry.objects.count()
    with pytest.raises(ValidationError):
        key.edit(terms(organization, name="renamed", networks=["nonsense"]), by=BY)
    with pytest.raises(ValidationError):
        key.revoke(reason=RevocationReason.OTHER, note="x" * 501, by=BY)
    stored = ApiKey.objects.get(pk=key.pk)
    assert (stored.name, stored.status) == ("checkout", Status.ACTIVE)
    assert AuditEntry.objects.count() == before
