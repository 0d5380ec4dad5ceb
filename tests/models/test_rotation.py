"""Rotations: both keys work for a while, the verifier ends the old one by itself, and each way out is consistent."""

import uuid
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from apikeys.models import (
    AlreadyStartedError,
    ApiKey,
    AuditAction,
    Clock,
    Ending,
    KeyActivity,
    KeyExpiredError,
    KeyPausedError,
    KeyRevokedError,
    LinkError,
    RevocationReason,
    Role,
    Rotation,
    RotationOverError,
    RotationReason,
    RotationRunningError,
    RotationTerms,
    StaleRotationError,
    Status,
)
from apikeys.models.progress import finish_due
from tests.factories import (
    make_actor,
    make_event,
    make_exemption,
    make_expired_key,
    make_key,
    make_member,
    make_organization,
    make_revoked_key,
    make_rhythm,
    make_rotation,
    make_user,
)
from tests.pages import entries

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
BY = make_actor()


def terms(**chosen):
    return RotationTerms(**{"reason": RotationReason.REGULAR, "overlap": 7 * DAY} | chosen)


def start(key, **chosen):
    return Rotation.objects.start(key, terms(**chosen), by=BY)


def stored(thing):
    return type(thing).objects.get(pk=thing.pk)


def near(at, other):
    return abs(at - other) < timedelta(seconds=5)


def test_the_new_key_takes_what_was_chosen_for_the_old_one_but_for_its_end(organization):
    owner = make_member(organization, Role.OPERATOR)
    old = make_key(
        organization,
        "checkout",
        owner=owner,
        scopes=["orders:read", "orders:write"],
        networks=["203.0.113.0/24"],
        rate_limit=(50, 1, 90),
        expires_at=timezone.now() + 30 * DAY,
        environment="stag",
    ).key
    end = timezone.now() + 90 * DAY
    started = start(old, new_expires_at=end)
    new = stored(started.issued.key)
    assert new.facts() == old.facts() | {"expires_at": end}
    assert (new.replaces, new.root, new.organization) == (old, old, organization)
    assert started.issued.secret.public_id == new.public_id
    assert started.token is None
    assert started.rotation.new_key == new


def test_both_keys_work_until_the_deadline_which_is_the_old_key_s_expiry(organization):
    old = make_key(organization, expires_at=timezone.now() + 30 * DAY).key
    started = start(old)
    assert near(stored(old).expires_at, timezone.now() + 7 * DAY)
    assert started.rotation.deadline == stored(old).expires_at
    assert {stored(old).status, started.issued.key.status} == {Status.ACTIVE}


def test_an_overlap_never_lengthens_the_old_key_s_own_expiry(organization):
    expiry = timezone.now() + 2 * DAY
    old = make_key(organization, expires_at=expiry).key
    rotation = start(old).rotation
    assert stored(old).expires_at == expiry
    with pytest.raises(ValidationError) as raised:
        rotation.extend(expiry + HOUR, by=BY)
    assert "expires by itself" in raised.value.message_dict["end"][0]
    assert stored(old).expires_at == expiry


def test_the_clock_starts_at_the_first_use_of_the_new_key(organization):
    old = make_key(organization).key
    started = start(old, clock=Clock.FIRST_USE, overlap=3 * HOUR, hard_end=timezone.now() + 20 * DAY)
    assert near(stored(old).expires_at, timezone.now() + 20 * DAY)
    assert started.rotation.clock_waits
    used = make_event(started.issued.key)
    assert stored(old).expires_at == used.at + 3 * HOUR
    rotation = Rotation.objects.for_pages().get()
    assert not rotation.clock_waits
    make_event(started.issued.key, at=used.at + HOUR)
    assert stored(old).expires_at == used.at + 3 * HOUR, "a later use starts it again"


def clock_entries(organization):
    return [entry.changes for entry in entries(organization, AuditAction.ROTATION_CLOCK)]


def first_used(started):
    """Use the new key for the first time; return what the audit log is to tell of that."""
    at = make_event(started.issued.key).at
    until = ApiKey.objects.get(pk=started.rotation.old_key_id).expires_at
    return {"new_key_first_used": [None, at.isoformat()], "both_work_until": [None, until.isoformat()]}


def test_that_the_clock_started_is_told_once_by_the_next_scheduled_run(organization):
    started = start(make_key(organization).key, clock=Clock.FIRST_USE, overlap=3 * HOUR)
    list(finish_due(by=BY))
    assert clock_entries(organization) == []
    told = first_used(started)
    assert clock_entries(organization) == [], "the first request does not wait for it"
    for _ in range(2):
        list(finish_due(by=BY))
        assert clock_entries(organization) == [told]
    [entry] = entries(organization, AuditAction.ROTATION_CLOCK)
    assert (entry.actor_label, entry.key_id) == ("scheduled job", started.rotation.old_key_id)


@pytest.mark.parametrize("verb", ["extend", "finish", "cancel", "revoke the old key", "revoke the new key"])
def test_whatever_is_done_with_a_rotation_tells_first_that_its_clock_started(organization, verb):
    started = start(make_key(organization).key, clock=Clock.FIRST_USE, overlap=3 * HOUR)
    told, rotation = first_used(started), started.rotation
    {
        "extend": lambda: rotation.extend(timezone.now() + DAY, by=BY),
        "finish": lambda: rotation.finish(by=BY),
        "cancel": lambda: rotation.cancel(by=BY),
        "revoke the old key": lambda: rotation.old_key.revoke(reason=RevocationReason.UNUSED, by=BY),
        "revoke the new key": lambda: rotation.new_key.revoke(reason=RevocationReason.UNUSED, by=BY),
    }[verb]()
    assert clock_entries(organization) == [told]
    actions = [entry.action for entry in entries(organization)]
    last = max(
        place for place, action in enumerate(actions) if action.startswith("rotation.") and "clock" not in action
    )
    assert actions.index(AuditAction.ROTATION_CLOCK) < last
    list(finish_due(by=BY))
    assert clock_entries(organization) == [told]


def test_a_clock_that_runs_from_the_start_is_told_by_the_entry_of_that(organization):
    first_used(start(make_key(organization).key, clock=Clock.NOW))
    list(finish_due(by=BY))
    assert clock_entries(organization) == []


def test_the_clock_of_a_second_rotation_of_a_key_is_told_too(organization):
    key = make_key(organization).key
    first = start(key, clock=Clock.FIRST_USE)
    told = [first_used(first)]
    first.rotation.cancel(by=BY)
    second = start(key, clock=Clock.FIRST_USE)
    list(finish_due(by=BY))
    assert clock_entries(organization) == told
    told.append(first_used(second))
    list(finish_due(by=BY))
    assert clock_entries(organization) == told


def test_a_first_use_never_moves_the_end_further_away(organization):
    old = make_key(organization).key
    end = timezone.now() + HOUR
    started = start(old, clock=Clock.FIRST_USE, overlap=7 * DAY, hard_end=end)
    make_event(started.issued.key)
    assert stored(old).expires_at == end


def test_the_first_use_after_a_rotation_was_cancelled_changes_nothing(organization):
    old = make_key(organization).key
    started = start(old, clock=Clock.FIRST_USE)
    started.rotation.cancel(by=BY)
    KeyActivity.objects.filter(pk=started.issued.key.pk).update(first_used_at=timezone.now())
    assert stored(old).expires_at is None


def test_without_overlap_the_old_key_ends_at_once(organization):
    old = make_key(organization).key
    started = start(old, overlap=timedelta(), reason=RotationReason.COMPROMISE)
    old = stored(old)
    assert (old.status, old.revoked_reason) == (Status.REVOKED, RevocationReason.LEAKED)
    assert old.revoked_note == f"Replaced by {started.issued.key.fingerprint}"
    assert started.rotation.ending == Ending.FINISHED
    assert started.issued.key.is_usable


def test_without_overlap_from_the_first_use_the_old_key_ends_with_it(organization):
    old = make_key(organization).key
    started = start(old, overlap=timedelta(), clock=Clock.FIRST_USE)
    assert stored(old).is_usable
    used = make_event(started.issued.key)
    assert stored(old).expires_at == used.at
    assert stored(old).is_dead


@pytest.mark.parametrize(("make", "error"), [(make_revoked_key, KeyRevokedError), (make_expired_key, KeyExpiredError)])
def test_a_dead_key_is_not_rotated(organization, make, error):
    key = make(organization).key
    with pytest.raises(error):
        start(key)
    assert not Rotation.objects.exists()


def test_a_paused_key_is_not_rotated(organization):
    key = make_key(organization).key
    key.pause(by=BY)
    with pytest.raises(KeyPausedError):
        start(key)


@pytest.mark.parametrize(
    ("chosen", "field"),
    [
        ({"overlap": timedelta(seconds=-1)}, "overlap"),
        ({"overlap": 91 * DAY}, "overlap"),
        ({"hard_end": timezone.now() - HOUR}, "hard_end"),
        ({"hard_end": timezone.now() + 400 * DAY}, "hard_end"),
        ({"hard_end": timezone.now() + 31 * DAY}, "hard_end"),
        ({"new_expires_at": timezone.now() + 3 * DAY}, "new_expires_at"),
        ({"link_lasts": timedelta(minutes=9)}, "link_lasts"),
        ({"link_lasts": 15 * DAY}, "link_lasts"),
        ({"note": "x" * 501}, "note"),
        ({"note": "bell\a"}, "note"),
    ],
)
def test_bad_terms_name_the_field_and_change_nothing(organization, chosen, field):
    old = make_key(organization, expires_at=timezone.now() + 30 * DAY).key
    before = stored(old).expires_at
    with pytest.raises(ValidationError) as raised:
        start(old, **chosen)
    assert list(raised.value.message_dict) == [field]
    assert stored(old).expires_at == before
    assert not Rotation.objects.exists()
    assert organization.keys.count() == 1


def test_one_key_is_in_one_open_rotation_at_most(organization):
    old = make_key(organization).key
    first = start(old)
    for key in (old, first.issued.key):
        with pytest.raises(RotationRunningError) as raised:
            start(key)
        assert raised.value.rotation == first.rotation
    assert organization.keys.count() == 2


def test_a_form_that_is_sent_twice_starts_one_rotation(organization):
    old, token = make_key(organization).key, uuid.uuid4()
    first = Rotation.objects.start(old, terms(), by=BY, form_token=token)
    with pytest.raises(AlreadyStartedError) as raised:
        Rotation.objects.start(old, terms(), by=BY, form_token=token)
    assert raised.value.rotation == first.rotation
    assert organization.keys.count() == 2


def test_finishing_revokes_the_old_key(organization):
    old = make_key(organization).key
    started = start(old)
    started.rotation.finish(by=BY)
    rotation = stored(started.rotation)
    assert (rotation.ending, stored(old).status) == (Ending.FINISHED, Status.REVOKED)
    assert stored(old).revoked_reason == RevocationReason.REPLACED
    assert rotation.old_ended_at == stored(old).revoked_at
    assert [entry.action for entry in entries(organization)][-2:] == [
        AuditAction.ROTATION_FINISH,
        AuditAction.KEY_REVOKE,
    ]
    for verb in (rotation.finish, rotation.cancel):
        with pytest.raises(RotationOverError):
            verb(by=BY)
    with pytest.raises(RotationOverError):
        rotation.extend(timezone.now() + HOUR, by=BY)


def pass_deadline(rotation, ago=HOUR):
    rotation.old_key.expires_at = timezone.now() - ago
    rotation.old_key.save(update_fields=["expires_at"])


def test_after_the_deadline_the_old_key_is_dead_and_nothing_brings_it_back(organization):
    old = make_key(organization).key
    rotation = start(old).rotation
    pass_deadline(rotation)
    at = stored(old).expires_at
    rotation = stored(rotation)
    assert (rotation.is_open, rotation.is_overdue, rotation.old_ended_at) == (False, True, at)
    with pytest.raises(RotationOverError):
        rotation.cancel(by=BY)
    with pytest.raises(RotationOverError):
        rotation.extend(timezone.now() + DAY, by=BY)
    with pytest.raises(ValidationError):
        old.edit(stored(old).terms.until(timezone.now() + DAY), by=BY)
    assert list(Rotation.objects.overdue()) == [rotation]
    rotation.finish(by=BY)
    assert stored(rotation).ending == Ending.DEADLINE
    assert stored(old).revoked_at == at, "it was refused from its deadline on"


def test_cancelling_revokes_the_new_key_and_gives_the_old_one_its_own_expiry_back(organization):
    expiry = timezone.now() + 30 * DAY
    old = make_key(organization, expires_at=expiry).key
    started = start(old)
    started.rotation.cancel(by=BY)
    new = stored(started.issued.key)
    assert (stored(old).expires_at, stored(old).status) == (expiry, Status.ACTIVE)
    assert (new.status, new.revoked_reason) == (Status.REVOKED, RevocationReason.CANCELLED)
    assert (new.replaces, new.root) == (None, None)
    assert stored(started.rotation).ending == Ending.CANCELLED
    assert start(old).rotation.is_open, "it can be rotated again"


def test_revoking_the_old_key_by_hand_ends_the_rotation(organization):
    old = make_key(organization).key
    started = start(old)
    stored(old).revoke(reason=RevocationReason.LEAKED, by=BY)
    assert stored(started.rotation).ending == Ending.OLD_REVOKED
    assert stored(started.issued.key).is_usable
    assert stored(started.issued.key).replaces == old


def test_revoking_the_new_key_by_hand_calls_the_rotation_off(organization):
    expiry = timezone.now() + 30 * DAY
    old = make_key(organization, expires_at=expiry).key
    started = start(old)
    stored(started.issued.key).revoke(reason=RevocationReason.LEAKED, by=BY)
    assert stored(started.rotation).ending == Ending.NEW_REVOKED
    assert (stored(old).expires_at, stored(old).status) == (expiry, Status.ACTIVE)
    assert stored(started.issued.key).revoked_reason == RevocationReason.LEAKED


def test_revoking_the_new_key_after_the_deadline_does_not_bring_the_old_one_back(organization):
    old = make_key(organization).key
    started = start(old)
    pass_deadline(started.rotation)
    stored(started.issued.key).revoke(reason=RevocationReason.LEAKED, by=BY)
    assert stored(old).is_dead
    stored(started.rotation).finish(by=BY)
    assert stored(old).status == Status.REVOKED


def test_extending_moves_the_end_and_is_told(organization):
    old = make_key(organization).key
    rotation = start(old).rotation
    before, end = rotation.deadline, timezone.now() + 10 * DAY
    rotation.extend(end, by=BY, seen=before)
    assert stored(old).expires_at == end
    entry = entries(organization, AuditAction.ROTATION_EXTEND)[0]
    assert entry.changes == {"both_work_until": [before.isoformat(), end.isoformat()]}
    with pytest.raises(StaleRotationError):
        rotation.extend(timezone.now() + DAY, by=BY, seen=before)
    rotation.extend(end, by=BY, seen=end)
    assert len(entries(organization, AuditAction.ROTATION_EXTEND)) == 1, "nothing was changed"


def test_the_new_key_must_outlive_the_old_one_also_after_an_extension(organization):
    old = make_key(organization).key
    rotation = start(old, new_expires_at=timezone.now() + 8 * DAY).rotation
    with pytest.raises(ValidationError) as raised:
        rotation.extend(timezone.now() + 9 * DAY, by=BY)
    assert list(raised.value.message_dict) == ["end"]


def test_while_it_is_rotated_a_key_is_not_regenerated_and_its_expiry_not_edited(organization):
    old = make_key(organization).key
    started = start(old)
    for key in (old, started.issued.key):
        with pytest.raises(RotationRunningError):
            stored(key).regenerate(by=BY)
    with pytest.raises(ValidationError) as raised:
        old.edit(stored(old).terms.until(None), by=BY)
    assert list(raised.value.message_dict) == ["expires_at"]
    new = stored(started.issued.key)
    new.edit(new.terms.until(timezone.now() + 300 * DAY), by=BY)


def test_what_is_known_of_the_old_key_goes_on_with_the_new_one(organization):
    old = make_key(organization).key
    make_rhythm(old, usual_gap=90 * DAY)
    make_exemption(old)
    new = stored(start(stored(old)).issued.key)
    assert new.known_rhythm.usual_gap == 90 * 24 * 3600
    assert new.exemption_now.reason == old.exemption.reason


def test_a_chain_of_rotations_is_one_lineage(organization):
    first = make_key(organization).key
    second = start(first)
    second.rotation.finish(by=BY)
    third = start(stored(second.issued.key)).issued.key
    keys = [third, second.issued.key, first]
    for key in keys:
        assert list(stored(key).lineage) == keys
    assert list(organization.keys.newest()) == [third]
    assert list(make_key(organization).key.lineage) != keys


# The owner's link


@pytest.fixture
def handed(organization):
    """A rotation whose new key waits for its owner, with the token of the link."""
    owner = make_member(organization, Role.VIEWER, make_user("olga@example.com"))
    return start(make_key(organization, owner=owner).key, link_lasts=DAY)


def test_with_a_link_nobody_has_the_new_key_until_its_owner_takes_it(organization, handed):
    rotation = handed.rotation
    assert (handed.issued, rotation.new_key, organization.keys.count()) == (None, None, 1)
    assert rotation.link_sent_to == "olga@example.com"
    assert handed.token.encode() not in bytes(rotation.link_digest)
    issued = rotation.take(handed.token, by=BY)
    assert stored(rotation).new_key == issued.key
    assert issued.key.replaces == rotation.old_key
    assert entries(organization, AuditAction.ROTATION_TAKE)


def test_a_link_is_good_once(handed):
    handed.rotation.take(handed.token, by=BY)
    with pytest.raises(LinkError):
        handed.rotation.take(handed.token, by=BY)
    assert handed.rotation.organization.keys.count() == 2


def test_a_link_that_ran_out_or_was_replaced_is_not_good(handed):
    rotation = handed.rotation
    token = rotation.send_link(DAY, by=BY)
    with pytest.raises(LinkError):
        rotation.take(handed.token, by=BY)
    Rotation.objects.update(link_until=timezone.now())
    with pytest.raises(LinkError):
        rotation.take(token, by=BY)
    assert rotation.organization.keys.count() == 1


def test_a_link_of_a_cancelled_rotation_is_not_good(handed):
    handed.rotation.cancel(by=BY)
    with pytest.raises(LinkError):
        handed.rotation.take(handed.token, by=BY)
    with pytest.raises(RotationOverError):
        handed.rotation.send_link(DAY, by=BY)
    assert Rotation.objects.with_token(handed.token) is None


def test_a_link_stays_good_when_the_old_key_ended_first(organization):
    handed = start(make_key(organization).key, overlap=timedelta(), link_lasts=DAY)
    assert handed.rotation.ending == Ending.FINISHED
    assert handed.rotation.take(handed.token, by=BY).key.is_usable


def test_a_link_needs_somebody_to_send_it_to(organization):
    owner = make_member(organization, Role.VIEWER)
    key = make_key(organization, owner=owner).key
    owner.user.is_active = False
    owner.user.save()
    with pytest.raises(ValidationError) as raised:
        start(stored(key), link_lasts=DAY)
    assert "closed" in raised.value.message_dict["link_lasts"][0]
    type(owner.user).objects.filter(pk=owner.user.pk).update(email="", is_active=True)
    with pytest.raises(ValidationError) as raised:
        start(stored(key), link_lasts=DAY)
    assert "no mail address" in raised.value.message_dict["link_lasts"][0]


def test_two_organizations_may_use_the_same_form_token(organization):
    token = uuid.uuid4()
    for one in (organization, make_organization()):
        Rotation.objects.start(make_key(one).key, terms(), by=BY, form_token=token)
    assert Rotation.objects.count() == 2
    assert make_rotation(organization).rotation.is_open
