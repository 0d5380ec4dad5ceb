"""The key list, one key, and making and changing one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import partial
from http import HTTPStatus
from itertools import chain
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import Http404, HttpResponse, QueryDict, StreamingHttpResponse
from django.shortcuts import redirect
from django.template.defaultfilters import pluralize
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apikeys import key_secret
from apikeys.exports import FORMATS, export_response
from apikeys.filters import SORT_LABELS, TABS, KeyFilter
from apikeys.forms import KeyForm, add_verb_errors
from apikeys.http import MemberRequest, actor
from apikeys.models import (
    AlreadyIssuedError,
    ApiKey,
    AuditAction,
    AuditEntry,
    IssuedKey,
    KeyRevokedError,
    Policy,
    PolicyRule,
    Role,
    Rotation,
    StaleKeyError,
    Status,
    UsageHour,
)
from apikeys.paging import BadCursorError, Page, changed_url, take_page
from apikeys.permissions import in_reach, role_required
from apikeys.tallies import SOON_TAB, counts_of, silence_links, summary_counts, tab_counts, take_long
from apikeys.views.alerts import find_alert
from apikeys.views.pages import form_status, get_key, go_to, page, posted
from apikeys.views.proving import proven

SPARKLINE_DAYS = 30
# The id of the part of a page that htmx replaces by the form of its filters.
FILTER_FORM = "key_table_filters"
EXPORT_HEADER = (
    *("id", "fingerprint", "name", "purpose", "environment", "status", "owner", "scopes", "created_at"),
    *(
        "created_by",
        "last_used_at",
        "expires_at",
        "networks",
        "rate_limit",
        "revoked_at",
        "revoked_by",
        "reason",
    ),
    *("silence", "may_be_silent_until", "paused_until", "rotate_by", "violates"),
)


@require_safe
@role_required(Role.VIEWER)
def key_list(request: MemberRequest) -> HttpResponse:
    """Show the organization's keys, filtered and page by page."""
    if key_secret.looks_like_key(request.GET.get("q", "")):
        return redirect(_found_url(request, request.GET))
    listing = _listing(request)
    valid = listing.is_valid()
    status = HTTPStatus.OK if valid else HTTPStatus.UNPROCESSABLE_ENTITY
    if request.htmx.target == FILTER_FORM:
        form = _filter_form(request, listing)
        return page(request, "components/_filter_form.html", "keys", form, status=status)
    if request.htmx.target == "key_counts" and valid:
        return page(request, "apikeys/key_list.html", "keys", _numbers(request, listing), partial="key_counts")
    found = Page[ApiKey]([], "")
    bad_cursor = False
    if valid:
        try:
            found = take_page(listing.parts(), request.GET.get("after", ""))
        except BadCursorError:
            bad_cursor = True
            status = HTTPStatus.UNPROCESSABLE_ENTITY
    context = _list_context(request, listing, found) | {"bad_cursor": bad_cursor}
    return page(request, "apikeys/key_list.html", "keys", context, partial="key_table", status=status)


def _listing(request: MemberRequest) -> KeyFilter:
    """Return the keys that are asked for, with all filters where their form is shown: on demand, or with an error."""
    keys = request.member.organization.keys.for_list()
    if not _asks_for_filters(request):
        listing = KeyFilter(request.GET, queryset=keys, request=request, asked_only=True)
        if listing.is_valid():
            return listing
    return KeyFilter(request.GET, queryset=keys, request=request)


def _asks_for_filters(request: MemberRequest) -> bool:
    return request.GET.get("filters") == "open" or request.htmx.target == FILTER_FORM


def _list_context(request: MemberRequest, listing: KeyFilter, found: Page[ApiKey]) -> dict[str, Any]:
    query, path = _query(request), request.path
    valid = listing.is_valid()
    with_usage(found.rows)
    filtered = valid and listing.is_on()
    is_whole = valid and not (found.cursor or query.get("after") or query.get("status"))
    numbers = _numbers(request, listing, found.rows if is_whole else None)
    form = _filter_form(request, listing)
    return (
        numbers
        | form
        | {
            "summary": partial(_summary, request, listing, numbers["counts"]),
            "keys": found.rows,
            "columns": _columns(path, query, listing.sort_name) if valid else [],
            "next_url": changed_url(path, query, after=found.cursor) if found.cursor else "",
            "first_url": changed_url(path, query) if query.get("after") else "",
            "export_query": query.urlencode(),
            "empty": "" if found.rows else ("filtered" if filtered or not valid else "none"),
            "lookup": query.get("lookup", ""),
        }
    )


def _filter_form(request: MemberRequest, listing: KeyFilter) -> dict[str, Any]:
    """Return the filters that are on, and the form, or its address where it comes when somebody asks for it.

    With hundreds of owners to choose from it takes longer than a page of keys to find and to draw, and few ask.
    """
    query, path = _query(request), request.path
    asked = _asks_for_filters(request)
    return {
        "form": listing.form,
        "chips": listing.chips(path, query) if listing.is_valid() else [],
        "clear_url": path,
        "action": path,
        "target": "key_table",
        "filters_asked": asked,
        "filters_url": "" if asked or not listing.is_valid() else changed_url(path, query, filters="open"),
    }


def _query(request: MemberRequest) -> QueryDict:
    """Return what was asked, to go on with: what this page alone shows or waits for is no part of it."""
    query = request.GET.copy()
    for name in ("counts", "filters"):
        query.pop(name, None)
    return query


def _numbers(request: MemberRequest, listing: KeyFilter, every: list[ApiKey] | None = None) -> dict[str, Any]:
    """Return the tabs and the kinds of silent keys with their numbers, or without, where these come after the page.

    ``every``: all keys that the filters keep, where they are at hand.
    """
    query, path = _query(request), request.path
    asked = [query.get(name, "") for name in ("status", "silence")]
    # Where silent keys are what the list is about.
    with_silences = listing.is_valid() and (asked[0] == "unused" or bool(asked[1]))
    at_hand = every is not None and not with_silences
    later = listing.is_valid() and not at_hand and request.GET.get("counts") != "now"
    later = later and take_long(listing, with_silences=with_silences)
    counts: dict[str, str] = {}
    if not later:
        counts = tab_counts(listing) if every is None else counts_of(every)
    return {
        "counts": counts,
        "counts_url": changed_url(path, query, counts="now") if later else "",
        "tabs": _tabs(path, query, counts),
        "silences": silence_links(listing, path, query, counted=not later) if with_silences else [],
        "unused_after": request.member.organization.unused_after,
    }


def with_usage(keys: list[ApiKey]) -> None:
    """Put on each key what its row shows beside its own: its names and scopes, and counts."""
    ApiKey.objects.fetch_named(keys)
    daily = UsageHour.objects.daily([key.pk for key in keys], SPARKLINE_DAYS)
    tries = UsageHour.objects.attempts_since_end(keys)
    rotations = Rotation.objects.open_of(keys)
    for key in keys:
        key.rotation = rotations.get(key.pk)  # type: ignore[attr-defined]
        key.sparkline = daily.get(key.pk, [0] * SPARKLINE_DAYS)  # type: ignore[attr-defined]
        key.attempts_since = tries.get(key.pk, 0) if key.is_dead else None  # type: ignore[attr-defined]


def _summary(request: MemberRequest, listing: KeyFilter, counts: dict[str, str]) -> str:
    """Tell of all keys; the part of the page that htmx replaces does not ask for it."""
    organization = request.member.organization
    every = counts if SOON_TAB in counts else summary_counts(listing)
    environments = organization.environments.count()
    soon = every[SOON_TAB]
    return (
        f"{every['']} keys in {environments} environment{pluralize(environments)}. "
        f"{soon} expire{pluralize(soon, 's,')} within 30 days, "
        f"{every['unused']} {pluralize(every['unused'], 'is,are')} unused."
    )


def _tabs(path: str, query: QueryDict, counts: dict[str, str]) -> list[dict[str, Any]]:
    current = query.get("status", "")
    return [
        {
            "label": label,
            "value": value,
            "count": counts.get(value, ""),
            "url": changed_url(path, query, status=value or None),
            "current": value == current,
        }
        for value, label in TABS.items()
    ]


def _columns(path: str, query: QueryDict, sort: str) -> list[dict[str, str]]:
    columns = []
    for name, label in SORT_LABELS.items():
        direction = {name: "asc", f"-{name}": "desc"}.get(sort, "")
        # A date is looked at newest first, a name from A on.
        first = name if name == "name" else f"-{name}"
        turned = {"asc": f"-{name}", "desc": name}.get(direction, first)
        url = changed_url(path, query, sort=turned)
        columns.append({"name": name, "label": label, "direction": direction, "url": url})
    return columns


@require_POST
@role_required(Role.VIEWER)
def key_find(request: MemberRequest) -> HttpResponse:
    """Take a search by POST, so that a pasted key is in no address, and lead to the list, or to an alert."""
    if alert := find_alert(request.member.organization, request.POST.get("q", "")):
        return go_to(request, alert.get_absolute_url())
    response = redirect(_found_url(request, request.POST))
    response.status_code = HTTPStatus.SEE_OTHER
    return response


def _found_url(request: MemberRequest, asked: QueryDict) -> str:
    path = reverse("key_list", args=[request.member.organization.slug])
    text = asked.get("q", "").strip()[:500]
    query = QueryDict(mutable=True)
    if not key_secret.looks_like_key(text):
        for name in KeyFilter.base_filters:
            query.setlist(name, [value for value in asked.getlist(name) if value])
        return changed_url(path, query, q=text or None)
    # Only the public id of a key goes on; a mistyped one takes nothing with it.
    secret = key_secret.parse(text)
    key = request.member.organization.keys.filter(public_id=secret.public_id).first() if secret else None
    if secret is None or key is None:
        return changed_url(path, query, lookup="unknown")
    same = key_secret.matches(secret, bytes(key.digest), key.pepper_number, settings.KEY_PEPPERS)
    return changed_url(path, query, q=key.public_id, lookup="found" if same else "mismatch")


@require_safe
@role_required(Role.VIEWER)
def key_export(request: MemberRequest, kind: str) -> HttpResponse | StreamingHttpResponse:
    """Send the filtered keys as CSV or JSON."""
    organization = request.member.organization
    if kind not in FORMATS:
        raise Http404
    if key_secret.looks_like_key(request.GET.get("q", "")):
        return redirect(_found_url(request, request.GET))
    terms = Policy.objects.of(organization).full_terms()
    keys_told = organization.keys.for_pages().with_violations(terms, organization, timezone.now())
    listing = KeyFilter(request.GET, queryset=keys_told, request=request)
    if not listing.is_valid():
        return redirect(f"{reverse('key_list', args=[organization.slug])}?{request.GET.urlencode()}")
    told = ", ".join(listing.told()) or "all keys"
    AuditEntry.objects.record(
        AuditAction.KEY_EXPORT, by=actor(request), organization=organization, target=kind.upper(), reason=told[:500]
    )
    keys = chain.from_iterable(part.in_order().iterator(chunk_size=500) for part in listing.parts())
    return export_response(kind, f"{organization.slug}-keys", EXPORT_HEADER, _export_rows(keys))


def _export_rows(keys: Iterator[ApiKey]) -> Iterator[list[object]]:
    for key in keys:
        last_used = key.last_activity.last_used_at if key.last_activity else None
        instants = [_instant(at) for at in (last_used, key.expires_at, key.revoked_at)]
        exempt = key.exemption_now
        yield [
            *(key.public_id, key.fingerprint, key.name, key.purpose, key.environment.name, key.status.value),
            *(key.owner_label, " ".join(key.scope_names), key.created_at.isoformat(), key.created_by_label),
            *(instants[0], instants[1], " ".join(key.networks), key.rate_limit_text),
            *(instants[2], key.revoked_by_label, key.get_revoked_reason_display()),
            *(silence.kind.value if (silence := key.silence) else None, _instant(exempt.until if exempt else None)),
            _instant(key.paused_until if key.status is Status.PAUSED else None),
            _instant(key.rotate_by if key.is_usable else None),
            " ".join(rule for rule in PolicyRule if getattr(key, f"violates_{rule}", False)),
        ]


def _instant(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


@require_http_methods(["GET", "HEAD", "POST"])
@role_required(Role.OPERATOR)
@in_reach()
@proven
def key_create(request: MemberRequest) -> HttpResponse:
    """Ask for what a key needs, make it and show it once."""
    organization = request.member.organization
    form = KeyForm(posted(request), organization=organization, owner=request.member)
    if request.method == "POST" and form.is_valid():
        try:
            with transaction.atomic():
                issued = ApiKey.objects.issue(
                    organization,
                    form.cleaned_data["environment"],
                    form.terms,
                    by=actor(request),
                    form_token=form.cleaned_data["token"],
                )
        except AlreadyIssuedError as error:
            return page(request, "apikeys/key_already_created.html", "keys", {"key": error.key})
        except ValidationError as error:
            add_verb_errors(form, error, form.error_names)
        else:
            return show_once(request, issued)
    cancel = reverse("key_list", args=[organization.slug])
    context = {
        "form": form,
        "key": None,
        "title": "New key",
        "submit_label": "Create key",
        "cancel_url": cancel,
    }
    return page(request, "apikeys/key_form.html", "keys", context, status=form_status(form))


def show_once(
    request: MemberRequest, issued: IssuedKey, old_key: ApiKey | None = None, rotation: Rotation | None = None
) -> HttpResponse:
    """Return the one page that ever shows a full key; nothing on the way stores it."""
    context = {"was_regenerated": old_key is not None, "old_key": old_key, "rotation": rotation}
    return page(request, "apikeys/key_created.html", "keys", context | secret_context(issued))


def secret_context(issued: IssuedKey) -> dict[str, Any]:
    """Return what a page shows of a key with its full text."""
    verify_url = f"{settings.BASE_URL}/v1/{issued.key.organization.slug}/verify"
    scope, text = issued.key.scope_names[0], issued.secret.text
    return {
        "key": issued.key,
        "secret": text,
        "verify_url": verify_url,
        "curl": f'curl -i {verify_url} --json \'{{"key": "{text}", "scope": "{scope}"}}\'',
        "scope": scope,
    }


@require_http_methods(["GET", "HEAD", "POST"])
@role_required(Role.OPERATOR)
@in_reach(get_key)
def key_edit(request: MemberRequest, public_id: str) -> HttpResponse:
    """Change what may change."""
    key = get_key(request, public_id)
    form = KeyForm(posted(request), organization=request.member.organization, key=key)
    if request.method == "POST" and form.is_valid():
        try:
            key.edit(form.terms, by=actor(request), version=form.cleaned_data["version"])
        except KeyRevokedError:
            messages.error(request, f"{key.name} was revoked meanwhile; nothing was changed.")
            return go_to(request, key.get_absolute_url())
        except StaleKeyError:
            key = get_key(request, public_id)
            form.add_error(None, f"{_last_change(key)} since you opened this form. Compare, then save again.")
            form.data = request.POST.copy()
            form.data["version"] = str(key.version)
        except ValidationError as error:
            add_verb_errors(form, error, form.error_names)
        else:
            messages.success(request, f"{form.cleaned_data['name']} was saved.")
            return go_to(request, key.get_absolute_url())
    if key.revoked_at:
        messages.error(request, "A revoked key cannot be edited.")
        return go_to(request, key.get_absolute_url())
    context = {"form": form, "key": key, "title": f"Edit {key.name}", "submit_label": "Save"}
    context["cancel_url"] = key.get_absolute_url()
    return page(request, "apikeys/key_form.html", "keys", context, status=form_status(form))


def _last_change(key: ApiKey) -> str:
    changes = [AuditAction.KEY_EDIT, AuditAction.ROTATION_CANCEL]
    entry = AuditEntry.objects.filter(key_id=key.pk, action__in=changes).first()
    if entry is None:
        return "Somebody changed this key"
    if entry.action == AuditAction.ROTATION_CANCEL:
        return f"{entry.actor_label} cancelled its rotation, and it has its own expiry again"
    told = ", ".join(f"{name.replace('_', ' ')} to {after!r}" for name, (_, after) in entry.changes.items())
    return f"{entry.actor_label} changed {told}"
