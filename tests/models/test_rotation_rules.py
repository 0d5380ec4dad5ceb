"""The rules of rotations, after every step of any sequence: verbs, requests through the verifier, and time passing.

Time passes by moving every stored instant into the past, as much as has passed; what is stored is then exactly what
somebody finds who comes back later, for Python, for SQL and for the trigger, which knows only stored instants. What a
revocation wrote stays where it is: the database freezes it.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db.models import F
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apikeys.models import (
    ApiKey,
    AuditAction,
    AuditEntry,
    Clock,
    Ending,
    KeyActivity,
    KeyExpiredError,
    KeyPausedError,
    KeyRevokedError,
    LinkError,
    Outcome,
    RevocationReason,
    Rotation,
    RotationOverError,
    RotationReason,
    RotationRunningError,
    RotationTerms,
    StaleRotationError,
    Status,
    UsageEvent,
)
from apikeys.models.key_status import status_at
from apikeys.models.progress import finish_due
from apikeys.models.rotation import LONGEST_WAIT, MAX_LENGTH
from apikeys.verification import Presented, verify
from tests.factories import make_actor, make_event, make_key, make_member, make_organization, make_rotation

pytestmark = pytest.mark.django_db
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
BY = make_actor()
ANSWERS = {
    Status.ACTIVE: Outcome.VALID,
    Status.PAUSED: Outcome.PAUSED,
    Status.EXPIRED: Outcome.EXPIRED,
    Status.REVOKED: Outcome.REVOKED,
}
# Where stored instants are, but for those that the database freezes.
INSTANTS = {
    ApiKey: ["expires_at", "paused_at", "paused_until"],
    Rotation: ["own_expiry", "new_expires_at", "planned_end", "started_at", "closed_at", "link_until"],
    KeyActivity: ["first_used_at", "last_used_at", "last_refused_at"],
    UsageEvent: ["at"],
}
OVERLAPS = [timedelta(), HOUR, 3601 * SECOND, DAY, 7 * DAY, 90 * DAY]
STEPS_EACH = 20
AFTERWARDS = ["cancel", "extend", "revoke new", "edit", "use new", "finish", "when due"]
NUMBERS = st.integers(0, 4)
AHEAD = st.sampled_from([None, None, None, 2 * HOUR, 5 * DAY, 30 * DAY, 200 * DAY])
TERMS = {
    "overlap": st.sampled_from(OVERLAPS),
    "clock": st.sampled_from(Clock),
    "end": AHEAD,
    "expiry": st.sampled_from([None, None, None, 40 * DAY, 250 * DAY]),
    "link": st.sampled_from([None, None, None, 10 * MINUTE, DAY]),
    "safe": st.booleans(),
    "reason": st.sampled_from(RotationReason),
}


@dataclass
class KeyModel:
    """What a key is meant to be; instants are those of the machine's own time."""

    pk: int
    text: str
    expires: datetime | None = None
    revoked: RevocationReason | None = None
    paused: datetime | None = None
    paused_until: datetime | None = None
    replaces: int | None = None
    root: int | None = None
    first_used: datetime | None = None

    def status(self, now: datetime) -> Status:
        revoked = now if self.revoked else None
        return status_at(now, revoked, self.expires, self.paused, self.paused_until)


@dataclass
class RotationModel:
    """What a rotation is meant to be."""

    pk: int
    old: KeyModel
    new: KeyModel | None
    terms: RotationTerms
    own_expiry: datetime | None
    started: datetime
    ending: Ending | None = None
    token: str | None = None
    link_until: datetime | None = None
    old_tokens: list[str] = field(default_factory=list)
    is_clock_told: bool = False

    @property
    def awaits_owner(self) -> bool:
        return self.new is None and self.ending not in {Ending.CANCELLED, Ending.NEW_REVOKED}

    def is_overdue(self, now: datetime) -> bool:
        return self.ending is None and self.old.expires is not None and self.old.expires <= now


class RotationRules:
    """Drives a key and whatever takes its place, beside a plain model of what must come of it."""

    def __init__(self) -> None:
        self.organization = make_organization()
        self.owner = make_member(self.organization)
        self.passed = timedelta()
        self.keys: list[KeyModel] = []
        self.rotations: list[RotationModel] = []
        self.buried: list[KeyModel] = []
        self.audited: Counter[str] = Counter()
        self.audited_before = self._entries()

    # The machine's own time

    @property
    def now(self) -> datetime:
        return timezone.now() + self.passed

    def own(self, stored: datetime | None) -> datetime | None:
        """Return a stored instant in the machine's time."""
        return stored + self.passed if stored else None

    def stored(self, own: datetime | None) -> datetime | None:
        return own - self.passed if own else None

    def _entries(self) -> Counter[str]:
        found = AuditEntry.objects.filter(organization=self.organization)
        return Counter(found.values_list("action", flat=True))

    def _audit(self, *actions: AuditAction) -> None:
        self.audited.update(action.value for action in actions)

    def _add_key(self, issued, *, replaces: KeyModel | None = None) -> KeyModel:
        key = KeyModel(issued.key.pk, issued.secret.text, self.own(issued.key.expires_at))
        if replaces:
            key.replaces, key.root = replaces.pk, replaces.root or replaces.pk
        self.keys.append(key)
        self._audit(AuditAction.KEY_ISSUE, AuditAction.KEY_SHOW)
        return key

    def key(self, number: int) -> KeyModel:
        """Return one of the keys that most can be done with: those of the rotation that runs, and the newest."""
        rotating = [key for one in self.rotations if one.ending is None for key in (one.old, one.new) if key]
        found = [*rotating[-2:], *self.keys[-3:]]
        return found[number % len(found)]

    @property
    def runs(self) -> bool:
        return any(rotation.ending is None for rotation in self.rotations)

    @property
    def latest(self) -> RotationModel:
        """The rotation that runs, or else the last one."""
        return next((one for one in reversed(self.rotations) if one.ending is None), self.rotations[-1])

    def open_rotation(self, key: KeyModel) -> RotationModel | None:
        mine = [one for one in self.rotations if one.ending is None and key in (one.old, one.new)]
        return mine[0] if mine else None

    def refused(self, error: type[Exception], act, *, field: str = "") -> None:
        with pytest.raises(error) as raised:
            act()
        if field:
            assert field in raised.value.message_dict

    # Steps

    def _issue(self, expiry):
        end = timezone.now() + expiry if expiry else None
        self._add_key(make_key(self.organization, owner=self.owner, expires_at=end))

    def start(self, own_expiry, **terms):
        self._start(self._at_rest(own_expiry), **terms)

    def start_what_may_not_be(self, number, **terms):
        self._start(self.key(number), **terms)

    def _start(self, key, overlap, clock, end, expiry, link, safe, reason):
        now = self.now
        row = ApiKey.objects.get(pk=key.pk)
        terms = RotationTerms(
            reason,
            overlap,
            clock,
            hard_end=self.stored(now + end) if end else None,
            finishes_when_safe=safe,
            new_expires_at=self.stored(now + expiry) if expiry else None,
            link_lasts=link,
        )

        def act():
            return Rotation.objects.start(row, terms, by=BY)

        ends = [now + end] if end else [now + LONGEST_WAIT + overlap]
        ends += [now + overlap] if clock is Clock.NOW else []
        ends += [key.expires] if key.expires else []
        if key.revoked:
            return self.refused(KeyRevokedError, act)
        if self.open_rotation(key):
            return self.refused(RotationRunningError, act)
        if key.status(now) is Status.EXPIRED:
            return self.refused(KeyExpiredError, act)
        if key.status(now) is Status.PAUSED:
            return self.refused(KeyPausedError, act)
        if end and key.expires and now + end > key.expires:
            return self.refused(ValidationError, act, field="hard_end")
        if expiry and now + expiry <= min(ends):
            return self.refused(ValidationError, act, field="new_expires_at")
        return self._started(key, terms, act(), min(ends))

    def _at_rest(self, own_expiry):
        """Return a key that can be rotated, the newest, or a new one where there is none."""
        active = [key for key in self.keys if key.status(self.now) is Status.ACTIVE and not self.open_rotation(key)]
        if not active:
            self._issue(own_expiry)
        return active[-1] if active else self.keys[-1]

    def _started(self, key, terms, started, end):
        made = RotationModel(started.rotation.pk, key, None, terms, key.expires, self.own(started.rotation.started_at))
        self._audit(AuditAction.ROTATION_START)
        if not terms.is_immediate:
            key.expires = self.own(started.rotation.planned_end)
            assert abs(key.expires - end) < 10 * SECOND
        if terms.link_lasts:
            made.token, made.link_until = started.token, self.own(started.rotation.link_until)
            self._audit(AuditAction.ROTATION_LINK)
            assert started.issued is None
        else:
            made.new = self._add_key(started.issued, replaces=key)
        self.rotations.append(made)
        if terms.is_immediate:
            self._finished(made, Ending.FINISHED)

    def use(self, number):
        self._use(self.key(number))

    def use_the_new_key(self):
        if new := self.latest.new:
            self._use(new)

    def _use(self, key: KeyModel) -> None:
        before = self.now
        verdict = verify(Presented(credential=key.text, organization=self.organization.slug, address="192.0.2.1"))
        expected = {ANSWERS[key.status(at)] for at in (before, self.now)}
        assert verdict.outcome in expected
        row = ApiKey.objects.get(pk=key.pk)
        event = UsageEvent.objects.of(row).order_by("-at").first()
        stored = status_at(event.at, row.revoked_at, row.expires_at, row.paused_at, row.paused_until)
        # Only its own first use may have ended the old key, in the same instant; of itself it says nothing else.
        assert verdict.outcome is ANSWERS[stored]
        if verdict.outcome is not Outcome.VALID or key.first_used:
            return
        key.first_used = self.own(KeyActivity.objects.get(pk=key.pk).first_used_at)
        assert key.first_used == self.own(event.at)
        rotation = self.open_rotation(key)
        if rotation and rotation.new is key and rotation.terms.clock is Clock.FIRST_USE:
            rotation.old.expires = min(rotation.old.expires, key.first_used + rotation.terms.overlap)

    def take(self, wrong):
        rotation = self.latest
        token = rotation.token or "none was sent"
        if wrong:
            token = rotation.old_tokens[-1] if wrong == "older" and rotation.old_tokens else "made up"
        row = Rotation.objects.get(pk=rotation.pk)

        def act():
            return row.take(token, by=BY)

        is_good = rotation.awaits_owner and rotation.link_until and self.now < rotation.link_until
        if wrong or not rotation.token or not is_good:
            return self.refused(LinkError, act)
        end = rotation.terms.new_expires_at
        if end and Rotation.objects.get(pk=rotation.pk).new_expires_at <= timezone.now():
            return self.refused(ValidationError, act, field="expires_at")
        rotation.new = self._add_key(act(), replaces=rotation.old)
        rotation.old_tokens.append(rotation.token)
        rotation.token = rotation.link_until = None
        return self._audit(AuditAction.ROTATION_TAKE)

    def send_link(self, lasts):
        rotation = self.latest
        row = Rotation.objects.get(pk=rotation.pk)
        if not rotation.awaits_owner:
            return self.refused(RotationOverError, lambda: row.send_link(lasts, by=BY))
        rotation.old_tokens += [rotation.token] if rotation.token else []
        rotation.token = row.send_link(lasts, by=BY)
        rotation.link_until = self.own(Rotation.objects.get(pk=rotation.pk).link_until)
        return self._audit(AuditAction.ROTATION_LINK)

    def extend(self, ahead, beside, seen):
        """Move the end so far ahead, or beside the old key's own expiry."""
        rotation, now = self.latest, self.now
        own = rotation.own_expiry
        row, end = Rotation.objects.get(pk=rotation.pk), now + ahead if beside is None or own is None else own + beside
        new_end = self.own(row.new_expires_at)
        told = {"none": None, "as it is": row.deadline, "stale": timezone.now() - 999 * DAY}[seen]

        def act():
            row.extend(self.stored(end), by=BY, seen=told)

        if rotation.ending or rotation.is_overdue(now):
            return self.refused(RotationOverError, act)
        if seen == "stale":
            return self.refused(StaleRotationError, act)
        is_late = end > max(rotation.started, now) + MAX_LENGTH or (own is not None and end > own)
        if end <= now or is_late or (new_end and end >= new_end):
            return self.refused(ValidationError, act, field="end")
        act()
        self._clock_told(rotation)
        if rotation.old.expires != end:
            self._audit(AuditAction.ROTATION_EXTEND)
        rotation.old.expires = end
        return None

    def _clock_told(self, rotation):
        """Count the entry of a clock that has started: whatever is done with an open rotation next tells of it."""
        began = rotation.terms.clock is Clock.FIRST_USE and rotation.new and rotation.new.first_used
        if began and not rotation.is_clock_told:
            self._audit(AuditAction.ROTATION_CLOCK)
            rotation.is_clock_told = True

    def end(self, how):
        {"finish": self._finish, "cancel": self._cancel, "when due": self._finish_what_is_due}[how]()

    def _finish(self):
        rotation = self.latest
        row = Rotation.objects.get(pk=rotation.pk)
        if rotation.ending:
            return self.refused(RotationOverError, lambda: row.finish(by=BY))
        overdue = rotation.is_overdue(self.now)
        row.finish(by=BY)
        self._clock_told(rotation)
        return self._finished(rotation, Ending.DEADLINE if overdue else Ending.FINISHED)

    def _finished(self, rotation, ending):
        if ending is Ending.DEADLINE:
            revoked_at = ApiKey.objects.get(pk=rotation.old.pk).revoked_at
            assert self.own(revoked_at) == rotation.old.expires, "it was refused from its deadline on"
        self._audit(AuditAction.ROTATION_FINISH)
        reasons = {
            RotationReason.COMPROMISE: RevocationReason.LEAKED,
            RotationReason.INCIDENT: RevocationReason.INCIDENT,
        }
        self._revoked(rotation.old, reasons.get(rotation.terms.reason, RevocationReason.REPLACED))
        rotation.ending = ending

    def _revoked(self, key, reason):
        key.revoked = reason
        self.buried.append(key)
        self._audit(AuditAction.KEY_REVOKE)

    def _cancel(self):
        rotation = self.latest
        row = Rotation.objects.get(pk=rotation.pk)
        if rotation.ending or rotation.is_overdue(self.now):
            return self.refused(RotationOverError, lambda: row.cancel(by=BY))
        row.cancel(by=BY)
        self._clock_told(rotation)
        self._called_off(rotation, Ending.CANCELLED)
        if rotation.new:
            self._revoked(rotation.new, RevocationReason.CANCELLED)
        return None

    def _called_off(self, rotation, ending):
        rotation.ending, rotation.old.expires = ending, rotation.own_expiry
        rotation.old_tokens += [rotation.token] if rotation.token else []
        rotation.token = rotation.link_until = None
        if rotation.new:
            rotation.new.replaces = rotation.new.root = None
        self._audit(AuditAction.ROTATION_CANCEL)

    def revoke_or_regenerate(self, number, reason):
        return self._revoke(self.key(number), reason) if reason else self._regenerate(number)

    def _revoke(self, key, reason):
        row = ApiKey.objects.get(pk=key.pk)

        def act():
            row.revoke(reason=reason, by=BY)

        if key.revoked:
            return self.refused(KeyRevokedError, act)
        rotation = self.open_rotation(key)
        overdue = bool(rotation and rotation.is_overdue(self.now))
        act()
        self._revoked(key, reason)
        if rotation:
            self._clock_told(rotation)
        if rotation and rotation.old is key:
            rotation.ending = Ending.OLD_REVOKED
            self._audit(AuditAction.ROTATION_FINISH)
        elif rotation and not overdue:
            self._called_off(rotation, Ending.NEW_REVOKED)
        return None

    def pause_or_resume(self, number, lasting, way):
        return self._pause(number, lasting) if way == "to" else self._resume(number)

    def _pause(self, number, lasting):
        key = self.key(number)
        row = ApiKey.objects.get(pk=key.pk)
        if key.revoked:
            return self.refused(KeyRevokedError, lambda: row.pause(by=BY, lasting=lasting))
        was_paused = key.paused and (key.paused_until is None or self.now < key.paused_until)
        assert row.pause(by=BY, lasting=lasting) is not bool(was_paused)
        if not was_paused:
            key.paused, key.paused_until = self.own(row.paused_at), self.own(row.paused_until)
            self._audit(AuditAction.KEY_PAUSE)
        return None

    def _resume(self, number):
        key = self.key(number)
        row = ApiKey.objects.get(pk=key.pk)
        if key.revoked:
            return self.refused(KeyRevokedError, lambda: row.resume(by=BY))
        was_paused = bool(key.paused and (key.paused_until is None or self.now < key.paused_until))
        assert row.resume(by=BY) is was_paused
        if was_paused:
            key.paused = key.paused_until = None
            self._audit(AuditAction.KEY_RESUME)
        return None

    def _regenerate(self, number):
        key = self.key(number)
        row = ApiKey.objects.get(pk=key.pk)

        def act():
            return row.regenerate(by=BY)

        if key.revoked:
            return self.refused(KeyRevokedError, act)
        if self.open_rotation(key):
            return self.refused(RotationRunningError, act)
        if key.status(self.now) is Status.EXPIRED:
            return self.refused(KeyExpiredError, act)
        self._add_key(act(), replaces=key)
        self._revoked(key, RevocationReason.REGENERATED)
        return self._audit(AuditAction.KEY_REGENERATE)

    def edit_the_expiry(self, number, ahead):
        return self._edit(self.key(number), self.now + ahead if ahead else None)

    def _edit(self, key, end):
        row, rotation = ApiKey.objects.get(pk=key.pk), self.open_rotation(key)

        def act():
            row.edit(row.terms.until(self.stored(end)), by=BY)

        if key.revoked:
            return self.refused(KeyRevokedError, act)
        if rotation and rotation.old is key:
            return self.refused(ValidationError, act, field="expires_at")
        act()
        if key.expires != end:
            key.expires = end
            self._audit(AuditAction.KEY_EDIT)
        return None

    def _finish_what_is_due(self):
        overdue = {one.pk for one in self.rotations if one.is_overdue(self.now)}
        for rotation in self.rotations:
            if rotation.ending is None:
                self._clock_told(rotation)
        ended = {row.pk: row for row in finish_due(by=BY) if row.organization_id == self.organization.pk}
        assert overdue <= set(ended)
        for rotation in self.rotations:
            if rotation.pk not in ended:
                continue
            assert rotation.ending is None
            if rotation.pk not in overdue:
                assert rotation.terms.finishes_when_safe
                assert rotation.new.first_used
            self._finished(rotation, Ending.DEADLINE if rotation.pk in overdue else Ending.SAFE)

    def time_passes(self, span):
        self._pass(span)

    def the_deadline_comes(self, beside, then):
        """Let time pass up to a deadline, or a minute before it, and then try what would bring the old key back."""
        rotation = self.latest
        if rotation.ending:
            return
        left = rotation.old.expires + beside - self.now
        if left > timedelta():
            self._pass(left)
        for step in then:
            self._try(step, rotation)

    def _try(self, step, rotation):
        if step == "extend":
            self.extend(HOUR, None, "none")
        elif step == "edit":
            self._edit(rotation.old, self.now + DAY)
        elif step == "revoke new" and rotation.new:
            self._revoke(rotation.new, RevocationReason.LEAKED)
        elif step == "use new" and rotation.new:
            self._use(rotation.new)
        elif step in {"finish", "cancel", "when due"}:
            self.end(step)

    def _pass(self, span: timedelta) -> None:
        mine = {
            ApiKey: {"organization": self.organization},
            Rotation: {"organization": self.organization},
            KeyActivity: {"pk__in": [key.pk for key in self.keys]},
            UsageEvent: {"key_id__in": [key.pk for key in self.keys]},
        }
        for model, names in INSTANTS.items():
            model.objects.filter(**mine[model]).update(**{name: F(name) - span for name in names})
        self.passed += span

    # Rules

    def check(self) -> None:
        self.every_key_is_what_it_is_meant_to_be()
        self.every_rotation_is_what_it_is_meant_to_be()
        self.a_key_is_in_one_open_rotation_at_most()
        self.a_rotation_is_open_while_neither_key_is_revoked()
        self.a_new_key_that_was_called_off_is_in_nobodys_lineage()
        self.what_is_over_is_refused_for_good()
        self.every_change_has_its_entry()

    def every_key_is_what_it_is_meant_to_be(self):
        rows = {row.pk: row for row in ApiKey.objects.filter(organization=self.organization)}
        assert set(rows) == {key.pk for key in self.keys}
        for key in self.keys:
            row = rows[key.pk]
            assert self.own(row.expires_at) == key.expires
            assert (row.revoked_at is not None, row.revoked_reason) == (key.revoked is not None, key.revoked or "")
            assert (self.own(row.paused_at), self.own(row.paused_until)) == (key.paused, key.paused_until)
            assert (row.replaces_id, row.root_id) == (key.replaces, key.root)

    def every_rotation_is_what_it_is_meant_to_be(self):
        rows = {row.pk: row for row in Rotation.objects.filter(organization=self.organization)}
        assert set(rows) == {rotation.pk for rotation in self.rotations}
        for rotation in self.rotations:
            row = rows[rotation.pk]
            assert (row.ending, row.closed_at is None) == (rotation.ending or "", rotation.ending is None)
            assert row.new_key_id == (rotation.new.pk if rotation.new else None)
            assert self.own(row.own_expiry) == rotation.own_expiry
            assert self.own(row.link_until) == rotation.link_until
            if rotation.ending is None and rotation.own_expiry:
                assert rotation.old.expires <= rotation.own_expiry, "never beyond the old key's own expiry"

    def a_key_is_in_one_open_rotation_at_most(self):
        rows = Rotation.objects.open().filter(organization=self.organization)
        keys = Counter(key for row in rows for key in (row.old_key_id, row.new_key_id) if key)
        assert all(count == 1 for count in keys.values())

    def a_rotation_is_open_while_neither_key_is_revoked(self):
        for row in Rotation.objects.filter(organization=self.organization).select_related("old_key", "new_key"):
            is_revoked = row.old_key.revoked_at or (row.new_key and row.new_key.revoked_at)
            if row.closed_at is None and not row.is_overdue:
                assert not is_revoked
            if row.closed_at is None:
                assert row.old_key.revoked_at is None
            if row.closed_at is not None and not row.is_called_off:
                assert row.old_key.revoked_at is not None
            if row.is_called_off and row.new_key:
                assert row.new_key.revoked_at is not None

    def a_new_key_that_was_called_off_is_in_nobodys_lineage(self):
        for rotation in self.rotations:
            if rotation.new and rotation.ending in {Ending.CANCELLED, Ending.NEW_REVOKED}:
                rows = [ApiKey.objects.get(pk=key.pk) for key in (rotation.new, rotation.old)]
                assert list(rows[0].lineage) == [rows[0]]
                assert rows[0] not in rows[1].lineage

    def what_is_over_is_refused_for_good(self):
        now = self.now
        for rotation in self.rotations:
            if rotation.is_overdue(now) and rotation.old not in self.buried:
                self.buried.append(rotation.old)
        for key in self.buried[-4:]:
            presented = Presented(credential=key.text, organization=self.organization.slug)
            outcome = verify(presented).outcome
            assert outcome is (Outcome.REVOKED if key.revoked else Outcome.EXPIRED)

    def every_change_has_its_entry(self):
        assert self._entries() - self.audited_before == self.audited


# Each step with what it is told; those that are named more often are taken more often.
STEPS = {
    "start": TERMS | {"own_expiry": AHEAD},
    "start_what_may_not_be": TERMS | {"number": NUMBERS},
    "use": {"number": NUMBERS},
    "use_the_new_key": {},
    "take": {"wrong": st.sampled_from(["", "", "", "made up", "older"])},
    "send_link": {"lasts": st.sampled_from([10 * MINUTE, DAY])},
    "extend": {
        "ahead": st.sampled_from([-HOUR, MINUTE, HOUR, DAY, 20 * DAY, 100 * DAY, 300 * DAY, 400 * DAY]),
        "beside": st.sampled_from([None, None, timedelta(), MINUTE]),
        "seen": st.sampled_from(["none", "none", "as it is", "stale"]),
    },
    "end": {"how": st.sampled_from(["finish", "cancel", "when due"])},
    "revoke_or_regenerate": {
        "number": NUMBERS,
        "reason": st.sampled_from([RevocationReason.LEAKED, RevocationReason.OTHER, None]),
    },
    "pause_or_resume": {
        "number": NUMBERS,
        "lasting": st.sampled_from([None, 5 * MINUTE, DAY]),
        "way": st.sampled_from(["to", "from"]),
    },
    "edit_the_expiry": {"number": NUMBERS, "ahead": st.sampled_from([None, 3 * HOUR, 10 * DAY, 50 * DAY])},
    "time_passes": {"span": st.sampled_from([MINUTE, HOUR, 26 * HOUR, 8 * DAY, 31 * DAY])},
    "the_deadline_comes": {
        "beside": st.sampled_from([timedelta(), timedelta(), timedelta(), -MINUTE]),
        "then": st.lists(st.sampled_from(AFTERWARDS), min_size=1, max_size=3),
    },
}
WHILE_ONE_RUNS = [name for name in STEPS if name != "start"]
WHILE_ONE_RUNS += ["use_the_new_key", "use_the_new_key", "use", "take", "extend", "extend", "the_deadline_comes"]
OTHERWISE = [*WHILE_ONE_RUNS, *["start"] * len(WHILE_ONE_RUNS)]


# Others each time, and on each engine.
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_sequence_of_steps_breaks_a_rule(db, data):
    rules = RotationRules()
    rules.start(**{name: data.draw(values) for name, values in STEPS["start"].items()})
    rules.check()
    for _ in range(STEPS_EACH):
        name = data.draw(st.sampled_from(WHILE_ONE_RUNS if rules.runs else OTHERWISE), "step")
        told = {key: data.draw(values, key) for key, values in STEPS[name].items()}
        # Without a rotation there is nothing to move, to end, or to take.
        if rules.rotations or name in {"start", "use", "time_passes"}:
            getattr(rules, name)(**told)
            rules.check()


# What a random instant shows seldom


@pytest.mark.parametrize("part", [0, 1, 499_999, 500_000, 999_499, 999_500, 999_999])
def test_the_clock_is_exact_to_the_microsecond(organization, part):
    started = make_rotation(organization, clock=Clock.FIRST_USE, overlap=3 * HOUR)
    at = timezone.now().replace(microsecond=part)
    make_event(started.issued.key, at=at)
    assert ApiKey.objects.get(pk=started.rotation.old_key_id).expires_at == at + 3 * HOUR


@pytest.mark.parametrize(
    "at", [datetime(2028, 2, 28, 23, 59, 59, 999_999, UTC), datetime(2026, 12, 31, 23, 0, 0, 0, UTC)]
)
def test_the_clock_knows_the_calendar(organization, at):
    started = make_rotation(organization, clock=Clock.FIRST_USE, overlap=2 * DAY)
    ApiKey.objects.filter(pk=started.rotation.old_key_id).update(expires_at=at + 30 * DAY)
    make_event(started.issued.key, at=at)
    assert ApiKey.objects.get(pk=started.rotation.old_key_id).expires_at == at + 2 * DAY


def test_a_clock_that_runs_from_now_on_is_not_started_by_a_first_use(organization):
    started = make_rotation(organization, overlap=HOUR)
    end = timezone.now() + 5 * DAY
    started.rotation.extend(end, by=BY)
    make_event(started.issued.key)
    assert ApiKey.objects.get(pk=started.rotation.old_key_id).expires_at == end
