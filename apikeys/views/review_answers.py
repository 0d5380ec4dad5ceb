"""Answering in a review: for one key, in its row or with a note, and for several at once."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpResponse, QueryDict
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from apikeys.forms import add_verb_errors
from apikeys.http import MemberRequest, actor
from apikeys.models import (
    Decision,
    NotTheirsError,
    Review,
    ReviewClosedError,
    ReviewItem,
    Role,
    Status,
)
from apikeys.models.review import MOST_AT_ONCE, Answered
from apikeys.permissions import role_required
from apikeys.review_filters import ReviewFilter
from apikeys.review_forms import AnswerForm
from apikeys.views.pages import form_status, get_key, go_to, page, posted
from apikeys.views.reviews import get_review, progress_context, with_keys
from apikeys.views.revocation import GET_OR_POST

NOT_YOURS: Final = "You may answer for the keys that you own. An admin answers for all."


@require_http_methods(GET_OR_POST)
@role_required(Role.VIEWER)
def review_confirm(request: MemberRequest, number: int, public_id: str) -> HttpResponse:
    """Say whether one key is still needed: its owner, or an admin. Answers htmx with the key's row."""
    review = get_review(request, number)
    item = _get_item(request, review, public_id)
    if not item.may_be_answered_by(request.member):
        raise PermissionDenied(NOT_YOURS)
    form = AnswerForm.of(posted(request), item, request.GET.get("decision", ""))
    told = ""
    if request.method == "POST" and form.is_valid():
        told = _answer_one(request, item, form)
        item = _get_item(request, review, public_id)
    if request.method == "POST" and request.htmx:
        return _row(request, review, item, form, told)
    if (request.method == "POST" and not form.errors) or not item.can_be_answered(request.member):
        (messages.warning if told or request.method != "POST" else messages.success)(
            request, told or _standing_words(item)
        )
        return go_to(request, _back_to(request, review))
    context = {"review": review, "item": item, "form": form, "back": _back(request)}
    return page(request, "apikeys/review_confirm.html", "reviews", context, partial="dialog", status=form_status(form))


def _get_item(request: MemberRequest, review: Review, public_id: str) -> ReviewItem:
    key = get_key(request, public_id)
    item = get_object_or_404(review.items.all(), key=key)
    item.review, item.key = review, key
    return item


def _answer_one(request: MemberRequest, item: ReviewItem, form: AnswerForm) -> str:
    """Answer, and return in words why nothing was written, empty when it was or said so before."""
    try:
        done = item.review.answer(
            [item.pk], form.answer, by=actor(request), member=request.member, seen=form.cleaned_data["seen"]
        )
    except ReviewClosedError:
        return f"{item.review.title} was closed meanwhile; nothing was changed."
    except NotTheirsError:
        raise PermissionDenied(NOT_YOURS) from None
    except ValidationError as error:
        add_verb_errors(form, error)
        return ""
    for stale in done.stale:
        told = (
            f"{stale.decided_by_label} answered “{stale.get_decision_display()}” since you opened this. Answer again?"
        )
        form.show_change(stale, told)
        return told
    return "".join(_standing_words(ended) for ended in done.ended)


def _standing_words(item: ReviewItem) -> str:
    """Say how a key stands in its review, and why nothing is to be answered where that is so."""
    if not item.review.is_open:
        return f"{item.review.title} is closed and stays as it is."
    if not item.is_alive:
        how = "is revoked" if item.status == Status.REVOKED else "has expired"
        return f"{item.key.name} {how}: no answer is needed."
    return f"{item.key.name}: {item.get_decision_display()}."


def _row(request: MemberRequest, review: Review, item: ReviewItem, form: AnswerForm, told: str) -> HttpResponse:
    review = get_review(request, review.pk)
    with_keys(request, review, [item])
    faults = " ".join(str(fault) for faults in form.errors.values() for fault in faults)
    context = progress_context(review) | {"item": item, "told": told or faults, "is_alone": True}
    context |= {"answers": True, "back": _back(request)}
    return page(request, "apikeys/review_confirm.html", "reviews", context, partial="row", status=form_status(form))


def _back(request: MemberRequest) -> str:
    """Return the filters of the list that a form came from, as a query."""
    return request.POST.get("back", request.GET.get("back", ""))[:1000]


def _back_to(request: MemberRequest, review: Review) -> str:
    """Return the review's page with the filters that the form came from."""
    query = QueryDict(_back(request)).urlencode()
    return f"{review.get_absolute_url()}?{query}" if query else review.get_absolute_url()


@require_http_methods(GET_OR_POST)
@role_required(Role.VIEWER)
def review_bulk_confirm(request: MemberRequest, number: int) -> HttpResponse:
    """Say of several keys at once whether they are still needed: of one's own or, an admin, of all."""
    review = get_review(request, number)
    chosen, fault = _chosen(request, review)
    if any(not item.may_be_answered_by(request.member) for item in chosen):
        raise PermissionDenied(NOT_YOURS)
    kept = [item for item in chosen if item.can_be_answered(request.member)]
    if fault or not kept:
        messages.warning(request, fault or f"Nothing was changed. {_standing_words(chosen[0])}")
        return go_to(request, _back_to(request, review))
    initial = {"decision": request.GET.get("decision", ""), "seen": timezone.now()}
    form = AnswerForm(posted(request), initial=initial)
    if request.method == "POST" and form.is_valid():
        return _answer_all(request, review, kept, form, len(chosen) - len(kept))
    left_out = [item for item in chosen if item not in kept]
    context = {"review": review, "items": kept, "left_out": left_out, "form": form, "back": _back(request)}
    return page(
        request, "apikeys/review_bulk_confirm.html", "reviews", context, partial="dialog", status=form_status(form)
    )


def _answer_all(
    request: MemberRequest, review: Review, items: list[ReviewItem], form: AnswerForm, left_out: int
) -> HttpResponse:
    try:
        done = review.answer(
            [item.pk for item in items],
            form.answer,
            by=actor(request),
            member=request.member,
            seen=form.cleaned_data["seen"],
        )
    except ReviewClosedError:
        messages.warning(request, f"{review.title} was closed meanwhile; nothing was changed.")
        return go_to(request, review.get_absolute_url())
    except NotTheirsError:
        raise PermissionDenied(NOT_YOURS) from None
    _tell(request, done, form.answer.decision, left_out)
    return go_to(request, _back_to(request, review))


def _tell(request: MemberRequest, done: Answered, decision: Decision, left_out: int) -> None:
    many, ended = len(done.written), len(done.ended) + left_out
    told = f"{many:,} key{'' if many == 1 else 's'}: {decision.label}." if many else "Nothing was changed."
    if done.stale:
        who = ", ".join(sorted({item.decided_by_label for item in done.stale})[:3])
        told += f" {len(done.stale):,} left out, answered meanwhile by {who}."
    if ended:
        told += f" {ended:,} left out, ended meanwhile."
    (messages.success if many else messages.warning)(request, told)


def _chosen(request: MemberRequest, review: Review) -> tuple[list[ReviewItem], str]:
    """Return the items that a request names by their keys, or else those that its filters keep, and what is wrong."""
    query = request.POST if request.method == "POST" else request.GET
    ids = list(dict.fromkeys(query.getlist("key")))
    if ids:
        if len(ids) > MOST_AT_ONCE:
            return [], f"At most {MOST_AT_ONCE} keys can be answered at once; {len(ids)} were selected."
        asked = [text for text in ids if text.isalnum()]  # no database compares with a NUL
        found = _of_review(review, review.items.filter(key__public_id__in=asked))
        is_whole = len(found) == len(ids)
        return (
            found if is_whole else [],
            "" if is_whole else "One of the selected keys is not in this review. Nothing was changed.",
        )
    if request.method == "POST" or "all" not in query:
        return [], "No key was selected."
    listing = ReviewFilter(query, queryset=review.items.all(), request=request, review=review)
    if not listing.is_valid():
        return [], "These filters make no sense."
    found = _of_review(review, listing.answerable().order_by("pk")[: MOST_AT_ONCE + 1])
    if len(found) > MOST_AT_ONCE:
        return [], f"More than {MOST_AT_ONCE} keys match; at most so many can be answered at once. Filter further."
    return found, "" if found else "No key that you could answer for matches these filters."


def _of_review(review: Review, items: Any) -> list[ReviewItem]:
    found = list(items.for_pages())
    for item in found:
        item.review = review
    return found
