"""The rows of the key list: `{% load key_rows %}`."""

from collections.abc import Iterable, Iterator
from typing import Any, Final, TypedDict

from django import template
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from apikeys.models import ApiKey, Member, Rotation, Status
from apikeys.templatetags.keyadmin import (
    ago,
    day,
    environment,
    expiry,
    rotation_label,
    short,
    silence_label,
    sparkline,
    status_badge,
)

register = template.Library()

SCOPES_SHOWN: Final = 2
# So much of the names of all scopes goes into a title.
_SCOPES_TITLE: Final = 400
# Stands for a public id in an address; it has none of their letters.
_ID: Final = "-"


class KeyRow(TypedDict):
    """What a row of the list says of a key.

    A dictionary, and texts that are drawn already: a template takes most of its time to look up names, which of an
    object it first does in vain.
    """

    id: str
    name: str
    purpose: str
    url: str
    fingerprint: str
    environment: SafeString
    is_dead: bool
    can_pick: bool
    status: SafeString
    rotation: SafeString
    owner: str
    owner_is_gone: bool
    scopes: str
    all_scopes: str
    more_scopes: int
    created: SafeString
    rotate: SafeString
    used: SafeString
    expires: SafeString
    sparkline: SafeString


@register.simple_tag
def key_rows(keys: Iterable[ApiKey], member: Member) -> Iterator[KeyRow]:
    """Yield the row of each key, which knows what with_usage() puts on it, for a member who may pick some of them."""
    address = reverse("key_detail", args=[member.organization.slug, _ID])
    before, _, after = address.rpartition(_ID)
    places: dict[int, SafeString] = {}
    for key in keys:
        more: Any = key
        if key.environment_id not in places:
            places[key.environment_id] = environment(key.environment)
        names = key.scope_names
        is_dead = key.is_dead
        yield {
            "id": key.public_id,
            "name": key.name,
            "purpose": key.purpose,
            "url": f"{before}{key.public_id}{after}",
            "fingerprint": key.fingerprint,
            "environment": places[key.environment_id],
            "is_dead": is_dead,
            "can_pick": not key.revoked_at and member.operates(key.environment),
            "status": status_badge(key),
            "rotation": _rotation(key, more.rotation),
            "owner": key.owner_label,
            "owner_is_gone": key.owner_is_gone,
            "scopes": ", ".join(names[:SCOPES_SHOWN]),
            "all_scopes": _cut(", ".join(names)),
            "more_scopes": max(0, len(names) - SCOPES_SHOWN),
            "created": day(key.created_at),
            "rotate": rotation_label(key),
            "used": _tries(key, more.attempts_since) if is_dead and more.attempts_since else _use(key),
            "expires": expiry(key),
            "sparkline": sparkline(more.sparkline),
        }


def _cut(text: str) -> str:
    return text if len(text) <= _SCOPES_TITLE else Truncator(text).chars(_SCOPES_TITLE)


def _rotation(key: ApiKey, rotation: Rotation | None) -> SafeString:
    if rotation is None:
        return SafeString("")
    words = "new of a rotation" if rotation.new_key_id == key.pk else "being rotated"
    return format_html('<a class="line" href="{}">{}</a>', rotation.get_absolute_url(), words)


def _tries(key: ApiKey, count: int) -> SafeString:
    words = "try" if count == 1 else "tries"
    end = "revoked" if key.status == Status.REVOKED else "expired"
    return format_html('{} {} <small class="line">since {}</small>', short(count), words, end)


def _use(key: ApiKey) -> SafeString:
    last = key.last_activity.last_used_at if key.last_activity else None
    return SafeString(f'<span class="label">used</span> {ago(last)} {silence_label(key)}')
