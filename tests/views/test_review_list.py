"""The list of reviews."""

import pytest

from tests.factories import make_actor, make_key, make_organization, make_review
from tests.pages import HTMX, is_partial, is_whole_page, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def visit(organization, viewer, client_of):
    client = client_of(viewer)

    def get(headers=None, **query):
        return client.get(url("review_list", organization, **query), headers=headers)

    return get


def test_without_one_it_says_what_it_is_for_and_who_starts_one(organization, visit, admin, client_of):
    text = visit().text
    assert "No reviews yet" in text
    assert "who confirmed what, and when" in text
    assert "An admin of Acme starts one" in text
    assert url("review_start", organization) not in text
    assert url("review_start", organization) in client_of(admin).get(url("review_list", organization)).text


def test_each_is_there_with_how_far_it_is_and_nobody_elses(organization, visit, django_assert_max_num_queries):
    for _ in range(3):
        make_key(organization)
    for number in range(3):
        make_review(organization, title=f"Review {number}").close(by=make_actor())
    open_one = make_review(organization, title="<b>The open one</b>")
    make_key(other := make_organization())
    make_review(other, title="Of another organization")
    with django_assert_max_num_queries(14):
        response = visit()
    assert is_whole_page(response)
    assert [review.title for review in response.context["reviews"]] == [
        "<b>The open one</b>",
        "Review 2",
        "Review 1",
        "Review 0",
    ]
    assert "<b>The open one" not in response.text
    assert "0 of 3" in response.text
    assert open_one.get_absolute_url() in response.text
    assert is_partial(visit(HTMX))


def test_while_one_is_open_no_other_is_offered(organization, admin, client_of):
    make_key(organization)
    review = make_review(organization)
    address = url("review_list", organization)
    assert url("review_start", organization) not in client_of(admin).get(address).text
    review.close(by=make_actor())
    assert url("review_start", organization) in client_of(admin).get(address).text


def test_it_has_pages(organization, visit, monkeypatch):
    monkeypatch.setattr("apikeys.paging.take_page.__defaults__", (2,))
    make_key(organization)
    for number in range(5):
        make_review(organization, title=f"Review {number}").close(by=make_actor())
    seen, address = [], url("review_list", organization)
    while address:
        response = visit(after=address.partition("after=")[2]) if "after=" in address else visit()
        seen += [review.title for review in response.context["reviews"]]
        address = response.context["next_url"]
    assert seen == [f"Review {number}" for number in (4, 3, 2, 1, 0)]


def test_a_damaged_address_says_so(visit):
    response = visit(after="odd")
    assert response.status_code == 422
    assert "damaged" in response.text
