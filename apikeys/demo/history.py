"""The past of the demo: rows with the times that they would have, written at once because the database freezes them."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import F, Q

from apikeys import key_secret
from apikeys.demo.cast import PASSWORD, PEOPLE, House
from apikeys.demo.plans import Exemption, Plan
from apikeys.demo.rotations import RotationPlan
from apikeys.models import (
    ApiKey,
    AuditAction,
    AuditEntry,
    Ending,
    Environment,
    Invitation,
    KeyExemption,
    KeyNetwork,
    KeyScope,
    KeyTerms,
    Member,
    Organization,
    Policy,
    PolicyExemption,
    PolicyRule,
    RateLimit,
    RevocationReason,
    Role,
    Rotation,
    Scope,
    User,
    Via,
)
from apikeys.models.audit import Changes, difference
from apikeys.models.organization import environment_words

USUAL_ENVIRONMENTS = {"prod": "production", "stag": "staging", "dev": "development"}
# What happened longer ago than this is moved into the working hours of a weekday.
_RECENT = timedelta(days=20)


def make_people() -> dict[str, User]:
    """Return the people by address; one who exists already keeps name and password."""
    found = {user.email: user for user in User.objects.filter(email__in=[person.email for person in PEOPLE])}
    for person in PEOPLE:
        if person.email not in found:
            found[person.email] = User.objects.create_user(person.email, PASSWORD, name=person.name)
    return found


class History:
    """One organization's past, from its founding to now."""

    def __init__(self, house: House, people: dict[str, User], rng: random.Random, now: datetime) -> None:
        self.house = house
        self.people = people
        self.rng = rng
        self.now = now
        self.entries: list[AuditEntry] = []
        self.organization = self._found()
        self.environments = {one.code: one for one in self._environments()}
        self.scopes = {one.name: one for one in self._scopes()}
        self.members = {one.user.email: one for one in self._members()}
        self.operators = [email for email, role in house.roles.items() if role != Role.VIEWER]

    # The organization

    def _found(self) -> Organization:
        at = self.working_hours(self.house.age_days)
        organization = Organization(
            name=self.house.name,
            slug=self.house.slug,
            key_prefix=self.house.key_prefix,
            max_key_age=self.house.max_key_age,
            created_at=at,
        )
        organization.full_clean()
        organization.save()
        self.organization = organization
        self._enter(AuditAction.ORGANIZATION_CREATE, at, None, target=organization.name)
        if organization.max_key_age:
            self._limit_age(organization.max_key_age)
        return organization

    def _limit_age(self, days: int) -> None:
        """Tell that keys may become only so old, which an admin said some weeks ago."""
        at = (self.now - timedelta(days=24)).replace(hour=9, minute=12, second=40)
        changes = difference({"max_key_age": None}, {"max_key_age": days})
        admin = next(iter(self.house.roles))
        self._enter(AuditAction.ORGANIZATION_EDIT, at, admin, target=self.organization.name, changes=changes)

    def _environments(self) -> Iterator[Environment]:
        for code, name in (USUAL_ENVIRONMENTS | self.house.environments).items():
            kind = name if code in USUAL_ENVIRONMENTS else "other"
            yield Environment.objects.create(organization=self.organization, code=code, name=name, kind=kind)

    def _scopes(self) -> Iterator[Scope]:
        at, admin = self.organization.created_at + timedelta(hours=1), next(iter(self.house.roles))
        for name, description in self.house.scopes.items():
            at += timedelta(minutes=2)
            changes = difference({}, {"description": description})
            self._enter(AuditAction.SCOPE_CREATE, at, admin, target=name, changes=changes)
            yield Scope.objects.create(organization=self.organization, name=name, description=description)

    def _members(self) -> Iterator[Member]:
        admin = None
        for number, (email, role) in enumerate(self.house.roles.items()):
            at = self.organization.created_at + timedelta(days=9 * number, seconds=number)
            self._enter(AuditAction.MEMBER_ADD, at, admin, target=email, changes={"role": [None, str(role)]})
            admin = admin or email
            yield Member.objects.create(
                organization=self.organization, user=self.people[email], role=role, joined_at=at
            )

    def invite(self, email: str, role: Role, codes: Sequence[str], days_ago: int) -> None:
        """Let an invitation wait that its first admin sent some days ago."""
        # Not by chance, so that the rest of the demo stays as it is.
        at = (self.now - timedelta(days=days_ago)).replace(hour=10, minute=12, second=40)
        sender = next(iter(self.house.roles))
        lasts = timedelta(days=settings.INVITATION_DAYS)
        invitation = Invitation.objects.create(
            organization=self.organization,
            email=email,
            role=role,
            digest=secrets.token_bytes(32),
            invited_by=self.people[sender],
            invited_by_label=sender,
            created_at=at,
            mailed_at=at,
            expires_at=at + lasts,
        )
        limit = [self.environments[code] for code in codes]
        invitation.environments.set(limit)
        facts = {"role": str(role), "environments": environment_words(limit), "good_until": at + lasts}
        self._enter(AuditAction.INVITATION_SEND, at, sender, target=email, changes=difference({}, facts))

    # Its keys

    def make_keys(self, plans: list[Plan]) -> list[ApiKey]:
        """Make the keys of some plans, the oldest first, and what the audit log says of them."""
        ordered = sorted(plans, key=lambda plan: -plan.age)
        keys = ApiKey.objects.bulk_create([self._key(plan) for plan in ordered])
        KeyNetwork.objects.index(keys)
        KeyScope.objects.bulk_create(
            KeyScope(key=key, scope=self.scopes[name], by_admin=self._is_admin(key))
            for plan, key in zip(ordered, keys, strict=True)
            for name in plan.scopes
        )
        made = list(self.organization.keys.for_pages().order_by(F("id").asc()))
        labels = {plan.label: key for plan, key in zip(ordered, made, strict=True) if plan.revoked}
        for plan, key in zip(ordered, made, strict=True):
            if plan.replaces:
                self._succeed(key, labels[plan.replaces])
            self._tell(plan, key)
        plans[:] = ordered
        return made

    def make_rotations(self, rotations: Sequence[RotationPlan], work: Sequence[tuple[Plan, ApiKey]]) -> None:
        """Make the rotations between some of its keys, and what the audit log says of them."""
        keys = {plan.rotation: key for plan, key in work if plan.rotation}
        for plan in rotations:
            old, new = keys[plan.old_name], keys.get(plan.new_name)
            rotation = plan.row(old, new, self.people[plan.by], self.now)
            rotation.save(force_insert=True)
            if new and not rotation.is_called_off:
                self._succeed(new, old)
            if not rotation.closed_at:
                old.expires_at = self.now + timedelta(days=plan.ends_in)
                old.save(update_fields=["expires_at"])
            self._tell_rotation(rotation)

    def set_policy(self, exempt: str) -> None:
        """Let a policy be in force, which an admin set some days ago and from which one key of a name is exempt."""
        admin = self.people[next(iter(self.house.roles))]
        at = (self.now - timedelta(days=9)).replace(hour=10, minute=31, second=8)
        policy = Policy(organization=self.organization, changed_at=at, changed_by_label=admin.email)
        scopes = tuple(self.scopes[name] for name in self.house.admin_scopes)
        terms = replace(policy.full_terms(), least_purpose=20, environments_apart=True, admin_scopes=scopes)
        changes = difference(policy.full_terms().facts(), terms.facts())
        policy.apply(terms)
        policy.save(force_insert=True)
        self.organization.scopes.filter(name__in=self.house.admin_scopes).update(needs_admin=True)
        self._enter(AuditAction.POLICY_EDIT, at, admin.email, target=self.organization.name, changes=changes)
        key = self.organization.keys.for_pages().usable(self.now).get(name=exempt, environment__code="prod")
        exemption = PolicyExemption(organization=self.organization, key=key, rule=PolicyRule.SEPARATION)
        exemption.reason = "They call from one gateway until they move in spring"
        exemption.until = (self.now + timedelta(days=120)).replace(hour=23, minute=59, second=59, microsecond=0)
        exemption.changed_at, exemption.changed_by, exemption.changed_by_label = at, admin, admin.email
        exemption.save(force_insert=True)
        told = difference({}, exemption.facts())
        self._enter(AuditAction.POLICY_EXEMPT, at + timedelta(minutes=4), admin.email, key=key, changes=told)

    def _is_admin(self, key: ApiKey) -> bool:
        return self.house.roles.get(key.created_by_label) == Role.ADMIN

    @staticmethod
    def _succeed(key: ApiKey, old: ApiKey) -> None:
        key.replaces, key.root = old, old.root or old
        key.save(update_fields=["replaces", "root"])

    def _tell_rotation(self, rotation: Rotation) -> None:
        old, by, at = rotation.old_key, rotation.started_by_label, rotation.started_at
        changes = difference({}, rotation.facts())
        self._enter(AuditAction.ROTATION_START, at, by, key=old, changes=changes, reason=rotation.note)
        if rotation.link_until:
            self._enter(
                AuditAction.ROTATION_LINK,
                at,
                by,
                key=old,
                changes=difference({}, {"sent_to": rotation.link_sent_to, "good_until": rotation.link_until}),
            )
        if rotation.closed_at:
            action = AuditAction.ROTATION_CANCEL if rotation.is_called_off else AuditAction.ROTATION_FINISH
            ending = difference({}, {"ending": Ending(rotation.ending).label})
            self._enter(action, rotation.closed_at, by, key=old, changes=ending)

    def _key(self, plan: Plan) -> ApiKey:
        environment = self.environments[plan.environment]
        secret = key_secret.make(self.house.key_prefix, environment.code)
        number = max(settings.KEY_PEPPERS)
        creator = self.people[plan.created_by or self.rng.choice(self.operators)]
        key = ApiKey(
            organization=self.organization,
            environment=environment,
            prefix=secret.prefix,
            public_id=secret.public_id,
            digest=key_secret.digest(secret, settings.KEY_PEPPERS[number]),
            pepper_number=number,
            created_at=max(self.working_hours(plan.age), self.organization.created_at + timedelta(days=2)),
            created_by=creator,
            created_by_label=creator.email,
        )
        key.apply(self._terms(plan))
        if plan.expires_in is not None:
            # Not among the terms: those of a new key cannot end in the past.
            key.expires_at = self.now + timedelta(days=plan.expires_in)
        self._end(plan, key)
        return key

    def _terms(self, plan: Plan) -> KeyTerms:
        owner = self.members.get(plan.owner)
        return KeyTerms(
            name=plan.name,
            purpose=plan.purpose,
            scopes=[self.scopes[name] for name in plan.scopes],
            owner=owner,
            owner_contact="" if owner else plan.owner,
            networks=plan.networks,
            rate_limit=RateLimit(*plan.limit) if plan.limit else None,
        )

    def _end(self, plan: Plan, key: ApiKey) -> None:
        if plan.paused is not None:
            key.paused_at, key.paused_by = self.now - timedelta(days=plan.paused), key.created_by
        if plan.revoked:
            by = self.people[plan.revoked.by or self.operators[0]]
            key.revoked_at = max(self.working_hours(plan.revoked.days_ago), key.created_at + timedelta(hours=2))
            key.revoked_by, key.revoked_by_label = by, by.email
            key.revoked_reason, key.revoked_note = plan.revoked.reason, plan.revoked.note

    def _tell(self, plan: Plan, key: ApiKey) -> None:
        creator = key.created_by_label
        self._enter(AuditAction.KEY_ISSUE, key.created_at, creator, key=key, changes=difference({}, key.facts()))
        self._enter(AuditAction.KEY_SHOW, key.created_at, creator, key=key)
        if plan.exemption:
            self._exempt(plan.exemption, key)
        if key.paused_at:
            self._enter(AuditAction.KEY_PAUSE, key.paused_at, creator, key=key)
        if key.revoked_at and plan.revoked:
            told = RevocationReason(plan.revoked.reason).label
            told += f": {plan.revoked.note}" if plan.revoked.note else ""
            self._enter(AuditAction.KEY_REVOKE, key.revoked_at, key.revoked_by_label, key=key, reason=told)
        elif key.expires_at and plan.age > 400:
            self._extend(key)

    def _exempt(self, terms: Exemption, key: ApiKey) -> None:
        """Tell that a key may be silent, which somebody said some weeks ago."""
        at, until = self.working_hours(33), self.now + timedelta(days=terms.days)
        owner = self.members[terms.owner]
        made = KeyExemption(key=key, owner=owner, reason=terms.reason, changed_at=at)
        made.until = until.replace(hour=23, minute=59, second=59, microsecond=0)
        made.changed_by, made.changed_by_label = owner.user, owner.user.email
        made.save(force_insert=True)
        changes = difference({}, made.facts())
        self._enter(AuditAction.KEY_EXEMPT, at, owner.user.email, key=key, changes=changes)

    def _extend(self, key: ApiKey) -> None:
        """Tell that an old key was given another year, some weeks before it would have ended."""
        if not key.expires_at:
            return
        before = key.expires_at - timedelta(days=365)
        at = min(before, self.now) - timedelta(days=self.rng.uniform(8, 30))
        key.version = 2
        key.save(update_fields=["version"])
        changes = difference({"expires_at": before}, {"expires_at": key.expires_at})
        self._enter(AuditAction.KEY_EDIT, at, key.created_by_label, key=key, changes=changes)

    # The people's days

    def sign_ins(self, days: int) -> None:
        """Tell who signed in in the last days, and who mistyped."""
        for ago in range(1, days):
            day = (self.now - timedelta(days=ago)).replace(hour=7, minute=30, second=0, microsecond=0)
            if day.weekday() > 4:
                continue
            for email in self.house.roles:
                at = day + timedelta(seconds=self.rng.uniform(0, 7200))
                if self.rng.random() < 0.06:
                    self._enter(AuditAction.SIGN_IN_FAILED, at - timedelta(seconds=17), email, target=email)
                if self.rng.random() < 0.45:
                    self._enter(AuditAction.SIGN_IN, at, email, target=email)
                    User.objects.filter(Q(last_login__isnull=True) | Q(last_login__lt=at), email=email).update(
                        last_login=at
                    )

    def write_audit_log(self) -> int:
        """Write the entries, in the order in which they happened."""
        self.entries.sort(key=lambda entry: entry.at)
        AuditEntry.objects.bulk_create(self.entries, batch_size=1000)
        return len(self.entries)

    def _enter(
        self,
        action: AuditAction,
        at: datetime,
        email: str | None,
        *,
        key: ApiKey | None = None,
        target: str = "",
        changes: Changes | None = None,
        reason: str = "",
    ) -> None:
        person = next((person for person in PEOPLE if person.email == email), None)
        self.entries.append(
            AuditEntry(
                at=at,
                organization=self.organization,
                actor=self.people[email] if email and action != AuditAction.SIGN_IN_FAILED else None,
                actor_label=email or "command line",
                via=Via.DASHBOARD if person else Via.COMMAND,
                address=person.address if person else None,
                user_agent=person.user_agent if person else "",
                action=action,
                target_label=key.name if key else target,
                key_id=key.pk if key else None,
                key_public_id=key.public_id if key else "",
                key_fingerprint=key.fingerprint if key else "",
                changes=changes or {},
                reason=reason,
            )
        )

    def working_hours(self, days_ago: float) -> datetime:
        """Return a time about so many days ago at which people work; recent times stay as they are."""
        at = self.now - timedelta(days=days_ago)
        if self.now - at < _RECENT:
            return at
        at -= timedelta(days=max(0, at.weekday() - 4))
        return at.replace(hour=self.rng.randint(7, 16), minute=self.rng.randint(0, 59), second=self.rng.randint(0, 59))
