"""Ending a key, stopping it for a while, and replacing its secret: each after a confirmation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from apikeys.forms import ConfirmForm, PauseForm, RevokeForm, add_verb_errors, span_words
from apikeys.http import MemberRequest, actor
from apikeys.models import (
    AlreadyIssuedError,
    ApiKey,
    KeyExpiredError,
    KeyRevokedError,
    Review,
    RevocationReason,
    Role,
    Rotation,
    RotationRunningError,
)
from apikeys.models.evidence import KeyEvidence, Recent
from apikeys.models.progress import RotationProgress
from apikeys.permissions import in_reach, role_required
from apikeys.views.keys import show_once
from apikeys.views.pages import form_status, get_key, go_to, page, parted_by_reach, posted
from apikeys.views.proving import proven
from apikeys.views.reviews import get_review

# Of the callers that an old key's end would break; the rotation's page has all.
CALLERS_NAMED = 5
GET_OR_POST = ["GET", "HEAD", "POST"]
MAX_BULK = 200


@require_http_methods(GET_OR_POST)
@role_required(Role.OPERATOR)
@in_reach(get_key)
@proven
def key_revoke(request: MemberRequest, public_id: str) -> HttpResponse:
    """Show what a key's end would break; when that is confirmed, end it."""
    key = get_key(request, public_id)
    if key.revoked_at:
        return already_revoked(request, key)
    evidence = KeyEvidence.of(key)
    rotation = key.open_rotation
    progress = RotationProgress.of(rotation) if rotation and rotation.old_key_id == key.pk else None
    # Of a key that is being rotated it is known who has moved: those are not broken.
    breaks = progress.safety.may_break if progress else evidence.in_use
    form = RevokeForm(posted(request), expected=key.name if breaks else "")
    if request.method == "POST" and form.is_valid():
        try:
            key.revoke(
                reason=RevocationReason(form.cleaned_data["reason"]),
                note=form.cleaned_data["note"],
                by=actor(request),
            )
        except KeyRevokedError:
            return already_revoked(request, get_key(request, public_id))
        messages.success(request, f"{key.name} is revoked. Every request with it is refused from now on.")
        return go_to(request, key.get_absolute_url())
    context = {"key": key, "evidence": evidence, "form": form, "rotation": rotation, "progress": progress}
    if progress:
        context |= {"safety": progress.safety, "most": CALLERS_NAMED, "minus_most": -CALLERS_NAMED}
    return page(request, "apikeys/key_revoke.html", "keys", context, partial="dialog", status=form_status(form))


def already_revoked(request: MemberRequest, key: ApiKey) -> HttpResponse:
    """Say on the key's page that somebody else was quicker."""
    messages.warning(request, f"{key.name} was revoked already, by {key.revoked_by_label}.")
    return go_to(request, key.get_absolute_url())


def rotation_runs(request: MemberRequest, key: ApiKey, rotation: Rotation) -> HttpResponse:
    """Lead to the rotation that has to end before the key can be replaced otherwise."""
    messages.error(request, f"{key.name} is being rotated. Finish the rotation now, or cancel it, and try again.")
    return go_to(request, rotation.get_absolute_url())


@require_http_methods(GET_OR_POST)
@role_required(Role.OPERATOR)
@in_reach()
@proven
def key_bulk_revoke(request: MemberRequest) -> HttpResponse:
    """Revoke several keys at once: all of them or, when one cannot be, none.

    ``review`` is the number of the review in which they were chosen, to which one comes back.
    """
    organization = request.member.organization
    sent = request.POST if request.method == "POST" else request.GET
    ids = list(dict.fromkeys(sent.getlist("key")))
    review = _review(request, sent.get("review", ""))
    listing = review.get_absolute_url() if review else reverse("key_list", args=[organization.slug])
    asked = [text for text in ids[: MAX_BULK + 1] if text.isalnum()]  # no database compares with a NUL
    chosen = list(organization.keys.for_pages().filter(public_id__in=asked))
    mine, outside = parted_by_reach(request, chosen)
    alive = [key for key in mine if not key.revoked_at]
    if not ids or len(ids) > MAX_BULK or len(chosen) < len(ids) or not alive:
        messages.error(request, _bulk_fault(len(ids), len(chosen)))
        return go_to(request, listing)
    recent = Recent.of(alive)
    rows = [{"key": key, "recent": recent[key.pk]} for key in alive]
    in_use = any(found.in_use for found in recent.values())
    expected = f"revoke {len(alive)} key{'s' if len(alive) > 1 else ''}" if in_use else ""
    form = RevokeForm(posted(request), expected=expected)
    if request.method == "POST" and form.is_valid():
        done = _revoke_all(alive, form, request)
        messages.success(request, f"{done} keys are revoked. Every request with them is refused from now on.")
        return go_to(request, listing if review else f"{listing}?status=revoked")
    context = {"rows": rows, "form": form, "skipped": [key for key in mine if key.revoked_at]}
    context |= {"outside": outside, "review": review, "back": listing}
    status = form_status(form)
    return page(request, "apikeys/key_bulk_revoke.html", "keys", context, partial="dialog", status=status)


def _review(request: MemberRequest, number: str) -> Review | None:
    is_number = number.isascii() and number.isdecimal() and len(number) < 19  # what a database takes for an id
    return get_review(request, int(number)) if is_number else None


def _bulk_fault(asked: int, found: int) -> str:
    if not asked:
        return "No key was selected."
    if asked > MAX_BULK:
        return f"At most {MAX_BULK} keys can be revoked at once; {asked} were selected."
    if found < asked:
        return "One of the selected keys does not exist. Nothing was revoked."
    return "The selected keys are revoked already."


def _revoke_all(keys: list[ApiKey], form: RevokeForm, request: MemberRequest) -> int:
    done = 0
    with transaction.atomic():
        for key in keys:
            try:
                key.revoke(
                    reason=RevocationReason(form.cleaned_data["reason"]),
                    note=form.cleaned_data["note"],
                    by=actor(request),
                )
            except KeyRevokedError:
                continue  # somebody else was quicker: it is what was asked for
            done += 1
    return done


@require_http_methods(GET_OR_POST)
@role_required(Role.OPERATOR)
@in_reach(get_key)
def key_pause(request: MemberRequest, public_id: str) -> HttpResponse:
    """Stop a key until it is resumed, or for some time."""
    key = get_key(request, public_id)
    form = PauseForm(posted(request), initial={"lasting": request.GET.get("lasting", "")})
    if request.method == "POST" and form.is_valid():
        lasting = form.cleaned_data["lasting"]
        for_long = f"for {span_words(lasting)}" if lasting else "until it is resumed"
        effect = f" Every request with it is refused {for_long}."
        return _switch(request, key, partial(key.pause, lasting=lasting), "paused", effect)
    context = {"key": key, "evidence": KeyEvidence.of(key), "form": form}
    return page(request, "apikeys/key_pause.html", "keys", context, partial="dialog", status=form_status(form))


@require_http_methods(GET_OR_POST)
@role_required(Role.OPERATOR)
@in_reach(get_key)
def key_resume(request: MemberRequest, public_id: str) -> HttpResponse:
    """Let a paused key work again."""
    key = get_key(request, public_id)
    if request.method == "POST":
        return _switch(request, key, key.resume, "resumed")
    context = {"key": key, "evidence": KeyEvidence.of(key), "form": ConfirmForm()}
    return page(request, "apikeys/key_resume.html", "keys", context, partial="dialog")


def _switch(
    request: MemberRequest, key: ApiKey, verb: Callable[..., bool], done: str, effect: str = ""
) -> HttpResponse:
    try:
        changed = verb(by=actor(request))
    except KeyRevokedError:
        return already_revoked(request, get_key(request, key.public_id))
    messages.success(request, f"{key.name} is {done}.{effect}" if changed else f"{key.name} is already {done}.")
    return go_to(request, key.get_absolute_url())


@require_http_methods(GET_OR_POST)
@role_required(Role.OPERATOR)
@in_reach(get_key)
@proven
def key_regenerate(request: MemberRequest, public_id: str) -> HttpResponse:
    """Replace a key at once: the old one is dead, the new one is shown once."""
    key = get_key(request, public_id)
    form = ConfirmForm(posted(request))
    if request.method == "POST" and form.is_valid():
        try:
            issued = key.regenerate(by=actor(request), form_token=form.cleaned_data["token"])
        except AlreadyIssuedError as error:
            return page(request, "apikeys/key_already_created.html", "keys", {"key": error.key})
        except KeyRevokedError:
            return already_revoked(request, get_key(request, public_id))
        except KeyExpiredError:
            messages.error(request, f"{key.name} has expired. Edit its expiry, or create a new key.")
            return go_to(request, key.get_absolute_url())
        except RotationRunningError as error:
            return rotation_runs(request, key, error.rotation)
        except ValidationError as error:
            add_verb_errors(form, error)
        else:
            return show_once(request, issued, old_key=key)
    if key.revoked_at:
        return already_revoked(request, key)
    if rotation := key.open_rotation:
        return rotation_runs(request, key, rotation)
    end = key.successor_expiry
    context = {"key": key, "evidence": KeyEvidence.of(key), "form": form}
    context["new_expiry"] = end if end != key.expires_at else None
    return page(request, "apikeys/key_regenerate.html", "keys", context, partial="dialog", status=form_status(form))
