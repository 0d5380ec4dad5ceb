"""The result of a review on paper."""

import pytest

from apikeys.models import AuditAction
from apikeys.views import reviews
from tests.factories import make_actor, make_key, make_organization, make_review
from tests.pages import HOSTILE, entries, make_keys, url
from tests.views.reviewing import answer, member_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def visit(organization, viewer, client_of):
    client = client_of(viewer)
    return lambda review, **query: client.get(url("review_print", organization, review.pk, **query))


def test_all_keys_are_on_one_page_with_what_an_auditor_asks_for(organization, admin, visit):
    keys = make_keys(organization, 60)
    review = make_review(organization, by=admin, note="Every quarter")
    answer(review, keys[0], member_of(organization, admin), note="Until spring")
    review.close(by=make_actor(admin))
    text = " ".join(visit(review).text.split())
    for told in ("Autumn review", "Acme", "All usable keys", "Every quarter", "by admin@example.com"):
        assert told in text
    assert "61 keys: 1 still needed, 0 no longer needed, 0 ended meanwhile, 60 not answered" in text
    assert "“Until spring”" in text
    assert text.count("<tr>") == 62
    for key in keys:
        assert key.name in text
    # No navigation, nothing to press but the way back and the button.
    assert "<nav" not in text
    assert "<thead>" in text
    assert "Only the first" not in text


def test_it_is_in_the_audit_log(organization, viewer, visit):
    make_key(organization)
    review = make_review(organization)
    visit(review)
    [entry] = entries(organization, AuditAction.REVIEW_EXPORT)
    assert (entry.actor, entry.changes, entry.reason) == (viewer, {"format": [None, "page to print"]}, "all keys")


def test_filters_are_kept_and_told(organization, visit):
    make_key(organization, "Here")
    make_key(organization, "Elsewhere", environment="dev")
    review = make_review(organization)
    text = visit(review, environment="prod").text
    assert "Here" in text
    assert "Elsewhere" not in text
    assert "Environment: production" in text
    assert visit(review, environment="odd").status_code == 302


def test_what_is_too_long_for_paper_is_cut_and_says_so(organization, visit, monkeypatch):
    monkeypatch.setattr(reviews, "MOST_PRINTED", 5)
    make_keys(organization, 10)
    review = make_review(organization)
    text = visit(review).text
    assert text.count("<tr>") == 6
    assert "Only the first 5 keys are on paper." in text
    assert "has all 11" in text


def test_hostile_text_is_text(organization, admin, visit):
    for text in HOSTILE.values():
        make_key(organization, text[:100])
    review = make_review(organization, title=HOSTILE["a script"], note=HOSTILE["quotes"])
    for key in organization.keys.all():
        answer(review, key, member_of(organization, admin), note=HOSTILE["a script"])
    text = visit(review).text
    assert "<script>alert" not in text
    assert "<img src=x" not in text


def test_another_organizations_is_not_there(visit):
    make_key(other := make_organization())
    assert visit(make_review(other)).status_code == 404
