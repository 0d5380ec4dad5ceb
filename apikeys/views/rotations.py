"""Rotations: their list, the page of one, and the ways in which it ends."""

from __future__ import annotations

import math
import time
from http import HTTPStatus
from typing import Final

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.template.defaultfilters import pluralize
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe
from django_htmx.http import HttpResponseClientRefresh

from apikeys.charts import Mark
from apikeys.exports import FORMATS, export_response
from apikeys.forms import TypedForm, add_verb_errors
from apikeys.http import MemberRequest, actor
from apikeys.models import (
    AuditAction,
    AuditEntry,
    Ending,
    KeyEvidence,
    KeyRevokedError,
    Role,
    Rotation,
    RotationOverError,
    RotationProgress,
    StaleRotationError,
)
from apikeys.models.progress import both_series, series_edges
from apikeys.models.rotation import RotationQuerySet
from apikeys.paging import BadCursorError, Column, Ordered, Page, changed_url, count_text, take_page
from apikeys.permissions import in_reach, role_required
from apikeys.rotation_forms import ExtendForm, LinkForm
from apikeys.rotation_tables import caller_table, rotation_table
from apikeys.views.pages import form_status, get_key, go_to, page, posted
from apikeys.views.proving import proven
from apikeys.views.revocation import CALLERS_NAMED, GET_OR_POST, already_revoked
from apikeys.views.rotating import send_links

ORDER: Final = [Column("id", int, descending=True)]
TABS: Final = {"": "Running", "ended": "Ended", "all": "All"}
CALLERS_SHOWN: Final = 50
# Seconds. The page of keys that are so busy that reading takes long asks less often: a twentieth of the time at most.
POLLED_EVERY: Final = 5
SHARE_OF_TIME: Final = 20
# With it the page that asks again and again says in which state it was drawn.
WAS: Final = "X-Rotation-Was"


@require_safe
@role_required(Role.VIEWER)
def rotation_list(request: MemberRequest) -> HttpResponse:
    """Show the organization's rotations, those that run first."""
    queries, tab = _of_tabs(request), request.GET.get("show", "")
    found, bad = Page[Rotation]([], ""), tab not in TABS
    if not bad:
        try:
            found = take_page([Ordered(queries[tab].for_pages(), ORDER)], request.GET.get("after", ""))
        except BadCursorError:
            bad = True
    context = {
        "rotations": found.rows,
        "tabs": [
            {
                "label": label,
                "count": count_text(queries[value]),
                "url": changed_url(request.path, request.GET, show=value or None),
                "current": value == tab,
            }
            for value, label in TABS.items()
        ],
        "bad_cursor": bad,
        "clear_url": request.path,
        "export_query": request.GET.urlencode(),
        "next_url": changed_url(request.path, request.GET, after=found.cursor) if found.cursor else "",
        # A damaged address is not written into the page: it may hold anything.
        "first_url": changed_url(request.path, request.GET) if request.GET.get("after") and not bad else "",
    }
    status = HTTPStatus.UNPROCESSABLE_ENTITY if bad else HTTPStatus.OK
    return page(request, "apikeys/rotation_list.html", "rotations", context, partial="rotation_table", status=status)


def _of_tabs(request: MemberRequest) -> dict[str, RotationQuerySet]:
    rotations: RotationQuerySet = request.member.organization.rotations.all()
    return {"": rotations.open(), "ended": rotations.exclude(closed_at__isnull=True), "all": rotations}


@require_safe
@role_required(Role.VIEWER)
def rotation_export(request: MemberRequest, kind: str) -> HttpResponseBase:
    """Send the rotations of a tab as CSV or JSON."""
    organization = request.member.organization
    if kind not in FORMATS:
        raise Http404
    tab = request.GET.get("show", "")
    if tab not in TABS:
        return redirect(reverse("rotation_list", args=[organization.slug], query=request.GET))
    AuditEntry.objects.record(
        AuditAction.ROTATION_EXPORT,
        by=actor(request),
        organization=organization,
        target=kind.upper(),
        reason=f"{TABS[tab].lower()} rotations",
    )
    rotations = _of_tabs(request)[tab].for_pages().order_by("-pk").iterator(chunk_size=500)
    return export_response(kind, f"{organization.slug}-rotations", *rotation_table(rotations))


@require_safe
@role_required(Role.VIEWER)
def rotation_detail(request: MemberRequest, number: int) -> HttpResponse:
    """Show how far a rotation is; the page asks for that again and again."""
    rotation = get_rotation(request, number)
    if request.htmx and request.headers.get(WAS, _state(rotation)) != _state(rotation):
        # What can be done with it is something else now.
        return HttpResponseClientRefresh()
    began = time.monotonic()
    progress = RotationProgress.of(rotation)
    edges = series_edges(rotation, timezone.get_current_timezone())
    counts = both_series(rotation, edges)
    context = {
        "rotation": rotation,
        "progress": progress,
        "safety": progress.safety,
        "state": _state(rotation),
        "edges": edges,
        "counts": counts,
        "every": max(POLLED_EVERY, math.ceil((time.monotonic() - began) * SHARE_OF_TIME)),
        "marks": _marks(rotation),
        "most": CALLERS_SHOWN,
        "minus_most": -CALLERS_SHOWN,
    }
    return page(request, "apikeys/rotation_detail.html", "rotations", context, partial="rotation_board")


@require_safe
@role_required(Role.VIEWER)
def rotation_callers_export(request: MemberRequest, number: int, kind: str) -> HttpResponseBase:
    """Send a rotation's callers with their requests on each key as CSV or JSON."""
    if kind not in FORMATS:
        raise Http404
    rotation = get_rotation(request, number)
    organization, told = rotation.organization, f"callers of rotation {rotation.pk}, {kind.upper()}"
    AuditEntry.objects.record(
        AuditAction.USAGE_EXPORT, by=actor(request), organization=organization, key=rotation.old_key, reason=told
    )
    stem = f"{organization.slug}-rotation-{rotation.pk}-callers"
    return export_response(kind, stem, *caller_table(RotationProgress.of(rotation)))


def get_rotation(request: MemberRequest, number: int) -> Rotation:
    """Return a rotation of the member's organization; anybody else's is a 404."""
    # No database knows greater numbers.
    rotations: RotationQuerySet = request.member.organization.rotations.for_pages()
    found: Rotation = get_object_or_404(rotations, pk=min(number, 2**63 - 1))
    return found


def _state(rotation: Rotation) -> str:
    new = rotation.new_key
    states = [rotation.ending or ("over" if rotation.is_overdue else "open"), rotation.old_key.status]
    return " ".join([*states, new.status if new else "awaited", str(rotation.deadline or "")])


def _marks(rotation: Rotation) -> list[Mark]:
    marks = [Mark(rotation.started_at, "renewal", "Started")]
    if rotation.first_used_at:
        marks.append(Mark(rotation.first_used_at, "pause", "New key first used"))
    if rotation.closed_at and rotation.is_called_off:
        marks.append(Mark(rotation.closed_at, "end", "Cancelled"))
    elif rotation.old_ended_at:
        marks.append(Mark(rotation.old_ended_at, "end", "Old key ended"))
    return marks


@require_http_methods(GET_OR_POST)
@role_required(Role.OPERATOR)
@in_reach(get_rotation)
@proven
def rotation_extend(request: MemberRequest, number: int) -> HttpResponse:
    """Move the end of the time in which both keys work."""
    rotation = get_rotation(request, number)
    if not rotation.is_open:
        return _over(request, rotation)
    form = ExtendForm(posted(request), rotation=rotation)
    if request.method == "POST" and form.is_valid():
        try:
            rotation.extend(form.cleaned_data["end"], by=actor(request), seen=form.cleaned_data["seen"])
        except RotationOverError:
            return _over(request, get_rotation(request, number))
        except StaleRotationError:
            rotation = get_rotation(request, number)
            told = timezone.localtime(rotation.deadline)
            form.add_error(None, f"Somebody moved the end to {told:%-d %B, %H:%M} since you opened this. Save again?")
            form.data = {**dict(form.data.items()), "seen": rotation.deadline.isoformat() if rotation.deadline else ""}
        except ValidationError as error:
            add_verb_errors(form, error)
        else:
            messages.success(request, "The end was moved.")
            return go_to(request, rotation.get_absolute_url())
    context = {"rotation": rotation, "form": form}
    status = form_status(form)
    return page(request, "apikeys/rotation_extend.html", "rotations", context, partial="dialog", status=status)


def _over(request: MemberRequest, rotation: Rotation) -> HttpResponse:
    """Say on the rotation's page that it is over: somebody else was quicker, or its deadline."""
    if rotation.closed_at:
        told = f"This rotation is over: {Ending(rotation.ending).label}, by {rotation.closed_by_label}."
        messages.warning(request, told if rotation.ending != Ending.SAFE else "This rotation finished by itself.")
    else:
        messages.warning(request, "The deadline of this rotation has passed: the old key is refused.")
    return go_to(request, rotation.get_absolute_url())


@require_http_methods(GET_OR_POST)
@role_required(Role.OPERATOR)
@in_reach(get_rotation)
@proven
def rotation_finish(request: MemberRequest, number: int) -> HttpResponse:
    """Show whether the old key can go; when that is confirmed, revoke it."""
    rotation = get_rotation(request, number)
    if rotation.closed_at:
        return _over(request, rotation)
    progress = RotationProgress.of(rotation)
    # After the deadline nobody is refused who is not refused already.
    may_break = rotation.is_open and progress.safety.may_break
    form = TypedForm(posted(request), expected=rotation.old_key.name if may_break else "")
    if request.method == "POST" and form.is_valid():
        try:
            rotation.finish(by=actor(request))
        except RotationOverError:
            return _over(request, get_rotation(request, number))
        except KeyRevokedError:
            return already_revoked(request, get_key(request, rotation.old_key.public_id))
        messages.success(request, _finished_words(rotation, len(progress.safety.would_break) if may_break else 0))
        return go_to(request, rotation.get_absolute_url())
    context = {"rotation": rotation, "progress": progress, "safety": progress.safety, "form": form}
    context |= {"most": CALLERS_NAMED, "minus_most": -CALLERS_NAMED}
    status = form_status(form)
    return page(request, "apikeys/rotation_finish.html", "rotations", context, partial="dialog", status=status)


def _finished_words(rotation: Rotation, broken: int) -> str:
    words = f"The old key of {rotation.old_key.name} is revoked. "
    if broken:
        words += f"{broken} caller{pluralize(broken)} had not moved. "
    return words + "Who still tries it is below."


@require_http_methods(GET_OR_POST)
@role_required(Role.OPERATOR)
@in_reach(get_rotation)
@proven
def rotation_cancel(request: MemberRequest, number: int) -> HttpResponse:
    """Show who uses the new key; when that is confirmed, revoke it and let the old one go on."""
    rotation = get_rotation(request, number)
    if not rotation.is_open:
        return _over(request, rotation)
    evidence = KeyEvidence.of(rotation.new_key) if rotation.new_key else None
    form = TypedForm(posted(request), expected=rotation.old_key.name if evidence and evidence.in_use else "")
    if request.method == "POST" and form.is_valid():
        try:
            rotation.cancel(by=actor(request))
        except RotationOverError:
            return _over(request, get_rotation(request, number))
        messages.success(request, f"The rotation is cancelled. {rotation.old_key.name} goes on as before.")
        return go_to(request, rotation.get_absolute_url())
    context = {"rotation": rotation, "evidence": evidence, "form": form, "key": rotation.new_key}
    status = form_status(form)
    return page(request, "apikeys/rotation_cancel.html", "rotations", context, partial="dialog", status=status)


@require_http_methods(GET_OR_POST)
@role_required(Role.OPERATOR)
@in_reach(get_rotation)
@proven
def rotation_link(request: MemberRequest, number: int) -> HttpResponse:
    """Send the owner another link to the new key; the one before is good no longer."""
    rotation = get_rotation(request, number)
    if not rotation.awaits_owner:
        messages.warning(request, "There is no key to take by a link: it was taken, or the rotation was cancelled.")
        return go_to(request, rotation.get_absolute_url())
    form = LinkForm(posted(request))
    if request.method == "POST" and form.is_valid():
        try:
            token = rotation.send_link(form.cleaned_data["link_lasts"], by=actor(request))
        except RotationOverError:
            messages.warning(request, "The new key was taken meanwhile, or the rotation was cancelled.")
            return go_to(request, rotation.get_absolute_url())
        except ValidationError as error:
            add_verb_errors(form, error)
        else:
            send_links(request, [(rotation, token)])
            return go_to(request, rotation.get_absolute_url())
    context = {"rotation": rotation, "form": form}
    status = form_status(form)
    return page(request, "apikeys/rotation_link.html", "rotations", context, partial="dialog", status=status)
