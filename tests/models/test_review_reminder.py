"""Reminders of reviews: when each is due, whom it goes to, and that it goes out once."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from apikeys.models import (
    Answer,
    AuditAction,
    Decision,
    Delivery,
    RemindedError,
    Review,
    ReviewReminder,
    RevocationReason,
    Role,
)
from apikeys.models.review import remind_all
from apikeys.models.review_reminder import due_stage, recipients
from tests.factories import make_actor, make_delivery, make_key, make_member, make_organization, make_review, make_user
from tests.pages import entries, soon

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
START = datetime(2026, 11, 1, 10, tzinfo=UTC)
END = datetime(2026, 11, 15, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "stage"),
    [
        (START, ""),
        (END - 3 * DAY - timedelta(seconds=1), ""),
        (END - 3 * DAY, "soon"),
        (END - DAY - timedelta(seconds=1), "soon"),
        (END - DAY, "due"),
        (END + 7 * DAY - timedelta(seconds=1), "due"),
        (END + 7 * DAY, "overdue-1"),
        (END + 14 * DAY, "overdue-2"),
        (END + 700 * DAY, "overdue-100"),
    ],
)
def test_a_reminder_is_due_before_the_end_on_the_last_day_and_every_week_afterwards(now, stage):
    assert due_stage(START, END, now) == stage


@pytest.mark.parametrize(
    ("lasting", "after", "stage"),
    [
        # What would come within a day of the start says nothing new.
        (timedelta(hours=10), timedelta(hours=9), ""),
        (timedelta(hours=10), timedelta(hours=10) + 7 * DAY, "overdue-1"),
        (2 * DAY, DAY, "due"),
        (3 * DAY + timedelta(hours=5), timedelta(hours=6), ""),
        (4 * DAY, DAY, "soon"),
    ],
)
def test_a_short_review_has_no_reminder_within_a_day_of_its_start(lasting, after, stage):
    assert due_stage(START, START + lasting, START + after) == stage


def mailed():
    return sorted(Delivery.objects.filter(sent_at=None).values_list("email", flat=True))


def test_the_start_mails_owners_and_for_others_the_admins(organization):
    viewer, operator = make_member(organization), make_member(organization, Role.OPERATOR)
    for owner in (viewer, operator):
        make_key(organization, owner=owner)
    make_member(organization, Role.ADMIN)
    make_review(organization).close(by=make_actor())
    assert mailed() == sorted([viewer.user.email, operator.user.email])
    Delivery.objects.all().delete()
    make_key(organization, owner_contact="team@example.com")
    make_review(organization)
    admins = organization.members.filter(role=Role.ADMIN).values_list("user__email", flat=True)
    assert mailed() == sorted([viewer.user.email, operator.user.email, *admins])


def test_whoever_chose_no_mails_about_alerts_is_reminded_all_the_same(organization):
    owner = make_member(organization)
    owner.choose_alert_mail("none", by=make_actor())
    make_key(organization, owner=owner)
    make_review(organization)
    assert mailed() == [owner.user.email]


def test_a_closed_account_is_not_mailed_but_the_admins_are(organization):
    owner = make_member(organization)
    make_key(organization, owner=owner)
    owner.user.is_active = False
    owner.user.save()
    review = make_review(organization)
    assert recipients(review) == ["founder@example.com"]


def test_only_those_with_keys_left_are_mailed(organization):
    done, revoked, left = (make_member(organization) for _ in range(3))
    keys = [make_key(organization, owner=owner).key for owner in (done, revoked, left)]
    review = make_review(organization)
    item = review.items.get(key=keys[0])
    review.answer([item.pk], Answer(Decision.NEEDED), by=make_actor(done.user), member=done, seen=None)
    keys[1].revoke(reason=RevocationReason.UNUSED, by=make_actor())
    assert recipients(review) == [left.user.email]


def test_each_is_sent_once_and_written_down(organization):
    make_key(organization)
    review = make_review(organization, due_at=soon(10))
    Review.objects.filter(pk=review.pk).update(started_at=timezone.now() - 5 * DAY)
    Delivery.objects.update(sent_at=timezone.now())
    at = review.due_at - 2 * DAY
    assert remind_all(timezone.now()) == []
    [(told, reminder)] = remind_all(at)
    assert (told, reminder.stage, reminder.mails) == (review, "soon", 1)
    assert remind_all(at) == []
    assert mailed() == ["founder@example.com"]
    Delivery.objects.update(sent_at=timezone.now())
    assert [one.stage for _, one in remind_all(review.due_at + 8 * DAY)] == ["overdue-1"]
    told = [(entry.actor_label, entry.changes["why"]) for entry in entries(organization, AuditAction.REVIEW_REMIND)]
    assert told == [("scheduled job", [None, "soon"]), ("scheduled job", [None, "overdue-1"])]


def test_by_hand_it_is_once_a_day_whatever_was_sent_last(organization):
    make_key(organization)
    review = make_review(organization)
    with pytest.raises(RemindedError) as raised:
        review.remind(by=make_actor())
    assert raised.value.again_at == review.reminders.get().at + DAY
    ReviewReminder.objects.update(at=timezone.now() - DAY)
    assert review.remind(by=make_actor()).stage == "asked"
    ReviewReminder.objects.update(at=timezone.now() - DAY)
    assert review.remind(by=make_actor()).stage == "asked"


def test_a_mail_that_still_waits_is_not_joined_by_another(organization):
    make_key(organization)
    review = make_review(organization)
    ReviewReminder.objects.update(at=timezone.now() - DAY)
    review.remind(by=make_actor())
    assert mailed() == ["founder@example.com"]
    # Nor by one that is sent again by hand.
    [waiting] = Delivery.objects.all()
    sent = make_delivery(
        organization, email=waiting.email, is_test=False, review=review, sent_at=timezone.now(), attempts=1
    )
    assert sent.resend(by=make_actor()) is False
    Delivery.objects.filter(pk=waiting.pk).update(sent_at=timezone.now())
    assert sent.resend(by=make_actor()) is True


def test_mails_of_alerts_and_of_a_review_wait_side_by_side(organization):
    make_key(organization)
    make_delivery(organization, email="founder@example.com", is_test=False, first_event=1)
    make_review(organization)
    assert mailed() == ["founder@example.com"] * 2


def test_reviews_of_other_organizations_mail_their_own_people(organization):
    admin = make_user("other@example.com")
    make_key(other := make_organization(admin=admin))
    make_key(organization)
    make_review(other)
    assert mailed() == ["other@example.com"]
