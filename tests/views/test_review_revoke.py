"""The way from a review to the confirmation in which keys are revoked."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest

from apikeys.models import RevocationReason
from apikeys.views import review_handling
from tests.factories import make_actor, make_event, make_key, make_organization, make_review
from tests.pages import messages_of, snapshot, url
from tests.views.reviewing import answer, item_of, member_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(operator, client_of):
    return client_of(operator)


@pytest.fixture
def keys(organization):
    return {name: make_key(organization, name).key for name in ("a", "b", "c", "d")}


@pytest.fixture
def review(organization, keys, admin):
    review, me = make_review(organization), member_of(organization, admin)
    answer(review, keys["a"], me)
    answer(review, keys["c"], me, "unneeded")
    return review


def lead(client, organization, review, **query):
    response = client.get(url("review_revoke", organization, review.pk, **query))
    return response, parse_qs(urlsplit(response["Location"]).query).get("key", [])


def test_it_leads_to_the_dialog_with_those_no_longer_needed_first(organization, keys, review, client):
    before = snapshot()
    response, ids = lead(client, organization, review)
    assert urlsplit(response["Location"]).path == url("key_bulk_revoke", organization)
    assert ids == [keys[name].public_id for name in ("c", "b", "d")]
    assert lead(client, organization, review, which="unneeded")[1] == [keys["c"].public_id]
    assert snapshot() == before


def test_the_dialog_asks_as_it_always_does_and_the_review_shows_what_was_revoked(organization, keys, review, client):
    make_event(keys["c"])
    response, _ = lead(client, organization, review, which="unneeded")
    dialog = client.get(response["Location"])
    assert dialog.context["form"].expected == "revoke 1 key"
    assert f'href="{review.get_absolute_url()}" data-close' in dialog.text
    form = dict(re.findall(r'type="hidden" name="(key|review)" value="(.*?)"', dialog.text))
    assert form == {"key": keys["c"].public_id, "review": str(review.pk)}
    form |= {"reason": "unused", "note": "", "confirmation": "revoke 1 key"}
    response = client.post(url("key_bulk_revoke", organization), form)
    assert response["Location"] == review.get_absolute_url()
    assert item_of(review, keys["c"]).status == "revoked"
    assert "revoked <time" in " ".join(client.get(review.get_absolute_url()).text.split())
    assert lead(client, organization, review)[1] == [keys[name].public_id for name in ("b", "d")]


@pytest.mark.parametrize("review", ["", "x", "-1", "0x1", "٣", "9" * 30])
def test_a_review_that_is_no_number_is_none(organization, keys, client, review):
    ids = [keys["a"].public_id]
    dialog = client.get(url("key_bulk_revoke", organization, key=ids, review=review))
    assert f'href="{url("key_list", organization)}" data-close' in dialog.text
    form = {"key": ids, "review": review, "reason": "unused", "note": ""}
    response = client.post(url("key_bulk_revoke", organization), form)
    assert response["Location"] == f"{url('key_list', organization)}?status=revoked"


def test_a_review_that_is_not_ours_is_not_there_and_nothing_is_revoked(organization, keys, client):
    theirs = make_organization()
    make_key(theirs)
    other = make_review(theirs)
    ids, before = [keys["a"].public_id], snapshot()
    for number in (other.pk, 10**18 - 1):
        assert client.get(url("key_bulk_revoke", organization, key=ids, review=number)).status_code == 404
        form = {"key": ids, "review": number, "reason": "unused", "note": ""}
        assert client.post(url("key_bulk_revoke", organization), form).status_code == 404
    assert snapshot() == before


def test_more_than_the_dialog_takes_come_in_parts(organization, keys, review, client, monkeypatch):
    monkeypatch.setattr(review_handling, "MAX_BULK", 2)
    response, ids = lead(client, organization, review)
    assert ids == [keys[name].public_id for name in ("c", "b")]
    assert messages_of(response) == ["These are the first 2 of 3 keys. Come back to the review for the others."]


def test_also_after_it_was_closed(organization, keys, review, client):
    review.close(by=make_actor())
    keys["b"].revoke(reason=RevocationReason.UNUSED, by=make_actor())
    assert lead(client, organization, review)[1] == [keys[name].public_id for name in ("c", "d")]


def test_with_nothing_left_it_says_so(organization, keys, review, client):
    for name in ("b", "c", "d"):
        keys[name].revoke(reason=RevocationReason.UNUSED, by=make_actor())
    response, _ = lead(client, organization, review)
    assert response["Location"] == review.get_absolute_url()
    assert messages_of(response) == ["No key of this review is left to revoke."]


def test_a_viewer_may_not_and_another_organizations_is_not_there(organization, review, viewer, client, client_of):
    assert client_of(viewer).get(url("review_revoke", organization, review.pk)).status_code == 403
    make_key(other := make_organization())
    assert client.get(url("review_revoke", organization, make_review(other).pk)).status_code == 404
