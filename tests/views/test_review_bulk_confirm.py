"""Answering for several keys at once."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apikeys.models import AuditAction, RevocationReason
from apikeys.models.review import MOST_AT_ONCE
from tests.factories import make_actor, make_key, make_organization, make_review
from tests.pages import HTMX, entries, is_partial, is_whole_page, make_keys, messages_of, snapshot, url
from tests.views.reviewing import answer, item_of, member_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def keys(organization, viewer):
    """Keys that the viewer owns."""
    return [make_key(organization, f"Mine {number}", owner=member_of(organization, viewer)).key for number in range(3)]


@pytest.fixture
def review(organization, keys):
    make_key(organization, "Of nobody")
    return make_review(organization)


@pytest.fixture
def client(viewer, client_of):
    return client_of(viewer)


@pytest.fixture
def send(organization, review, client):
    def post(*keys, headers=None, seen=None, **form):
        ids = [getattr(key, "public_id", key) for key in keys]
        sent = {"key": ids, "decision": "needed", "note": "", "seen": (seen or timezone.now()).isoformat()} | form
        return client.post(url("review_bulk_confirm", organization, review.pk), sent, headers=headers)

    return post


def address(organization, review, *keys, **query):
    return url("review_bulk_confirm", organization, review.pk, key=[key.public_id for key in keys], **query)


def test_the_form_is_a_page_and_for_htmx_a_dialog_that_names_each(organization, review, keys, client):
    before = snapshot()
    response = client.get(address(organization, review, *keys, decision="unneeded"))
    assert is_whole_page(response)
    assert "Are these 3 keys still needed?" in response.text
    for key in keys:
        assert key.name in response.text
    assert response.context["form"].initial["decision"] == "unneeded"
    assert is_partial(client.get(address(organization, review, *keys), headers=HTMX))
    assert snapshot() == before


def test_each_is_answered_and_recorded(organization, review, keys, viewer, send):
    response = send(*keys, note="All in use", back="owner=x")
    assert response["Location"] == f"{review.get_absolute_url()}?owner=x"
    assert messages_of(response) == ["3 keys: still needed."]
    assert {(item_of(review, key).decision, item_of(review, key).note) for key in keys} == {("needed", "All in use")}
    told = entries(organization, AuditAction.REVIEW_CONFIRM)
    assert [entry.key_id for entry in told] == [key.pk for key in keys]
    assert {(entry.actor, entry.reason) for entry in told} == {(viewer, "All in use")}


def test_htmx_is_told_to_load_the_review(keys, review, send):
    assert send(*keys, headers=HTMX)["HX-Redirect"] == review.get_absolute_url()


def test_what_somebody_answered_meanwhile_is_left_out_and_named(organization, review, keys, admin, send):
    seen = timezone.now() - timedelta(minutes=5)
    answer(review, keys[0], member_of(organization, admin), "unneeded")
    assert messages_of(send(*keys, seen=seen)) == [
        "2 keys: still needed. 1 left out, answered meanwhile by admin@example.com."
    ]
    assert item_of(review, keys[0]).decision == "unneeded"


def test_a_form_sent_again_changes_nothing(organization, review, keys, send):
    send(*keys)
    before = snapshot()
    assert messages_of(send(*keys))[-1] == "Nothing was changed."
    assert snapshot() == before


def test_a_revoked_key_is_left_out(organization, review, keys, client, send):
    keys[0].revoke(reason=RevocationReason.UNUSED, by=make_actor())
    response = client.get(address(organization, review, *keys))
    assert response.context["left_out"] == [item_of(review, keys[0])]
    assert messages_of(send(*keys)) == ["2 keys: still needed. 1 left out, ended meanwhile."]
    keys[1].revoke(reason=RevocationReason.UNUSED, by=make_actor())
    assert "is revoked: no answer is needed" in messages_of(send(keys[0], keys[1]))[-1]


def test_one_that_is_not_theirs_refuses_all(organization, review, keys, client, send):
    nobodys = organization.keys.get(name="Of nobody")
    before = snapshot()
    assert client.get(address(organization, review, *keys, nobodys)).status_code == 403
    assert send(*keys, nobodys).status_code == 403
    assert snapshot() == before


def test_an_admin_answers_for_all(organization, review, admin, client_of):
    ids = [key.public_id for key in organization.keys.all()]
    form = {"key": ids, "decision": "needed", "note": "", "seen": timezone.now().isoformat()}
    assert client_of(admin).post(url("review_bulk_confirm", organization, review.pk), form).status_code == 302
    assert review.progress.needed == 4


@pytest.mark.parametrize("form", [{"decision": ""}, {"decision": "open"}, {"note": "x" * 501}, {"seen": "odd"}])
def test_bad_input_is_a_422_that_changes_nothing(organization, review, keys, client, form):
    sent = {"key": keys[0].public_id, "decision": "needed", "seen": ""} | form
    before = snapshot()
    response = client.post(url("review_bulk_confirm", organization, review.pk), sent)
    assert response.status_code == 422
    assert keys[0].name in response.text
    assert snapshot() == before


@pytest.mark.parametrize("ids", [[], ["nonsense"], ["\0"], ["x" * 12]])
def test_what_is_no_key_changes_nothing(review, keys, send, ids):
    before = snapshot()
    assert send(*ids, *(keys if ids else []))["Location"] == review.get_absolute_url()
    assert snapshot() == before


def test_a_key_of_another_review_or_organization_refuses_all(organization, review, keys, send, admin, client_of):
    later = make_key(organization).key
    theirs = make_key(make_organization()).key
    before = snapshot()
    for other in (later, theirs):
        assert (
            messages_of(send(*keys, other))[-1]
            == "One of the selected keys is not in this review. Nothing was changed."
        )
    assert snapshot() == before


def test_more_than_can_be_answered_at_once_are_refused(send):
    told = messages_of(send(*(f"{number:012}" for number in range(MOST_AT_ONCE + 1))))
    assert told == [f"At most {MOST_AT_ONCE} keys can be answered at once; {MOST_AT_ONCE + 1} were selected."]


def test_all_that_match_filters_are_those_that_are_open_and_theirs(organization, review, keys, client):
    answer(review, keys[0], member_of(organization, organization.members.get(user__email="viewer@example.com").user))
    response = client.get(url("review_bulk_confirm", organization, review.pk, all="1"))
    assert [item.key_id for item in response.context["items"]] == [keys[1].pk, keys[2].pk]
    response = client.get(url("review_bulk_confirm", organization, review.pk, all="1", q="Mine 2"))
    assert [item.key_id for item in response.context["items"]] == [keys[2].pk]
    for query, told in (
        ({"all": "1", "q": "nothing"}, "No key that you could answer for matches these filters."),
        ({"all": "1", "owner": "odd"}, "These filters make no sense."),
        ({}, "No key was selected."),
    ):
        assert messages_of(client.get(url("review_bulk_confirm", organization, review.pk, **query)))[-1] == told


def test_more_that_match_than_can_be_answered_at_once_are_refused(organization, admin, client_of):
    make_keys(organization, MOST_AT_ONCE + 1)
    review = make_review(organization)
    response = client_of(admin).get(url("review_bulk_confirm", organization, review.pk, all="1"))
    assert messages_of(response)[0].startswith(f"More than {MOST_AT_ONCE} keys match")


def test_a_closed_review_takes_no_answer(review, keys, send):
    review.close(by=make_actor())
    before = snapshot()
    assert "is closed and stays as it is" in messages_of(send(*keys))[0]
    assert snapshot() == before
