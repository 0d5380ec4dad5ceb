"""The mails that tell which keys wait for an answer."""

from datetime import timedelta

import pytest
from django.core import mail
from django.utils import timezone

from apikeys.models import Answer, Decision, Delivery, Review, RevocationReason
from apikeys.review_mails import MOST_TOLD, compose
from apikeys.sending import claim, send_now
from tests.factories import make_actor, make_key, make_member, make_review, make_user
from tests.pages import make_keys

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner(organization):
    return make_member(organization, user=make_user("owner@example.com"))


def composed(email="owner@example.com"):
    return compose(Delivery.objects.select_related("organization").get(email=email))


def test_it_names_the_keys_the_last_day_and_who_asks_and_holds_no_link(organization, owner, admin):
    keys = [make_key(organization, name, owner=owner).key for name in ("Nightly report", "Till https://evil.example")]
    make_key(organization, "Of somebody else", owner=make_member(organization))
    review = make_review(
        organization, by=admin, note="Every quarter", title="Autumn\u200breview".replace("\u200b", " ")
    )
    found = composed()
    assert found.to == ["owner@example.com"]
    assert found.subject == f"[Acme] 2 keys to confirm by {review.due_at:%-d %B}: Autumn review"
    for body in (found.body, found.alternatives[0].content):
        for told in ("Nightly report", keys[0].fingerprint, "admin@example.com", "Every quarter"):
            assert told in body
        assert f"{review.due_at:%-d %B %Y}" in body
        assert "Of somebody else" not in body
        assert "://" not in body
        assert "whatever you chose for mails about alerts" in body
    assert found.extra_headers["Auto-Submitted"] == "auto-generated"


def test_it_is_sent_by_the_outbox(organization, owner):
    make_key(organization, owner=owner)
    make_review(organization)
    delivery = claim([])
    assert (delivery.email, delivery.last_event) == ("owner@example.com", None)
    assert not send_now(delivery).error
    assert [one.to for one in mail.outbox] == [["owner@example.com"]]
    assert Delivery.objects.get().state == "sent"


def test_what_was_answered_or_revoked_meanwhile_is_not_told(organization, owner):
    keys = [make_key(organization, f"Key number {number}", owner=owner).key for number in range(3)]
    review = make_review(organization)
    item = review.items.get(key=keys[0])
    review.answer([item.pk], Answer(Decision.NEEDED), by=make_actor(owner.user), member=owner, seen=None)
    keys[1].revoke(reason=RevocationReason.UNUSED, by=make_actor())
    body = composed().body
    assert "Key number 2" in body
    assert "Key number 0" not in body
    assert "Key number 1" not in body


@pytest.mark.parametrize("change", ["answered", "closed", "removed", "inactive"])
def test_with_nothing_left_to_tell_there_is_no_mail(organization, owner, change):
    key = make_key(organization, owner=owner).key
    review = make_review(organization)
    if change == "answered":
        item = review.items.get(key=key)
        review.answer([item.pk], Answer(Decision.NEEDED), by=make_actor(owner.user), member=owner, seen=None)
    elif change == "closed":
        review.close(by=make_actor())
    elif change == "removed":
        owner.remove(by=make_actor(), keys_to=make_member(organization))
    else:
        owner.user.is_active = False
        owner.user.save()
    assert composed() is None
    [delivery] = Delivery.objects.all()
    assert send_now(delivery).is_empty
    assert not mail.outbox


def test_an_admin_is_told_which_are_whose(organization):
    founder = organization.members.get()
    make_key(organization, owner=founder)
    for _ in range(2):
        make_key(organization)
    make_review(organization)
    body = composed("founder@example.com").body
    assert "1 of them is yours; 2 have an owner without an account here" in body


def test_an_overdue_review_says_so(organization, owner):
    make_key(organization, owner=owner)
    review = make_review(organization)
    due = timezone.now() - timedelta(days=3)
    Review.objects.filter(pk=review.pk).update(due_at=due)
    found = composed()
    assert f"1 key to confirm since {due:%-d %B}" in found.subject
    assert "The review was due on" in found.body


def test_of_many_keys_some_are_named(organization):
    make_keys(organization, MOST_TOLD + 10)
    make_review(organization)
    assert "and 11 more." in composed("founder@example.com").body


def test_hostile_names_are_text(organization, owner):
    make_key(organization, "<script>alert(1)</script>", owner=owner)
    make_review(organization, title="<b>Bold</b> https://evil.example", note="<img src=x>")
    found = composed()
    html = found.alternatives[0].content
    assert "<script>" not in html
    assert "<img" not in html
    assert "<b>Bold" not in html
    assert "https://" not in found.subject + html + found.body
