"""Closing a review."""

import pytest

from apikeys.models import AuditAction, Review
from tests.factories import make_actor, make_key, make_organization, make_review
from tests.pages import HTMX, entries, is_partial, is_whole_page, messages_of, snapshot, url
from tests.views.reviewing import answer, member_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def review(organization, admin):
    first = make_key(organization).key
    make_key(organization)
    review = make_review(organization)
    answer(review, first, member_of(organization, admin))
    return review


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


def test_the_dialog_says_what_is_left_open(organization, review, client):
    before = snapshot()
    response = client.get(url("review_close", organization, review.pk))
    assert is_whole_page(response)
    assert "1 key is left open" in response.text
    assert "cannot be opened again" in response.text
    assert is_partial(client.get(url("review_close", organization, review.pk), headers=HTMX))
    assert snapshot() == before


def test_with_nothing_left_open_it_says_nothing_of_that(organization, review, admin, client):
    answer(review, organization.keys.latest("pk"), member_of(organization, admin))
    for key in organization.keys.all():
        answer(review, key, member_of(organization, admin))
    assert "left open" not in client.get(url("review_close", organization, review.pk)).text


def test_it_closes_for_good(organization, review, admin, client):
    response = client.post(url("review_close", organization, review.pk))
    assert response["Location"] == review.get_absolute_url()
    closed = Review.objects.get()
    assert (closed.closed_by, closed.closed_by_label) == (admin, "admin@example.com")
    assert closed.progress.open == 1
    [entry] = entries(organization, AuditAction.REVIEW_CLOSE)
    assert entry.changes["not_answered"] == [None, 1]
    # No key was revoked by it.
    assert not organization.keys.filter(revoked_at__isnull=False).exists()


def test_htmx_is_told_to_load_the_review(organization, review, client):
    response = client.post(url("review_close", organization, review.pk), headers=HTMX)
    assert response["HX-Redirect"] == review.get_absolute_url()


def test_one_that_is_closed_already_says_by_whom(organization, review, client):
    review.close(by=make_actor())
    before = snapshot()
    for response in (
        client.get(url("review_close", organization, review.pk)),
        client.post(url("review_close", organization, review.pk)),
    ):
        assert response.status_code == 302
        assert messages_of(response)[-1] == "Autumn review was closed already, by command line."
    assert snapshot() == before


def test_another_organizations_is_not_there(organization, client):
    make_key(other := make_organization())
    theirs = make_review(other)
    assert client.post(url("review_close", organization, theirs.pk)).status_code == 404
    assert theirs.is_open
