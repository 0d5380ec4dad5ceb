"""The mails that tell a member which keys of a review wait for their answer. They hold no link, as those of alerts."""

from __future__ import annotations

from typing import Final

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.utils import timezone

from apikeys.alert_mails import unlinked
from apikeys.models import Delivery, Member, Review, ReviewItem

MOST_TOLD: Final = 20


def compose(delivery: Delivery) -> EmailMultiAlternatives | None:
    """Return the mail of a delivery, None where nothing waits for its recipient any more."""
    review, now = delivery.review, timezone.now()
    if review is None or review.closed_at:
        return None
    member = Member.objects.filter(
        organization=delivery.organization, user__email=delivery.email, user__is_active=True
    ).first()
    if member is None:
        return None
    waiting = ReviewItem.objects.waiting_for(member, now).filter(review=review)
    total = waiting.count()
    if not total:
        return None
    shown = list(waiting.for_pages().order_by("pk")[:MOST_TOLD])
    foreign = waiting.exclude(key__owner=member).count()
    context = {
        "review": review,
        "organization": delivery.organization,
        "shown": shown,
        "total": total,
        "more": total - len(shown),
        "own": total - foreign,
        "foreign": foreign,
        "is_overdue": review.is_overdue,
    }
    return _mail(delivery, _subject(review, total), context)


def _subject(review: Review, total: int) -> str:
    until = f"since {review.due_at:%-d %B}" if review.is_overdue else f"by {review.due_at:%-d %B}"
    told = f"[{review.organization}] {total:,} key{'' if total == 1 else 's'} to confirm {until}: {review.title}"
    # A line feed of a name would begin another header.
    return unlinked(" ".join(told.split())[:200])


def _mail(delivery: Delivery, subject: str, context: dict[str, object]) -> EmailMultiAlternatives:
    context |= {"subject": subject}
    host = settings.DEFAULT_FROM_EMAIL.rpartition("@")[2].strip("> ") or "localhost"
    mail = EmailMultiAlternatives(
        subject,
        unlinked(render_to_string("emails/review.txt", context)),
        to=[delivery.email],
        headers={
            # The same in every attempt, by which a mailbox knows what it has already.
            "Message-ID": f"<{delivery.pk}@{host}>",
            "Auto-Submitted": "auto-generated",
            "List-Id": f"Reviews of keyadmin <reviews.{delivery.organization.slug}.{host}>",
        },
    )
    mail.attach_alternative(unlinked(render_to_string("emails/review.html", context)), "text/html")
    return mail
