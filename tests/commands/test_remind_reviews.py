"""remind_reviews: what it answers, and that it is safe to run twice at once."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apikeys.models import Delivery, JobRun, Review
from apikeys.models.review import remind_all
from tests.commands.running import run, run_process
from tests.factories import make_actor, make_key, make_review
from tests.pages import soon
from tests.threads import run_together

DAY = timedelta(days=1)


@pytest.fixture
def review(committed):
    """A review whose reminder before its last day is due; others' are not."""
    for other in Review.objects.open():
        other.close(by=make_actor())
    make_key(committed)
    found = make_review(committed, due_at=soon(2))
    Review.objects.filter(pk=found.pk).update(started_at=timezone.now() - 10 * DAY)
    Delivery.objects.filter(review=found).update(sent_at=timezone.now())
    yield found
    Review.objects.get(pk=found.pk).close(by=make_actor())
    Delivery.objects.filter(review=found).delete()


def test_it_says_what_it_wrote_and_the_second_time_there_is_nothing(review):
    ran = run("remind_reviews")
    assert (ran.status, ran.out) == (0, "1 reminders were due, 1 mails are to be sent.\n")
    assert ran.err == f"{review.organization.slug}: Autumn review: soon, 1 mails.\n"
    assert run("remind_reviews").out == "No reminder was due.\n"
    assert run("remind_reviews", "--json").json == {"reminders": 0, "mails": 0}
    assert not JobRun.objects.latest_of("remind_reviews").error
    assert Delivery.objects.filter(review=review, sent_at=None).count() == 1


def test_two_at_once_remind_once(review):
    results = run_together(*[lambda: remind_all(timezone.now())] * 3)
    assert sorted(len(sent) for sent in results) == [0, 0, 1]
    assert review.reminders.filter(stage="soon").count() == 1
    assert Delivery.objects.filter(review=review, sent_at=None).count() == 1


def test_it_works_in_a_process_of_its_own(review):
    ran = run_process("remind_reviews", "--json")
    assert (ran.status, ran.json) == (0, {"reminders": 1, "mails": 1})


def test_what_it_does_not_know_is_wrong_usage():
    assert run_process("remind_reviews", "--now").status == 2
