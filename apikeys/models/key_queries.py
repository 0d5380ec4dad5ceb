"""Which keys are in which state, what is fetched with them, and the issuing of new ones."""

from __future__ import annotations

import functools
import operator
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, Self

from django.apps import apps
from django.conf import settings
from django.db import connection, models, transaction
from django.db.models.expressions import Combinable
from django.db.models.lookups import GreaterThan, LessThanOrEqual
from django.utils import timezone

from apikeys import key_secret
from apikeys.key_secret import KeySecret
from apikeys.models.among import Among
from apikeys.models.audit import Actor, AuditAction, AuditEntry, difference
from apikeys.models.catalogue import Environment
from apikeys.models.extremes import OrLatest
from apikeys.models.key_age import ROTATE_SOON, made_for
from apikeys.models.key_status import EXPIRING_WITHIN, Status, dead_condition, status_conditions, usable_condition
from apikeys.models.key_terms import KeyTerms, require_scopes
from apikeys.models.organization import SYSTEM_SLUG, Member, Organization
from apikeys.models.policy import Policy
from apikeys.models.policy_rule import PolicyRule, PolicyTerms, without_exempt
from apikeys.models.reach import require_reach
from apikeys.models.silence import (
    Silence,
    exempt_condition,
    for_each,
    quiet_since,
    recording_since,
    silence_conditions,
    unused_condition,
)

if TYPE_CHECKING:
    from apikeys.models.key import ApiKey


class AlreadyIssuedError(Exception):
    """The same form made this key before."""

    def __init__(self, key: ApiKey) -> None:
        super().__init__(f"{key.fingerprint} was issued by this form already.")
        self.key = key


class IssuedKey(NamedTuple):
    """A key and its full text, which exists nowhere else."""

    key: ApiKey
    secret: KeySecret


# One look into an index for each address; DISTINCT would read it for each key.
_CONTACTS = """
WITH RECURSIVE found (contact, place) AS (
    SELECT MIN(owner_contact), 1 FROM apikeys_apikey WHERE organization_id = %(organization)s AND owner_contact > ''
    UNION ALL
    SELECT (
        SELECT MIN(k.owner_contact) FROM apikeys_apikey k
        WHERE k.organization_id = %(organization)s AND k.owner_contact > found.contact
    ), place + 1
    FROM found WHERE contact IS NOT NULL AND place < %(most)s
)
SELECT contact FROM found WHERE contact IS NOT NULL
"""


def violations(
    terms: PolicyTerms, organization: Organization, now: datetime, *rules: PolicyRule
) -> dict[PolicyRule, models.Q]:
    """Return the condition of the keys that violate each rule of a policy, or some, and are not exempt from it."""
    conditions = terms.conditions(organization, now, rules or tuple(PolicyRule))
    return {rule: condition & without_exempt(rule, now) for rule, condition in conditions.items()}


def _exempt_from_age() -> Combinable:
    return models.ExpressionWrapper(~without_exempt(PolicyRule.AGE, timezone.now()), models.BooleanField())


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    """The states of keys, and the issuing of new ones."""

    def of_people(self) -> Self:
        """Leave out our own, which only the self-check uses."""
        return self.exclude(organization__slug=SYSTEM_SLUG)

    def with_status(self, status: Status, now: datetime | None = None) -> Self:
        """Return the keys that have a status."""
        return self.filter(status_conditions(now or timezone.now())[status])

    def usable(self, now: datetime | None = None) -> Self:
        """Return the keys that are neither revoked nor expired: active and paused ones."""
        return self.filter(usable_condition(now or timezone.now()))

    def dead(self, now: datetime | None = None) -> Self:
        """Return the keys that are revoked or expired."""
        return self.filter(dead_condition(now or timezone.now()))

    def with_activity(self) -> Self:
        """Join what is kept of each key's requests, so that it can be read by organization and last use."""
        return self.filter(activity__organization_id=models.F("organization_id"))

    def expiring(self, now: datetime | None = None, within: timedelta = EXPIRING_WITHIN) -> Self:
        """Return the usable keys whose end is near."""
        now = now or timezone.now()
        end = OrLatest("expires_at")
        return self.usable(now).filter(GreaterThan(end, now), LessThanOrEqual(end, now + within))

    def to_rotate(
        self, now: datetime | None = None, within: timedelta = timedelta(), *, organization: Organization | None = None
    ) -> Self:
        """Return the usable keys that should be rotated by now, or within a span; ApiKey.is_to_rotate says so of one.

        ``organization`` is that of all the keys, where they are of one: its maximum age then needs no join, and an
        index finds them.
        """
        now = now or timezone.now()
        old = LessThanOrEqual(models.F("created_at"), made_for(now + within, organization))
        # What is being rotated needs no reminder.
        rotations = apps.get_model("apikeys", "Rotation").objects.open().filter(old_key=models.OuterRef("pk"))
        return self.usable(now).filter(old, ~models.Exists(rotations), without_exempt(PolicyRule.AGE, now))

    def to_rotate_soon(
        self, now: datetime | None = None, within: timedelta = ROTATE_SOON, *, organization: Organization | None = None
    ) -> Self:
        """Return those of them whose time is still to come."""
        now = now or timezone.now()
        to_rotate = self.to_rotate(now, within, organization=organization)
        return to_rotate.filter(GreaterThan(models.F("created_at"), made_for(now, organization)))

    def with_silence(
        self,
        *kinds: Silence,
        now: datetime | None = None,
        days: int | None = None,
        organization: Organization | None = None,
    ) -> Self:
        """Return the usable keys whose silence is of one of some kinds, with ``quiet_since``: since when.

        ``days`` is Organization.unused_after unless given; ``organization`` is that of all the keys, where they are of
        one, and saves a query. An exemption changes nothing here.
        """
        now = now or timezone.now()

        def wanted(days: int) -> models.Q:
            conditions = silence_conditions(now, days)
            return functools.reduce(operator.or_, (conditions[kind] for kind in kinds))

        condition = for_each(organization, days, wanted)
        return self.usable(now).with_activity().annotate(quiet_since=quiet_since()).filter(condition)

    def unused(
        self, now: datetime | None = None, days: int | None = None, *, organization: Organization | None = None
    ) -> Self:
        """Return the usable keys that nobody uses, never or not any more, but for those that may be silent.

        See with_silence().
        """
        now = now or timezone.now()
        condition = for_each(organization, days, functools.partial(unused_condition, now))
        return self.usable(now).with_activity().annotate(quiet_since=quiet_since()).filter(condition)

    def exempted(self, now: datetime | None = None) -> Self:
        """Return the usable keys that may be silent for the time being."""
        now = now or timezone.now()
        return self.usable(now).filter(exempt_condition(now))

    def violating(self, terms: PolicyTerms, organization: Organization, now: datetime, *rules: PolicyRule) -> Self:
        """Return an organization's usable keys that violate a policy, or some of its rules, and are not exempt.

        None violates a rule that is not on.
        """
        conditions = violations(terms, organization, now, *rules)
        if not conditions:
            return self.none()
        return self.usable(now).filter(functools.reduce(operator.or_, conditions.values()))

    def with_violations(self, terms: PolicyTerms, organization: Organization, now: datetime) -> Self:
        """Tell of each key which rules of a policy it violates, as ``violates_lifetime`` and so on."""
        told = violations(terms, organization, now)
        usable = usable_condition(now)
        flags = {
            f"violates_{rule}": models.Case(
                models.When(usable & condition, then=models.Value(value=True)), default=models.Value(value=False)
            )
            for rule, condition in told.items()
        }
        return self.annotate(**flags)

    def count_violations(
        self, terms: PolicyTerms, organization: Organization, now: datetime, *rules: PolicyRule
    ) -> dict[PolicyRule, int]:
        """Count an organization's usable keys that violate each rule of a policy, or of some, and are not exempt."""
        conditions = violations(terms, organization, now, *rules)
        if not conditions:
            return {}
        counts = {f"violating_{rule}": models.Count("pk", filter=condition) for rule, condition in conditions.items()}
        found = self.usable(now).order_by().aggregate(**counts)
        return {rule: found[f"violating_{rule}"] for rule in conditions}

    def tried_since_end(self, since: datetime, now: datetime | None = None) -> Self:
        """Return the dead keys that somebody has presented since an instant, and after their own end."""
        conditions = status_conditions(now or timezone.now())
        tried = models.Q(activity__last_refused_at__gt=models.F("revoked_at")) & conditions[Status.REVOKED]
        tried |= models.Q(activity__last_refused_at__gt=models.F("expires_at")) & conditions[Status.EXPIRED]
        return self.with_activity().filter(tried, activity__last_refused_at__gte=since)

    def contacts_of(self, organization: Organization, most: int) -> list[str]:
        """Return the first addresses of owners who are no members, in order, each once."""
        with connection.cursor() as cursor:
            cursor.execute(_CONTACTS, {"organization": organization.pk, "most": most})
            return [contact for (contact,) in cursor.fetchall()]

    def newest(self) -> Self:
        """Leave out the keys whose place another one has taken, or is taking."""
        return self.filter(~models.Exists(self.model.objects.filter(replaces=models.OuterRef("pk"))))

    def without_owner(self, now: datetime | None = None) -> Self:
        """Return the usable keys for which nobody answers: their owner's account is closed."""
        return self.usable(now).filter(owner__user__is_active=False)

    def for_pages(self) -> Self:
        """Fetch with each key what every page shows of it, in a fixed number of queries.

        What few keys have is not joined: PostgreSQL planned so many joins for 17 ms, and ran them in 1.
        """
        others = self.model.objects.select_related("organization", "environment")
        return (
            self.annotate(recording_since=recording_since(), exempt_from_age=_exempt_from_age())
            .select_related("organization", "environment", "owner__user", "activity", "rhythm", "exemption")
            .prefetch_related(
                "scopes",
                "paused_by",
                models.Prefetch("exemption__owner", Member.objects.select_related("user")),
                models.Prefetch("replaces", others),
                models.Prefetch("replaced_by_keys", others),
            )
        )

    def for_list(self) -> Self:
        """Fetch with each key what a row of the list shows of it, but for fetch_named(): see there."""
        told = {"recording_since": recording_since(), "exempt_from_age": _exempt_from_age()}
        return self.annotate(**told).select_related("activity", "rhythm", "exemption")

    @staticmethod
    def fetch_named(keys: Sequence[ApiKey]) -> None:
        """Fetch the environments, owners, scopes and who answers for the silence of some keys, in a query each.

        Joined to the keys, PostgreSQL would take longer to plan the statement than to run it.
        """
        members = Member.objects.select_related("user")
        whose = [models.Prefetch(name, members) for name in ("owner", "exemption__owner")]
        models.prefetch_related_objects(keys, "environment", *whose)
        # Names alone: a scope for each key that holds it takes as long to make as all else.
        names: dict[int, list[str]] = {key.pk: [] for key in keys}
        held = apps.get_model("apikeys", "KeyScope").objects.filter(Among(models.F("key_id"), list(names)))
        for key_id, name in held.values_list("key_id", "scope__name"):
            names[key_id].append(name)
        for key in keys:
            key.__dict__["known_scope_names"] = sorted(names[key.pk])

    def issue(
        self,
        organization: Organization,
        environment: Environment,
        terms: KeyTerms,
        *,
        by: Actor,
        form_token: uuid.UUID | None = None,
        replaces: ApiKey | None = None,
    ) -> IssuedKey:
        """Make a key and return it with its full text, once.

        Raises ValidationError naming the field, AlreadyIssuedError when the form was sent before.
        """
        # What takes another key's place is for the verb that replaces it to refuse: an owner may take it by a link.
        if replaces is None:
            require_reach(by, environment)
        secret = key_secret.make(organization.key_prefix, environment.code)
        number = max(settings.KEY_PEPPERS)
        key = self.model(
            organization=organization,
            environment=environment,
            prefix=secret.prefix,
            public_id=secret.public_id,
            digest=key_secret.digest(secret, settings.KEY_PEPPERS[number]),
            pepper_number=number,
            created_by=by.user,
            created_by_label=by.label,
            form_token=form_token,
            replaces=replaces,
            root_id=(replaces.root_id or replaces.pk) if replaces else None,
        )
        key.apply(terms)
        with transaction.atomic():
            Organization.objects.lock(organization.pk)
            if form_token and (same := self.filter(organization=organization, form_token=form_token).first()):
                raise AlreadyIssuedError(same)
            require_scopes(terms.scopes)
            before = (lambda: replaces.standing) if replaces else None
            given = Policy.objects.of(organization).require(key, terms.scopes, by=by, before=before)
            key.save(force_insert=True)
            key.hold(terms.scopes, given, like=replaces)
            AuditEntry.objects.record(
                AuditAction.KEY_ISSUE,
                by=by,
                organization=organization,
                key=key,
                changes=difference({}, key.facts()),
            )
            AuditEntry.objects.record(AuditAction.KEY_SHOW, by=by, organization=organization, key=key)
        return IssuedKey(key, secret)
