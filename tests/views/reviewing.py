"""What the tests of the pages of reviews share."""

from apikeys.models import Answer, Decision, Member, ReviewItem
from tests.factories import make_actor
from tests.pages import url


def answer(review, key, member, decision="needed", note=""):
    """Answer for a key, having seen what was answered before."""
    item = item_of(review, key)
    told = Answer(Decision(decision), note)
    return review.answer([item.pk], told, by=make_actor(member.user), member=member, seen=item.decided_at)


def item_of(review, key):
    return ReviewItem.objects.for_pages().get(review=review, key=key.pk)


def member_of(organization, user):
    return Member.objects.get(organization=organization, user=user)


def confirm_url(organization, review, key, **query):
    return url("review_confirm", organization, review.pk, key.public_id, **query)


def seen_of(item):
    """Return what a form that was made now carries."""
    return item.decided_at.isoformat() if item.decided_at else ""
