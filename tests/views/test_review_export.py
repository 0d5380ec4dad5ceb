"""The result of a review as a file."""

import csv
import io
import json
from datetime import datetime

import pytest

from apikeys.models import AuditAction, RevocationReason
from tests.factories import make_actor, make_key, make_organization, make_review
from tests.pages import entries, make_keys, url
from tests.views.reviewing import answer, item_of, member_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def fetch(organization, viewer, client_of):
    client = client_of(viewer)
    return lambda review, kind="csv", **query: client.get(url("review_export", organization, review.pk, kind, **query))


def rows_of(response):
    return list(csv.DictReader(io.StringIO(response.getvalue().decode())))


def test_each_key_is_a_row_with_who_answered_what_and_when(organization, admin, fetch):
    needed, unneeded, ended, silent = (make_key(organization, name).key for name in ("a", "b", "c", "d"))
    review, me = make_review(organization), member_of(organization, admin)
    answer(review, needed, me, note="=Until spring")
    answer(review, unneeded, me, "unneeded")
    for key in (unneeded, ended):
        key.revoke(reason=RevocationReason.UNUSED, by=make_actor())
    for _ in range(2):
        response = fetch(review)
        assert response["Content-Disposition"] == f'attachment; filename="acme-review-{review.pk}.csv"'
        found = {row["name"]: row for row in rows_of(response)}
        assert list(found) == ["d", "b", "a", "c"]
        first = found["a"]
        assert (first["id"], first["fingerprint"]) == (needed.public_id, needed.fingerprint)
        assert (first["answer"], first["answered_by"], first["note"]) == (
            "still needed",
            "admin@example.com",
            "'=Until spring",
        )
        assert datetime.fromisoformat(first["answered_at"]) == item_of(review, needed).decided_at
        assert (found["b"]["answer"], found["b"]["key_status"]) == ("no longer needed", "revoked")
        assert (found["c"]["answer"], found["c"]["key_status"]) == ("ended meanwhile", "revoked")
        assert found["c"]["key_ended_at"]
        assert (found["d"]["answer"], found["d"]["answered_by"]) == ("not answered", "")
        assert found["d"]["owner_at_start"] == found["d"]["owner"] == silent.owner_contact
        # Open and closed it says the same.
        if review.is_open:
            review.close(by=make_actor())


def test_json_holds_the_same(organization, fetch):
    make_key(organization, "مفتاح")
    review = make_review(organization)
    [row] = json.loads(fetch(review, "json").getvalue())
    assert (row["name"], row["answer"], row["answered_at"]) == ("مفتاح", "not answered", None)


def test_the_filters_are_those_of_the_page_and_the_audit_log_tells_them(organization, admin, viewer, fetch):
    first, _ = make_key(organization, "a").key, make_key(organization, "b")
    review = make_review(organization)
    answer(review, first, member_of(organization, admin))
    assert [row["name"] for row in rows_of(fetch(review, status="needed", q="a"))] == ["a"]
    fetch(review)
    one, every = entries(organization, AuditAction.REVIEW_EXPORT)
    assert (one.actor, one.target_label) == (viewer, "Autumn review")
    assert (one.changes, one.reason) == ({"format": [None, "CSV"]}, "Status: Still needed, Search: a")
    assert every.reason == "all keys"


def test_a_closed_review_exports_what_was_so_then(organization, fetch):
    key = make_key(organization, "Old name").key
    review = make_review(organization)
    review.close(by=make_actor())
    before = fetch(review).getvalue()
    key.name = "New name"
    key.save(update_fields=["name"])
    key.revoke(reason=RevocationReason.UNUSED, by=make_actor())
    assert fetch(review).getvalue() == before
    assert b"Old name" in before


def test_it_is_sent_row_by_row_in_a_fixed_number_of_queries(organization, fetch, django_assert_max_num_queries):
    make_keys(organization, 60)
    review = make_review(organization)
    with django_assert_max_num_queries(20):
        response = fetch(review)
        assert response.streaming
        assert len(rows_of(response)) == 61


def test_what_it_cannot_be_is_not_there(organization, fetch):
    issued = make_key(organization)
    review = make_review(organization)
    assert fetch(review, "pdf").status_code == 404
    assert fetch(review, status="odd").status_code == 302
    assert issued.secret.text not in fetch(review, q=issued.secret.text)["Location"]
    make_key(other := make_organization())
    assert fetch(make_review(other)).status_code == 404
    assert not entries(organization, AuditAction.REVIEW_EXPORT)
