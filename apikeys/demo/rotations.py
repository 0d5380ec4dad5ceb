"""Rotations of the demo, one of each kind: nearly done, safe to finish, waiting for its owner, watched, called off."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from apikeys.demo.cast import AIKO, MARA, TOMAS
from apikeys.demo.plans import STRANGERS, Attempts, Plan, Revocation
from apikeys.models import ApiKey, Clock, Ending, Outcome, RevocationReason, Rotation, RotationReason, User
from apikeys.models.rotation import CALLED_OFF

DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who uses a rotated key; ``moved`` is how many days ago it took the new one, None when it has not."""

    address: str
    user_agent: str
    per_day: float
    moved: float | None
    rhythm: str = "steady"


@dataclass(frozen=True, slots=True)
class RotationPlan:
    """A rotation to be. Days are before now, for ``ends_in`` after it. ``plan`` is the old key's, without requests."""

    plan: Plan
    callers: tuple[Caller, ...]
    by: str
    started: float
    overlap: float
    reason: RotationReason = RotationReason.REGULAR
    clock: Clock = Clock.NOW
    ends_in: float = 0
    closed: float = 0
    ending: Ending | None = None
    link_days: float = 0
    note: str = ""
    tries: tuple[Attempts, ...] = ()

    @property
    def old_name(self) -> str:
        """What names the old key's plan."""
        return f"old {self.plan.name}"

    @property
    def new_name(self) -> str:
        """What names the new key's plan."""
        return f"new {self.plan.name}"

    def plans(self) -> Iterator[Plan]:
        """Yield the old key and, unless it is still to be taken, the new one."""
        until = self.closed if self.ending and self.ending not in CALLED_OFF else 0
        used = tuple(
            Attempts(Outcome.VALID, one.per_day, 400, one.moved or until, one.rhythm, (one.address,), one.user_agent)
            for one in self.callers
        )
        ended = self.ending and self.ending not in CALLED_OFF
        note = "The old key of a rotation."
        revoked = Revocation(self.closed, RevocationReason.REPLACED, note, self.by) if ended else None
        plan = replace(self.plan, addresses=(self.callers[0].address,), user_agent=self.callers[0].user_agent)
        yield replace(plan, attempts=(*used, *self.tries), revoked=revoked, rotation=self.old_name)
        if self.link_days:
            return
        moved = tuple(
            Attempts(Outcome.VALID, one.per_day, one.moved, 0, one.rhythm, (one.address,), one.user_agent)
            for one in self.callers
            if one.moved
        )
        called_off = self.ending in CALLED_OFF
        off = Revocation(self.closed, RevocationReason.CANCELLED, "", self.by) if called_off else None
        yield replace(
            plan,
            age=self.started,
            expires_in=365 - self.started,
            created_by=self.by,
            attempts=() if called_off else moved,
            revoked=off,
            rotation=self.new_name,
        )

    def row(self, old: ApiKey, new: ApiKey | None, by: User, now: datetime) -> Rotation:
        """Return the rotation as it is kept."""
        started = new.created_at if new else now - self.started * DAY
        closed = old.revoked_at or (new.revoked_at if new else None)
        return Rotation(
            organization=old.organization,
            old_key=old,
            new_key=new,
            reason=self.reason,
            note=self.note,
            overlap_seconds=round(self.overlap * 86_400),
            clock=self.clock,
            own_expiry=old.expires_at,
            planned_end=started + self.overlap * DAY,
            new_expires_at=new.expires_at if new else None,
            link_digest=hashlib.sha256(secrets.token_bytes(32)).digest() if self.link_days else None,
            link_until=now + self.link_days * DAY if self.link_days else None,
            link_sent_to=old.owner.user.email if self.link_days and old.owner else "",
            started_at=started,
            started_by=by,
            started_by_label=by.email,
            closed_at=closed,
            closed_by_label=by.email if closed else "",
            ending=self.ending or "",
        )


def _plan(name: str, purpose: str, scopes: str, owner: str, age: float) -> Plan:
    return Plan(
        name, f"{purpose}. Kept in Vault under prod/{name.lower().replace(' ', '-')}.", "prod", tuple(scopes.split()),
        owner, age, created_by=owner,
    )  # fmt: skip


_WEB, _API = "checkout-web/812", "checkout-api/77"
ROTATIONS: Final = (
    RotationPlan(
        _plan("Checkout gateway", "Places and changes orders at the checkout", "orders:read orders:write", TOMAS, 371),
        (
            Caller("10.4.2.11", _WEB, 310, 4.6),
            Caller("10.4.2.12", _WEB, 300, 4.55),
            Caller("10.4.3.8", _API, 140, 3.4),
            Caller("10.4.7.30", "batch-settle/2.2", 24, 2.9, "night"),
            Caller("10.4.7.31", "batch-refunds/1.9", 18, None, "night"),
        ),
        *(MARA, 5, 7),
        ends_in=2.1,
        note="Once a year, as the policy says",
    ),
    RotationPlan(
        _plan("Label printer service", "Prints labels in the halls", "shipments:read shipments:write", AIKO, 402),
        (Caller("10.4.20.5", "labelsvc/3.4", 260, 5.2), Caller("10.4.20.6", "labelsvc/3.4", 240, 4.4)),
        *(AIKO, 6, 14),
        ends_in=8,
    ),
    RotationPlan(
        _plan("Loyalty points export", "Counts points for each order", "orders:read customers:read", TOMAS, 340),
        (Caller("10.4.31.9", "loyalty/5.1", 96, None, "hourly"),),
        *(MARA, 0.1, 7),
        clock=Clock.FIRST_USE,
        ends_in=36.9,
        link_days=0.9,
        reason=RotationReason.EXPIRY,
    ),
    RotationPlan(
        _plan("Returns portal", "Registers returns that customers announce", "orders:read returns:write", AIKO, 390),
        (Caller("10.4.40.2", "returns/2.8", 180, 25), Caller("10.4.40.3", "returns/2.8", 170, 24.2)),
        *(TOMAS, 27, 7),
        closed=20,
        ending=Ending.FINISHED,
        reason=RotationReason.COMPROMISE,
        note="Its text was in a screenshot of a ticket",
        tries=(
            Attempts(Outcome.REVOKED, 3, 20, 0, "night", ("10.4.40.3",), "returns/2.8"),
            Attempts(Outcome.REVOKED, 9, 2.6, 2.1, "steady", (STRANGERS[0],), "python-requests/2.31.0"),
        ),
    ),
    RotationPlan(
        _plan("Gift card service", "Sells and takes gift cards", "orders:read orders:write prices:read", TOMAS, 280),
        (Caller("10.4.52.4", "giftcards/1.12", 120, None),),
        *(TOMAS, 41, 7),
        closed=40,
        ending=Ending.CANCELLED,
        note="The wrong service",
    ),
)  # fmt: skip
