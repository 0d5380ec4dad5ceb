"""The page of a review."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apikeys.models import Review, ReviewReminder, RevocationReason
from tests.factories import (
    make_actor,
    make_event,
    make_key,
    make_member,
    make_old_key,
    make_organization,
    make_review,
    make_user,
)
from tests.pages import HOSTILE, HTMX, is_partial, is_whole_page, make_keys, snapshot, url
from tests.views.reviewing import answer, confirm_url, item_of, member_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


def visit(client, organization, review, headers=None, **query):
    return client.get(url("review_detail", organization, review.pk, **query), headers=headers)


def names(response):
    return [item.key.name for item in response.context["items"]]


def test_each_key_has_what_helps_to_decide(organization, client):
    used = make_key(organization, "Used", scopes=["orders:read", "orders:write"]).key
    make_event(used, ago=timedelta(days=3))
    make_old_key(organization, timedelta(days=400), name="Forgotten")
    review = make_review(organization)
    before = snapshot()
    response = visit(client, organization, review)
    assert is_whole_page(response)
    assert "3 d ago" in response.text
    assert "never used" in response.text
    assert "orders:read, orders:write" in response.text
    assert "1 requests in 30 days" in response.text
    assert "400 d ago" in response.text
    assert used.fingerprint in response.text
    assert snapshot() == before
    assert is_partial(visit(client, organization, review, HTMX))


def test_it_says_how_far_it_is_and_who_has_how_many_left(organization, admin, client):
    owner = make_member(organization, user=make_user("owner@example.com", name="Olga Owner"))
    mine, ended = make_key(organization, owner=owner).key, make_key(organization, owner=owner).key
    make_key(organization, owner=owner)
    unneeded = make_key(organization).key
    review = make_review(organization)
    answer(review, mine, owner)
    answer(review, unneeded, member_of(organization, admin), "unneeded")
    ended.revoke(reason=RevocationReason.UNUSED, by=make_actor())
    response = visit(client, organization, review)
    progress = response.context["progress"]
    assert (progress.open, progress.needed, progress.unneeded, progress.ended) == (1, 1, 1, 1)
    assert "<b>3</b> of 4 done, 75 %" in response.text
    assert "Olga Owner" in response.text
    assert {tab["label"]: tab["count"] for tab in response.context["tabs"]} == {
        "All": "4",
        "Not answered": "1",
        "Still needed": "1",
        "No longer needed": "1",
        "Ended meanwhile": "1",
    }


def test_those_to_be_answered_come_first_and_tabs_narrow(organization, admin, client):
    keys = {name: make_key(organization, name).key for name in ("a", "b", "c", "d")}
    review, me = make_review(organization), member_of(organization, admin)
    answer(review, keys["a"], me)
    answer(review, keys["b"], me, "unneeded")
    keys["c"].revoke(reason=RevocationReason.UNUSED, by=make_actor())
    assert names(visit(client, organization, review)) == ["d", "b", "a", "c"]
    for tab, name in (("open", "d"), ("unneeded", "b"), ("needed", "a"), ("ended", "c")):
        assert names(visit(client, organization, review, status=tab)) == [name]


def test_owner_environment_and_search_narrow(organization, admin, client):
    owner = make_member(organization, user=make_user("owner@example.com"))
    make_key(organization, "Mine", owner=owner)
    till = make_key(organization, "Till", environment="dev", owner_contact="team@example.com").key
    review = make_review(organization)
    answer(review, till, member_of(organization, admin), note="Until spring")
    for query, found in (
        ({"owner": "owner@example.com"}, ["Mine"]),
        ({"owner": "team@example.com"}, ["Till"]),
        ({"owner": "nobody"}, ["Till"]),
        ({"environment": "dev"}, ["Till"]),
        ({"environment": "dev", "owner": "owner@example.com"}, []),
        ({"q": "mine"}, ["Mine"]),
        ({"q": till.fingerprint}, ["Till"]),
        ({"q": "until spring"}, ["Till"]),
        ({"q": "no such text"}, []),
    ):
        assert names(visit(client, organization, review, **query)) == found, query
    review.close(by=make_actor())
    for query, found in (
        ({"owner": "owner@example.com"}, ["Mine"]),
        ({"environment": "development"}, ["Till"]),
        ({"q": till.fingerprint}, ["Till"]),
        ({"q": till.public_id}, ["Till"]),
        ({"q": "until spring"}, ["Till"]),
    ):
        assert names(visit(client, organization, review, **query)) == found, query


@pytest.mark.parametrize("query", [{"owner": "odd"}, {"status": "odd"}, {"environment": "odd"}, {"q": "x" * 201}])
def test_a_filter_that_makes_no_sense_is_a_422(organization, client, query):
    make_key(organization)
    response = visit(client, organization, make_review(organization), **query)
    assert response.status_code == 422
    assert "This filter makes no sense" in response.text


def test_a_pasted_key_is_in_no_address(organization, client):
    issued = make_key(organization)
    review = make_review(organization)
    response = visit(client, organization, review, q=issued.secret.text)
    assert response.status_code == 302
    assert issued.secret.text not in response["Location"]
    assert f"q={issued.key.public_id}" in response["Location"]


def test_pages_hold_every_key_once(organization, client, monkeypatch):
    monkeypatch.setattr("apikeys.paging.take_page.__defaults__", (7,))
    keys = make_keys(organization, 20)
    review = make_review(organization)
    for key in keys[::3]:
        answer(review, key, organization.members.get(user__email="founder@example.com"))
    seen, after = [], ""
    for _ in range(10):
        response = visit(client, organization, review, **({"after": after} if after else {}))
        seen += [item.pk for item in response.context["items"]]
        after = response.context["next_url"].partition("after=")[2]
        if not after:
            break
    assert len(seen) == len(set(seen)) == 21
    assert visit(client, organization, review, after="odd").status_code == 422


def test_many_keys_cost_no_more_queries_than_few(organization, client):
    make_keys(organization, 2)
    review = make_review(organization)
    with CaptureQueriesContext(connection) as few:
        visit(client, organization, review)
    review.close(by=make_actor())
    make_keys(organization, 40)
    review = make_review(organization)
    with CaptureQueriesContext(connection) as many:
        visit(client, organization, review)
    assert len(many) <= len(few)
    assert len(many) < 40


# Who may do what


def test_only_who_may_answer_has_the_buttons(organization, admin, operator, viewer, client_of):
    mine = make_key(organization, "Mine", owner=member_of(organization, viewer)).key
    other = make_key(organization, "Other").key
    review = make_review(organization)
    for person, may in ((admin, {"Mine", "Other"}), (viewer, {"Mine"}), (operator, set())):
        text = visit(client_of(person), organization, review).text
        assert {
            key.name for key in (mine, other) if f'action="{confirm_url(organization, review, key)}"' in text
        } == may
        assert ("data-selection" in text) == bool(may)


def test_only_an_admin_may_remind_and_close_and_who_operates_may_revoke(
    organization, admin, operator, viewer, client_of
):
    make_key(organization)
    review = make_review(organization)
    Review.objects.filter(pk=review.pk).update(due_at=timezone.now() - timedelta(minutes=1))
    pages = {name: url(name, organization, review.pk) for name in ("review_remind", "review_close", "review_revoke")}
    for person, may in ((admin, set(pages)), (operator, {"review_revoke"}), (viewer, set())):
        text = visit(client_of(person), organization, review).text
        assert {name for name, address in pages.items() if f'{address}"' in text} == may


def test_an_owner_is_led_to_their_own_keys(organization, viewer, client_of):
    make_key(organization, owner=member_of(organization, viewer))
    review = make_review(organization)
    client = client_of(viewer)
    for address in (url("overview", organization), url("review_detail", organization, review.pk)):
        text = client.get(address).text
        assert "1 key waits" in " ".join(text.split())
        assert f"{review.get_absolute_url()}?status=open&amp;owner=viewer%40example.com" in text
    assert '1<span class="sr"> to confirm</span>' in client.get(url("key_list", organization)).text
    answer(review, organization.keys.get(), member_of(organization, viewer))
    text = client.get(url("overview", organization)).text
    assert "for your answer" not in text
    assert "to confirm</span>" not in text


def test_an_admin_is_led_to_keys_whose_owner_cannot_answer(organization, admin, client):
    make_key(organization, owner_contact="team@example.com")
    review = make_review(organization)
    text = client.get(url("overview", organization)).text
    assert f"{review.get_absolute_url()}?status=open&amp;owner=nobody" in text


def test_remind_is_there_again_after_a_day(organization, client):
    make_key(organization)
    review = make_review(organization)
    assert visit(client, organization, review).context["remind_after"]
    ReviewReminder.objects.update(at=timezone.now() - timedelta(hours=25))
    assert visit(client, organization, review).context["remind_after"] is None


# States


def test_a_review_that_is_overdue_says_so(organization, client):
    make_key(organization)
    review = make_review(organization)
    Review.objects.filter(pk=review.pk).update(due_at=timezone.now() - timedelta(days=2))
    text = visit(client, organization, review).text
    assert "Overdue" in text
    assert "1 overdue" in text


def test_a_closed_review_shows_what_was_so_then_and_no_button(organization, admin, client):
    key = make_key(organization, "Old name").key
    review = make_review(organization)
    answer(review, key, member_of(organization, admin), note="Until spring")
    review.close(by=make_actor(admin))
    key.name = "New name"
    key.save(update_fields=["name"])
    text = visit(client, organization, review).text
    assert "Old name" in text
    assert "New name" not in text
    assert "Until spring" in text
    assert confirm_url(organization, review, key) not in text
    for name in ("review_remind", "review_close"):
        assert url(name, organization, review.pk) not in text


def test_what_was_not_confirmed_can_be_revoked_also_afterwards(organization, admin, client):
    keys = [make_key(organization).key for _ in range(3)]
    review, me = make_review(organization), member_of(organization, admin)
    answer(review, keys[0], me)
    answer(review, keys[1], me, "unneeded")
    text = visit(client, organization, review).text
    assert "Revoke the 1 that is no longer needed" in text
    assert "that nobody confirmed" not in text
    Review.objects.filter(pk=review.pk).update(due_at=timezone.now() - timedelta(minutes=1))
    text = visit(client, organization, review).text
    assert "Revoke the 1 that is no longer needed" in text
    assert "Revoke the 2 that nobody confirmed" in text
    review.close(by=make_actor())
    keys[1].revoke(reason=RevocationReason.UNUSED, by=make_actor())
    text = visit(client, organization, review).text
    assert "no longer needed…" not in text
    assert "Revoke the 1 that nobody confirmed" in text


def test_a_key_that_was_revoked_after_its_answer_says_so(organization, admin, client):
    key = make_key(organization).key
    review = make_review(organization)
    answer(review, key, member_of(organization, admin), "unneeded")
    key.revoke(reason=RevocationReason.UNUSED, by=make_actor())
    text = " ".join(visit(client, organization, review).text.split())
    assert "No longer needed" in text
    assert "revoked <time" in text
    assert confirm_url(organization, review, key) not in text


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_is_text(organization, admin, client, text):
    key = make_key(organization, text[:100], purpose=text).key
    review = make_review(organization, title=text[:100], note=text)
    answer(review, key, member_of(organization, admin), note=text)
    response = visit(client, organization, review)
    assert response.status_code == 200
    assert "<script>alert" not in response.text
    assert "<img src=x" not in response.text
    assert item_of(review, key).note == text


def test_a_key_of_the_filters_of_another_organization_is_not_there(organization, client):
    make_key(organization)
    make_key(other := make_organization(), "Of theirs")
    review, theirs = make_review(organization), make_review(other)
    assert visit(client, organization, theirs).status_code == 404
    assert "Of theirs" not in visit(client, organization, review).text
