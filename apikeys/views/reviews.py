"""Reviews of keys: their list, the page of one, and its result as a file and on paper."""

from __future__ import annotations

from http import HTTPStatus
from itertools import chain, islice
from typing import Any, Final

from django.db.models import Prefetch, prefetch_related_objects
from django.http import Http404, HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from apikeys import key_secret
from apikeys.exports import FORMATS, export_response
from apikeys.http import MemberRequest, actor
from apikeys.models import ApiKey, AuditAction, Review, ReviewItem, ReviewProgress, Role
from apikeys.models.audit import difference
from apikeys.models.review_reminder import ASKED_EVERY
from apikeys.paging import BadCursorError, Column, Ordered, Page, changed_url, number_text, take_page
from apikeys.permissions import role_required
from apikeys.review_filters import TABS, ReviewFilter, revocable
from apikeys.review_tables import HEADER, review_rows
from apikeys.views.keys import with_usage
from apikeys.views.pages import page

NEWEST: Final = [Column("id", int, descending=True)]
OWNERS: Final = 50
MOST_PRINTED: Final = 2000


@require_safe
@role_required(Role.VIEWER)
def review_list(request: MemberRequest) -> HttpResponse:
    """Show the organization's reviews, newest first."""
    reviews = request.member.organization.reviews.select_related("organization")
    found, bad = Page[Review]([], ""), False
    try:
        found = take_page([Ordered(reviews, NEWEST)], request.GET.get("after", ""))
    except BadCursorError:
        bad = True
    context = {
        "reviews": found.rows,
        "has_open": reviews.open().exists(),
        "bad_cursor": bad,
        "next_url": changed_url(request.path, request.GET, after=found.cursor) if found.cursor else "",
        "first_url": request.path if request.GET.get("after") and not bad else "",
    }
    status = HTTPStatus.UNPROCESSABLE_ENTITY if bad else HTTPStatus.OK
    return page(request, "apikeys/review_list.html", "reviews", context, partial="review_table", status=status)


def get_review(request: MemberRequest, number: int) -> Review:
    """Return a review of the member's organization; anybody else's is a 404."""
    reviews = request.member.organization.reviews.select_related("organization")
    found: Review = get_object_or_404(reviews, pk=number)
    return found


@require_safe
@role_required(Role.VIEWER)
def review_detail(request: MemberRequest, number: int) -> HttpResponse:
    """Show how far a review is, and its keys with what helps to decide."""
    review = get_review(request, number)
    if key_secret.looks_like_key(request.GET.get("q", "")):
        return redirect(_found_url(review, request.GET))
    listing = ReviewFilter(request.GET, queryset=review.items.all(), request=request, review=review)
    found, bad_cursor = Page[ReviewItem]([], ""), False
    if listing.is_valid():
        try:
            found = take_page(listing.parts(), request.GET.get("after", ""))
        except BadCursorError:
            bad_cursor = True
    failed = bad_cursor or not listing.is_valid()
    with_keys(request, review, found.rows)
    whole = {} if request.htmx else progress_context(review) | _actions_context(review)
    context = _list_context(request, listing, found, whole.get("progress")) | {"bad_cursor": bad_cursor} | whole
    status = HTTPStatus.UNPROCESSABLE_ENTITY if failed else HTTPStatus.OK
    return page(request, "apikeys/review_detail.html", "reviews", context, partial="review_items", status=status)


def with_keys(request: MemberRequest, review: Review, items: list[ReviewItem]) -> None:
    """Put on each item its key with what a row shows of it, and whether the member may answer."""
    keys = ApiKey.objects.for_list() if review.is_open else ApiKey.objects.all()
    prefetch_related_objects(items, Prefetch("key", keys))
    for item in items:
        item.review = review
        item.key.organization = review.organization
    if review.is_open:
        with_usage([item.key for item in items])
    for item in items:
        item.answerable = item.can_be_answered(request.member)  # type: ignore[attr-defined]


def progress_context(review: Review) -> dict[str, Any]:
    """Return how far a review is, and each of its owners."""
    owners = review.items.all().by_owner(review, timezone.now(), OWNERS + 1)
    return {
        "review": review,
        "progress": review.progress,
        "owners": owners[:OWNERS],
        "has_more_owners": len(owners) > OWNERS,
    }


def _actions_context(review: Review) -> dict[str, Any]:
    last = review.reminders.first()
    # Before its last day is over, who has not answered yet may still do so.
    is_over = review.is_overdue or not review.is_open
    return {
        "last_reminder": last,
        "remind_after": last.at + ASKED_EVERY if last and timezone.now() < last.at + ASKED_EVERY else None,
        "is_over": is_over,
        "unneeded": revocable(review, unneeded_only=True).count(),
        "unconfirmed": revocable(review, unneeded_only=False).count() if is_over else 0,
    }


def _list_context(
    request: MemberRequest, listing: ReviewFilter, found: Page[ReviewItem], whole: ReviewProgress | None
) -> dict[str, Any]:
    query, path, valid = request.GET, request.path, listing.is_valid()
    tab = listing.tab if valid else ""
    items = found.rows
    return {
        "review": listing.review,
        "tabs": _tabs(request, listing, tab, whole) if valid else [],
        "tab": tab,
        "form": listing.form,
        "chips": listing.chips(path, query) if valid else [],
        "clear_url": f"{path}?status={tab}" if tab else path,
        "items": items,
        "answers": any(item.answerable for item in items),  # type: ignore[attr-defined]
        "next_url": changed_url(path, query, after=found.cursor) if found.cursor else "",
        "first_url": changed_url(path, query) if query.get("after") else "",
        "export_query": query.urlencode(),
        "lookup": query.get("lookup", ""),
    }


def _tabs(
    request: MemberRequest, listing: ReviewFilter, current: str, whole: ReviewProgress | None
) -> list[dict[str, Any]]:
    """Return the tabs with their counts; without a filter these are those of the whole review."""
    progress = whole if whole and not listing.is_on() else listing.qs.progress(listing.review, listing.now)
    counts = {
        "": progress.total,
        "open": progress.open,
        "needed": progress.needed,
        "unneeded": progress.unneeded,
        "ended": progress.ended,
    }
    return [
        {
            "label": label,
            "count": number_text(counts[value], counts[value]),
            "url": changed_url(request.path, request.GET, status=value or None),
            "current": value == current,
        }
        for value, label in TABS.items()
    ]


@require_POST
@role_required(Role.VIEWER)
def review_find(request: MemberRequest, number: int) -> HttpResponse:
    """Take a search by POST, so that a pasted key is in no address."""
    response = redirect(_found_url(get_review(request, number), request.POST))
    response.status_code = HTTPStatus.SEE_OTHER
    return response


def _found_url(review: Review, asked: QueryDict) -> str:
    path, text = review.get_absolute_url(), asked.get("q", "").strip()[:500]
    query = QueryDict(mutable=True)
    for name in ReviewFilter.base_filters:
        query.setlist(name, [value for value in asked.getlist(name) if value])
    if not key_secret.looks_like_key(text):
        return changed_url(path, query, q=text or None)
    # Only the public id of a key goes on; a mistyped one takes nothing with it.
    secret = key_secret.parse(text)
    return changed_url(path, query, q=secret.public_id if secret else None, lookup="pasted" if secret else "unknown")


@require_safe
@role_required(Role.VIEWER)
def review_export(request: MemberRequest, number: int, kind: str) -> HttpResponseBase:
    """Send the filtered keys of a review, and what was answered, as CSV or JSON."""
    if kind not in FORMATS:
        raise Http404
    review = get_review(request, number)
    if key_secret.looks_like_key(request.GET.get("q", "")):
        return redirect(_found_url(review, request.GET))
    listing = ReviewFilter(request.GET, queryset=review.items.select_related("key"), request=request, review=review)
    if not listing.is_valid():
        return redirect(f"{review.get_absolute_url()}?{request.GET.urlencode()}")
    told = ", ".join(listing.told()) or "all keys"
    _record_export(request, review, kind.upper(), told)
    items = chain.from_iterable(part.in_order().iterator(chunk_size=500) for part in listing.parts())
    stem = f"{request.member.organization.slug}-review-{review.pk}"
    return export_response(kind, stem, HEADER, review_rows(review, items))


def _record_export(request: MemberRequest, review: Review, form: str, told: str) -> None:
    review.record(AuditAction.REVIEW_EXPORT, actor(request), difference({}, {"format": form}), reason=told[:500])


@require_safe
@role_required(Role.VIEWER)
def review_print(request: MemberRequest, number: int) -> HttpResponse:
    """Show the result of a review as it is printed: all its keys on one page, up to a limit."""
    review = get_review(request, number)
    listing = ReviewFilter(request.GET, queryset=review.items.select_related("key"), request=request, review=review)
    if not listing.is_valid():
        return redirect(f"{review.get_absolute_url()}?{request.GET.urlencode()}")
    rows = chain.from_iterable(part.in_order()[: MOST_PRINTED + 1] for part in listing.parts())
    items = list(islice(rows, MOST_PRINTED + 1))
    for item in items:
        item.review = review
    told = ", ".join(listing.told())
    _record_export(request, review, "page to print", told or "all keys")
    context = progress_context(review) | {
        "items": items[:MOST_PRINTED],
        "most": MOST_PRINTED,
        "is_cut": len(items) > MOST_PRINTED,
        "told": told,
        "now": timezone.now(),
        "back_url": f"{reverse('review_detail', args=[request.member.organization.slug, review.pk])}",
    }
    return page(request, "apikeys/review_print.html", "reviews", context)
