"""What tests need done inside the product, in a process of its own: ``python -m tests.guarantees.stage``.

Fills an empty database, then does what each line of its input asks, by the verbs of the models, and answers with a
line of JSON: ``["key", {terms}]``, ``["revoke", id]``, ``["pause", id]``, ``["expire", id, seconds]``,
``["expired"]``, ``["unlimit", id]``.
"""

import json
import os
import sys
from dataclasses import replace
from datetime import timedelta
from typing import Any

import django
from django.core.management import call_command

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keyadmin.settings")
django.setup()

from django.core.exceptions import ValidationError  # noqa: E402
from django.utils import timezone  # noqa: E402 - models need Django to be set up

from apikeys.models import ApiKey, IssuedKey, Organization, RevocationReason, Role  # noqa: E402
from tests.factories import (  # noqa: E402
    PASSWORD,
    make_actor,
    make_expired_key,
    make_key,
    make_member,
    make_organization,
    make_user,
)
from tests.guarantees.clients import ORGANIZATION  # noqa: E402
from tests.static_files import collect_static  # noqa: E402


def _key(public_id: str) -> ApiKey:
    key: ApiKey = ApiKey.objects.for_pages().get(public_id=public_id)
    return key


def _told(issued: IssuedKey) -> dict[str, Any]:
    return {"id": issued.key.pk, "public_id": issued.key.public_id, "text": issued.secret.text}


def key(terms: dict[str, Any]) -> dict[str, Any]:
    return _told(make_key(Organization.objects.get(slug=ORGANIZATION), **terms))


def expired() -> dict[str, Any]:
    return _told(make_expired_key(Organization.objects.get(slug=ORGANIZATION)))


def revoke(public_id: str) -> None:
    _key(public_id).revoke(reason=RevocationReason.OTHER, by=make_actor())


def pause(public_id: str) -> None:
    _key(public_id).pause(by=make_actor())


def expire(public_id: str, seconds: float) -> int:
    """Let a key expire soon; no form can, its expiry is the end of a day. Returns when, in ns since 1970."""
    while True:
        expires_at = timezone.now() + timedelta(seconds=seconds)
        changed = _key(public_id)
        try:
            changed.edit(replace(changed.terms, expires_at=expires_at), by=make_actor())
        except ValidationError:
            seconds *= 2  # under load the verb waited for its lock until the instant had passed
        else:
            return round(expires_at.timestamp() * 1_000_000) * 1000


def rehearse(public_id: str, seconds: float) -> int:
    """Pause a key until an instant, past the verb, which begins at five minutes. Returns when, in ns since 1970."""
    now = timezone.now()
    until = now + timedelta(seconds=seconds)
    ApiKey.objects.filter(public_id=public_id).update(paused_at=now, paused_until=until)
    return round(until.timestamp() * 1_000_000) * 1000


VERBS = {verb.__name__: verb for verb in (key, expired, revoke, pause, expire, rehearse)}


def main() -> None:
    call_command("migrate", verbosity=0)
    call_command("createcachetable", verbosity=0)
    collect_static()
    acme = make_organization(ORGANIZATION, name="Acme", admin=make_user("founder@example.com"))
    make_member(acme, Role.OPERATOR, make_user("operator@example.com", password=PASSWORD))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        verb, *arguments = json.loads(line)
        print(json.dumps(VERBS[verb](*arguments)), flush=True)


if __name__ == "__main__":
    main()
