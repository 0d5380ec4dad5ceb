"""What the tests of the pages share: addresses, htmx, hostile texts, and whether anything was changed."""

import time
import uuid
from datetime import UTC, datetime, timedelta

from django.apps import apps
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apikeys.key_secret import make_public_id
from apikeys.models import ApiKey, AuditEntry, KeyActivity
from tests.factories import make_key

HTMX = {"HX-Request": "true"}
HOSTILE = {
    "a script": "<script>alert(1)</script>",
    "quotes": "\"'><img src=x onerror=alert(1)>",
    "right to left": "مفتاح الدفع",
    "emoji": "🔑👩‍👩‍👧",
    "at its limit": "x" * 100,
    "a template": "{{ request.user }}{% debug %}",
}
# Session and cache rows come and go; every other table is what people see.
_PASSING = {"sessions.Session"}


def url(name, organization, *args, **query):
    """Return a page's address; ``organization`` may be anything with a slug."""
    return reverse(name, args=[organization.slug, *args], query=query or None)


def is_whole_page(response):
    return b"<html" in response.content


def is_partial(response):
    """Say whether the answer is a fragment alone."""
    return response.content.lstrip().startswith(b"<") and b"<html" not in response.content


def entries(organization, action=None):
    """Return an organization's audit entries, oldest first."""
    found = AuditEntry.objects.filter(organization=organization).order_by("id")
    return list(found.filter(action=action) if action else found)


def messages_of(response):
    """Return what a redirect will say on the next page."""
    return [str(message) for message in response.wsgi_request._messages._queued_messages]


def snapshot():
    """Return every row of every table as the database has it, to compare with later."""
    quote, found = connection.ops.quote_name, {}
    with connection.cursor() as cursor:
        for model in apps.get_models():
            if model._meta.label not in _PASSING:
                cursor.execute(f"SELECT * FROM {quote(model._meta.db_table)}")
                found[model._meta.label] = sorted(map(repr, cursor.fetchall()))
    return found


def key_form(**changes):
    """Return what a browser sends for a new key."""
    return {
        "name": "checkout",
        "purpose": "Takes payments; kept in the shop's vault",
        "environment": "prod",
        "owner": "",
        "owner_contact": "shop@example.com",
        "scopes": ["orders:read"],
        "expires": "90",
        "expires_on": "",
        "networks": "",
        "rate_limit": "",
        "rate_period": "1",
        "rate_burst": "",
        "token": str(uuid.uuid4()),
    } | changes


def edit_form(key, **changes):
    """Return what a browser sends from a key's unchanged edit form."""
    form = key_form(
        name=key.name,
        purpose=key.purpose,
        owner=key.owner_id or "",
        owner_contact=key.owner_contact,
        scopes=key.scope_names,
        expires="date" if key.expires_at else "never",
        expires_on=key.expires_at.date().isoformat() if key.expires_at else "",
        networks="\n".join(key.networks),
        rate_limit=key.rate_limit or "",
        rate_period=key.rate_period,
        rate_burst=key.rate_burst or "",
        version=key.version,
    )
    del form["environment"], form["token"]
    return form | changes


def rotate_form(**changes):
    """Return what a browser sends to rotate a key as one usually does."""
    return {
        "reason": "regular",
        "overlap": "10080",
        "clock": "now",
        "latest": "",
        "finishes": "deadline",
        "expires": "same",
        "expires_on": "",
        "handover": "show",
        "link_lasts": "1440",
        "note": "",
        "confirmation": "",
        "token": str(uuid.uuid4()),
    } | changes


def make_keys(organization, number, *, change=lambda key, place: None, used=lambda place: None):
    """Insert many keys at once, each changed by ``change`` and last used when ``used`` says."""
    pattern = ApiKey.objects.get(pk=make_key(organization).key.pk)
    scopes = list(pattern.scopes.all())
    keys = []
    for place in range(number):
        key = ApiKey.objects.get(pk=pattern.pk) if not keys else _copy(keys[-1])
        key.pk, key.public_id, key.form_token = None, make_public_id(), None
        key.name, key.created_at = f"Key {place:03}", pattern.created_at - timedelta(minutes=place)
        key.expires_at = key.revoked_at = key.paused_at = None
        change(key, place)
        keys.append(key)
    ApiKey.objects.bulk_create(keys)
    through = ApiKey.scopes.through
    through.objects.bulk_create([through(key_id=key.pk, scope_id=scope.pk) for key in keys for scope in scopes])
    KeyActivity.objects.bulk_update(
        [KeyActivity(key_id=key.pk, last_used_at=at) for place, key in enumerate(keys) if (at := used(place))],
        ["last_used_at"],
    )
    return keys


def _copy(key):
    fields = [field.attname for field in ApiKey._meta.concrete_fields]
    return ApiKey(**{name: getattr(key, name) for name in fields})


def age_limit(organization, days):
    """Let an organization's keys become so old."""
    organization.max_key_age = days
    organization.save(update_fields=["max_key_age"])


def soon(days=30):
    return timezone.now() + timedelta(days=days)


def day(year, month=1, number=1):
    return datetime(year, month, number, tzinfo=UTC)


def without_guards() -> None:
    """Let the audit log be changed for the rest of this test, as by somebody who has the database itself."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL session_replication_role = replica")
            return
        cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'keyadmin_audit%%'")
        for (name,) in cursor.fetchall():
            cursor.execute(f"DROP TRIGGER {name}")


def age_proof(client: Client, seconds: float) -> Client:
    """Let it be so long ago that whoever is signed in has shown that it is them."""
    session = client.session
    session["proven_at"] = time.time() - seconds
    session.save()
    return client
