"""Rotations: a key and the one that takes its place, both good for a while; the end is the verifier's own to keep.

While a rotation runs, ``expires_at`` of the old key is its deadline, so that nothing has to run for it to end there.
"""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Final, NamedTuple, Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import connection, models, transaction
from django.urls import reverse
from django.utils import timezone

from apikeys.models.among import AMONG, among
from apikeys.models.audit import Actor, AuditAction, AuditEntry, Changes, difference
from apikeys.models.catalogue import Environment
from apikeys.models.key import (
    ApiKey,
    KeyExpiredError,
    KeyPausedError,
    RevocationReason,
    RotationRunningError,
)
from apikeys.models.key_queries import IssuedKey
from apikeys.models.key_status import Status
from apikeys.models.key_terms import LATEST_EXPIRY
from apikeys.models.organization import Organization
from apikeys.models.policy import Policy
from apikeys.models.reach import require_reach
from apikeys.models.text import validate_line

MAX_OVERLAP: Final = timedelta(days=90)
MAX_LENGTH: Final = timedelta(days=366)
# Without an end that is chosen, a clock waits for the first use of the new key for so long.
LONGEST_WAIT: Final = timedelta(days=30)
LINK_BETWEEN: Final = (timedelta(minutes=10), timedelta(days=14))


class RotationOverError(Exception):
    """The rotation is closed, or its deadline has passed."""


class StaleRotationError(Exception):
    """Somebody else moved the rotation's end since the form was opened."""


class AlreadyStartedError(Exception):
    """The same form started this rotation before."""

    def __init__(self, rotation: Rotation) -> None:
        super().__init__(f"Rotation {rotation.pk} was started by this form already.")
        self.rotation = rotation


class LinkError(Exception):
    """The link is not good: used, run out, replaced by a newer one, or never sent."""


class RotationReason(models.TextChoices):
    """Why a key is rotated."""

    REGULAR = "regular", "Regular practice"
    COMPROMISE = "compromise", "Suspected compromise"
    EXPIRY = "expiry", "It expires soon"
    INCIDENT = "incident", "Security incident"


def rotation_reasons() -> list[tuple[str, str]]:
    """Return the choices; as a function, so that a new reason needs no migration."""
    return RotationReason.choices


_OPEN_OF: Final = """
SELECT * FROM apikeys_rotation WHERE closed_at IS NULL AND (old_key_id {among} OR new_key_id {among})
"""
# What is written as the reason of the old key's revocation.
_REVOKED_FOR: Final = {
    RotationReason.COMPROMISE: RevocationReason.LEAKED,
    RotationReason.INCIDENT: RevocationReason.INCIDENT,
}
# With these there is no overlap unless one is chosen: somebody else may have the key.
URGENT: Final = frozenset(_REVOKED_FOR)
USUAL_OVERLAP: Final = timedelta(days=7)


class Clock(models.TextChoices):
    """From when on the overlap runs."""

    NOW = "now", "now"
    FIRST_USE = "first_use", "the first use of the new key"


class Ending(models.TextChoices):
    """How a rotation ended."""

    FINISHED = "finished", "finished"
    DEADLINE = "deadline", "ended at its deadline"
    SAFE = "safe", "finished by itself, when it was safe"
    CANCELLED = "cancelled", "cancelled"
    OLD_REVOKED = "old_revoked", "the old key was revoked"
    NEW_REVOKED = "new_revoked", "the new key was revoked"


def endings() -> list[tuple[str, str]]:
    """Return the choices; as a function, so that a new ending needs no migration."""
    return Ending.choices


# After these the old key goes on, and the new one is revoked.
CALLED_OFF: Final = frozenset({Ending.CANCELLED, Ending.NEW_REVOKED})


@dataclass(frozen=True, slots=True)
class RotationTerms:
    """How a key is rotated.

    ``hard_end`` is the old key's end at the latest, whenever the clock starts; None is LONGEST_WAIT and the overlap.
    ``new_expires_at`` is the new key's own end. ``link_lasts`` hands the new key to its owner by a link that is good
    for so long; None shows it to who starts the rotation.
    """

    reason: RotationReason
    overlap: timedelta
    clock: Clock = Clock.NOW
    hard_end: datetime | None = None
    finishes_when_safe: bool = False
    new_expires_at: datetime | None = None
    link_lasts: timedelta | None = None
    note: str = ""

    @property
    def is_immediate(self) -> bool:
        """Whether the old key ends at the start."""
        return self.clock is Clock.NOW and not self.overlap


class StartedRotation(NamedTuple):
    """A rotation with what exists nowhere else: the new key's text, or the link's token."""

    rotation: Rotation
    issued: IssuedKey | None
    token: str | None

    def __repr__(self) -> str:
        """Leave out what exists nowhere else."""
        return f"<Started {self.rotation}>"


class RotationQuerySet(models.QuerySet["Rotation"]):
    """Starting of rotations, and which of them run."""

    def open(self) -> Self:
        """Return those that were not closed; the deadline of some may have passed."""
        return self.filter(closed_at__isnull=True)

    def open_of(self, keys: Sequence[ApiKey]) -> dict[int, Rotation]:
        """Return the open rotations of several keys, by key id; old keys and new ones."""
        known = {key.pk: key for key in keys}
        ids, of_key = among(known), dict[int, Rotation]()
        # Written out: Django took longer to put it together than the database to answer it.
        for rotation in self.raw(_OPEN_OF.format(among=AMONG[connection.vendor]), [ids, ids]):
            for pk in (rotation.old_key_id, rotation.new_key_id):
                if pk in known:
                    rotation.organization = known[pk].organization
                    of_key[pk] = rotation
        return of_key

    def overdue(self, now: datetime | None = None) -> Self:
        """Return the open ones whose deadline has passed."""
        return self.open().filter(old_key__expires_at__lte=now or timezone.now())

    def with_untold_clock(self) -> Self:
        """Return the open ones whose new key's first use has started the clock, where the audit log does not say so."""
        actions = [AuditAction.ROTATION_START, AuditAction.ROTATION_CLOCK]
        entries = AuditEntry.objects.filter(key_id=models.OuterRef("old_key_id"), action__in=actions)
        newest = models.Subquery(entries.order_by("-id").values("action")[:1])
        begun = self.open().filter(clock=Clock.FIRST_USE, new_key__activity__first_used_at__isnull=False)
        return begun.alias(told=newest).filter(told=AuditAction.ROTATION_START)

    def for_pages(self) -> Self:
        """Fetch with each what a page shows of it."""
        keys = [f"{key}__{part}" for key in ("old_key", "new_key") for part in ("organization", "environment")]
        activity = ["old_key__activity", "new_key__activity", "old_key__rhythm"]
        return self.select_related("organization", "old_key__owner__user", *keys, *activity)

    def newest_of(self, key: ApiKey) -> Rotation | None:
        """Return the rotation that a key is or was in, the newest where it was in several."""
        mine = models.Q(old_key=key) | models.Q(new_key=key)
        # Most keys were in none: found without all that is joined, which takes longer to plan than to read.
        found = self.filter(mine).order_by("-pk").values_list("pk", flat=True).first()
        return self.for_pages().get(pk=found) if found else None

    def with_token(self, token: str) -> Rotation | None:
        """Return the rotation that a link's token belongs to, whether it is still good or not."""
        return self.for_pages().filter(link_digest=_digest(token)).first()

    def start(
        self, key: ApiKey, terms: RotationTerms, *, by: Actor, form_token: uuid.UUID | None = None
    ) -> StartedRotation:
        """Issue the key that takes another's place, or a link to it, and set the old one's end.

        Raises ValidationError naming the field, KeyRevokedError, KeyExpiredError, KeyPausedError,
        RotationRunningError with the rotation that the key is in, AlreadyStartedError for a form that was sent before.
        """
        require_reach(by, key.environment)
        with transaction.atomic():
            Organization.objects.lock(key.organization_id)
            if form_token and (same := key.organization.rotations.filter(form_token=form_token).first()):
                raise AlreadyStartedError(same)
            old = _require_rotatable(key)
            rotation = self.model.planned(old, terms, by=by, form_token=form_token)
            rotation.save(force_insert=True)
            if not terms.is_immediate:
                old.expires_at = rotation.planned_end
                old.save(update_fields=["expires_at"])
            AuditEntry.objects.record(
                AuditAction.ROTATION_START,
                by=by,
                organization=old.organization,
                key=old,
                changes=difference({}, rotation.facts()),
                reason=rotation.note,
            )
            if terms.link_lasts:
                issued, token = None, rotation.send_link(terms.link_lasts, by=by)
            else:
                issued, token = rotation.issue(by=by), None
            if terms.is_immediate:
                rotation.finish(by=by)
            rotation = self.for_pages().get(pk=rotation.pk)
        return StartedRotation(rotation, issued, token)


def _digest(token: str) -> bytes:
    # 256 random bits need no slow hash.
    return hashlib.sha256(token.encode()).digest()


def _require_rotatable(key: ApiKey) -> ApiKey:
    """Lock a key that can be rotated, and return it as it is now."""
    current = key.lock()
    if running := current.open_rotation:
        raise RotationRunningError(running)
    if current.status is Status.EXPIRED:
        raise KeyExpiredError
    if current.status is Status.PAUSED:
        raise KeyPausedError
    return current


class Rotation(models.Model):
    """That a key is replaced by another. A key is in one open rotation at most, as the old or as the new one."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="rotations")
    old_key = models.ForeignKey(ApiKey, models.PROTECT, related_name="rotations")
    # None until its owner has taken it by the link.
    new_key = models.OneToOneField(ApiKey, models.PROTECT, null=True, related_name="made_by_rotation")
    reason = models.CharField(max_length=16, choices=rotation_reasons)
    note = models.CharField(max_length=500, blank=True, validators=[validate_line])
    # In seconds. A trigger starts the clock at the new key's first use: migration 0017.
    overlap_seconds = models.PositiveIntegerField()
    clock = models.CharField(max_length=16, choices=Clock.choices)
    finishes_when_safe = models.BooleanField(default=False)
    # The end that the old key had before, and has again when the rotation is called off.
    own_expiry = models.DateTimeField(null=True)
    new_expires_at = models.DateTimeField(null=True)
    # What the old key's end was set to at the start; since then the key itself tells it.
    planned_end = models.DateTimeField()
    form_token = models.UUIDField(null=True, editable=False)

    link_digest = models.BinaryField(max_length=32, null=True, editable=False)
    link_until = models.DateTimeField(null=True)
    link_sent_to = models.EmailField(blank=True)

    started_at = models.DateTimeField()
    started_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    started_by_label = models.CharField(max_length=254)
    closed_at = models.DateTimeField(null=True)
    closed_by_label = models.CharField(max_length=254, blank=True)
    ending = models.CharField(max_length=16, choices=endings, blank=True)

    objects: ClassVar = RotationQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["old_key"], condition=models.Q(closed_at__isnull=True), name="one_open_rotation_of_key"
            ),
            models.UniqueConstraint(fields=["organization", "form_token"], name="one_rotation_per_form"),
            models.CheckConstraint(
                condition=models.Q(closed_at__isnull=True) ^ ~models.Q(ending=""), name="closed_rotation_has_ending"
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "-id"], name="rotation_newest"),
            models.Index(fields=["organization"], condition=models.Q(closed_at__isnull=True), name="rotation_open"),
            models.Index(
                fields=["link_digest"], condition=models.Q(link_digest__isnull=False), name="rotation_by_link"
            ),
        ]

    def __str__(self) -> str:
        return f"rotation {self.pk} of {self.old_key_id}"

    def get_absolute_url(self) -> str:
        """Return the address of the rotation's page."""
        return reverse("rotation_detail", args=[self.organization.slug, self.pk])

    # What it is

    @classmethod
    def planned(cls, old: ApiKey, terms: RotationTerms, *, by: Actor, form_token: uuid.UUID | None) -> Rotation:
        """Return the rotation of a key on some terms, unsaved. Raises ValidationError naming each field."""
        now = timezone.now()
        rotation = cls(
            organization=old.organization,
            old_key=old,
            reason=terms.reason,
            note=terms.note.strip(),
            overlap_seconds=max(0, int(terms.overlap.total_seconds())),
            clock=terms.clock,
            finishes_when_safe=terms.finishes_when_safe,
            own_expiry=old.expires_at,
            new_expires_at=terms.new_expires_at,
            form_token=form_token,
            started_at=now,
            started_by=by.user,
            started_by_label=by.label,
        )
        rotation.planned_end = rotation._planned_end(terms.hard_end)
        if errors := rotation._faults(terms):
            raise ValidationError(errors)
        return rotation

    def _planned_end(self, hard_end: datetime | None) -> datetime:
        ends = [hard_end or self.started_at + LONGEST_WAIT + self.overlap]
        if self.clock == Clock.NOW:
            ends.append(self.started_at + self.overlap)
        if self.own_expiry:
            ends.append(self.own_expiry)
        return min(ends)

    def _faults(self, terms: RotationTerms) -> dict[str, list[str]]:
        faults: dict[str, list[str]] = {}
        if not timedelta() <= terms.overlap <= MAX_OVERLAP:
            faults["overlap"] = [f"Both keys work for 0 to {MAX_OVERLAP.days} days."]
        if terms.hard_end is not None and (fault := self._end_fault(terms.hard_end)):
            faults["hard_end"] = [fault]
        if terms.new_expires_at is not None:
            if terms.new_expires_at <= self.planned_end:
                faults["new_expires_at"] = ["The new key must work for longer than the old one."]
            elif terms.new_expires_at > LATEST_EXPIRY:
                faults["new_expires_at"] = ["The expiry must be before the end of the year 2100."]
        policy = Policy.objects.of(self.organization)
        if told := policy.expiry_fault(self.old_key, terms.new_expires_at, self.own_expiry):
            faults.setdefault("new_expires_at", [told])
        if terms.link_lasts is not None and (fault := self._link_fault(terms.link_lasts)):
            faults["link_lasts"] = [fault]
        try:
            Rotation.note.field.clean(self.note, self)
        except ValidationError as error:
            faults["note"] = error.messages
        return faults

    def _end_fault(self, end: datetime) -> str:
        """Say what is wrong with an end of the old key, nothing when it may be."""
        now = timezone.now()
        if end <= now:
            return "The end must be in the future."
        if end > max(self.started_at, now) + MAX_LENGTH:
            return f"The end must be within {MAX_LENGTH.days} days."
        if self.own_expiry and end > self.own_expiry:
            told = timezone.localtime(self.own_expiry)
            return f"The old key expires by itself on {told:%-d %B %Y, %H:%M}: the end cannot be later."
        return ""

    def _link_fault(self, lasts: timedelta) -> str:
        shortest, longest = LINK_BETWEEN
        if not shortest <= lasts <= longest:
            return f"A link is good for 10 minutes to {longest.days} days."
        if not self.owner_address:
            return f"{self.old_key.owner_label or 'The owner'} has no mail address. Show the new key here instead."
        if self.old_key.owner_is_gone:
            return f"The account of {self.old_key.owner_label} is closed. Give the key another owner first."
        return ""

    def facts(self) -> dict[str, object]:
        """Return what the audit entry of its start tells."""
        return {
            "why": RotationReason(self.reason).label,
            "both_work_until": self.planned_end,
            "overlap_seconds": self.overlap_seconds,
            "clock": self.clock,
            "finishes_when_safe": self.finishes_when_safe,
        }

    @property
    def overlap(self) -> timedelta:
        """How long both keys work, from the clock's start on."""
        return timedelta(seconds=self.overlap_seconds)

    @property
    def environment(self) -> Environment:
        """Where its keys are used."""
        return self.old_key.environment

    @property
    def owner_address(self) -> str:
        """Where the owner of the key gets mail."""
        owner = self.old_key.owner
        return owner.user.email if owner else self.old_key.owner_contact

    @property
    def deadline(self) -> datetime | None:
        """When the old key ends, of a rotation that is open: with a clock that waits, at the latest then."""
        return None if self.closed_at else self.old_key.expires_at

    @property
    def is_open(self) -> bool:
        """Whether it still runs: not closed, and its deadline is to come."""
        return self.closed_at is None and not self.is_overdue

    @property
    def is_overdue(self) -> bool:
        """Whether its deadline has passed and it was not closed yet: the old key is refused already."""
        return self.deadline is not None and self.deadline <= timezone.now()

    @property
    def is_called_off(self) -> bool:
        """Whether it was cancelled: the old key goes on."""
        return self.ending in CALLED_OFF

    @property
    def old_ended_at(self) -> datetime | None:
        """When the old key ended by this rotation, None while it works or when it was called off."""
        if self.is_called_off:
            return None
        return self.old_key.revoked_at or (self.deadline if self.is_overdue else None)

    @property
    def first_used_at(self) -> datetime | None:
        """When the new key was first used, None when it was not yet."""
        activity = self.new_key.last_activity if self.new_key else None
        return activity.first_used_at if activity else None

    @property
    def clock_waits(self) -> bool:
        """Whether the overlap begins with a first use that is still to come."""
        return self.clock == Clock.FIRST_USE and self.first_used_at is None

    @property
    def awaits_owner(self) -> bool:
        """Whether the new key is still to be taken by its owner."""
        return self.new_key_id is None and not self.is_called_off

    @property
    def link_is_good(self) -> bool:
        """Whether the link to the new key can be used now."""
        return self.awaits_owner and self.link_until is not None and timezone.now() < self.link_until

    # What may be done to it

    def issue(self, *, by: Actor) -> IssuedKey:
        """Make the new key, on the old one's terms but for its end. Call it with the organization locked."""
        old = self.old_key
        # The policy may have become stricter since a link was sent.
        expires_at = Policy.objects.of(old.organization).successor_expiry(self.new_expires_at, old)
        issued = ApiKey.objects.issue(
            old.organization, old.environment, old.terms.until(expires_at), by=by, replaces=old
        )
        old.pass_on(issued.key, by=by)
        self.new_key, self.link_digest, self.link_until = issued.key, None, None
        self.save(update_fields=["new_key", "link_digest", "link_until"])
        return issued

    def send_link(self, lasts: timedelta, *, by: Actor) -> str:
        """Return the token of a new link to the new key, good once and for so long; an older link is good no longer.

        Only its digest is kept. Raises ValidationError naming ``link_lasts``, RotationOverError when there is no
        key to take.
        """
        require_reach(by, self.environment)
        with transaction.atomic():
            current = self._lock()
            if not current.awaits_owner:
                raise RotationOverError
            if fault := current._link_fault(lasts):
                raise ValidationError({"link_lasts": [fault]})
            token = secrets.token_urlsafe(32)
            self.link_digest, self.link_until = _digest(token), timezone.now() + lasts
            self.link_sent_to = current.owner_address
            self.save(update_fields=["link_digest", "link_until", "link_sent_to"])
            self._record(
                AuditAction.ROTATION_LINK,
                by,
                difference({}, {"sent_to": self.link_sent_to, "good_until": self.link_until}),
            )
        return token

    def take(self, token: str, *, by: Actor) -> IssuedKey:
        """Make the new key for its owner, whose link this is; the link is used up. Raises LinkError."""
        with transaction.atomic():
            current = self._lock()
            # Another link may have been sent since the page was opened.
            if not current.link_is_good or bytes(current.link_digest or b"") != _digest(token):
                raise LinkError
            issued = current.issue(by=by)
            current._record(AuditAction.ROTATION_TAKE, by, {"new_key": [None, issued.key.fingerprint]})
        return issued

    def extend(self, end: datetime, *, by: Actor, seen: datetime | None = None) -> None:
        """Move the end of the old key. ``seen`` is the end that was shown to who asks.

        Raises ValidationError naming ``end``, RotationOverError, StaleRotationError.
        """
        require_reach(by, self.environment)
        with transaction.atomic():
            current = self._lock()
            before = current.deadline
            if not current.is_open:
                raise RotationOverError
            if seen is not None and before != seen:
                raise StaleRotationError
            if fault := current._end_fault(end):
                raise ValidationError({"end": [fault]})
            if current.new_expires_at and end >= current.new_expires_at:
                raise ValidationError({"end": ["The new key must work for longer than the old one."]})
            changes = difference({"both_work_until": before}, {"both_work_until": end})
            if not changes:
                return
            current.old_key.expires_at = end
            current.old_key.save(update_fields=["expires_at"])
            current._record(AuditAction.ROTATION_EXTEND, by, changes)

    def finish(self, *, by: Actor, ending: Ending = Ending.FINISHED, note: str = "") -> None:
        """Revoke the old key; after its deadline this says what was so from then on. Raises RotationOverError."""
        require_reach(by, self.environment)
        with transaction.atomic():
            current = self._lock()
            if current.closed_at is not None:
                raise RotationOverError
            at = current.deadline if current.is_overdue else None
            ending = Ending.DEADLINE if at else ending
            current._close(ending, by=by)
            reason = _REVOKED_FOR.get(RotationReason(current.reason), RevocationReason.REPLACED)
            current._record(AuditAction.ROTATION_FINISH, by, {"ending": [None, ending.label]})
            current.old_key.revoke(reason=reason, note=note or current._replaced_by_note, by=by, at=at)

    @property
    def _replaced_by_note(self) -> str:
        return f"Replaced by {self.new_key.fingerprint}" if self.new_key else "Its owner gets a new key by a link"

    def cancel(self, *, by: Actor) -> None:
        """Revoke the new key and give the old one its own end back. Raises RotationOverError."""
        require_reach(by, self.environment)
        with transaction.atomic():
            current = self._lock()
            if not current.is_open:
                raise RotationOverError
            current._call_off(Ending.CANCELLED, by=by)
            if current.new_key and current.new_key.revoked_at is None:
                note = f"Was to replace {current.old_key.fingerprint}"
                current.new_key.revoke(reason=RevocationReason.CANCELLED, note=note, by=by)

    def tell_clock(self) -> None:
        """Write into the audit log that the new key's first use has started the clock, unless it says so already."""
        with transaction.atomic():
            self._lock()

    def _tell_clock(self) -> None:
        # The trigger that starts it writes no entry: the first request would wait for that.
        if self.clock != Clock.FIRST_USE or not Rotation.objects.with_untold_clock().filter(pk=self.pk).exists():
            return
        began = difference({}, {"new_key_first_used": self.first_used_at, "both_work_until": self.deadline})
        self._record(AuditAction.ROTATION_CLOCK, Actor.scheduled(), began)

    def end_with(self, key: ApiKey, *, by: Actor) -> None:
        """Close it because somebody revoked one of its keys. Call it in the transaction of that."""
        self._tell_clock()
        if key.pk == self.old_key_id:
            self._close(Ending.OLD_REVOKED, by=by)
            self._record(AuditAction.ROTATION_FINISH, by, {"ending": [None, Ending.OLD_REVOKED.label]})
            return
        # The new key's first use may be ending the old one at this very moment.
        self.old_key = ApiKey.objects.select_for_update().get(pk=self.old_key_id)
        if not self.is_overdue:
            self._call_off(Ending.NEW_REVOKED, by=by)

    def _call_off(self, ending: Ending, *, by: Actor) -> None:
        self._close(ending, by=by)
        old = self.old_key
        changes = difference({"both_work_until": old.expires_at}, {"both_work_until": None})
        # Who opened a form meanwhile saw the deadline as the key's expiry, and must not save it as such.
        old.expires_at, old.version = self.own_expiry, old.version + 1
        old.save(update_fields=["expires_at", "version"])
        if self.new_key:
            # It stands in nobody's place: the old key is the newest again.
            self.new_key.stand_alone()
        self._record(AuditAction.ROTATION_CANCEL, by, changes)

    def _close(self, ending: Ending, *, by: Actor) -> None:
        self.closed_at, self.closed_by_label, self.ending = timezone.now(), by.label, ending
        # Otherwise a link stays good: the old key ended before the owner took the new one.
        if ending in CALLED_OFF:
            self.link_digest = self.link_until = None
        self.save(update_fields=["closed_at", "closed_by_label", "ending", "link_digest", "link_until"])

    def _lock(self) -> Rotation:
        """Return it as it is now, with its keys locked: the organization first, then old key, new key and itself.

        Whatever is done with it next, the audit log then tells of its clock before.
        """
        Organization.objects.lock(self.organization_id)
        keys = [pk for pk in (self.old_key_id, self.new_key_id) if pk]
        list(ApiKey.objects.select_for_update().filter(pk__in=keys).order_by("pk"))
        current: Rotation = Rotation.objects.for_pages().get(pk=self.pk)
        current._tell_clock()
        return current

    def _record(self, action: AuditAction, by: Actor, changes: Changes) -> None:
        AuditEntry.objects.record(action, by=by, organization=self.organization, key=self.old_key, changes=changes)
