"""How far a rotation is: which callers have moved to the new key, and whether the old one can go. Read, never kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Final

from django.utils import timezone

from apikeys.models.audit import Actor
from apikeys.models.evidence import EVERY
from apikeys.models.extremes import EPOCH
from apikeys.models.key import ApiKey, KeyRevokedError
from apikeys.models.rollup import Dimension, UsageDay, UsageHour, UsageValue
from apikeys.models.rotation import Ending, Rotation, RotationOverError
from apikeys.models.series import edges, floor_day
from apikeys.models.usage import DAY, HOUR, MINUTE, SECOND, Outcome, UsageEvent

# Who used the old key within so long before the rotation is expected to move.
LOOKED_BACK: Final = 90 * DAY
# Who was never seen within so long before the old key's end is unknown.
KNOWN_FOR: Final = 395 * DAY
# A caller that works with the new key has moved when it left the old one alone for so long.
SETTLED_AFTER: Final = 15 * MINUTE
# Of a key that was in use for less than this, and of a caller that was seen on one day, it is not known how long they
# are usually silent: they may come back for so long.
LEARNT_WITHIN: Final = DAY
STEPS: Final = (MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 6 * HOUR, DAY, 7 * DAY)
MOST_STEPS: Final = 72
SERIES_KINDS: Final = ("old", "new", "refused")


class Place(StrEnum):
    """Where a caller is."""

    OLD = "old"
    BOTH = "both"
    NEW = "new"


@dataclass(frozen=True, slots=True)
class Move:
    """A caller of either key with its requests on each; ``usual_gap`` is its longest one, where it has to move yet."""

    caller: str
    place: Place
    on_old: UsageValue | None
    on_new: UsageValue | None
    usual_gap: timedelta | None = None

    @property
    def address(self) -> str:
        """The caller's address, empty when it is not known."""
        return self.caller.partition("\n")[0]

    @property
    def user_agent(self) -> str:
        """The caller's user agent."""
        return self.caller.partition("\n")[2]

    @property
    def refused_on_new(self) -> int:
        """How many of its requests with the new key were refused."""
        return self.on_new.refused if self.on_new else 0

    @property
    def may_return(self) -> bool:
        """Whether it has been silent on the old key for no longer than it usually is, or a day if that is unknown."""
        if self.place is Place.NEW or self.on_old is None or not self.on_old.accepted:
            return False
        return timezone.now() - self.on_old.last_at <= (self.usual_gap or LEARNT_WITHIN)

    @classmethod
    def of(cls, caller: str, on_old: UsageValue | None, on_new: UsageValue | None, gap: timedelta | None) -> Move:
        """Say where a caller is. Requests that were refused with the new key have moved nobody."""
        if on_new is None or not on_new.accepted:
            return cls(caller, Place.OLD, on_old, on_new, gap)
        came_back = on_old is not None and on_old.last_at > on_new.first_at
        if came_back and on_old is not None and timezone.now() - on_old.last_at < SETTLED_AFTER:
            return cls(caller, Place.BOTH, on_old, on_new, gap)
        return cls(caller, Place.NEW, on_old, on_new, gap)


@dataclass(frozen=True, slots=True)
class Safety:
    """Whether the old key can go: it has been silent for longer than it ever usually is, and its callers too.

    ``silent_since`` is its last accepted request, or the rotation's start without one; ``needed`` is for how long it
    has to be silent, ``is_learnt`` whether that is known from its rhythm; ``waiting`` are the callers that are silent
    for no longer than they usually are.
    """

    silent_since: datetime
    needed: timedelta
    is_learnt: bool
    is_new_used: bool
    waiting: list[Move] = field(default_factory=list)

    @property
    def usual(self) -> timedelta:
        """Its longest usual silence, by whole hours."""
        return self.needed - HOUR

    @property
    def silence(self) -> timedelta:
        """For how long it has been silent."""
        return max(timezone.now() - self.silent_since, timedelta())

    @property
    def share(self) -> float:
        """How much of the silence that is needed has passed, from 0 to 1."""
        return min(1.0, self.silence / self.needed) if self.needed else 1.0

    @property
    def percent(self) -> int:
        """The same in hundredths, rounded down: it is full only when it is enough."""
        return int(self.share * 100)

    @property
    def never_used(self) -> bool:
        """Whether nobody ever used the old key."""
        return not self.needed

    @property
    def is_silent(self) -> bool:
        """Whether the old key has been silent for long enough."""
        return self.silence > self.needed

    @property
    def may_break(self) -> bool:
        """Whether somebody may need the old key yet: a caller that is waited for, or one that nobody tells apart."""
        return bool(self.waiting) or not self.is_silent

    @property
    def is_safe(self) -> bool:
        """Whether the old key can go."""
        return self.is_new_used and not self.may_break

    @property
    def would_break(self) -> list[Move]:
        """The callers whose every request would be refused: they work with the old key alone."""
        return [move for move in self.waiting if move.place is Place.OLD]

    @property
    def would_suffer(self) -> list[Move]:
        """The callers of which some requests would be refused: they work with both keys."""
        return [move for move in self.waiting if move.place is Place.BOTH]

    @classmethod
    def of(cls, rotation: Rotation, moves: Iterable[Move]) -> Safety:
        """Compare the old key's silence with its rhythm, and that of its callers with theirs."""
        old = rotation.old_key
        rhythm, activity = old.known_rhythm, old.last_activity
        last_used = activity.last_used_at if activity else None
        known = rhythm is not None and (rhythm.gaps > 0 or rhythm.last_hour - rhythm.first_hour >= LEARNT_WITHIN)
        if last_used is None:
            needed, known = timedelta(), True
        elif known and rhythm is not None:
            # Gaps are known in whole hours; within two hours that follow one another it may be silent for both.
            needed = max(SECOND * rhythm.usual_gap, HOUR) + HOUR
        else:
            needed = LEARNT_WITHIN
        waiting = sorted((move for move in moves if move.may_return), key=_last_seen, reverse=True)
        since = last_used or rotation.started_at
        return cls(since, needed, known, rotation.first_used_at is not None, waiting)


@dataclass(frozen=True, slots=True)
class FirstUse:
    """The first accepted request of the new key; without ``address`` that is no longer kept."""

    at: datetime
    address: str = ""
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A caller that presented the old key after its end; ``is_unknown`` when it was never accepted with either key."""

    value: UsageValue
    is_unknown: bool


@dataclass(frozen=True, slots=True)
class RotationProgress:
    """A rotation's state as its keys' usage tells it."""

    rotation: Rotation
    moves: list[Move]
    safety: Safety
    first_use: FirstUse | None = None
    is_bounded: bool = False
    attempts: list[Attempt] = field(default_factory=list)

    @classmethod
    def of(cls, rotation: Rotation) -> RotationProgress:
        """Read it."""
        old, new, ended = rotation.old_key, rotation.new_key, rotation.old_ended_at
        since = floor_day(rotation.started_at - LOOKED_BACK)
        before = UsageDay.objects.usage_of(old, Dimension.CALLER, since, ended, most=EVERY)
        on_old = {one.value: one for one in before.values}
        after = UsageDay.objects.usage_of(new, Dimension.CALLER, floor_day(new.created_at), most=EVERY) if new else None
        on_new = {one.value: one for one in after.values} if after else {}
        # Who was refused with the new key has to move yet.
        left = [one for one in on_old if one not in on_new or not on_new[one].accepted]
        gaps = UsageDay.objects.longest_caller_gaps(old, since, left)
        moves = [
            Move.of(caller, on_old.get(caller), on_new.get(caller), gaps.get(caller))
            for caller in dict.fromkeys([*on_old, *on_new])
            # A caller that was only ever refused with the old key has nothing to move.
            if caller not in on_old or on_old[caller].accepted or caller in on_new
        ]
        attempts = _attempts(old, ended, on_new) if ended else []
        is_bounded = before.is_bounded or bool(after and after.is_bounded)
        return cls(rotation, moves, Safety.of(rotation, moves), _first_use(rotation), is_bounded, attempts)

    def at(self, place: Place) -> list[Move]:
        """Return the callers that are at a place, the last one seen first."""
        found = [move for move in self.moves if move.place is place]
        return sorted(found, key=_last_seen, reverse=True)

    @property
    def still_old(self) -> list[Move]:
        """The callers that have not been seen with the new key."""
        return self.at(Place.OLD)

    @property
    def on_both(self) -> list[Move]:
        """The callers that use both keys."""
        return self.at(Place.BOTH)

    @property
    def moved(self) -> list[Move]:
        """The callers that use the new key alone."""
        return self.at(Place.NEW)

    @property
    def steps(self) -> dict[int, str]:
        """Whether each of the five steps, from 1 on, is "done", the one to take "now", or still "to come"."""
        rotation = self.rotation
        gone = rotation.old_ended_at is not None
        everybody = bool(self.moved) and not self.still_old and not self.on_both
        done = {1: rotation.new_key is not None, 2: everybody, 3: self.first_use is not None, 4: gone, 5: False}
        if rotation.is_called_off:
            return {number: "done" if is_done else "to come" for number, is_done in done.items()}
        # Who has not moved by the end does not hold up what comes after it.
        now = 5 if gone else next(number for number, is_done in done.items() if not is_done)
        if now == 2 and done[3] and self.safety.is_safe:
            now = 4
        return {
            number: "done" if is_done else "now" if number == now else "to come" for number, is_done in done.items()
        }

    @property
    def suspicious(self) -> list[Attempt]:
        """The attempts of callers that nobody saw before."""
        return [attempt for attempt in self.attempts if attempt.is_unknown]


def _last_seen(move: Move) -> datetime:
    return max(one.last_at for one in (move.on_old, move.on_new) if one)


def _attempts(old: ApiKey, ended: datetime, on_new: Mapping[str, UsageValue]) -> list[Attempt]:
    found = UsageDay.objects.usage_of(old, Dimension.CALLER, ended, most=EVERY)
    tried = [one for one in found.values if one.refused]
    if not tried:
        return []
    seen = UsageDay.objects.usage_of(old, Dimension.CALLER, floor_day(ended - KNOWN_FOR), ended, most=EVERY)
    # Who was only ever refused, with a guessed secret or from a network that is not allowed, is nobody that is known.
    known = {one.value for one in (*seen.values, *on_new.values()) if one.accepted}
    return [Attempt(one, one.value not in known) for one in sorted(tried, key=lambda one: one.last_at, reverse=True)]


def _first_use(rotation: Rotation) -> FirstUse | None:
    if rotation.new_key is None or rotation.first_used_at is None:
        return None
    accepted = UsageEvent.objects.of(rotation.new_key).filter(outcome=Outcome.VALID)
    # The instant in the key's activity is that of its event.
    event = accepted.filter(at__lte=rotation.first_used_at).order_by("at", "nonce").first()
    if event is None:
        return FirstUse(rotation.first_used_at)
    return FirstUse(rotation.first_used_at, event.address or "", event.user_agent)


def finish_due(*, by: Actor) -> Iterator[Rotation]:
    """Close the rotations whose deadline has passed, and those that finish by themselves and are safe; yield each.

    The old key of the first has been refused since the deadline; this writes down that it is over, and which clocks
    have started since the last run.
    """
    for begun in list(Rotation.objects.with_untold_clock()):
        begun.tell_clock()
    ids = list(Rotation.objects.overdue().values_list("pk", flat=True))
    asked = Rotation.objects.open().filter(finishes_when_safe=True, new_key__isnull=False).exclude(pk__in=ids)
    waiting = asked.for_pages().order_by("pk")
    ids += [rotation.pk for rotation in waiting if RotationProgress.of(rotation).safety.is_safe]
    for pk in ids:
        rotation = Rotation.objects.for_pages().get(pk=pk)
        # Somebody may have been quicker, with the rotation or with its key.
        with suppress(RotationOverError, KeyRevokedError):
            rotation.finish(by=by, ending=Ending.SAFE)
            yield Rotation.objects.for_pages().get(pk=pk)


def series_edges(rotation: Rotation, tz: tzinfo) -> list[datetime]:
    """Return the edges of a chart of a rotation: what was before it for comparison, and up to some time after it."""
    now = timezone.now()
    length = max((rotation.closed_at or now) - rotation.started_at, HOUR)
    first = rotation.started_at - max(HOUR, min(length / 2, 30 * DAY))
    last = min(now, rotation.started_at + 2 * length) if rotation.closed_at else now
    step = next((step for step in STEPS if (last - first) / step <= MOST_STEPS), STEPS[-1])
    start = EPOCH + (first - EPOCH) // step * step
    if step < DAY:
        return edges(start, step, max(1, -((start - last) // step)))
    # Days by the clock on the wall: not each has 24 hours.
    start, last = (at.astimezone(tz).replace(tzinfo=None) for at in (first, last))
    start = start.replace(hour=0, minute=0, second=0, microsecond=0)
    return edges(start.replace(tzinfo=tz), step, max(1, -((start - last) // step)), tz)


def both_series(rotation: Rotation, between: Sequence[datetime]) -> Mapping[str, list[int]]:
    """Return the accepted requests of the old and of the new key between instants, and the refused ones of both."""
    steps = len(between) - 1
    found = {kind: [0] * steps for kind in SERIES_KINDS}
    for kind, key in (("old", rotation.old_key), ("new", rotation.new_key)):
        if key is None:
            continue
        series = UsageHour.objects.series_between(key, between)
        for outcome, counts in series.counts.items():
            row = found[kind if outcome == Outcome.VALID else "refused"]
            for place, count in enumerate(counts):
                row[place] += count
    return found
