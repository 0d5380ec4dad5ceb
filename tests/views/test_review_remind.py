"""Having everybody reminded by hand."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apikeys.models import AuditAction, Delivery, ReviewReminder
from tests.factories import make_actor, make_key, make_organization, make_review
from tests.pages import entries, messages_of, snapshot, url
from tests.views.reviewing import answer, member_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def review(organization):
    make_key(organization)
    return make_review(organization)


@pytest.fixture
def send(organization, review, admin, client_of):
    client = client_of(admin)
    return lambda: client.post(url("review_remind", organization, review.pk))


def a_day_later():
    ReviewReminder.objects.update(at=timezone.now() - timedelta(hours=25))
    Delivery.objects.update(sent_at=timezone.now())


def test_everybody_for_whom_keys_wait_is_mailed_once_a_day(organization, admin, review, send):
    before = snapshot()
    response = send()
    assert response["Location"] == review.get_absolute_url()
    assert messages_of(response)[0].startswith("They were reminded a short while ago. You can again on")
    assert snapshot() == before
    a_day_later()
    # The founder is an admin too.
    assert messages_of(send())[-1] == "2 people are mailed within a minute."
    assert Delivery.objects.filter(sent_at=None).count() == 2
    [entry] = entries(organization, AuditAction.REVIEW_REMIND)
    assert (entry.actor, entry.target_label) == (admin, "Autumn review")
    assert entry.changes == {"why": [None, "asked"], "mailed": [None, 2]}
    before = snapshot()
    send()
    assert snapshot() == before


def test_when_nothing_is_left_nobody_is_mailed(organization, admin, review, send):
    answer(review, organization.keys.get(), member_of(organization, admin))
    a_day_later()
    assert messages_of(send())[-1] == "Nobody has to be reminded."


def test_of_a_closed_review_nobody_is_reminded(review, send):
    a_day_later()
    review.close(by=make_actor())
    before = snapshot()
    assert messages_of(send())[-1] == "Autumn review is closed already; nobody was reminded."
    assert snapshot() == before


def test_an_operator_may_not(organization, review, operator, client_of):
    assert client_of(operator).post(url("review_remind", organization, review.pk)).status_code == 403


def test_another_organizations_is_not_there(organization, admin, client_of):
    make_key(other := make_organization())
    theirs = make_review(other)
    assert client_of(admin).post(url("review_remind", organization, theirs.pk)).status_code == 404
