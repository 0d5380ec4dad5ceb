"""Starting rotations: of one key, and of many at once."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpResponse, QueryDict
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from apikeys.filters import KeyFilter
from apikeys.forms import add_verb_errors
from apikeys.http import MemberRequest, actor
from apikeys.models import (
    AlreadyStartedError,
    ApiKey,
    KeyEvidence,
    KeyExpiredError,
    KeyPausedError,
    KeyRevokedError,
    Recent,
    Role,
    Rotation,
    RotationReason,
    RotationRunningError,
    StartedRotation,
    Status,
)
from apikeys.models.rotation import RotationQuerySet
from apikeys.notifiers import send_key_links
from apikeys.paging import changed_url
from apikeys.permissions import in_reach, role_required
from apikeys.rotation_forms import ROTATE_FIELDS, RotateForm
from apikeys.views.keys import show_once
from apikeys.views.pages import form_status, get_key, go_to, page, parted_by_reach, posted
from apikeys.views.proving import proven
from apikeys.views.revocation import GET_OR_POST, MAX_BULK, already_revoked


@require_http_methods(GET_OR_POST)
@role_required(Role.OPERATOR)
@in_reach(get_key)
@proven
def key_rotate(request: MemberRequest, public_id: str) -> HttpResponse:
    """Ask how a key is to be rotated, and start it: the new key is shown once, or a link to it is sent."""
    key = get_key(request, public_id)
    if (before := _sent_before(request)) is not None:
        return _started_before(request, before)
    if (refusal := _refusal(key)) is not None:
        messages.error(request, refusal)
        running = key.open_rotation
        return go_to(request, running.get_absolute_url() if running else key.get_absolute_url())
    evidence = KeyEvidence.of(key)
    expected = key.name if evidence.in_use else ""
    form = RotateForm(posted(request), keys=[key], reason=_reason(request), expected=expected)
    if request.method == "POST" and form.is_valid():
        try:
            started = _start(key, form, request, form.cleaned_data["token"])
        except AlreadyStartedError as error:
            return _started_before(request, error.rotation)
        except RotationRunningError as error:
            messages.error(request, f"{key.name} is being rotated already: this is the rotation.")
            return go_to(request, error.rotation.get_absolute_url())
        except KeyRevokedError:
            return already_revoked(request, get_key(request, public_id))
        except (KeyExpiredError, KeyPausedError):
            messages.error(request, _refusal(get_key(request, public_id)) or "The key was changed meanwhile.")
            return go_to(request, key.get_absolute_url())
        except ValidationError as error:
            add_verb_errors(form, error, ROTATE_FIELDS)
        else:
            return _show_started(request, started)
    context = {"key": key, "evidence": evidence, "form": form, "reasons": _reason_links(request, form)}
    return page(request, "apikeys/key_rotate.html", "keys", context, status=form_status(form))


def _refusal(key: ApiKey) -> str | None:
    """Say why a key cannot be rotated, None when it can."""
    if key.revoked_at:
        return f"{key.name} is revoked. A new key can be created; this one cannot be rotated."
    if (running := key.open_rotation) is not None:
        if running.old_key_id == key.pk:
            return f"{key.name} is being rotated already: this is the rotation."
        return f"{key.name} is the new key of this rotation. Finish or cancel that first."
    if key.status is Status.EXPIRED:
        return f"{key.name} has expired. Give it a later expiry under Edit, then rotate it, or create a new key."
    if key.status is Status.PAUSED:
        return f"{key.name} is paused: nobody could be seen to move. Resume it, then rotate it."
    return None


def _reason(request: MemberRequest) -> str:
    return str((request.POST if request.method == "POST" else request.GET).get("reason", ""))


def _reason_links(request: MemberRequest, form: RotateForm) -> list[dict[str, Any]]:
    chosen, query = form["reason"].value(), request.GET.copy()
    if request.method == "POST":
        # The keys of several were sent with the form; its address does not name them.
        query.setlist("key", request.POST.getlist("key"))
    return [
        {"label": label, "url": changed_url(request.path, query, reason=value), "current": value == chosen}
        for value, label in RotationReason.choices
    ]


def _start(key: ApiKey, form: RotateForm, request: MemberRequest, token: uuid.UUID | None) -> StartedRotation:
    return Rotation.objects.start(key, form.terms_for(key), by=actor(request), form_token=token)


def _sent_before(request: MemberRequest, *keys: str) -> Rotation | None:
    """Return a rotation that the same form started when it was sent before, perhaps of one of several keys.

    Asked first: the key is in that rotation since then, or revoked by it.
    """
    try:
        token = uuid.UUID(request.POST.get("token", ""))
    except ValueError:
        return None
    tokens = [uuid.uuid5(token, key) for key in keys] or [token]
    rotations: RotationQuerySet = request.member.organization.rotations.for_pages()
    found: Rotation | None = rotations.filter(form_token__in=tokens).first()
    return found


def _started_before(request: MemberRequest, rotation: Rotation) -> HttpResponse:
    """Lead to the rotation that the same form started before: it made no second key."""
    told = f"This form was sent before: it started this rotation of {rotation.old_key.name}, and there is one new key."
    if not rotation.link_sent_to:
        again = "cancel the rotation and start again" if rotation.is_open else "rotate the new key"
        told += f" It was shown once. If you did not store it, {again}."
    messages.warning(request, told)
    return go_to(request, rotation.get_absolute_url())


def _show_started(request: MemberRequest, started: StartedRotation) -> HttpResponse:
    rotation, issued, token = started
    if issued:
        return show_once(request, issued, rotation=rotation)
    send_links(request, [(rotation, token or "")])
    return go_to(request, rotation.get_absolute_url())


def send_links(request: MemberRequest, links: Sequence[tuple[Rotation, str]]) -> None:
    """Mail each owner the link to their new key, and say to whom it went."""
    failed = send_key_links(links)
    if len(failed) < len(links):
        sent = [rotation.link_sent_to for rotation, _ in links if rotation not in failed]
        told = sent[0] if len(set(sent)) == 1 else f"{len(set(sent))} owners"
        messages.success(
            request,
            f"A link to the new key was sent to {told}."
            if len(sent) == 1
            else f"{len(sent)} links to new keys were sent to {told}.",
        )
    for rotation in failed:
        told = f"The mail to {rotation.link_sent_to} could not be sent. Send the link again from the rotation's page."
        messages.error(request, f"{rotation.old_key.name}: {told}")


@require_http_methods(GET_OR_POST)
@role_required(Role.OPERATOR)
@in_reach()
@proven
def key_bulk_rotate(request: MemberRequest) -> HttpResponse:
    """Rotate several keys at once, selected or filtered: all of them or, when one cannot be, none."""
    organization = request.member.organization
    listing = reverse("key_list", args=[organization.slug])
    chosen, fault = _chosen_keys(request)
    if chosen and _sent_before(request, *(key.public_id for key in chosen)):
        return _all_started_before(request)
    mine, outside = parted_by_reach(request, chosen)
    left_out = [(key, told) for key in mine if (told := _refusal(key)) is not None]
    left_out += [(key, f"{key.name}: {told}") for key, told in outside]
    keys = [key for key in chosen if key not in {key for key, _ in left_out}]
    if fault or not keys:
        messages.error(
            request,
            fault or "None of these keys can be rotated: they are revoked, expired, paused, or being rotated already.",
        )
        return go_to(request, listing)
    recent = Recent.of(keys)
    in_use = sum(found.in_use for found in recent.values())
    expected = f"rotate {len(keys)} key{'s' if len(keys) > 1 else ''}" if in_use else ""
    form = RotateForm(posted(request), keys=keys, reason=_reason(request), expected=expected)
    if request.method == "POST" and form.is_valid():
        try:
            with transaction.atomic():
                token = form.cleaned_data["token"] or uuid.uuid4()
                started = [_start(key, form, request, uuid.uuid5(token, key.public_id)) for key in keys]
        except AlreadyStartedError:
            return _all_started_before(request)
        except (RotationRunningError, KeyRevokedError, KeyExpiredError, KeyPausedError):
            messages.error(request, "One of these keys was changed meanwhile; nothing was started. Look again.")
            chosen_again = {"key": [key.public_id for key in chosen], "reason": form.cleaned_data["reason"]}
            return go_to(request, reverse("key_bulk_rotate", args=[organization.slug], query=chosen_again))
        except ValidationError as error:
            add_verb_errors(form, error, ROTATE_FIELDS)
        else:
            return _show_all_started(request, started)
    context = {
        "rows": [{"key": key, "recent": recent[key.pk]} for key in keys],
        "left_out": left_out,
        "in_use": in_use,
        "form": form,
        "reasons": _reason_links(request, form),
        "cancel_url": listing,
    }
    return page(request, "apikeys/key_bulk_rotate.html", "keys", context, status=form_status(form))


def _chosen_keys(request: MemberRequest) -> tuple[list[ApiKey], str]:
    """Return the keys that a request names, or else those that its filters keep, and what is wrong with them."""
    query = request.POST if request.method == "POST" else request.GET
    every = request.member.organization.keys.for_pages()
    ids = list(dict.fromkeys(query.getlist("key")))
    if ids:
        if len(ids) > MAX_BULK:
            return [], f"At most {MAX_BULK} keys can be rotated at once; {len(ids)} were selected."
        # No database compares with a NUL.
        found = list(every.filter(public_id__in=[text for text in ids if text.isalnum()]))
        return found, "" if len(found) == len(ids) else "One of the selected keys does not exist. Nothing was started."
    if request.method == "POST":
        return [], "No key was selected."
    filters = QueryDict(mutable=True)
    for name in KeyFilter.base_filters:
        filters.setlist(name, query.getlist(name))
    listing = KeyFilter(filters, queryset=every, request=request)
    if not listing.is_valid() or not listing.is_on():
        return [], "Select the keys to rotate, or filter the list first."
    found = list(listing.qs.usable(listing.now).newest().order_by("-pk")[: MAX_BULK + 1])
    if len(found) > MAX_BULK:
        return [], f"More than {MAX_BULK} keys match; at most so many can be rotated at once. Filter the list further."
    return found, "" if found else "No usable key matches these filters."


def _all_started_before(request: MemberRequest) -> HttpResponse:
    messages.warning(
        request,
        "This form was sent before: it started these rotations, and there is one new key each. None was made now.",
    )
    return go_to(request, reverse("rotation_list", args=[request.member.organization.slug]) + "?show=all")


def _show_all_started(request: MemberRequest, started: list[StartedRotation]) -> HttpResponse:
    """Show the new keys once, or say to whom their links were sent."""
    links = [(one.rotation, one.token) for one in started if one.token]
    if links:
        send_links(request, links)
        return go_to(request, reverse("rotation_list", args=[request.member.organization.slug]))
    context = {"started": started}
    return page(request, "apikeys/keys_rotated.html", "rotations", context)
