"""The audit log's page and export."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import Final

from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_safe

from apikeys import key_secret
from apikeys.audit_proof import exported
from apikeys.exports import FORMATS, export_response
from apikeys.filters import AuditFilter
from apikeys.http import MemberRequest, actor, download
from apikeys.models import AuditAction, AuditCheck, AuditEntry, AuditLink, Role
from apikeys.models.audit_chain import COLUMNS
from apikeys.paging import BadCursorError, Column, Ordered, Page, changed_url, count_text, take_page
from apikeys.permissions import role_required
from apikeys.views.pages import page
from apikeys.views.proving import proven_to_read
from apikeys.views.reading import reading

ORDER = [Column("id", int, descending=True)]
EXPORT_HEADER = (
    *("id", "at", "actor", "via", "address", "user_agent", "action", "target", "key_id", "fingerprint"),
    *("changes", "reason", "sequence", "hash"),
)
# What can be checked by whoever gets it: docs/audit-log.md.
LINES: Final = "jsonl"


@require_safe
@role_required(Role.VIEWER)
@reading(AuditAction.AUDIT_READ)
def audit_list(request: MemberRequest) -> HttpResponse:
    """Show who did what, newest first."""
    if key_secret.looks_like_key(request.GET.get("key", "")):
        return redirect(_without_secret(request))
    entries = AuditEntry.objects.filter(organization=request.member.organization)
    listing = AuditFilter(request.GET, queryset=entries, request=request)
    found, bad_cursor = Page[AuditEntry]([], ""), False
    if listing.is_valid():
        try:
            found = take_page([Ordered(listing.qs, ORDER)], request.GET.get("after", ""))
        except BadCursorError:
            bad_cursor = True
    failed = bad_cursor or not listing.is_valid()
    chips = listing.chips(request.path, request.GET) if listing.is_valid() else []
    context = {
        "entries": found.rows,
        "form": listing.form,
        "chips": chips,
        "clear_url": request.path,
        "bad_cursor": bad_cursor,
        "next_url": changed_url(request.path, request.GET, after=found.cursor) if found.cursor else "",
        "first_url": changed_url(request.path, request.GET) if request.GET.get("after") else "",
        "summary": f"{count_text(entries)} entries. Nobody can change or delete one.",
        "check": AuditCheck.objects.filter(number=request.member.organization.pk).first(),
        "export_query": request.GET.urlencode(),
        "empty": "" if found.rows else ("filtered" if chips or failed else "none"),
    }
    status = HTTPStatus.UNPROCESSABLE_ENTITY if failed else HTTPStatus.OK
    return page(request, "apikeys/audit_list.html", "audit", context, partial="audit_table", status=status)


def _without_secret(request: MemberRequest) -> str:
    """Return the same address with a pasted key's public id in place of the key."""
    pasted = request.GET["key"].strip()
    secret = key_secret.parse(pasted)
    return changed_url(request.path, request.GET, key=secret.public_id if secret else key_secret.redact(pasted))


@require_safe
@role_required(Role.VIEWER)
@proven_to_read
def audit_export(request: MemberRequest, kind: str) -> HttpResponse | StreamingHttpResponse:
    """Send the filtered entries as CSV, JSON, or JSON Lines with their links."""
    if kind not in {*FORMATS, LINES}:
        raise Http404
    if key_secret.looks_like_key(request.GET.get("key", "")):
        return redirect(_without_secret(request))
    organization = request.member.organization
    entries = AuditEntry.objects.filter(organization=organization)
    listing = AuditFilter(request.GET, queryset=entries, request=request)
    if not listing.is_valid():
        return redirect(f"{reverse('audit_list', args=[organization.slug])}?{request.GET.urlencode()}")
    told = ", ".join(listing.told()) or "all entries"
    AuditEntry.objects.record(
        AuditAction.AUDIT_EXPORT,
        by=actor(request),
        organization=organization,
        target=kind.upper(),
        reason=told[:500],
    )
    if kind == LINES:
        links = listing.qs.filter(link__isnull=False).order_by("link__sequence")
        rows = links.values_list("link__sequence", "link__previous", "link__hash", *COLUMNS.values())
        lines = exported(rows.iterator(chunk_size=1000))
        return download(f"{organization.slug}-audit.jsonl", "application/jsonl", lines)
    rows = _export_rows(listing.qs.select_related("link").iterator(chunk_size=1000))
    return export_response(kind, f"{organization.slug}-audit", EXPORT_HEADER, rows)


def _export_rows(entries: Iterator[AuditEntry]) -> Iterator[list[object]]:
    for entry in entries:
        changes = json.dumps(entry.changes, ensure_ascii=False) if entry.changes else ""
        link: AuditLink | None = getattr(entry, "link", None)
        yield [
            *(entry.pk, entry.at.isoformat(), entry.actor_label, entry.via, entry.address, entry.user_agent),
            *(
                entry.action,
                entry.target_label,
                entry.key_public_id,
                entry.key_fingerprint,
                changes,
                entry.reason,
                link.sequence if link else "",
                link.hash if link else "",
            ),
        ]
