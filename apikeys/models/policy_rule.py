"""What an organization can ask of its keys, rule by rule: said once for one key, and once in SQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.apps import apps
from django.db import models
from django.db.models import Exists, F, OuterRef, Q, TextField
from django.db.models.functions import Cast, Length

from apikeys.models.catalogue import EnvironmentKind, Scope
from apikeys.models.key_networks import holds_every_address, shared_networks
from apikeys.models.key_terms import MAX_RATE, RATE_PERIODS, RateLimit
from apikeys.models.organization import Organization

if TYPE_CHECKING:
    from apikeys.models.key import ApiKey

DAY: Final = timedelta(days=1)
BY_POLICY: Final = "by your organization's policy"
_EVERY_ADDRESS: Final = ('"0.0.0.0/0"', '"::/0"')


class PolicyRule(models.TextChoices):
    """What a key can violate."""

    LIFETIME = "lifetime", "lives longer than it may"
    EXPIRY = "expiry", "never expires"
    PURPOSE = "purpose", "its purpose says too little"
    OWNER = "owner", "no member answers for it"
    SCOPES = "scopes", "holds a scope that no admin gave"
    NETWORKS = "networks", "production key for any network"
    SEPARATION = "separation", "shares a network with another environment"
    RATE = "rate", "may be used too fast"
    AGE = "age", "older than it may become"


def policy_rules() -> list[tuple[str, str]]:
    """Return the choices; as a function, so that a new rule needs no migration."""
    return PolicyRule.choices


class Fault(NamedTuple):
    """What a key would violate: the field of its terms, and what to say beside it."""

    field: str
    told: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What the rules look at in one key, as it was or as it would be. Scopes are ids; ``limit`` None means none."""

    created_at: datetime
    expires_at: datetime | None
    purpose: str
    owner: tuple[int | None, str]
    has_member: bool
    scopes: frozenset[int]
    networks: tuple[str, ...]
    limit: RateLimit | None
    in_production: bool

    @classmethod
    def of(cls, key: ApiKey, scopes: Sequence[Scope], expires_at: datetime | None) -> Standing:
        """Return that of a key with some scopes and its own end, which in a rotation is not the row's."""
        return cls(
            created_at=key.created_at,
            expires_at=expires_at,
            purpose=key.purpose,
            owner=(key.owner_id, key.owner_contact),
            has_member=key.owner is not None and key.owner.user.is_active,
            scopes=frozenset(scope.pk for scope in scopes),
            networks=tuple(key.networks),
            limit=key.limit,
            in_production=key.environment.kind == EnvironmentKind.PRODUCTION,
        )


@dataclass(frozen=True, slots=True)
class PolicyTerms:
    """What an organization asks of its keys; None or False is not asked.

    ``max_lifetime``, ``max_key_age`` and ``unused_after_days`` are days, ``least_purpose`` is a number of characters,
    ``max_rate`` at most so many requests per so many seconds.
    """

    max_lifetime: int | None = None
    expiry_required: bool = False
    least_purpose: int | None = None
    owner_required: bool = False
    admin_scopes: tuple[Scope, ...] = ()
    networks_required: bool = False
    environments_apart: bool = False
    max_rate: tuple[int, int] | None = None
    max_key_age: int | None = None
    unused_after_days: int | None = None

    @property
    def rate_text(self) -> str:
        """The largest rate limit in words, or nothing."""
        if self.max_rate is None:
            return ""
        requests, period = self.max_rate
        return f"{requests:,} per {RATE_PERIODS.get(period, f'{period} s')}"

    def facts(self) -> dict[str, object]:
        """Return what an audit entry compares."""
        return {
            "max_lifetime": self.max_lifetime,
            "expiry_required": self.expiry_required,
            "least_purpose": self.least_purpose,
            "owner_required": self.owner_required,
            "admin_scopes": sorted(scope.name for scope in self.admin_scopes),
            "networks_required": self.networks_required,
            "environments_apart": self.environments_apart,
            "max_rate": self.rate_text or None,
            "max_key_age": self.max_key_age,
            "unused_after_days": self.unused_after_days,
        }

    @property
    def rules(self) -> list[PolicyRule]:
        """Return the rules that are on."""
        asked = {
            PolicyRule.LIFETIME: self.max_lifetime,
            PolicyRule.EXPIRY: self.expiry_required,
            PolicyRule.PURPOSE: self.least_purpose,
            PolicyRule.OWNER: self.owner_required,
            PolicyRule.SCOPES: self.admin_scopes,
            PolicyRule.NETWORKS: self.networks_required,
            PolicyRule.SEPARATION: self.environments_apart,
            PolicyRule.RATE: self.max_rate,
            PolicyRule.AGE: self.max_key_age,
        }
        return [rule for rule in PolicyRule if asked[rule]]

    def latest_expiry(self, created_at: datetime) -> datetime | None:
        """Return until when a key may live that was made then: the longest lifetime and the rest of its last day."""
        if self.max_lifetime is None:
            return None
        last = (created_at + self.max_lifetime * DAY).astimezone(UTC)
        return last.replace(hour=23, minute=59, second=59, microsecond=0)

    # Of one key

    def faults(self, key: Standing) -> dict[PolicyRule, Fault]:
        """Return what a key violates, but for SCOPES and SEPARATION, which need a look at others."""
        found = {
            PolicyRule.LIFETIME: self._lifetime_fault(key),
            PolicyRule.EXPIRY: self._expiry_fault(key),
            PolicyRule.PURPOSE: self._purpose_fault(key),
            PolicyRule.OWNER: self._owner_fault(key),
            PolicyRule.NETWORKS: self._networks_fault(key),
            PolicyRule.RATE: self._rate_fault(key),
        }
        return {rule: fault for rule, fault in found.items() if fault}

    def _lifetime_fault(self, key: Standing) -> Fault | None:
        latest = self.latest_expiry(key.created_at)
        if latest is None or key.expires_at is None or key.expires_at <= latest:
            return None
        days = f"{self.max_lifetime:,} day{'' if self.max_lifetime == 1 else 's'}"
        return Fault(
            "expires_at", f"At most {days} from its creation, until {latest:%-d %B %Y} at the latest, {BY_POLICY}."
        )

    def _expiry_fault(self, key: Standing) -> Fault | None:
        if not self.expiry_required or key.expires_at is not None:
            return None
        return Fault("expires_at", f"Every key must expire, {BY_POLICY}.")

    def _purpose_fault(self, key: Standing) -> Fault | None:
        if self.least_purpose is None or len(key.purpose) >= self.least_purpose:
            return None
        return Fault("purpose", f"At least {self.least_purpose} characters, {BY_POLICY}; this has {len(key.purpose)}.")

    def _owner_fault(self, key: Standing) -> Fault | None:
        if not self.owner_required or key.has_member:
            return None
        return Fault("owner", f"A member whose account is open must answer for it, {BY_POLICY}.")

    def _networks_fault(self, key: Standing) -> Fault | None:
        if not self.networks_required or not key.in_production:
            return None
        if not key.networks:
            return Fault("networks", f"A production key needs at least one network, {BY_POLICY}.")
        if holds_every_address(key.networks):
            return Fault("networks", f"A production key may not be used from every address, {BY_POLICY}.")
        return None

    def _rate_fault(self, key: Standing) -> Fault | None:
        if self.max_rate is None:
            return None
        requests, period = self.max_rate
        if key.limit is None:
            return Fault("rate_limit", f"A key needs a limit of at most {self.rate_text}, {BY_POLICY}.")
        if key.limit.requests > _most_per(requests, period, key.limit.period):
            return Fault("rate_limit", f"At most {self.rate_text}, {BY_POLICY}.")
        if key.limit.burst > requests:
            return Fault("rate_burst", f"At most {requests:,} at once, {BY_POLICY} of {self.rate_text}.")
        return None

    # In SQL

    def conditions(
        self, organization: Organization, now: datetime, rules: Collection[PolicyRule] = tuple(PolicyRule)
    ) -> dict[PolicyRule, Q]:
        """Return the condition of the keys that violate each of some rules, where it is on.

        Status and exemptions are not looked at.
        Where environments are to be apart, the networks of all usable keys are read, each list once.
        """
        return {rule: self._condition(rule, organization, now) for rule in self.rules if rule in rules}

    def _condition(self, rule: PolicyRule, organization: Organization, now: datetime) -> Q:
        match rule:
            case PolicyRule.LIFETIME:
                return self._too_long()
            case PolicyRule.EXPIRY:
                return Q(expires_at__isnull=True)
            case PolicyRule.PURPOSE:
                return Q(models.lookups.LessThan(Length("purpose"), self.least_purpose))
            case PolicyRule.OWNER:
                return Q(owner__isnull=True) | Q(owner__user__is_active=False)
            case PolicyRule.SCOPES:
                held = apps.get_model("apikeys", "KeyScope").objects.filter(key=OuterRef("pk"), by_admin=False)
                return Q(Exists(held.filter(scope__in=[scope.pk for scope in self.admin_scopes])))
            case PolicyRule.NETWORKS:
                return Q(environment__kind=EnvironmentKind.PRODUCTION) & (Q(networks=[]) | _any_address())
            case PolicyRule.SEPARATION:
                production, others = shared_networks(organization, now)
                in_production = Q(environment__kind=EnvironmentKind.PRODUCTION)
                return (in_production & Q(networks__in=production)) | (~in_production & Q(networks__in=others))
            case PolicyRule.RATE:
                return self._too_fast()
            case PolicyRule.AGE:
                rotations = apps.get_model("apikeys", "Rotation").objects.open().filter(old_key=OuterRef("pk"))
                return Q(~Exists(rotations), created_at__lte=now - (self.max_key_age or 0) * DAY)

    def _too_long(self) -> Q:
        # The day is the UTC one of the creation, whatever the zone of who asks.
        made_on = models.functions.TruncDay("created_at", tzinfo=UTC)
        end = models.ExpressionWrapper(
            made_on + models.Value(((self.max_lifetime or 0) + 1) * DAY), output_field=models.DateTimeField()
        )
        return Q(models.lookups.GreaterThanOrEqual(F("expires_at"), end))

    def _too_fast(self) -> Q:
        requests, period = self.max_rate or (MAX_RATE, 1)
        found = Q(rate_limit__isnull=True) | Q(rate_burst__gt=requests)
        found |= Q(rate_burst__isnull=True, rate_limit__gt=requests)
        for own in RATE_PERIODS:
            found |= Q(rate_period=own, rate_limit__gt=min(_most_per(requests, period, own), MAX_RATE))
        return found


def _any_address() -> Q:
    # Neither of both databases compares a part of a list in the other's way.
    text = Cast("networks", TextField())
    found = Q()
    for network in _EVERY_ADDRESS:
        found |= Q(models.lookups.Contains(text, network))
    return found


def _most_per(requests: int, period: int, own: int) -> int:
    """Return how many requests per a period of their own a limit comes to."""
    return requests * own // period


def is_no_worse(rule: PolicyRule, before: Standing, after: Standing) -> bool:
    """Say whether a key that violates a rule already does so no worse after a change: then the change may be made."""
    match rule:
        case PolicyRule.LIFETIME:
            return after.expires_at is not None and (before.expires_at is None or after.expires_at <= before.expires_at)
        case PolicyRule.EXPIRY:
            return before.expires_at is None
        case PolicyRule.PURPOSE:
            return after.purpose == before.purpose
        case PolicyRule.OWNER:
            return after.owner == before.owner
        case PolicyRule.NETWORKS | PolicyRule.SEPARATION:
            return after.networks == before.networks
        case PolicyRule.RATE:
            return after.limit == before.limit or (after.limit is not None and _is_slower(after.limit, before.limit))
        case _:
            return False


def _is_slower(limit: RateLimit, other: RateLimit | None) -> bool:
    if other is None:
        return True
    return limit.burst <= other.burst and limit.requests * other.period <= other.requests * limit.period


def without_exempt(rule: PolicyRule, now: datetime) -> Q:
    """Return the condition of keys that are not exempt from a rule for the time being."""
    exemptions: Any = apps.get_model("apikeys", "PolicyExemption").objects
    return Q(~Exists(exemptions.filter(key=OuterRef("pk"), rule=rule, until__gt=now)))
