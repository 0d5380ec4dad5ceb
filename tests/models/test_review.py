"""Reviews: who is asked, who may answer, what is kept, and that a closed one never changes."""

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apikeys.models import (
    Answer,
    ApiKey,
    AuditAction,
    Decision,
    Delivery,
    Member,
    NotTheirsError,
    Review,
    ReviewClosedError,
    ReviewItem,
    ReviewProgress,
    ReviewRunningError,
    ReviewState,
    RevocationReason,
    Role,
)
from tests.factories import (
    make_actor,
    make_event,
    make_expired_key,
    make_key,
    make_member,
    make_organization,
    make_review,
    make_revoked_key,
    make_user,
)
from tests.pages import entries, make_keys, soon

pytestmark = pytest.mark.django_db
NEEDED, UNNEEDED = Answer(Decision.NEEDED), Answer(Decision.UNNEEDED)


def answer(review, item, member, told=NEEDED, seen=None):
    return review.answer([item.pk], told, by=make_actor(member.user), member=member, seen=seen)


def founder_of(organization):
    return Member.objects.get(organization=organization, role=Role.ADMIN, user__email="founder@example.com")


def item_of(review, key):
    return ReviewItem.objects.for_pages().get(review=review, key=key.pk)


def test_all_keys_that_can_be_used_are_asked_about_as_they_are(organization, admin):
    owner = make_member(organization, user=make_user("owner@example.com"))
    mine = make_key(organization, "Nightly report", owner=owner).key
    at = make_event(mine).at
    team = make_key(organization, "Till", environment="dev", owner_contact="team@example.com").key
    paused = make_key(organization, "Paused").key
    paused.pause(by=make_actor())
    make_revoked_key(organization)
    make_expired_key(organization)
    make_key(make_organization())
    review = make_review(organization, by=admin)
    found = {item.key_id: item for item in review.items.all()}
    assert set(found) == {mine.pk, team.pk, paused.pk}
    first = found[mine.pk]
    assert (first.name, first.fingerprint, first.environment) == ("Nightly report", mine.fingerprint, "production")
    assert (first.owner, first.owner_at_start, first.last_used_at) == ("owner@example.com", "owner@example.com", at)
    assert (first.decision, first.decided_at, first.key_status, first.ended_at) == ("open", None, "active", None)
    assert (found[team.pk].owner, found[team.pk].environment) == ("team@example.com", "development")
    assert found[paused.pk].key_status == "paused"
    [entry] = entries(organization, AuditAction.REVIEW_START)
    assert (entry.actor, entry.target_label) == (admin, "Autumn review")
    assert entry.changes["keys"] == [None, 3]
    assert entry.changes["which"] == [None, "all usable keys"]


def test_items_are_in_the_order_of_owner_and_name(organization):
    for name, contact in (("b", "z@example.com"), ("a", "z@example.com"), ("C", "a@example.com")):
        make_key(organization, name, owner_contact=contact)
    assert [item.name for item in make_review(organization).items.order_by("pk")] == ["C", "a", "b"]


def test_filters_that_join_ask_of_each_key_once(organization):
    key = make_key(organization, scopes=["orders:read", "orders:write"]).key
    review = make_review(organization, organization.keys.filter(scopes__name__startswith="orders"))
    assert [item.key_id for item in review.items.all()] == [key.pk]


def test_a_review_of_many_keys_takes_no_more_statements_than_one_of_few(organization):
    make_keys(organization, 3)
    with CaptureQueriesContext(connection) as few:
        review = make_review(organization)
    with CaptureQueriesContext(connection) as few_closed:
        review.close(by=make_actor())
    make_keys(organization, 300)
    with CaptureQueriesContext(connection) as many:
        review = make_review(organization)
    with CaptureQueriesContext(connection) as many_closed:
        review.close(by=make_actor())
    assert review.items.count() == 305
    assert (len(many), len(many_closed)) == (len(few), len(few_closed))


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"title": " "}, "title"),
        ({"title": "x" * 101}, "title"),
        ({"title": "two\nlines"}, "title"),
        ({"note": "x" * 501}, "note"),
        ({"note": "a\x07bell"}, "note"),
        ({"due_at": timezone.now() - timedelta(minutes=1)}, "due_at"),
        ({"due_at": timezone.now() + timedelta(days=400)}, "due_at"),
    ],
)
def test_bad_terms_start_nothing_and_name_the_field(organization, terms, field):
    make_key(organization)
    with pytest.raises(ValidationError) as raised:
        make_review(organization, **terms)
    assert list(raised.value.message_dict) == [field]
    assert not Review.objects.exists()


def test_no_key_to_ask_about_is_no_review(organization):
    make_revoked_key(organization)
    with pytest.raises(ValidationError) as raised:
        make_review(organization)
    assert list(raised.value.message_dict) == ["keys"]
    assert not Review.objects.exists()


def test_an_organization_has_one_open_review(organization):
    make_key(organization)
    first = make_review(organization)
    with pytest.raises(ReviewRunningError) as raised:
        make_review(organization)
    assert raised.value.review == first
    first.close(by=make_actor())
    make_review(organization)
    make_key(other := make_organization())
    make_review(other)


# Answers


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
def test_an_owner_answers_for_their_own_keys_and_for_no_others(organization, role):
    owner, other = make_member(organization, role), make_member(organization, role)
    mine, theirs, nobodys = (make_key(organization, owner=one).key for one in (owner, other, None))
    review = make_review(organization)
    done = answer(review, item_of(review, mine), owner)
    assert [item.key_id for item in done.written] == [mine.pk]
    for key in (theirs, nobodys):
        with pytest.raises(NotTheirsError):
            answer(review, item_of(review, key), owner)
        assert item_of(review, key).decision == Decision.OPEN
        assert not item_of(review, key).can_be_answered(owner)


def test_one_that_is_not_theirs_among_several_keeps_all_from_being_answered(organization):
    owner = make_member(organization)
    make_key(organization, owner=owner)
    make_key(organization)
    review = make_review(organization)
    with pytest.raises(NotTheirsError):
        review.answer(
            [item.pk for item in review.items.all()], NEEDED, by=make_actor(owner.user), member=owner, seen=None
        )
    assert review.progress.open == 2


def test_an_admin_answers_for_each_key(organization):
    make_key(organization)
    make_key(organization, owner=make_member(organization))
    review, founder = make_review(organization), founder_of(organization)
    items = [item.pk for item in review.items.all()]
    done = review.answer(items, UNNEEDED, by=make_actor(founder.user), member=founder, seen=None)
    assert len(done.written) == 2
    assert review.progress == ReviewProgress(unneeded=2)


def test_an_admin_of_another_organization_may_not(organization, outsider):
    make_key(organization)
    review = make_review(organization)
    with pytest.raises(NotTheirsError):
        answer(review, review.items.get(), outsider.memberships.get())


def test_items_of_another_review_are_not_touched(organization):
    make_key(organization)
    make_key(other := make_organization())
    review, theirs = make_review(organization), make_review(other)
    done = answer(review, theirs.items.get(), founder_of(organization))
    assert not done.written
    assert theirs.progress.open == 1


def test_an_answer_keeps_who_when_and_what_was_so_of_the_key(organization):
    owner = make_member(organization, user=make_user("owner@example.com"))
    key = make_key(organization, "Old name", owner=owner).key
    review = make_review(organization)
    key.name = "New name"
    key.save(update_fields=["name"])
    at = make_event(key).at
    answer(review, item_of(review, key), owner, Answer(Decision.NEEDED, "  Until the tills are replaced "))
    item = item_of(review, key)
    assert (item.decision, item.note) == ("needed", "Until the tills are replaced")
    assert (item.decided_by, item.decided_by_label) == (owner.user, "owner@example.com")
    assert timezone.now() - item.decided_at < timedelta(minutes=1)
    assert (item.name, item.last_used_at, item.owner) == ("New name", at, "owner@example.com")
    [entry] = entries(organization, AuditAction.REVIEW_CONFIRM)
    assert (entry.key_id, entry.actor, entry.reason) == (key.pk, owner.user, "Until the tills are replaced")
    assert entry.changes == {
        "decision": ["not answered", "still needed"],
        "note": ["", "Until the tills are replaced"],
        "review": [None, "Autumn review"],
    }


def test_a_later_answer_replaces_one_that_was_seen_and_both_are_in_the_audit_log(organization):
    owner = make_member(organization)
    key = make_key(organization, owner=owner).key
    review = make_review(organization)
    answer(review, item_of(review, key), owner)
    seen = item_of(review, key).decided_at
    assert answer(review, item_of(review, key), founder_of(organization), UNNEEDED, seen).written
    assert item_of(review, key).decision == Decision.UNNEEDED
    told = [entry.changes["decision"] for entry in entries(organization, AuditAction.REVIEW_CONFIRM)]
    assert told == [["not answered", "still needed"], ["still needed", "no longer needed"]]


def test_an_answer_that_was_not_seen_is_not_replaced(organization):
    owner = make_member(organization)
    key = make_key(organization, owner=owner).key
    review = make_review(organization)
    answer(review, item_of(review, key), owner)
    done = answer(review, item_of(review, key), founder_of(organization), UNNEEDED)
    assert ([item.key_id for item in done.stale], done.written) == ([key.pk], [])
    assert item_of(review, key).decision == Decision.NEEDED
    assert len(entries(organization, AuditAction.REVIEW_CONFIRM)) == 1


def test_the_same_answer_again_writes_nothing(organization):
    owner = make_member(organization)
    key = make_key(organization, owner=owner).key
    review = make_review(organization)
    answer(review, item_of(review, key), owner)
    done = answer(review, item_of(review, key), owner)
    assert ([item.key_id for item in done.same], done.written, done.stale) == ([key.pk], [], [])
    assert len(entries(organization, AuditAction.REVIEW_CONFIRM)) == 1


def test_a_key_that_ends_meanwhile_needs_no_answer(organization):
    revoked, expired = make_key(organization).key, make_key(organization, expires_at=soon()).key
    make_key(organization)
    review = make_review(organization)
    revoked.revoke(reason=RevocationReason.UNUSED, by=make_actor())
    ApiKey.objects.filter(pk=expired.pk).update(expires_at=timezone.now() - timedelta(minutes=1))
    assert review.progress == ReviewProgress(open=1, ended=2)
    assert review.progress.share == pytest.approx(2 / 3)
    for key in (revoked, expired):
        assert item_of(review, key).state == ReviewState.ENDED
        done = answer(review, item_of(review, key), founder_of(organization))
        assert ([item.key_id for item in done.ended], done.written) == ([key.pk], [])


def test_whoever_takes_a_key_over_answers_for_it(organization):
    before, after = make_member(organization), make_member(organization)
    key = make_key(organization, owner=before).key
    review = make_review(organization)
    before.remove(by=make_actor(), keys_to=after)
    assert answer(review, item_of(review, key), after).written
    item = item_of(review, key)
    assert (item.owner_at_start, item.owner) == (before.user.email, after.user.email)


@pytest.mark.parametrize(
    ("told", "field"), [(Answer(Decision.OPEN), "decision"), (Answer(Decision.NEEDED, "x" * 501), "note")]
)
def test_a_bad_answer_names_the_field(organization, told, field):
    make_key(organization)
    review = make_review(organization)
    with pytest.raises(ValidationError) as raised:
        answer(review, review.items.get(), founder_of(organization), told)
    assert list(raised.value.message_dict) == [field]
    assert review.progress.open == 1


# How far it is


def test_progress_by_owner_names_those_with_the_most_left_first(organization):
    busy = make_member(organization, user=make_user("busy@example.com", name="Busy Owner"))
    gone = make_member(organization, user=make_user("gone@example.com", name="Gone Owner"))
    for owner, number in ((busy, 3), (gone, 2)):
        for _ in range(number):
            make_key(organization, owner=owner)
    key = make_key(organization, owner_contact="team@example.com").key
    gone.user.is_active = False
    gone.user.save()
    review = make_review(organization)
    answer(review, item_of(review, key), founder_of(organization))
    found = review.items.all().by_owner(review, timezone.now(), 10)
    assert [(one.address, one.answers, one.progress.open, one.progress.total) for one in found] == [
        ("busy@example.com", True, 3, 3),
        ("gone@example.com", False, 2, 2),
        ("team@example.com", False, 0, 1),
    ]
    assert len(review.items.all().by_owner(review, timezone.now(), 2)) == 2
    review.close(by=make_actor())
    closed = review.items.all().by_owner(review, timezone.now(), 10)
    assert [(one.address, one.progress) for one in closed] == [(one.address, one.progress) for one in found]


def test_what_waits_for_whom(organization):
    owner, founder = make_member(organization), founder_of(organization)
    make_key(organization, owner=owner)
    make_key(organization)
    assert not ReviewItem.objects.waiting_for(owner, timezone.now()).exists()
    review = make_review(organization)
    now = timezone.now()
    assert ReviewItem.objects.waiting_for(owner, now).count() == 1
    assert ReviewItem.objects.waiting_for(founder, now).count() == 1
    assert not ReviewItem.objects.waiting_for(make_member(organization, Role.OPERATOR), now).exists()
    make_key(other := make_organization())
    make_review(other)
    assert ReviewItem.objects.waiting_for(founder, now).count() == 1
    review.close(by=make_actor())
    assert not ReviewItem.objects.waiting_for(owner, now).exists()


# The end


def test_a_closed_review_keeps_how_everything_was(organization):
    owner = make_member(organization, user=make_user("owner@example.com"))
    needed, unneeded, silent, ended = (
        make_key(organization, name, owner=owner).key for name in ("needed", "unneeded", "silent", "ended")
    )
    review = make_review(organization)
    answer(review, item_of(review, needed), owner)
    answer(review, item_of(review, unneeded), owner, UNNEEDED)
    for key in (unneeded, ended):
        key.revoke(reason=RevocationReason.UNUSED, by=make_actor())
    ApiKey.objects.filter(pk=silent.pk).update(name="Renamed")
    make_event(silent)
    told = review.close(by=make_actor(owner.user))
    assert told == ReviewProgress(open=1, unneeded=1, needed=1, ended=1)
    found = {item.key_id: item for item in review.items.all()}
    assert (found[silent.pk].name, found[silent.pk].key_status) == ("Renamed", "active")
    assert found[silent.pk].last_used_at
    assert (found[unneeded.pk].key_status, found[unneeded.pk].decision) == ("revoked", "unneeded")
    assert found[ended.pk].ended_at == ApiKey.objects.get(pk=ended.pk).revoked_at
    assert found[needed.pk].ended_at is None
    [entry] = entries(organization, AuditAction.REVIEW_CLOSE)
    assert {name: after for name, (_, after) in entry.changes.items()} == {
        "still_needed": 1,
        "no_longer_needed": 1,
        "not_answered": 1,
        "ended_meanwhile": 1,
    }
    # Whatever becomes of its keys.
    silent.refresh_from_db()
    silent.revoke(reason=RevocationReason.UNUSED, by=make_actor())
    later = Review.objects.get(pk=review.pk)
    assert later.progress == told
    assert item_of(later, silent).state == ReviewState.OPEN


def test_nothing_is_done_to_a_closed_review(organization):
    make_key(organization)
    review, founder = make_review(organization), founder_of(organization)
    review.close(by=make_actor())
    for act in (
        lambda: answer(review, review.items.get(), founder),
        lambda: review.close(by=make_actor()),
        lambda: review.remind(by=make_actor()),
    ):
        with pytest.raises(ReviewClosedError):
            act()
    assert review.remind_if_due(soon(30)) is None
    assert len(entries(organization, AuditAction.REVIEW_CLOSE)) == 1


def test_the_database_itself_refuses_to_change_a_closed_review(organization):
    key = make_key(organization).key
    other = make_key(make_organization()).key
    review = make_review(organization)
    item = review.items.get()
    review.close(by=make_actor())
    copy = ReviewItem.objects.get(pk=item.pk)
    copy.pk, copy.key = None, other
    for change in (
        lambda: ReviewItem.objects.filter(pk=item.pk).update(decision="needed"),
        lambda: ReviewItem.objects.filter(pk=item.pk)._raw_delete("default"),
        lambda: copy.save(force_insert=True),
        lambda: Review.objects.filter(pk=review.pk).update(closed_at=None),
        lambda: Review.objects.filter(pk=review.pk)._raw_delete("default"),
    ):
        with pytest.raises(DatabaseError, match="keyadmin: a "), transaction.atomic():
            change()
    assert review.items.get(key=key).decision == "open"


def test_the_database_refuses_to_move_or_delete_an_item_of_an_open_review_too(organization):
    make_key(organization)
    review = make_review(organization)
    other = make_key(organization).key
    for change in (
        lambda: review.items.update(key=other),
        lambda: review.items.all()._raw_delete("default"),
    ):
        with pytest.raises(DatabaseError, match="keyadmin: a "), transaction.atomic():
            change()


def test_deliveries_of_a_review_go_with_no_review(organization):
    """Its mails are pruned by age, as all others, and the review stays."""
    make_key(organization)
    review = make_review(organization)
    Delivery.objects.filter(review=review).delete()
    assert Review.objects.filter(pk=review.pk).exists()
