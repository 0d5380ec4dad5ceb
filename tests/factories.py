"""Plain functions that make what a test needs, through the product's own verbs; every name is unique by default."""

import itertools
import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.utils import timezone

from apikeys.key_secret import make_public_id
from apikeys.models import (
    Actor,
    Alert,
    AlertKind,
    ApiKey,
    Channel,
    Delivery,
    Environment,
    ExemptionTerms,
    Invitation,
    InvitationTerms,
    IssuedKey,
    KeyActivity,
    KeyExemption,
    KeyRhythm,
    KeyTerms,
    Member,
    Organization,
    Outcome,
    Policy,
    PolicyExemption,
    PolicyExemptionTerms,
    PolicyRule,
    PolicyTerms,
    RateLimit,
    Review,
    ReviewTerms,
    RevocationReason,
    Role,
    Rotation,
    RotationReason,
    RotationTerms,
    Scope,
    SentInvitation,
    Sighting,
    StartedRotation,
    UsageEvent,
    User,
    Via,
    Webhook,
)

PASSWORD = "correct horse battery staple"
ADDRESS = "198.51.100.7"

_numbers = itertools.count(1)


def make_user(email: str = "", *, name: str = "", password: str | None = None, **extra: Any) -> User:
    """Make a person; without a password, which costs time to hash, nobody can sign in by form."""
    number = next(_numbers)
    return User.objects.create_user(
        email or f"person{number}@example.com", password, name=name or f"Person {number}", **extra
    )


def make_apart(prefix: str) -> Organization:
    """Make an organization that no other test names, with an admin: for rows that are committed, and stay."""
    slug = f"{prefix}-{secrets.token_hex(8)}"
    return make_organization(slug, admin=make_user(f"{slug}@example.com"))


def make_actor(user: User | None = None) -> Actor:
    """Make who acts: a person in the dashboard, or the command line."""
    if user is None:
        return Actor.command()
    return Actor(label=user.email, via=Via.DASHBOARD, user=user, address=ADDRESS, user_agent="Firefox")


def make_organization(slug: str = "", *, name: str = "", admin: User | None = None, **extra: Any) -> Organization:
    """Make an organization with its three environments, its first admin and two scopes."""
    slug = slug or f"organization-{next(_numbers)}"
    organization = Organization.objects.found(
        name=name or slug.replace("-", " ").capitalize(),
        slug=slug,
        admin=admin or make_user(),
        by=Actor.command(),
        **extra,
    )
    make_scope(organization, "orders:read", description="Read orders")
    make_scope(organization, "orders:write", description="Create and change orders")
    return organization


def make_member(organization: Organization, role: Role = Role.VIEWER, user: User | None = None) -> Member:
    """Make a person with a role in an organization."""
    return organization.add_member(user or make_user(), role, by=Actor.command())


def make_limited(organization: Organization, *codes: str, user: User | None = None) -> Member:
    """Make an operator who is limited to environments, by their codes."""
    environments = list(organization.environments.filter(code__in=codes))
    return organization.add_member(user or make_user(), Role.OPERATOR, environments=environments, by=Actor.command())


def make_invitation(
    organization: Organization, email: str = "", *, role: Role = Role.VIEWER, codes: Sequence[str] = (), **terms: Any
) -> SentInvitation:
    """Invite an address, by default one that nobody has; ``by`` is the command line."""
    by = terms.pop("by", Actor.command())
    environments = list(organization.environments.filter(code__in=codes))
    email = email or f"invited{next(_numbers)}@example.com"
    return Invitation.objects.invite(
        organization, InvitationTerms(email, role, environments=environments, **terms), by=by
    )


def make_scope(organization: Organization, name: str = "", *, description: str = "Read things") -> Scope:
    """Make a scope in an organization's catalogue."""
    scope = Scope(organization=organization, name=name or f"things{next(_numbers)}:read", description=description)
    return Scope.objects.add(scope, by=Actor.command())


def make_environment(organization: Organization, code: str = "", *, name: str = "", kind: str = "other") -> Environment:
    """Make an environment beside the three usual ones."""
    code = code or f"e{next(_numbers)}"
    environment = Environment(organization=organization, code=code, name=name or f"environment {code}", kind=kind)
    return Environment.objects.add(environment, by=Actor.command())


_COPIED = """
    organization_id, environment_id, name, purpose, owner_contact, networks, rate_period, prefix, digest, pepper_number,
    created_at, created_by_label, revoked_by_label, revoked_reason, revoked_note, version
"""


def copy_key(key: ApiKey, number: int) -> None:
    """Copy a key so often, by the database alone: without scopes, audit entries, and anything that verifies."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < %s)
            INSERT INTO apikeys_apikey ({_COPIED}, public_id)
            SELECT {_COPIED}, CAST(100000000000 + number AS text) FROM apikeys_apikey, numbers WHERE id = %s
            """,
            [number, key.pk],
        )
        if connection.vendor == "postgresql":
            cursor.execute("ANALYZE apikeys_apikey, apikeys_keyactivity")


def make_key(
    organization: Organization,
    name: str = "",
    *,
    purpose: str = "Reads orders for the nightly report",
    environment: str = "prod",
    scopes: Sequence[str] = ("orders:read",),
    owner: Member | None = None,
    owner_contact: str = "",
    expires_at: datetime | None = None,
    networks: Sequence[str] = (),
    rate_limit: RateLimit | tuple[int, int, int] | None = None,
    by: User | None = None,
    **issue: Any,
) -> IssuedKey:
    """Issue a key: ``make_key(...).key`` is its row, ``make_key(...).secret.text`` what a caller sends.

    Scopes are named; they must be in the organization's catalogue.
    """
    if owner is None and not owner_contact:
        owner_contact = "team@example.com"
    terms = KeyTerms(
        name=name or f"Key {next(_numbers)}",
        purpose=purpose,
        scopes=[organization.scopes.get(name=scope) for scope in scopes],
        owner=owner,
        owner_contact=owner_contact,
        expires_at=expires_at,
        networks=networks,
        rate_limit=RateLimit(*rate_limit) if rate_limit else None,
    )
    return ApiKey.objects.issue(
        organization, organization.environments.get(code=environment), terms, by=make_actor(by), **issue
    )


def edit_key(key: ApiKey, *, by: Actor | None = None, **changes: object) -> None:
    """Change some terms of a key, by somebody who is nobody in particular."""
    current = ApiKey.objects.for_pages().get(pk=key.pk)
    terms = current.terms
    same = {name: getattr(terms, name) for name in terms.__slots__}
    current.edit(KeyTerms(**same | changes), by=by or make_actor())


def make_revoked_key(organization: Organization, name: str = "", **terms: Any) -> IssuedKey:
    """Issue a key and revoke it."""
    issued = make_key(organization, name, **terms)
    issued.key.revoke(reason=RevocationReason.UNUSED, by=make_actor())
    return issued


def make_expired_key(organization: Organization, name: str = "", **terms: Any) -> IssuedKey:
    """Issue a key whose expiry has passed by now; no verb makes one, so time is moved in its row."""
    issued = make_key(organization, name, expires_at=timezone.now() + timedelta(days=1), **terms)
    issued.key.expires_at = timezone.now() - timedelta(days=1)
    issued.key.save(update_fields=["expires_at"])
    return issued


def make_old_key(organization: Organization, age: timedelta, **terms: Any) -> ApiKey:
    """Make a key that was created in the past: a row of its own, because the database freezes a key's creation."""
    issued = make_key(organization, **terms)
    old: ApiKey = ApiKey.objects.get(pk=issued.key.pk)
    scopes = list(old.scopes.all())
    old.pk, old.public_id, old.form_token = None, make_public_id(), None
    old.created_at = timezone.now() - age
    old.save(force_insert=True)
    old.scopes.set(scopes)
    return old


def make_exemption(
    key: ApiKey,
    owner: Member | None = None,
    *,
    reason: str = "Stands by for the day when the other one fails",
    until: timedelta = timedelta(days=100),
) -> KeyExemption:
    """Let a key be silent; one that ran out, ``until`` in the past, is moved there, because no verb makes one."""
    owner = owner or key.organization.members.first()
    ahead = until if until > timedelta() else timedelta(days=1)
    terms = ExemptionTerms(owner, reason, timezone.now() + ahead)
    KeyExemption.objects.grant(key, terms, by=make_actor())
    exemption: KeyExemption = KeyExemption.objects.get(pk=key.pk)
    if ahead != until:
        exemption.until = timezone.now() + until
        exemption.save(update_fields=["until"])
    return exemption


def make_policy(organization: Organization, **terms: Any) -> Policy:
    """Let an organization ask something of its keys, and nothing else."""
    Policy.objects.of(organization).edit(PolicyTerms(**terms), by=make_actor())
    organization.refresh_from_db()
    return Policy.objects.of(organization)


def make_policy_exemption(
    key: ApiKey,
    rule: PolicyRule = PolicyRule.EXPIRY,
    *,
    reason: str = "The partner cannot change it before spring",
    until: timedelta = timedelta(days=100),
) -> PolicyExemption:
    """Exempt a key from a rule; an exemption that ran out, ``until`` in the past, is moved there."""
    ahead = until if until > timedelta() else timedelta(days=1)
    terms = PolicyExemptionTerms(reason, timezone.now() + ahead)
    PolicyExemption.objects.grant(key, rule, terms, by=make_actor())
    exemption: PolicyExemption = PolicyExemption.objects.get(key=key, rule=rule)
    if ahead != until:
        exemption.until = timezone.now() + until
        exemption.save(update_fields=["until"])
    return exemption


def make_rhythm(key: ApiKey, *, usual_gap: timedelta) -> KeyRhythm:
    """Let a key be known to come back after such gaps; it was used when it was made, and perhaps later."""
    now, then = timezone.now(), key.created_at
    seconds = usual_gap // timedelta(seconds=1)
    rhythm, _ = KeyRhythm.objects.update_or_create(
        key=key, defaults={"first_hour": then, "last_hour": then, "usual_gap": seconds, "computed_at": now}
    )
    return rhythm


def make_rotation(organization: Organization, key: ApiKey | None = None, **terms: Any) -> StartedRotation:
    """Start rotating a key, for a week and from now on unless other terms are named."""
    chosen = {"reason": RotationReason.REGULAR, "overlap": timedelta(days=7), **terms}
    return Rotation.objects.start(key or make_key(organization).key, RotationTerms(**chosen), by=make_actor())


def make_overdue_rotation(organization: Organization, key: ApiKey | None = None, **terms: Any) -> StartedRotation:
    """Start a rotation whose deadline has passed and that nobody closed; time is moved in the old key's row."""
    started = make_rotation(organization, key, **terms)
    old = started.rotation.old_key
    old.expires_at = timezone.now() - timedelta(hours=1)
    old.save(update_fields=["expires_at"])
    return StartedRotation(Rotation.objects.for_pages().get(pk=started.rotation.pk), started.issued, started.token)


def make_review(organization: Organization, keys: Any = None, *, by: User | None = None, **terms: Any) -> Review:
    """Start a review of all of an organization's keys, unless others are named, for two weeks."""
    chosen = {"title": "Autumn review", "due_at": timezone.now() + timedelta(days=14), **terms}
    keys = organization.keys.all() if keys is None else keys
    review: Review = Review.objects.start(organization, ReviewTerms(**chosen), keys, by=make_actor(by))
    return review


def alert_facts(kind: AlertKind, at: datetime) -> dict[str, Any]:
    """Return what an alert of a kind may hold, as the evaluation writes it."""
    callers = [
        {"address": ADDRESS, "agent": "orders-report/2.1", "count": 3, "is_known": True},
        {"address": "203.0.113.66", "agent": "curl/8.5", "count": 38, "is_known": False},
    ]
    moment = at.isoformat()
    found: dict[AlertKind, dict[str, Any]] = {
        AlertKind.ABUSE: {"hour": moment, "wrong_secrets": 41, "callers": callers},
        AlertKind.EXPIRED_USED: {"hour": moment, "expired_at": moment, "requests": 12, "callers": callers},
        AlertKind.UNUSUAL_USAGE: {
            "shape": "spike",
            "hour": moment,
            "count": 4120,
            "low": 300,
            "high": 900,
            "is_complete": True,
            "callers": callers,
        },
        AlertKind.RATE_LIMITED: {"hour": moment, "refused": 330, "hours": 5, "callers": callers},
        AlertKind.EXPIRY: {"days": 7, "expires_at": (at + timedelta(days=6)).isoformat()},
        AlertKind.NEW_NETWORK: {"network": "203.0.113.0/24", "address": "203.0.113.66", "at": moment},
        AlertKind.OWNER_GONE: {"owner": "left@example.com"},
        AlertKind.ROTATION_DUE: {"rotate_by": moment, "max_key_age": 180},
        AlertKind.UNUSED: {"silence": "dormant", "since": moment, "days": 90, "usual_gap_hours": 26},
        AlertKind.JOB_LATE: {"job": "roll_up_usage", "worked_at": None, "limit_seconds": 8100, "error": ""},
        AlertKind.WEBHOOK_OFF: {
            "webhook": 1,
            "name": "Ops",
            "host": "example.com",
            "failing_since": moment,
            "error": "500",
        },
    }
    return found[kind]


def make_alert(
    organization: Organization,
    kind: AlertKind = AlertKind.ABUSE,
    key: ApiKey | None = None,
    *,
    ago: timedelta = timedelta(),
    subject: str = "",
    level: int | None = None,
    facts: dict[str, Any] | None = None,
    count: int = 1,
) -> Alert:
    """Raise an alert, of a new key unless one is named; its kind's rule must be on."""
    at = timezone.now() - ago
    if kind.is_of_key:
        key = key or make_key(organization).key
    facts = alert_facts(kind, at) | (facts or {})
    subject = subject or ("" if key else str(facts.get("job", facts.get("webhook"))))
    sighting = Sighting(key.pk if key else None, at, facts, subject=subject, level=level, count=count)
    [event] = Alert.objects.raise_all(organization, kind, [sighting], now=at)
    found: Alert = Alert.objects.for_pages().get(pk=event.alert_id)
    return found


def make_webhook(organization: Organization, name: str = "", **terms: Any) -> Webhook:
    """Make a webhook; at the address that it has by default nobody listens."""
    terms = {"url": "http://127.0.0.1:9/hook", **terms}
    webhook = Webhook(organization=organization, name=name or f"Webhook {next(_numbers)}", **terms)
    webhook.create(by=Actor.command())
    return webhook


def make_delivery(organization: Organization, webhook: Webhook | None = None, **state: Any) -> Delivery:
    """Make a test that was, or is to be, sent: to a webhook, or by mail."""
    state = {"email": "" if webhook else f"person{next(_numbers)}@example.com", "is_test": True, **state}
    channel = Channel.WEBHOOK if webhook else Channel.MAIL
    delivery: Delivery = Delivery.objects.create(organization=organization, channel=channel, webhook=webhook, **state)
    return delivery


def make_event(
    key: ApiKey,
    *,
    ago: timedelta = timedelta(),
    at: datetime | None = None,
    outcome: Outcome = Outcome.VALID,
    address: str | None = ADDRESS,
    user_agent: str = "orders-report/2.1",
    method: str = "GET",
    path: str = "/v2/orders",
    scope: str = "orders:read",
) -> UsageEvent:
    """Record a request of the past, and move the key's activity as the verifier would have."""
    event = UsageEvent(
        key_id=key.pk,
        at=at or timezone.now() - ago,
        outcome=outcome,
        address=address,
        user_agent=user_agent,
        method=method,
        path=path,
        scope=scope,
    )
    make_events([event])
    return event


def make_events(events: Iterable[UsageEvent]) -> None:
    """Record many requests of the past at once."""
    events = list(events)
    UsageEvent.objects.bulk_create(events, batch_size=2000)
    for key_id in {event.key_id for event in events}:
        activity, _ = KeyActivity.objects.get_or_create(key_id=key_id)
        _catch_up(activity, [event for event in events if event.key_id == key_id])
        activity.save()


def _catch_up(activity: KeyActivity, events: list[UsageEvent]) -> None:
    for event in sorted(events, key=lambda event: event.at):
        if event.outcome != Outcome.VALID:
            activity.last_refused_at = max(activity.last_refused_at or event.at, event.at)
            continue
        activity.first_used_at = min(activity.first_used_at or event.at, event.at)
        if activity.last_used_at is None or event.at >= activity.last_used_at:
            activity.last_used_at, activity.last_address = event.at, event.address
