"""One key's page."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apikeys.models import (
    Actor,
    AlertKind,
    KeyActivity,
    Outcome,
    RevocationReason,
    UsageEvent,
    UsageHour,
    UsageWatermark,
)
from apikeys.models.counting_sql import MOST_KEPT
from apikeys.models.series import RANGES
from tests.factories import (
    make_actor,
    make_alert,
    make_event,
    make_events,
    make_expired_key,
    make_key,
    make_member,
    make_old_key,
    make_organization,
    make_overdue_rotation,
    make_revoked_key,
    make_rotation,
    make_scope,
)
from tests.pages import HOSTILE, HTMX, age_limit, day, is_partial, is_whole_page, key_form, soon, url

pytestmark = pytest.mark.django_db
BY = Actor.command()


@pytest.fixture
def visit(organization, viewer, client_of):
    client = client_of(viewer)

    def get(key, *, headers=None, **query):
        return client.get(url("key_detail", organization, key.public_id, **query), headers=headers)

    return get


def test_it_shows_what_was_chosen_for_the_key(organization, operator, visit):
    key = make_key(
        organization,
        "checkout",
        purpose="Takes payments",
        scopes=["orders:read", "orders:write"],
        owner=operator.memberships.get(),
        networks=["10.0.0.0/8"],
        rate_limit=(50, 60, 10),
        expires_at=soon(20),
        by=operator,
    ).key
    response = visit(key)
    assert response.status_code == 200
    assert is_whole_page(response)
    told = ["checkout", "Takes payments", "orders:read", "orders:write", "Operator Person", "10.0.0.0/8"]
    for text in [*told, "50 per minute", key.fingerprint, key.public_id, "production", operator.email]:
        assert text in response.text, text


def test_it_shows_the_keys_history_newest_first_and_no_other_keys(organization, operator, visit):
    key = make_key(organization).key
    make_key(organization)
    key.pause(by=BY)
    assert [entry.action for entry in visit(key).context["history"]] == ["key.pause", "key.show", "key.issue"]


def test_it_counts_requests_by_outcome_and_says_when_it_was_last_used(organization, visit):
    key = make_key(organization).key
    for hours in (0, 2, 30):
        make_event(key, ago=timedelta(hours=hours))
    make_event(key, ago=timedelta(hours=1), outcome=Outcome.SCOPE_MISSING)
    make_event(make_key(organization).key)
    response = visit(key)
    assert response.context["series"].total == 4
    assert response.context["series"].by_outcome == {"valid": 3, "scope_missing": 1}
    assert response.context["refused_share"] == 0.25
    assert len(response.context["requests"].events) == 4
    assert "to the second" in response.text


def chosen(response):
    return [choice["label"] for choice in response.context["ranges"] if choice["current"]]


@pytest.mark.parametrize(
    ("name", "total"), [("24h", 1), ("7d", 2), ("30d", 3), ("90d", 4), ("13m", 5)], ids=list(RANGES)
)
def test_a_range_counts_its_own_time(organization, visit, name, total):
    key = make_key(organization).key
    for days in (0, 3, 20, 80, 200, 500):
        make_event(key, ago=timedelta(days=days))
    response = visit(key, range=name)
    assert response.context["series"].total == total
    assert chosen(response) == [RANGES[name].label]


def test_the_days_of_a_range_may_be_chosen(organization, visit):
    key = make_key(organization).key
    UsageWatermark.objects.update_or_create(pk=1, defaults={"recording_since": day(2026, 1, 1)})
    for number in (3, 4, 5, 6):
        make_event(key, at=day(2026, 10, number) + timedelta(hours=12))
    response = visit(key, since="2026-10-04", until="2026-10-05")
    assert response.context["series"].total == 2
    assert chosen(response) == []
    assert "4 Oct to 5 Oct 2026" in response.text
    assert [caller.count for caller in response.context["callers"].shown] == [2]
    assert response.context["endpoints"].total == 2


def test_it_says_how_a_range_compares_with_the_one_before(organization, visit):
    key = make_key(organization).key
    for days, count in ((1, 3), (8, 2), (15, 7)):
        for _ in range(count):
            make_event(key, ago=timedelta(days=days))
    response = visit(key, range="7d")
    assert response.context["change"] == 0.5
    assert "+50 % on the 7 d before" in response.text


def test_days_are_those_of_the_reader(organization, viewer, visit):
    key = make_key(organization).key
    viewer.choose_time_zone("Asia/Tokyo")
    make_event(key, at=day(2026, 10, 4) + timedelta(hours=16))
    response = visit(key, since="2026-10-05", until="2026-10-05")
    assert response.context["series"].total == 1
    assert response.context["series"].counts["valid"][1] == 1
    assert "In Asia/Tokyo" in response.text


def test_it_marks_what_happened_to_the_key(organization, visit):
    key = make_key(organization).key
    key.pause(by=BY)
    key.resume(by=BY)
    new = key.regenerate(by=BY).key
    assert [mark.words for mark in visit(key).context["marks"]] == ["Issued", "Paused", "Resumed", "Regenerated"]
    assert [mark.words for mark in visit(new).context["marks"]] == ["Issued"]
    revoked = make_revoked_key(organization).key
    assert [mark.words for mark in visit(revoked).context["marks"]] == ["Issued", "Revoked"]
    assert "mark-end" in visit(revoked).text
    expired = {mark.words for mark in visit(make_expired_key(organization).key).context["marks"]}
    assert expired == {"Issued", "Expired"}


def test_what_was_not_measured_is_said(organization, visit):
    key = make_old_key(organization, timedelta(days=100))
    since = day(2026, 11, 20)
    UsageWatermark.objects.update_or_create(pk=1, defaults={"recording_since": timezone.now() - timedelta(days=9)})
    text = visit(key).text
    assert "measured since" in text
    assert "not measured before" in text
    UsageWatermark.objects.update(recording_since=since - timedelta(days=1000))
    assert "measured since" not in visit(key).text


def test_callers_are_told_apart_by_address_network_or_agent(organization, visit):
    key = make_key(organization).key
    for number in range(3):
        make_event(key, address=f"203.0.113.{number}", user_agent="a/1")
    make_event(key, address="2001:db8::1", user_agent="b/2", outcome=Outcome.RATE_LIMITED, ago=timedelta(days=2))
    by_address = visit(key).context["callers"]
    assert {caller.name: (caller.accepted, caller.refused) for caller in by_address.shown}["203.0.113.1"] == (1, 0)
    assert {caller.name for caller in by_address.shown if caller.is_new} == {f"203.0.113.{n}" for n in range(3)}
    by_network = visit(key, callers="network").context["callers"]
    assert [(one.name, one.detail, one.count, one.share) for one in by_network.shown] == [
        ("203.0.113.0/24", "3 addresses", 3, 0.75),
        ("2001:db8::/64", "2001:db8::1", 1, 0.25),
    ]
    assert [one.name for one in visit(key, callers="agent").context["callers"].shown] == ["a/1", "b/2"]


def test_many_callers_and_endpoints_are_a_few_and_others(organization, visit):
    key = make_key(organization).key
    make_events(
        UsageEvent(
            key_id=key.pk,
            at=timezone.now() - timedelta(seconds=number),
            outcome="valid",
            address=f"198.51.{number // 250}.{number % 250}",
            user_agent="crowd/1.0",
            method="GET",
            path=f"/orders/{number}",
        )
        for number in range(300)
    )
    context = visit(key).context
    assert (len(context["callers"].shown), context["callers"].others) == (8, 292)
    assert context["callers"].others_share == pytest.approx(292 / 300)
    assert (len(context["endpoints"].values), context["endpoints"].others) == (8, 292)


def test_scopes_are_told_by_what_was_asked_for(organization, operator, client_of, visit):
    make_scope(organization, "orders:delete")
    key = make_key(organization, scopes=["orders:read", "orders:write"]).key
    make_event(key, scope="orders:read")
    make_event(key, scope="orders:delete", outcome=Outcome.SCOPE_MISSING)
    make_event(key, scope="")
    response = visit(key)
    scopes = response.context["scopes"]
    assert [scope.name for scope in scopes.used] == ["orders:read"]
    assert [scope.name for scope in scopes.unused] == ["orders:write"]
    assert [scope.name for scope in scopes.missing] == ["orders:delete"]
    assert "1 of 2 used in 90 days" in response.text
    assert "1 request asked for no scope" in response.text
    address = url("key_narrow", organization, key.public_id)
    assert address not in response.text
    assert address in client_of(operator).get(key.get_absolute_url()).text


def test_the_rhythm_is_drawn_in_the_zone_of_the_reader(organization, viewer, visit):
    key = make_key(organization).key
    at = (timezone.now() - timedelta(days=7)).replace(hour=23, minute=30)
    make_event(key, at=at)
    viewer.choose_time_zone("Asia/Tokyo")
    response = visit(key)
    week = response.context["week"]
    assert week[(at + timedelta(hours=9)).weekday()][8] == 1
    assert sum(map(sum, week)) == 1


def test_htmx_gets_the_chart_alone(organization, visit):
    key = make_key(organization).key
    for name in RANGES:
        response = visit(key, headers=HTMX, range=name)
        assert is_partial(response)
        assert 'id="key_usage"' in response.text


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"range": "1y"}, "Choose one of 24h, 7d, 30d, 90d, 13m: there is no range 1y."),
        ({"range": "<script>"}, "there is no range &lt;script&gt;"),
        ({"range": "x" * 300}, "there is no range"),
        ({"since": "2026-13-01"}, "From: This is no day. Write one like 2026-11-30."),
        ({"since": "2026-10-05", "until": "tomorrow"}, "To: This is no day."),
        ({"until": "2026-10-05"}, "From: Choose the first day as well."),
        ({"since": "2026-10-05", "until": "2026-10-04"}, "It ends before it begins"),
        ({"since": "9999-12-31", "until": "9999-12-31"}, "31 Dec 9999 is still to come"),
        ({"since": "0001-01-01"}, "Counts are kept for 25 months: the first day is"),
        ({"since": "2026-09-01", "until": "2026-09-30"}, "Nothing was measured before 1 Oct 2026"),
    ],
)
def test_a_range_that_cannot_be_shown_is_refused_with_its_limit(organization, visit, query, told):
    key = make_key(organization).key
    UsageWatermark.objects.update_or_create(pk=1, defaults={"recording_since": day(2026, 10, 1)})
    for headers in (None, HTMX):
        response = visit(key, headers=headers, **query)
        assert response.status_code == 422
        assert told in response.text


@pytest.mark.parametrize("by", ["", "<script>", "x" * 300])
def test_a_grouping_that_does_not_exist_is_a_400_that_names_it(organization, visit, by):
    response = visit(make_key(organization).key, callers=by)
    assert response.status_code == (400 if by else 200)
    assert ("callers must be one of address, network, agent." in response.text) == bool(by)


def test_a_range_that_is_empty_is_the_usual_one(organization, visit):
    response = visit(make_key(organization).key, range="", since="", until="")
    assert response.status_code == 200
    assert chosen(response) == ["30 d"]


def test_a_dead_key_says_since_when_by_whom_and_who_still_tries(organization, visit):
    key = make_key(organization).key
    key.revoke(reason=RevocationReason.LEAKED, note="Found in a public log", by=BY)
    for _ in range(3):
        make_event(key, outcome=Outcome.REVOKED, address="203.0.113.9", user_agent="old-cron/1.0")
    response = visit(key)
    for text in ["Revoked", "command line", "Suspected leak", "Found in a public log", "203.0.113.9", "old-cron/1.0"]:
        assert text in response.text
    assert response.context["retired_attempts"] == 3


def test_a_dead_key_has_no_verb_that_could_bring_it_back(organization, operator, client_of):
    key = make_revoked_key(organization).key
    text = client_of(operator).get(key.get_absolute_url()).text
    for name in ["key_resume", "key_edit", "key_regenerate", "key_revoke", "key_pause"]:
        assert url(name, organization, key.public_id) not in text


def test_a_viewer_sees_no_verbs_and_an_operator_does(organization, viewer, operator, client_of):
    key = make_key(organization).key
    address = url("key_revoke", organization, key.public_id)
    assert address not in client_of(viewer).get(key.get_absolute_url()).text
    assert address in client_of(operator).get(key.get_absolute_url()).text


def test_every_status_has_its_page(organization, visit):
    paused = make_key(organization).key
    paused.pause(by=BY)
    replaced = make_key(organization).key
    successor = replaced.regenerate(by=BY).key
    owned = make_key(organization, owner=make_member(organization)).key
    owned.owner.user.is_active = False
    owned.owner.user.save()
    for key, text in [
        (paused, "Paused"),
        (make_expired_key(organization).key, "Expired"),
        (make_key(organization, expires_at=soon(2)).key, "Expires"),
        (replaced, successor.fingerprint),
        (successor, replaced.fingerprint),
        (owned, "closed account"),
    ]:
        response = visit(key)
        assert response.status_code == 200
        assert text in response.text


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_of_people_and_of_callers_are_escaped(organization, operator, client_of, visit, text):
    client_of(operator).post(url("key_create", organization), key_form(name=text, purpose=text))
    key = organization.keys.get()
    make_event(key, user_agent=text, path=f"/{text}")
    key.revoke(reason=RevocationReason.OTHER, note=text, by=BY)
    make_event(key, outcome=Outcome.REVOKED, user_agent=text, path=f"/{text}")
    response = visit(key)
    assert response.status_code == 200
    assert "<script>alert" not in response.text
    assert "<img src=x" not in response.text


def test_another_organizations_key_is_not_there(organization, visit):
    assert visit(make_key(make_organization()).key).status_code == 404


@pytest.mark.parametrize("public_id", ["unknown", "x" * 500, "%00", "%FF", "..", "новый", "<script>", "export.csv.gz"])
def test_an_id_that_is_none_is_not_there(organization, viewer, client_of, public_id):
    assert client_of(viewer).get(f"/acme/keys/{public_id}").status_code in {400, 404}


def test_it_asks_the_database_few_questions_and_the_same_however_much_happened(organization, visit):
    key = make_key(organization).key
    make_event(key)
    list(UsageHour.objects.roll_up())
    visit(key)
    with CaptureQueriesContext(connection) as few:
        visit(key)
    for number in range(30):
        # Fewer of the last day than the page lists, before and now: take_newest() asks as often.
        make_event(key, ago=timedelta(hours=2 * number), address=f"192.0.2.{number}", path=f"/{number}")
        key.pause(by=BY)
        key.resume(by=BY)
    list(UsageHour.objects.roll_up())
    with CaptureQueriesContext(connection) as many:
        visit(key)
    assert len(many) == len(few) <= 44


def test_complete_hours_are_read_from_roll_ups_alone(organization, visit):
    key = make_key(organization).key
    for hours in range(2, 60):
        make_event(key, ago=timedelta(hours=hours))
    before = visit(key, range="90d").context
    list(UsageHour.objects.roll_up())
    UsageEvent.objects.all().delete()
    after = visit(key, range="90d").context
    assert after["series"].counts == before["series"].counts
    assert after["callers"] == before["callers"]
    assert after["scopes"] == before["scopes"]
    assert after["week"] == before["week"]


def test_hours_of_the_rhythms_table_have_two_digits(organization, visit):
    key = make_key(organization).key
    make_event(key)
    text = visit(key).text
    assert all(f'<th scope="col" class="num">{hour:02}</th>' in text for hour in range(24))


def test_callers_that_were_not_told_apart_are_said_to_be_there(organization, visit):
    key = make_old_key(organization, timedelta(days=3))
    for number in range(2 * MOST_KEPT):
        make_event(key, ago=timedelta(days=1), user_agent=f"agent-{number}")
    list(UsageHour.objects.roll_up())
    text = visit(key, callers="network").text
    assert "callers that were not told apart" in text
    assert "50 %" in text


def test_a_first_use_before_recording_began_is_not_said_to_be_unmeasured(organization, visit):
    key = make_old_key(organization, timedelta(days=300))
    used = timezone.now() - timedelta(days=200)
    KeyActivity.objects.filter(key=key).update(first_used_at=used, last_used_at=used)
    UsageWatermark.objects.update_or_create(pk=1, defaults={"recording_since": timezone.now() - timedelta(days=100)})
    assert "to the second; not measured before" not in visit(key).text
    UsageWatermark.objects.update(recording_since=used - timedelta(days=1))
    assert "to the second; not measured before" in visit(key).text


def test_it_says_by_when_the_key_should_be_rotated_and_whether_that_is_past(organization, visit):
    key = make_old_key(organization, timedelta(days=100))
    assert "Rotate by" not in visit(key).text
    for limit, overdue in ((200, False), (90, True)):
        age_limit(organization, limit)
        text = visit(key).text
        assert (
            f'<dt>Rotate by</dt> <dd> <time datetime="{key.created_at + timedelta(days=limit):%Y-%m-%dT%H:%M:%SZ}"'
            in (" ".join(text.split()))
        )
        assert ("overdue</span>" in text) == overdue
    assert "Rotate by" not in visit(make_revoked_key(organization).key).text


# Rotations


def buttons(organization, client, key):
    """Return what a key's page offers to do with it, of what has to do with its replacement."""
    text = client.get(key.get_absolute_url()).text
    pages = ["key_rotate", "key_regenerate", "key_revoke"]
    found = [page.removeprefix("key_") for page in pages if f'href="{url(page, organization, key.public_id)}"' in text]
    return [*found, "to the rotation"] if "To the rotation" in text else found


def test_a_key_that_works_can_be_rotated_and_one_that_does_not_cannot(organization, operator, client_of):
    client = client_of(operator)
    key, paused = make_key(organization).key, make_key(organization).key
    paused.pause(by=BY)
    assert buttons(organization, client, key) == ["rotate", "regenerate", "revoke"]
    assert buttons(organization, client, paused) == ["regenerate", "revoke"]
    assert buttons(organization, client, make_expired_key(organization).key) == ["regenerate", "revoke"]
    assert buttons(organization, client, make_revoked_key(organization).key) == []


def test_while_it_is_rotated_either_keys_page_leads_to_the_rotation_instead(organization, operator, client_of):
    started = make_rotation(organization)
    client = client_of(operator)
    for key in (started.rotation.old_key, started.issued.key):
        assert buttons(organization, client, key) == ["revoke", "to the rotation"]
        assert f'href="{started.rotation.get_absolute_url()}"' in client.get(key.get_absolute_url()).text
    started.rotation.finish(by=BY)
    assert buttons(organization, client, started.issued.key) == ["rotate", "regenerate", "revoke"]


def test_a_viewer_is_offered_nothing(organization, viewer, client_of):
    assert buttons(organization, client_of(viewer), make_key(organization).key) == []


def test_each_of_both_keys_says_what_it_is_in_the_rotation(organization, visit):
    started = make_rotation(organization)
    old, new = started.rotation.old_key, started.issued.key
    text = visit(old).text
    assert "It is being replaced." in text
    assert "Both keys work until" in text
    assert "Being replaced by" in text
    assert new.fingerprint in text
    assert "Callers are refused from then on." not in text, "its end is the rotation's"
    text = visit(new).text
    assert f"It takes the place of <code>{old.fingerprint}</code>." in text
    assert "<dt>Replaces</dt>" in text


def test_after_the_deadline_the_old_key_says_that_it_is_refused(organization, visit):
    rotation = make_overdue_rotation(organization).rotation
    text = visit(rotation.old_key).text
    assert "The old key is refused since" in text
    assert "It is being replaced." in text


def test_after_the_end_each_names_the_other_and_neither_speaks_of_a_rotation_that_runs(organization, visit):
    started = make_rotation(organization)
    started.rotation.finish(by=BY)
    text = visit(started.rotation.old_key).text
    assert "It is being replaced." not in text
    assert "Replaced by" in text
    assert started.issued.key.fingerprint in text
    assert "takes the place of" not in visit(started.issued.key).text


def test_the_new_key_of_a_cancelled_rotation_says_what_it_was_for(organization, visit):
    started = make_rotation(organization)
    started.rotation.cancel(by=BY)
    text = visit(started.issued.key).text
    assert "It was to replace" in text
    assert started.rotation.get_absolute_url() in text
    assert "<dt>Replaces</dt>" not in text
    old = visit(started.rotation.old_key)
    assert "eing replaced" not in old.text
    assert "generations" not in old.context


def test_a_key_whose_owner_has_to_take_the_new_one_is_being_replaced(organization, visit):
    rotation = make_rotation(organization, link_lasts=timedelta(days=1)).rotation
    response = visit(rotation.old_key)
    assert "It is being replaced." in response.text
    assert "generations" not in response.context


def test_the_generations_of_a_key_are_shown_with_the_requests_of_each(organization, visit):
    first = make_key(organization, "checkout").key
    second = make_rotation(organization, first)
    second.rotation.finish(by=BY)
    third = make_rotation(organization, second.issued.key)
    keys = [third.issued.key, second.issued.key, first]
    for place, key in enumerate(keys):
        for _ in range(place + 1):
            make_event(key, ago=timedelta(hours=2))
    make_event(make_key(organization).key)
    for key in keys:
        response = visit(key)
        assert [(row["key"], row["requests"]) for row in response.context["generations"]] == list(
            zip(keys, (1, 2, 3), strict=True)
        )
        assert response.context["lineage_total"] == 6
        card = response.text.partition('id="generations_title"')[2].partition("</section>")[0]
        assert [fingerprint in card for fingerprint in (one.fingerprint for one in keys)] == [True] * 3
        assert f'href="{key.get_absolute_url()}"' not in card, "it does not lead to itself"
        assert f'href="{url("audit_list", organization)}?lineage={key.public_id}"' in card


def test_a_key_that_replaced_none_has_no_generations(organization, visit):
    assert "Generations" not in visit(make_key(organization).key).text


def test_the_start_of_a_rotation_is_marked_in_the_chart_and_told_in_the_history(organization, visit):
    started = make_rotation(organization, note="Yearly")
    make_event(started.rotation.old_key)
    text = visit(started.rotation.old_key).text
    assert "Rotation started" in text
    assert "started rotating the key" in text
    assert "“<bdi>Yearly</bdi>”" in text


def test_many_generations_cost_no_more_queries_than_two(organization, visit):
    def rotate(key):
        started = make_rotation(organization, key)
        started.rotation.finish(by=BY)
        return started.issued.key

    key = rotate(make_key(organization).key)
    visit(key)
    with CaptureQueriesContext(connection) as few:
        visit(key)
    for _ in range(5):
        key = rotate(key)
    visit(key)
    with CaptureQueriesContext(connection) as many:
        visit(key)
    assert len(many) <= len(few)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_the_names_of_a_rotation_are_escaped(organization, visit, text):
    started = make_rotation(organization, make_key(organization, text).key, note=text)
    for key in (started.rotation.old_key, started.issued.key):
        response = visit(key)
        assert "<script>alert" not in response.text
        assert "<img src=x" not in response.text


def test_its_open_alerts_are_named_and_lead_to_their_pages(organization, viewer, client_of):
    key = make_key(organization).key
    client = client_of(viewer)
    assert "Open alerts of this key" not in client.get(key.get_absolute_url()).text
    waiting, held = make_alert(organization, key=key), make_alert(organization, AlertKind.EXPIRY, key)
    held.acknowledge(until=soon(3), by=make_actor())
    over = make_alert(organization, AlertKind.UNUSED, key)
    over.resolve(note="over", by=make_actor())
    text = client.get(key.get_absolute_url()).text
    assert waiting.get_absolute_url() in text
    assert held.get_absolute_url() in text
    assert over.get_absolute_url() not in text
