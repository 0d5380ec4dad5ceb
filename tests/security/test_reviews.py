"""Reviews as evidence: nobody answers for others, nothing is seen from outside, and two at once lose nothing."""

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.utils import timezone

from apikeys.models import (
    Answer,
    AuditAction,
    AuditEntry,
    Decision,
    NotTheirsError,
    Review,
    ReviewClosedError,
    ReviewRunningError,
    RevocationReason,
    Role,
)
from apikeys.models.review import Answered
from tests.factories import make_actor, make_key, make_member, make_organization, make_review
from tests.pages import HTMX, snapshot, url
from tests.threads import run_together

PAGES = ("review_detail", "review_print", "review_close", "review_bulk_confirm", "review_revoke")
POSTED = ("review_find", "review_remind", "review_close", "review_bulk_confirm")


@pytest.fixture
def theirs(organization, outsider):
    """A review of another organization."""
    make_key(other := outsider.memberships.get().organization, "A secret name")
    return make_review(other, title="A secret title", note="A secret note")


@pytest.mark.django_db
@pytest.mark.parametrize("headers", [None, HTMX])
def test_another_organizations_review_is_not_there_by_any_address(organization, theirs, admin, client_of, headers):
    key = make_key(organization).key
    ours = make_review(organization)
    client, their_key = client_of(admin), theirs.items.get().key
    before = snapshot()
    answers = [client.get(url(page, organization, theirs.pk), headers=headers) for page in PAGES]
    answers += [client.post(url(page, organization, theirs.pk), {"q": "x"}, headers=headers) for page in POSTED]
    answers += [client.get(url("review_export", organization, theirs.pk, kind)) for kind in ("csv", "json")]
    # Their key under our number, ours under theirs, theirs under theirs.
    for review, item in ((ours, their_key), (theirs, key), (theirs, their_key)):
        address = url("review_confirm", organization, review.pk, item.public_id)
        answers += [client.get(address, headers=headers), client.post(address, {"decision": "needed"}, headers=headers)]
    assert {answer.status_code for answer in answers} == {404}
    assert not any("secret" in answer.text for answer in answers)
    # And not by the address of their organization either.
    other = theirs.organization
    assert {client.get(url(page, other, theirs.pk), headers=headers).status_code for page in PAGES} == {404}
    assert snapshot() == before


@pytest.mark.django_db
def test_their_keys_among_ours_refuse_the_whole_answer(organization, theirs, admin, client_of):
    key = make_key(organization).key
    review = make_review(organization)
    form = {"key": [key.public_id, theirs.items.get().key.public_id], "decision": "needed", "seen": ""}
    client, before = client_of(admin), snapshot()
    assert client.post(url("review_bulk_confirm", organization, review.pk), form).status_code == 302
    assert snapshot() == before


@pytest.mark.django_db
def test_a_number_out_of_range_is_not_there(organization, admin, client_of):
    client = client_of(admin)
    for number in (0, 2**63, 10**30):
        assert client.get(f"/acme/reviews/{number}").status_code == 404


@pytest.mark.django_db
@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
def test_whoever_no_longer_owns_a_key_answers_for_it_no_more(organization, role, client_of):
    before, after = make_member(organization, role), make_member(organization, role)
    key = make_key(organization, owner=before).key
    review = make_review(organization)
    key.hand_over(after, by=make_actor())
    address = url("review_confirm", organization, review.pk, key.public_id)
    form = {"decision": "needed", "note": "", "seen": ""}
    assert client_of(before).post(address, form).status_code == 403
    assert client_of(after).post(address, form).status_code == 302


@pytest.mark.django_db
def test_an_admin_who_is_one_no_more_answers_for_their_own_keys_alone(organization, admin, client_of):
    key = make_key(organization).key
    review = make_review(organization)
    organization.members.get(user=admin).change_role(Role.VIEWER, by=make_actor())
    address = url("review_confirm", organization, review.pk, key.public_id)
    assert client_of(admin).post(address, {"decision": "needed", "seen": ""}).status_code == 403


@pytest.mark.django_db
def test_revoking_from_a_review_asks_for_the_password_and_the_words_as_always(organization, operator, client_of):
    cache.clear()
    key = make_key(organization).key
    review = make_review(organization)
    client = client_of(operator)
    session = client.session
    session["proven_at"] = (timezone.now() - timedelta(days=1)).timestamp()
    session.save()
    dialog = client.get(url("review_revoke", organization, review.pk))["Location"]
    response = client.post(dialog, {"key": [key.public_id], "reason": "unused"})
    assert response.status_code == 422
    assert "Confirm that it is you" in response.text
    key.refresh_from_db()
    assert key.revoked_at is None


# At once


def answer(review, member, decision, seen=None):
    def act():
        found = Review.objects.get(pk=review.pk)
        return found.answer(
            list(found.items.values_list("pk", flat=True)),
            Answer(Decision(decision)),
            by=make_actor(member.user),
            member=member,
            seen=seen,
        )

    return act


@pytest.fixture
def two(committed):
    """Two admins of an organization with three keys and a review."""
    for _ in range(3):
        make_key(committed)
    review = make_review(committed)
    yield review, *(make_member(committed, Role.ADMIN) for _ in range(2))
    if (current := Review.objects.get(pk=review.pk)).is_open:
        current.close(by=make_actor())


def test_of_two_who_answer_at_once_one_is_told(two):
    review, first, second = two
    results = run_together(answer(review, first, "needed"), answer(review, second, "unneeded"))
    assert all(isinstance(one, Answered) for one in results), results
    assert sorted(len(one.written) for one in results) == [0, 3]
    assert sorted(len(one.stale) for one in results) == [0, 3]
    told = AuditEntry.objects.filter(organization=review.organization, action=AuditAction.REVIEW_CONFIRM)
    assert told.count() == 3
    progress = Review.objects.get(pk=review.pk).progress
    assert {progress.needed, progress.unneeded} == {0, 3}


def test_an_answer_and_the_closing_at_once_leave_the_result_whole(two):
    review, first, _ = two
    close = lambda: Review.objects.get(pk=review.pk).close(by=make_actor())  # noqa: E731
    answered, closed = run_together(answer(review, first, "needed"), close)
    result = Review.objects.get(pk=review.pk)
    if isinstance(answered, ReviewClosedError):
        assert (result.progress.open, closed.open) == (3, 3)
    else:
        assert (len(answered.written), result.progress.needed, closed.needed) == (3, 3, 3)
    assert set(result.items.values_list("decision", flat=True)) == ({"open"} if result.progress.open else {"needed"})


def test_two_who_start_at_once_start_one(committed):
    make_key(committed)
    start = lambda: make_review(committed)  # noqa: E731
    results = run_together(start, start, start)
    assert sorted(type(one).__name__ for one in results) == ["Review"] + [ReviewRunningError.__name__] * 2
    Review.objects.get(organization=committed).close(by=make_actor())


def test_two_who_close_at_once_close_once(two):
    review, *_ = two
    close = lambda: Review.objects.get(pk=review.pk).close(by=make_actor())  # noqa: E731
    results = run_together(close, close)
    assert sorted(type(one).__name__ for one in results) == [ReviewClosedError.__name__, "ReviewProgress"]
    told = AuditEntry.objects.filter(organization=review.organization, action=AuditAction.REVIEW_CLOSE)
    assert told.count() == 1


def test_a_key_that_is_revoked_while_somebody_answers_is_one_or_the_other(two):
    review, first, _ = two
    key = review.items.first().key
    revoke = lambda: key.revoke(reason=RevocationReason.UNUSED, by=make_actor())  # noqa: E731
    answered, _ = run_together(answer(review, first, "needed"), revoke)
    assert len(answered.written) + len(answered.ended) == 3


@pytest.mark.django_db
def test_nobody_from_outside_may_answer_by_the_verb_either(organization, outsider):
    make_key(organization)
    review = make_review(organization)
    member = outsider.memberships.get()
    with pytest.raises(NotTheirsError):
        answer(review, member, "needed")()
    assert make_organization().reviews.count() == 0
