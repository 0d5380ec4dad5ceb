"""Fills an empty database for the browser tests, in a process of its own: ``python -m tests.e2e.seed``.

Migrates, collects the static files, makes people and keys in every state, and prints as JSON what tests need.
"""

import json
import os
from datetime import timedelta
from typing import Any

import django
from django.core.management import call_command

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keyadmin.settings")
django.setup()

from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes  # noqa: E402 - as below
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret  # noqa: E402
from allauth.mfa.webauthn.internal.auth import WebAuthn  # noqa: E402
from django.db import transaction  # noqa: E402 - models need Django to be set up
from django.utils import timezone  # noqa: E402

from apikeys.models import (  # noqa: E402
    Alert,
    AlertKind,
    Answer,
    ApiKey,
    Clock,
    Decision,
    Member,
    Organization,
    Outcome,
    PolicyRule,
    Role,
    UsageEvent,
    UsageHour,
    UsageWatermark,
    User,
)
from apikeys.models.delivery import DeliveryAttempt  # noqa: E402
from apikeys.tallies import AT_ONCE  # noqa: E402
from tests.factories import (  # noqa: E402
    PASSWORD,
    copy_key,
    make_actor,
    make_alert,
    make_delivery,
    make_environment,
    make_event,
    make_events,
    make_exemption,
    make_expired_key,
    make_invitation,
    make_key,
    make_limited,
    make_member,
    make_old_key,
    make_organization,
    make_policy,
    make_policy_exemption,
    make_review,
    make_revoked_key,
    make_rotation,
    make_scope,
    make_user,
    make_webhook,
)
from tests.passkey import Passkey  # noqa: E402
from tests.static_files import collect_static  # noqa: E402

PEOPLE = ("viewer", "operator", "admin", "forgetful", "roaming", "keyholder", "guarded", "careful")
# As nasty as names may get: long without a space, right to left, emoji, markup.
HOSTILE_NAMES = (
    "x" * 100,
    "مفتاح الطلبات للتقرير الليلي في المستودع الشمالي",
    "🚚📦 <b>shipping</b> & “returns” 'robot'",
)


def seed() -> dict[str, object]:
    """Make everything and return the ids that paths need."""
    # Usage was recorded always, so that old keys are unused and not just unmeasured.
    UsageWatermark.objects.update(recording_since=None)
    acme = make_organization("acme", name="Acme", admin=make_user("founder@example.com", name="Fay Founder"))
    members = {name: _join(acme, name) for name in PEOPLE}
    limited = make_user("limited@example.com", name="Limited Person", password=PASSWORD)
    members["limited"] = make_limited(acme, "stag", "dev", user=limited)
    # Somebody of two organizations sees the switcher; one of the two is empty.
    make_organization("empty", name="Empty", admin=members["admin"].user)
    _wide(make_user("crowded@example.com", name="Cora Crowded", password=PASSWORD))
    make_user("nowhere@example.com", name="Nora Nowhere", password=PASSWORD)
    scopes = [make_scope(acme, f"area{number}:read", description=f"Read area {number}").name for number in range(40)]
    sandbox = make_environment(acme, "sandbox", name="sandbox")
    keys = _keys(acme, members, scopes)
    _usage(acme)
    rotations = _rotations(acme, members["operator"])
    for _ in UsageHour.objects.roll_up():
        pass
    alerts = _alerts(acme, members["operator"])
    _policy(acme)
    return {
        "alerts": alerts,
        "factors": _factors(members["guarded"]),
        "reviews": _reviews(acme, members["admin"]),
        "keys": keys,
        "rotations": rotations,
        "members": {name: member.pk for name, member in members.items()},
        "ways_in": _invitations(acme, members["admin"].user),
        "scope": scopes[0],
        "environment": sandbox.code,
    }


def _join(acme: Organization, name: str) -> Member:
    role = Role.ADMIN if name == "keyholder" else Role(name) if name in Role.values else Role.VIEWER
    return make_member(acme, role, make_user(f"{name}@example.com", name=f"{name} Person".title(), password=PASSWORD))


def _factors(member: Member) -> dict[str, object]:
    """Give somebody an authenticator app, recovery codes, and a passkey with a nasty name."""
    secret = generate_totp_secret()
    app = TOTP.activate(member.user, secret).instance
    # It was set up long ago: of the 30 seconds in which it is, no code would be taken any more.
    app.data["last_step"] = 0
    app.save()
    RecoveryCodes.activate(member.user)
    options = {"publicKey": {"user": {"id": "AAAA"}, "challenge": "AAAA"}}
    passkey = WebAuthn.add(member.user, "<b>" + "x" * 57, json.loads(Passkey().create(options)))
    return {"secret": secret, "passkey": passkey.instance.pk}


def _invitations(acme: Organization, admin: User) -> dict[str, str]:
    """Invite people in every state, and return the tokens of the links that tests open."""
    by = make_actor(admin)
    new = make_invitation(acme, "new@example.com", name="Nora New", by=by)
    known = make_invitation(acme, "nowhere@example.com", role=Role.OPERATOR, codes=("stag", "dev"), by=by)
    known.invitation.note_mailed()
    over = make_invitation(acme, f"{'x' * 60}@{'long.' * 30}example.com", role=Role.ADMIN, by=by).invitation
    over.expires_at = timezone.now() - timedelta(days=2)
    over.save()
    make_invitation(acme, "left@example.com", by=make_actor(make_user()))
    return {"way_in": new.token, "way_in_known": known.token}


def _keys(acme: Organization, members: dict[str, Member], scopes: list[str]) -> dict[str, str]:
    operator = members["operator"]
    paused = make_key(acme, "Paused importer", owner=operator).key
    paused.pause(by=make_actor(operator.user))
    replaced = make_key(acme, "Regenerated worker", owner=operator).key
    hostile = [
        make_key(acme, name, purpose=f"{name} " * 4, scopes=scopes, owner_contact=f"{'y' * 60}@example.com")
        for name in HOSTILE_NAMES
    ]
    for number in range(60):
        make_key(acme, f"Batch job {number}", environment="dev", owner=operator)
    keys = {
        "busy": make_key(
            acme,
            "Busy reporter",
            scopes=["orders:read", "orders:write"],
            owner=operator,
            rate_limit=(50, 1, 200),
            networks=["198.51.100.0/24"],
        ),
        "hostile": hostile[0],
        "idle": make_key(acme, "Idle exporter", owner=operator),
        "expiring": make_key(acme, "Expiring sync", expires_at=timezone.now() + timedelta(days=5)),
        "expired": make_expired_key(acme, "Expired sync"),
        "revoked": make_revoked_key(acme, "Revoked crawler"),
        "leaked": make_key(acme, "Leaked poller", owner=operator),
    }
    unused = make_old_key(acme, timedelta(days=200), name="Unused feed")
    exempt = make_old_key(acme, timedelta(days=200), name="Standby " + "x" * 90)
    make_exemption(exempt, operator, reason="<b>Stands by</b> " + "y" * 150)
    named = {name: issued.key.public_id for name, issued in keys.items()}
    named |= {"unused": unused.public_id, "exempt": exempt.public_id}
    return named | {"paused": paused.public_id, "new": replaced.regenerate(by=make_actor()).key.public_id}


def _wide(admin: User) -> None:
    """Make an organization with more keys than are counted before a page is sent, of one environment."""
    wide = make_organization("wide", name="Wide", admin=admin)
    copy_key(make_key(wide, "One of many").key, AT_ONCE + 100)
    make_key(wide, "The other one", environment="dev")
    for name in ("Reader", "Writer", "Sweeper"):
        make_key(wide, name).key.pause(by=make_actor(admin))


def _policy(acme: Organization) -> None:
    """Ask something that most of the keys do not do, as if it had been switched on just now."""
    guarded = tuple(acme.scopes.filter(name__startswith="area1"))
    make_policy(acme, owner_required=True, max_rate=(100, 1), least_purpose=10, admin_scopes=guarded)
    for name in ("Standby " + "x" * 90, "Unused feed"):
        # Of two of a name the older one, which make_old_key made from the other.
        key = acme.keys.filter(name=name).order_by("created_at")[0]
        make_policy_exemption(key, PolicyRule.OWNER, reason="<i>Partner</i> " + "z" * 150)


def _rotations(acme: Organization, operator: Member) -> dict[str, object]:
    """Make a rotation in every state, and return their numbers and the tokens of links."""
    running = make_rotation(acme, make_key(acme, "Rotating reporter", owner=operator).key, note="Every quarter")
    for number in range(60):
        _call(running.rotation.old_key, number % 9, ago=timedelta(hours=30 * number))
    for number in range(4):
        _call(running.issued.key, number)
    _call(running.issued.key, 20, outcome=Outcome.NETWORK_DENIED)
    _call(running.rotation.old_key, 3)
    waiting = make_rotation(acme, make_key(acme, "Waiting sync").key, clock=Clock.FIRST_USE, finishes_when_safe=True)
    hostile = make_rotation(
        acme, make_key(acme, "z" * 100, owner_contact=f"{'w' * 60}@example.com").key, note="n" * 500
    )
    for key in (hostile.rotation.old_key, hostile.issued.key):
        make_event(key, user_agent="u" * 200, address="2001:db8:1234:5678:9abc:def0:1234:5678")
    finished = make_rotation(acme, make_key(acme, "Replaced feed").key)
    _call(finished.rotation.old_key, 1, ago=timedelta(days=2))
    finished.rotation.finish(by=make_actor())
    for number in range(3):
        _call(finished.rotation.old_key, number, outcome=Outcome.REVOKED)
    cancelled = make_rotation(acme, make_key(acme, "Kept importer").key)
    cancelled.rotation.cancel(by=make_actor())
    overdue = make_rotation(acme, make_key(acme, "Overdue mailer").key)
    ApiKey.objects.filter(pk=overdue.rotation.old_key_id).update(expires_at=timezone.now() - timedelta(hours=3))
    _call(overdue.rotation.old_key, 5, outcome=Outcome.EXPIRED)
    handed, taken = (
        make_rotation(acme, make_key(acme, name, owner=operator).key, link_lasts=timedelta(days=1))
        for name in ("Handed printer", "Handed scanner")
    )
    made = {
        "running": running,
        "waiting": waiting,
        "hostile_rotation": hostile,
        "finished": finished,
        "cancelled": cancelled,
        "overdue": overdue,
        "handed": handed,
    }
    tokens = {"token": handed.token, "token_to_take": taken.token}
    old = {"old_key": running.rotation.old_key.public_id, "new_key": running.issued.key.public_id}
    return {name: one.rotation.pk for name, one in made.items()} | tokens | old


def _call(key: ApiKey, number: int, **values: Any) -> None:
    make_event(key, address=f"203.0.113.{number}", user_agent=f"feeder/{number}.1", **values)


def _usage(acme: Organization) -> None:
    busy = acme.keys.get(name="Busy reporter")
    now = timezone.now()
    outcomes = [Outcome.VALID] * 9 + [Outcome.SCOPE_MISSING, Outcome.RATE_LIMITED, Outcome.NETWORK_DENIED]
    make_events(
        UsageEvent(
            key_id=busy.pk,
            at=now - timedelta(minutes=37 * number),
            outcome=outcomes[number % len(outcomes)],
            address=f"198.51.100.{number % 7}",
            user_agent=f"orders-report/2.{number % 3}",
            method="GET",
            path="/v2/orders/" + "0123456789" * (number % 6),
            scope="orders:read",
        )
        for number in range(1000)
    )
    for name in HOSTILE_NAMES:
        hostile = acme.keys.get(name=name)
        for outcome in (Outcome.VALID, Outcome.UNKNOWN, Outcome.PAUSED):
            make_event(hostile, outcome=outcome)
    make_event(acme.keys.get(name="Expired sync"), outcome=Outcome.EXPIRED)
    for hours in range(5):
        make_event(
            acme.keys.get(name="Revoked crawler"),
            at=now + timedelta(seconds=hours),
            outcome=Outcome.REVOKED,
            address="2001:db8::7",
        )


def _alerts(acme: Organization, operator: Member) -> dict[str, str]:
    """Raise alerts in every state, and return their codes; those of "Alerting job" are for tests to change."""

    def key(name: str) -> ApiKey:
        found: ApiKey = acme.keys.filter(name=name).earliest("created_at")
        return found

    long = [{"address": "2001:db8:1234:5678:9abc:def0:1234:5678", "agent": "u" * 200, "count": 9, "is_known": False}]
    abuse = make_alert(acme, AlertKind.ABUSE, key("Busy reporter"), ago=timedelta(hours=3), count=38)
    unusual = make_alert(acme, AlertKind.UNUSUAL_USAGE, key("Busy reporter"), ago=timedelta(hours=3))
    hostile = [
        make_alert(acme, AlertKind.ABUSE, key(name), facts={"callers": long * 5}, count=12_345)
        for name in HOSTILE_NAMES
    ]
    held, resolved = make_alert(acme, AlertKind.EXPIRY, key("Expiring sync"), level=7), make_alert(acme)
    held.acknowledge(until=timezone.now() + timedelta(days=3), by=make_actor(operator.user))
    resolved.resolve(note="<b>It was us</b> " + "x" * 480, by=make_actor(operator.user))
    ended = make_alert(acme, AlertKind.UNUSED, key("Unused feed"))
    Alert.objects.end_all([ended], now=timezone.now(), why="The key is used again.")
    job = make_alert(acme, AlertKind.JOB_LATE, facts={"error": "e" * 400})
    for number in range(6):
        make_alert(acme, AlertKind.RATE_LIMITED, make_key(acme, f"Alerting job {number}", owner=operator).key)
    made = {"abuse": abuse, "unusual": unusual, "hostile": hostile[0], "held": held, "resolved": resolved, "job": job}
    return {f"alert_{name}": alert.code for name, alert in made.items()} | _deliveries(acme)


def _reviews(acme: Organization, admin: Member) -> dict[str, int]:
    """Make a review that is closed and one that runs, with answers of each kind, and return their numbers."""
    made = {}
    for name, title in (("review_closed", "Spring <b>review</b> " + "x" * 70), ("review", "Autumn review")):
        review = make_review(acme, by=admin.user, title=title, note="<i>Every</i> quarter " + "y" * 300)
        hostile = review.items.filter(key__in=acme.keys.filter(name__in=HOSTILE_NAMES)).order_by("pk")
        for place, item in enumerate(hostile):
            told = Answer([Decision.NEEDED, Decision.UNNEEDED][place % 2], "<b>Until spring</b> " + "n" * 400)
            review.answer([item.pk], told, by=make_actor(admin.user), member=admin, seen=None)
        if name == "review_closed":
            review.close(by=make_actor(admin.user))
        made[name] = review.pk
    return made


def _deliveries(acme: Organization) -> dict[str, str]:
    """Make webhooks of each state and what was sent to them, and return the ids of one each."""
    webhook = make_webhook(acme, "<b>On call</b> " + "x" * 85, url="https://events.example.com/" + "u" * 300)
    for _ in range(3):
        make_delivery(acme, webhook, attempts=3)
    make_webhook(acme, "Switched off", format="slack").switch_off(by=make_actor())
    sent = make_delivery(acme, webhook, attempts=2, sent_at=timezone.now())
    DeliveryAttempt.objects.create(delivery=sent, seconds=15, error="<b>It did not answer.</b> " + "e" * 200)
    DeliveryAttempt.objects.create(delivery=sent, seconds=0.2, status=204)
    make_delivery(acme, attempts=10, failed_at=timezone.now())
    return {"webhook": str(webhook.pk), "delivery": str(sent.pk)}


if __name__ == "__main__":
    call_command("migrate", verbosity=0)
    call_command("createcachetable", verbosity=0)
    collect_static()
    with transaction.atomic():
        print(json.dumps(seed()))
