"""Searching in a review, by POST so that a pasted key is in no address."""

import pytest

from tests.factories import make_key, make_organization, make_review
from tests.pages import snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def issued(organization):
    return make_key(organization)


@pytest.fixture
def review(organization, issued):
    return make_review(organization)


@pytest.fixture
def find(organization, review, viewer, client_of):
    client = client_of(viewer)
    return lambda **form: client.post(url("review_find", organization, review.pk), form)


def test_a_text_goes_on_with_the_filters(review, find):
    response = find(q=" till ", status="open", owner="")
    assert (response.status_code, response["Location"]) == (303, f"{review.get_absolute_url()}?q=till&status=open")


def test_of_a_pasted_key_only_the_public_id_goes_on(issued, find):
    before = snapshot()
    response = find(q=issued.secret.text)
    assert issued.secret.text not in response["Location"]
    assert f"q={issued.key.public_id}&lookup=pasted" in response["Location"]
    mistyped = issued.secret.text[:-1] + ("a" if issued.secret.text[-1] != "a" else "b")
    response = find(q=mistyped)
    assert mistyped not in response["Location"]
    assert "lookup=unknown" in response["Location"]
    assert snapshot() == before


def test_of_another_organizations_review_there_is_nothing(organization, viewer, client_of):
    make_key(other := make_organization())
    theirs = make_review(other)
    assert client_of(viewer).post(url("review_find", organization, theirs.pk), {"q": "x"}).status_code == 404
