"""What is done with a review as a whole: starting it, reminding, closing, and leading on to revocation."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import Count, Q
from django.http import HttpResponse, QueryDict
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apikeys import key_secret
from apikeys.filters import KeyFilter
from apikeys.forms import add_verb_errors
from apikeys.http import MemberRequest, actor
from apikeys.models import (
    ApiKey,
    RemindedError,
    Review,
    ReviewClosedError,
    ReviewRunningError,
    Role,
)
from apikeys.permissions import role_required
from apikeys.review_filters import revocable
from apikeys.review_forms import ReviewForm
from apikeys.views.pages import form_status, go_to, page, posted
from apikeys.views.reviews import get_review
from apikeys.views.revocation import GET_OR_POST, MAX_BULK

# What chooses the keys of a review, of the key list's filters.
CHOSEN_BY: Final = ("environment", "owner", "scope", "status", "created", "last_used", "silence", "q")
# What the verb calls it, and the form.
FORM_FIELDS: Final = {"due_at": "due_on"}


@require_http_methods(GET_OR_POST)
@role_required(Role.ADMIN)
def review_start(request: MemberRequest) -> HttpResponse:
    """Ask which keys are reviewed until when, show how many these are, and start."""
    organization = request.member.organization
    if running := organization.reviews.open().select_related("organization").first():
        return _runs(request, running)
    listing = KeyFilter(_choice(request), queryset=organization.keys.all(), request=request)
    form = ReviewForm(posted(request), initial=request.GET)
    if request.method == "POST" and form.is_valid() and listing.is_valid():
        done = _start(request, form, listing)
        if done:
            return done
    failed = not listing.is_valid() or form_status(form) != HTTPStatus.OK
    context = {
        "form": form,
        "choice": listing.form,
        # A search comes along from the key list, which takes it by POST: it may be a pasted key.
        "choices": [listing.form[name] for name in CHOSEN_BY if name != "q"],
        "preview": _preview(listing) if listing.is_valid() else None,
    }
    status = HTTPStatus.UNPROCESSABLE_ENTITY if failed else HTTPStatus.OK
    return page(request, "apikeys/review_start.html", "reviews", context, partial="review_preview", status=status)


def _start(request: MemberRequest, form: ReviewForm, listing: KeyFilter) -> HttpResponse | None:
    """Start it and lead to its page; None where the form says now what is wrong."""
    told = ", ".join(listing.told()) or "all usable keys"
    try:
        review = Review.objects.start(request.member.organization, form.terms(told), listing.qs, by=actor(request))
    except ReviewRunningError as error:
        return _runs(request, error.review)
    except ValidationError as error:
        add_verb_errors(form, error, FORM_FIELDS)
        return None
    messages.success(request, f"{review.title} is started. Those who are to answer are mailed within a minute.")
    return go_to(request, review.get_absolute_url())


def _runs(request: MemberRequest, review: Review) -> HttpResponse:
    messages.warning(request, f"{review.title} runs already. Close it before you start another one.")
    return go_to(request, review.get_absolute_url())


def _choice(request: MemberRequest) -> QueryDict:
    """Return what was sent of the filters that choose keys; a pasted key is none."""
    sent = request.POST if request.method == "POST" else request.GET
    query = QueryDict(mutable=True)
    for name in CHOSEN_BY:
        query.setlist(name, [text for text in sent.getlist(name) if text and not key_secret.looks_like_key(text)])
    return query


def _preview(listing: KeyFilter) -> dict[str, Any]:
    """Return how many keys and owners would be asked about."""
    chosen = ApiKey.objects.filter(pk__in=listing.qs.usable(listing.now).order_by().values("pk"))
    # Who can answer: a member whose account is open.
    answers = Q(owner__user__is_active=True)
    counts = chosen.order_by().aggregate(
        keys=Count("pk"),
        owners=Count("owner", filter=answers, distinct=True),
        owned=Count("pk", filter=answers),
    )
    owners = (
        chosen.filter(answers)
        .order_by()
        .values("owner__user__name", "owner__user__email")
        .annotate(count=Count("pk"))
        .order_by("-count", "owner__user__email")[:8]
    )
    return {
        **counts,
        "foreign": counts["keys"] - counts["owned"],
        "unused": chosen.unused(listing.now).order_by().count(),
        "shown": [(row["owner__user__name"] or row["owner__user__email"], row["count"]) for row in owners],
    }


@require_POST
@role_required(Role.ADMIN)
def review_remind(request: MemberRequest, number: int) -> HttpResponse:
    """Mail everybody for whom keys of a review wait, once a day at most."""
    review = get_review(request, number)
    try:
        reminder = review.remind(by=actor(request))
    except RemindedError as error:
        messages.warning(request, f"They were reminded a short while ago. You can again {_when(error.again_at)}.")
    except ReviewClosedError:
        messages.warning(request, f"{review.title} is closed already; nobody was reminded.")
    else:
        people = f"{reminder.mails:,} {'person is' if reminder.mails == 1 else 'people are'}"
        messages.success(
            request, f"{people} mailed within a minute." if reminder.mails else "Nobody has to be reminded."
        )
    return go_to(request, review.get_absolute_url())


def _when(at: datetime) -> str:
    return f"on {timezone.localtime(at):%-d %B, %H:%M}"


@require_http_methods(GET_OR_POST)
@role_required(Role.ADMIN)
def review_close(request: MemberRequest, number: int) -> HttpResponse:
    """Say what is left open, and end a review for good when that is confirmed."""
    review = get_review(request, number)
    if request.method == "POST" and review.is_open:
        try:
            review.close(by=actor(request))
        except ReviewClosedError:
            review = get_review(request, number)
        else:
            messages.success(request, f"{review.title} is closed. Its result stays as it is.")
            return go_to(request, review.get_absolute_url())
    if not review.is_open:
        messages.warning(request, f"{review.title} was closed already, by {review.closed_by_label}.")
        return go_to(request, review.get_absolute_url())
    context = {"review": review, "progress": review.progress}
    return page(request, "apikeys/review_close.html", "reviews", context, partial="dialog")


@require_safe
@role_required(Role.OPERATOR)
def review_revoke(request: MemberRequest, number: int) -> HttpResponse:
    """Lead to the confirmation in which keys that nobody confirmed are revoked, those no longer needed first."""
    review = get_review(request, number)
    items = revocable(review, unneeded_only=request.GET.get("which") == "unneeded")
    ids = list(items.values_list("key__public_id", flat=True)[: MAX_BULK + 1])
    if not ids:
        messages.warning(request, "No key of this review is left to revoke.")
        return go_to(request, review.get_absolute_url())
    if len(ids) > MAX_BULK:
        told = f"These are the first {MAX_BULK} of {items.count():,} keys. Come back to the review for the others."
        messages.warning(request, told)
    listing = reverse("key_bulk_revoke", args=[request.member.organization.slug])
    return go_to(request, f"{listing}?{urlencode({'review': review.pk, 'key': ids[:MAX_BULK]}, doseq=True)}")
