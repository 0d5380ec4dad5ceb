"""What happens to a rotation at the same moment: somebody wins, the others are told, and no rule is broken."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import DatabaseError
from django.utils import timezone

from apikeys.models import (
    Actor,
    ApiKey,
    AuditAction,
    AuditEntry,
    Clock,
    Ending,
    IssuedKey,
    KeyActivity,
    KeyRevokedError,
    LinkError,
    Outcome,
    RevocationReason,
    Rotation,
    RotationOverError,
    RotationReason,
    RotationRunningError,
    RotationTerms,
    StaleKeyError,
    StaleRotationError,
    StartedRotation,
    Status,
)
from apikeys.models.progress import finish_due
from apikeys.verification import Presented, verify
from tests.factories import make_event, make_key, make_rotation
from tests.threads import run_meanwhile, run_together

BY = Actor.command()
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ROUNDS = 5


def kinds(results):
    return sorted(type(result).__name__ for result in results)


def fetched(rotation):
    return Rotation.objects.for_pages().get(pk=rotation.pk)


def start(key):
    terms = RotationTerms(RotationReason.REGULAR, 7 * DAY)
    return lambda: Rotation.objects.start(ApiKey.objects.for_pages().get(pk=key.pk), terms, by=BY)


def finish(rotation):
    return lambda: fetched(rotation).finish(by=BY)


def cancel(rotation):
    return lambda: fetched(rotation).cancel(by=BY)


def extend(rotation, end, seen=None):
    return lambda: fetched(rotation).extend(end, by=BY, seen=seen)


def revoke(key):
    return lambda: ApiKey.objects.for_pages().get(pk=key.pk).revoke(reason=RevocationReason.LEAKED, by=BY)


def use(organization, issued):
    return lambda: verify(Presented(issued.secret.text, organization.slug)).outcome


def entries(rotation, action):
    return AuditEntry.objects.filter(key_id=rotation.old_key_id, action=action).count()


def check(rotation):
    """Hold the rules against what is stored, and return the rotation."""
    rotation = fetched(rotation)
    old, new = rotation.old_key, rotation.new_key
    is_revoked = old.revoked_at is not None or (new is not None and new.revoked_at is not None)
    if rotation.closed_at is None:
        assert rotation.deadline is not None
        assert not is_revoked or rotation.is_overdue
    elif rotation.is_called_off:
        assert new is None or (new.status, new.replaces_id, new.root_id) == (Status.REVOKED, None, None)
        if not old.open_rotation:
            assert old.expires_at == rotation.own_expiry
        assert entries(rotation, AuditAction.ROTATION_CANCEL) == 1
    else:
        assert old.status is Status.REVOKED
        assert new is None or new.replaces_id == old.pk
        assert entries(rotation, AuditAction.ROTATION_FINISH) == 1
    assert Rotation.objects.open().filter(old_key=old).count() <= 1
    return rotation


def test_a_key_is_rotated_once(committed):
    for _ in range(ROUNDS):
        key = make_key(committed).key
        results = run_together(start(key), start(key), start(key))
        assert kinds(results) == [RotationRunningError.__name__] * 2 + [StartedRotation.__name__]
        [started] = [result for result in results if isinstance(result, StartedRotation)]
        refused = [result.rotation for result in results if isinstance(result, RotationRunningError)]
        assert refused == [started.rotation] * 2
        assert key.replaced_by_keys.count() == 1
        assert entries(check(started.rotation), AuditAction.ROTATION_START) == 1


def test_finishing_wins_over_an_extension_or_comes_after_it(committed):
    for _ in range(ROUNDS):
        rotation = make_rotation(committed).rotation
        finished, extended = run_together(finish(rotation), extend(rotation, timezone.now() + 9 * DAY))
        assert finished is None
        assert extended is None or isinstance(extended, RotationOverError)
        assert check(rotation).ending == Ending.FINISHED
        assert entries(rotation, AuditAction.ROTATION_EXTEND) == (extended is None)


def test_a_rotation_is_finished_or_cancelled(committed):
    for _ in range(ROUNDS):
        rotation = make_rotation(committed).rotation
        finished, cancelled = run_together(finish(rotation), cancel(rotation))
        assert kinds([finished, cancelled]) == ["NoneType", RotationOverError.__name__]
        found = check(rotation)
        assert found.ending == (Ending.FINISHED if finished is None else Ending.CANCELLED)
        assert found.old_key.is_usable != found.new_key.is_usable


def test_the_new_key_is_revoked_by_hand_while_somebody_finishes(committed):
    for _ in range(ROUNDS):
        rotation = make_rotation(committed).rotation
        finished, revoked = run_together(finish(rotation), revoke(rotation.new_key))
        assert revoked is None
        found = check(rotation)
        assert found.new_key.status is Status.REVOKED
        if finished is None:
            assert (found.ending, found.old_key.status) == (Ending.FINISHED, Status.REVOKED)
        else:
            assert isinstance(finished, RotationOverError)
            assert (found.ending, found.old_key.status) == (Ending.NEW_REVOKED, Status.ACTIVE)


def test_both_keys_are_revoked_by_hand(committed):
    for _ in range(ROUNDS):
        rotation = make_rotation(committed).rotation
        results = run_together(revoke(rotation.old_key), revoke(rotation.new_key))
        assert results == [None, None]
        found = check(rotation)
        assert {found.old_key.status, found.new_key.status} == {Status.REVOKED}
        assert found.ending in {Ending.OLD_REVOKED, Ending.NEW_REVOKED}


def test_one_key_is_taken_by_a_link(committed):
    for _ in range(ROUNDS):
        handed = make_rotation(committed, link_lasts=DAY)

        def take(handed=handed):
            return fetched(handed.rotation).take(handed.token, by=BY)

        results = run_together(take, take, take)
        assert kinds(results) == [IssuedKey.__name__, LinkError.__name__, LinkError.__name__]
        [issued] = [result for result in results if isinstance(result, IssuedKey)]
        assert check(handed.rotation).new_key == issued.key
        assert issued.key.replaces.replaced_by_keys.count() == 1


def test_a_link_is_taken_or_its_rotation_cancelled(committed):
    for _ in range(ROUNDS):
        handed = make_rotation(committed, link_lasts=DAY)
        token = handed.token
        taken, cancelled = run_together(
            lambda: fetched(handed.rotation).take(token, by=BY),  # noqa: B023
            cancel(handed.rotation),
        )
        assert cancelled is None
        assert isinstance(taken, IssuedKey | LinkError)
        assert (check(handed.rotation).new_key is None) == isinstance(taken, LinkError)


def test_what_is_due_is_finished_once(committed):
    rotations = [make_rotation(committed).rotation for _ in range(4)]
    keys = [rotation.old_key_id for rotation in rotations]
    ApiKey.objects.filter(pk__in=keys).update(expires_at=timezone.now() - HOUR)
    results = run_together(*[lambda: list(finish_due(by=BY))] * 3)
    ended = [one.pk for result in results for one in result if one.organization_id == committed.pk]
    assert sorted(ended) == [rotation.pk for rotation in rotations]
    assert {check(rotation).ending for rotation in rotations} == {Ending.DEADLINE}


# The clock


def make_waiting(organization, **terms):
    """Start a rotation whose clock waits for the new key's first use."""
    chosen = {"clock": Clock.FIRST_USE, "overlap": 3 * HOUR, "hard_end": timezone.now() + 20 * DAY, **terms}
    return make_rotation(organization, **chosen)


def first_use_of(issued):
    return KeyActivity.objects.get(pk=issued.key.pk).first_used_at


@pytest.mark.parametrize("ahead", [HOUR, 25 * DAY])
@pytest.mark.parametrize("together", [run_together, run_meanwhile, lambda *calls: run_meanwhile(*calls[::-1])[::-1]])
def test_the_first_use_and_an_extension_lose_nothing_of_one_another(committed, ahead, together):
    for _ in range(2):
        started = make_waiting(committed)
        before, end = started.rotation.deadline, timezone.now() + ahead
        outcome, extended = together(use(committed, started.issued), extend(started.rotation, end, seen=before))
        assert outcome is Outcome.VALID
        clock = first_use_of(started.issued) + 3 * HOUR
        found = check(started.rotation)
        if extended is None:
            # Whoever had seen the old end wrote first.
            assert found.deadline == min(end, clock)
        else:
            assert isinstance(extended, StaleRotationError)
            assert found.deadline == min(before, clock)


def test_a_first_use_while_the_rotation_is_called_off_leaves_the_old_key_its_own_end(committed):
    for end in (None, timezone.now() + 90 * DAY):
        for call_off in (cancel, lambda rotation: revoke(rotation.new_key)):
            started = make_waiting(committed, key=make_key(committed, expires_at=end).key)
            cancelled, outcome = run_meanwhile(call_off(started.rotation), use(committed, started.issued))
            assert cancelled is None
            # It was accepted where it was judged before the revocation was committed.
            assert outcome in {Outcome.VALID, Outcome.REVOKED}
            assert check(started.rotation).old_key.expires_at == end


def test_an_old_key_that_ended_by_the_first_use_is_not_brought_back_by_whoever_revokes_the_new_one(committed):
    started = make_waiting(committed, overlap=timedelta())
    outcome, revoked = run_meanwhile(use(committed, started.issued), revoke(started.issued.key), seconds=1)
    assert (outcome, revoked) == (Outcome.VALID, None)
    found = check(started.rotation)
    assert found.is_overdue
    assert found.deadline == first_use_of(started.issued)


# Any two at once

VERBS = {
    "start": lambda organization, started, own: start(started.rotation.old_key),
    "start elsewhere": lambda organization, started, own: start(own),
    "finish": lambda organization, started, own: finish(started.rotation),
    "cancel": lambda organization, started, own: cancel(started.rotation),
    "extend": lambda organization, started, own: extend(started.rotation, timezone.now() + DAY),
    "revoke old": lambda organization, started, own: revoke(started.rotation.old_key),
    "revoke new": lambda organization, started, own: revoke(started.issued.key),
    "revoke elsewhere": lambda organization, started, own: revoke(own),
    "use new": lambda organization, started, own: use(organization, started.issued),
    "edit": lambda organization, started, own: edit(started.rotation.old_key),
    "edit elsewhere": lambda organization, started, own: edit(own),
    "regenerate elsewhere": lambda organization, started, own: regenerate(own),
    "pause": lambda organization, started, own: pause(started.rotation.old_key),
}


def edit(key):
    def act():
        stored = ApiKey.objects.for_pages().get(pk=key.pk)
        terms = stored.terms
        stored.edit(replace(terms, purpose="Something else"), by=BY, version=stored.version)

    return act


def regenerate(key):
    return lambda: ApiKey.objects.for_pages().get(pk=key.pk).regenerate(by=BY)


def pause(key):
    return lambda: ApiKey.objects.for_pages().get(pk=key.pk).pause(by=BY)


# An edit that keeps the end is refused where a rotation moved that meanwhile, or gave back the key's own.
TOLD = (RotationOverError, RotationRunningError, KeyRevokedError, ValidationError, StaleKeyError)


@pytest.mark.parametrize("first", VERBS)
def test_no_two_changes_block_one_another_for_good(committed, first):
    """One while the transaction of the other is open; ``elsewhere`` is a key that is in no rotation yet."""
    for second in VERBS:
        started, own = make_waiting(committed), make_key(committed).key
        make_event(started.rotation.old_key)
        calls = [VERBS[name](committed, started, own) for name in (first, second)]
        for result in run_meanwhile(*calls, seconds=0.15):
            assert not isinstance(result, DatabaseError), f"{first}, {second}: {result}"
            assert not isinstance(result, Exception) or isinstance(result, TOLD), f"{first}, {second}: {result!r}"
        check(started.rotation)
        for rotation in own.rotations.all():
            check(rotation)
