"""A rotation's page: its five steps, both keys' traffic, who has moved, and whether the old key can go."""

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apikeys.models import (
    ApiKey,
    Clock,
    KeyRhythm,
    Outcome,
    RevocationReason,
    Rotation,
    RotationReason,
    UsageEvent,
    UsageHour,
)
from apikeys.views.rotations import CALLERS_SHOWN
from tests.factories import (
    make_actor,
    make_event,
    make_events,
    make_key,
    make_member,
    make_organization,
    make_overdue_rotation,
    make_rhythm,
    make_rotation,
    make_user,
)
from tests.pages import HOSTILE, HTMX, is_partial, is_whole_page, snapshot, soon, url

pytestmark = pytest.mark.django_db
BY = make_actor()
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
WAS = re.compile(r"X-Rotation-Was&quot;: &quot;([^&]*)&quot;|\"X-Rotation-Was\": \"([^\"]*)\"")


@pytest.fixture
def visit(organization, viewer, client_of):
    client = client_of(viewer)
    return lambda rotation, headers=None: client.get(rotation.get_absolute_url(), headers=headers)


@pytest.fixture
def old(organization):
    return make_key(organization, "checkout").key


def words(text):
    """Return what a reader reads of some HTML."""
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


def card(response, title):
    """Return the words of the card with a title."""
    section = re.search(rf"<h2[^>]*>{re.escape(title)}</h2>.*?</section>", response.text, re.DOTALL)
    return words(section[0]) if section else ""


def steps(response):
    found = re.search(r'<ol class="stages".*?</ol>', response.text, re.DOTALL)[0]
    return [
        (state, words(text)) for state, text in re.findall(r'<li class="([^"]+)"[^>]*>(.*?)</li>', found, re.DOTALL)
    ]


def was(response):
    """Return the state in which a page was drawn, as it will tell it."""
    return next(filter(None, WAS.search(response.text).groups()))


def callers(response, title):
    return re.findall(r"192\.0\.2\.\d+", card(response, title))


# What it shows


def test_it_says_what_was_chosen_and_changes_nothing(organization, old, visit):
    rotation = make_rotation(organization, old, finishes_when_safe=True, note="Yearly, as the auditors ask").rotation
    before = snapshot()
    response = visit(rotation)
    assert is_whole_page(response)
    text = words(response.text)
    assert "Regular practice, “" in text
    assert "Yearly, as the auditors ask" in text
    assert "started by command line" in text
    assert "Both keys work until" in text
    assert "The old key is revoked as soon as it is safe." in text
    assert "“ Yearly, as the auditors ask ”" in text
    assert rotation.old_key.fingerprint in text
    assert rotation.new_key.fingerprint in text
    assert snapshot() == before
    assert "no-store" in response["Cache-Control"]


def test_a_clock_that_waits_says_from_when_on_and_until_when_at_the_latest(organization, old, visit):
    started = make_rotation(organization, old, clock=Clock.FIRST_USE, overlap=3 * HOUR)
    assert "The old key works for 3 hours after the first use of the new one, and until" in words(
        visit(started.rotation).text
    )
    make_event(started.issued.key)
    assert "Both keys work until" in words(visit(started.rotation).text)


def test_the_five_steps_follow_what_happens(organization, old, visit):
    make_event(old, ago=2 * DAY, address="192.0.2.1")
    make_event(old, ago=HOUR, address="192.0.2.2")
    started = make_rotation(organization, old)
    rotation, new = started.rotation, started.issued.key
    found = steps(visit(rotation))
    assert [state for state, _ in found] == ["done", "now", "to come", "to come", "to come"]
    assert [text.partition(":")[0].split()[0] for _, text in found] == ["Create", "Update", "Verify", "Revoke", "Watch"]
    assert found[1][1] == "Update apps 0 of 2 callers moved"
    assert found[2][1] == "Verify new key not used yet"
    assert found[3][1] == "Revoke old key not safe yet: 2 callers left"
    assert found[4][1] == "Watch the old key starts after step 4"

    make_event(new, address="192.0.2.1")
    found = steps(visit(rotation))
    assert found[1][1] == "Update apps 1 of 2 callers moved"
    assert re.fullmatch(r"Verify new key : done first used .*, from 192\.0\.2\.1", found[2][1])

    make_event(new, address="192.0.2.2")
    assert [state for state, _ in steps(visit(rotation))] == ["done", "done", "done", "now", "to come"]

    rotation.finish(by=BY)
    found = steps(visit(rotation))
    assert [state for state, _ in found] == ["done", "done", "done", "done", "now"]
    assert "revoked" in found[3][1]
    assert found[4][1] == "Watch the old key nobody has tried it since"

    make_event(old, outcome=Outcome.REVOKED, address="192.0.2.1")
    assert steps(visit(rotation))[4][1] == "Watch the old key 1 caller still tries"
    make_event(old, outcome=Outcome.REVOKED, address="192.0.2.66")
    assert steps(visit(rotation))[4][1] == "Watch the old key 1 unknown caller"


def test_a_key_that_its_owner_has_to_take_is_the_first_step(organization, viewer, visit):
    owner = make_member(organization, user=make_user("olga@example.com"))
    started = make_rotation(organization, make_key(organization, owner=owner).key, link_lasts=DAY)
    found = steps(visit(started.rotation))
    assert found[0][0] == "now"
    assert found[0][1].startswith("Create the link to olga@example.com is good until")
    assert "new: not taken yet" in words(visit(started.rotation).text)
    Rotation.objects.update(link_until=timezone.now())
    assert steps(visit(started.rotation))[0][1] == "Create the link to olga@example.com was not used in time"
    Rotation.objects.update(link_until=timezone.now() + DAY)
    started.rotation.take(started.token, by=BY)
    assert steps(visit(started.rotation))[0][1].endswith(", by its owner")


def test_callers_stand_where_they_are(organization, old, visit):
    make_event(old, ago=3 * DAY, address="192.0.2.1", user_agent="left/1")
    make_event(old, ago=2 * DAY, address="192.0.2.2")
    started = make_rotation(organization, old)
    new = started.issued.key
    make_event(new, ago=3 * SECOND, address="192.0.2.2")
    make_event(new, ago=3 * SECOND, address="192.0.2.3")
    make_event(new, ago=3 * SECOND, address="192.0.2.4")
    make_event(old, ago=SECOND, address="192.0.2.3")
    response = visit(started.rotation)
    assert callers(response, "Still on the old key") == ["192.0.2.1"]
    assert callers(response, "On both keys") == ["192.0.2.3"]
    assert sorted(callers(response, "Moved to the new key")) == ["192.0.2.2", "192.0.2.4"]
    assert "left/1" in card(response, "Still on the old key")
    assert "seen on one day" in card(response, "Still on the old key")
    assert "never" in card(response, "Moved to the new key"), "the one that never used the old key"


def test_nobody_anywhere_is_said_in_words(organization, old, visit):
    response = visit(make_rotation(organization, old).rotation)
    assert "Nobody who used the old key in the 90 days before is missing." in response.text
    assert "Nobody yet. Whoever uses the new key appears here by themselves." in response.text
    assert "On both keys" not in response.text


def test_who_is_refused_with_the_new_key_has_not_moved_and_is_marked(organization, old, visit):
    make_event(old, ago=DAY, address="192.0.2.1")
    started = make_rotation(organization, old)
    make_event(started.issued.key, address="192.0.2.1", outcome=Outcome.NETWORK_DENIED)
    response = visit(started.rotation)
    assert callers(response, "Still on the old key") == ["192.0.2.1"]
    assert "refused 1 with the new key" in card(response, "Still on the old key")
    assert callers(response, "Moved to the new key") == []


def test_who_was_only_ever_refused_with_the_old_key_has_nothing_to_move(organization, old, visit):
    make_event(old, ago=DAY, address="192.0.2.9", outcome=Outcome.SCOPE_MISSING)
    assert "192.0.2.9" not in card(visit(make_rotation(organization, old).rotation), "Still on the old key")


def test_of_many_callers_the_last_ones_seen_are_shown_and_the_rest_counted(organization, old, visit):
    number = CALLERS_SHOWN + 7
    make_events([event_of(old, place) for place in range(number)])
    response = visit(make_rotation(organization, old).rotation)
    told = card(response, "Still on the old key")
    assert len(re.findall(r"198\.18\.0\.\d+", told)) == CALLERS_SHOWN
    assert "and 7 more" in told
    assert f"Still on the old key {number}" in told


def event_of(key, place):
    return UsageEvent(
        key_id=key.pk,
        at=timezone.now() - DAY - place * SECOND,
        outcome=Outcome.VALID,
        address=f"198.18.0.{place}",
        user_agent="many/1",
        method="GET",
        path="/v2/orders",
        scope="orders:read",
    )


def test_both_keys_are_in_one_chart(organization, old, visit):
    make_event(old, ago=2 * HOUR)
    started = make_rotation(organization, old)
    make_event(started.issued.key)
    make_event(started.issued.key)
    make_event(old, outcome=Outcome.RATE_LIMITED)
    Rotation.objects.update(started_at=timezone.now() - 3 * HOUR)
    response = visit(started.rotation)
    assert "1 with the old key, 2 with the new key, 1 refused" in response.text
    assert "Started" in card(response, "Traffic on both keys")
    assert "New key first used" in card(response, "Traffic on both keys")


# Whether the old key can go


def test_it_is_not_safe_before_the_new_key_is_used(organization, old, visit):
    rotation = make_rotation(organization, old).rotation
    text = card(visit(rotation), "Can the old key go?")
    assert "Not safe yet" in text
    assert "The old key has never been used." in text
    assert "Nobody has used the new key yet." in text
    assert "Safe to finish" not in text


def test_an_old_key_that_nobody_ever_used_is_safe_once_the_new_one_is_used(organization, old, visit):
    started = make_rotation(organization, old)
    make_event(started.issued.key)
    assert "Safe to finish" in card(visit(started.rotation), "Can the old key go?")


def test_of_a_key_that_was_used_for_less_than_a_day_a_day_of_silence_is_asked(organization, old, visit):
    make_event(old, ago=23 * HOUR)
    started = make_rotation(organization, old)
    make_event(started.issued.key)
    text = card(visit(started.rotation), "Can the old key go?")
    assert "Not safe yet" in text
    assert "It was in use for less than a day: how long it usually is silent is not known" in text
    assert "safe now" not in words(visit(started.rotation).text)


def test_after_a_day_of_silence_it_is_safe(organization, old, visit):
    make_event(old, ago=25 * HOUR)
    started = make_rotation(organization, old)
    make_event(started.issued.key)
    response = visit(started.rotation)
    assert "Safe to finish" in card(response, "Can the old key go?")
    assert steps(response)[3][1] == "Revoke old key safe now"


@pytest.mark.parametrize(("hours", "safe"), [(3, False), (5, True)])
def test_it_is_safe_when_it_is_silent_for_longer_than_it_ever_usually_is(organization, old, visit, hours, safe):
    make_rhythm(old, usual_gap=3 * HOUR)
    KeyRhythm.objects.filter(key=old).update(gaps=20)
    make_event(old, ago=hours * HOUR)
    started = make_rotation(organization, old)
    make_event(started.issued.key)
    text = card(visit(started.rotation), "Can the old key go?")
    if safe:
        assert "Safe to finish" in text
        assert re.search(r"Silent for 5 (h|hours) ?, longer than it ever usually is: 3 h", text)
    else:
        assert "Not safe yet" in text
        assert re.search(r"It usually is for 3 (h|hours) at the longest, so it has to be for more than 4 h", text)


def test_a_caller_that_usually_comes_back_later_is_waited_for(organization, old, visit):
    """The key as a whole is silent for long enough: it was used daily. One of its callers comes every ten days."""
    for days in range(3, 31):
        make_event(old, ago=days * DAY, address="192.0.2.1")
    for days in (25, 15, 5):
        make_event(old, ago=days * DAY, address="192.0.2.5")
    list(UsageHour.objects.roll_up())
    started = make_rotation(organization, ApiKey.objects.get(pk=old.pk))
    make_event(started.issued.key, address="192.0.2.1")
    response = visit(started.rotation)
    text = card(response, "Can the old key go?")
    assert "Not safe yet" in text
    assert "1 caller of the old key has been silent for no longer than usual, and may come back." in text
    assert re.search(r"for 10 d(ays)? at most", card(response, "Still on the old key"))
    make_event(started.issued.key, address="192.0.2.5")
    text = card(visit(started.rotation), "Can the old key go?")
    assert "Safe to finish" in text
    assert "No caller that has not moved is expected back." in text


# After its end


def test_who_tries_the_retired_key_is_listed_and_a_stranger_is_a_possible_leak(organization, old, visit):
    make_event(old, ago=DAY, address="192.0.2.1", user_agent="orders/1")
    started = make_rotation(organization, old)
    make_event(started.issued.key, address="192.0.2.2", user_agent="orders/1")
    started.rotation.finish(by=BY)
    assert "Nobody has tried the old key since its end." in card(visit(started.rotation), "Who still tries the old key")
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.66"):
        make_event(old, address=address, user_agent="orders/1", outcome=Outcome.REVOKED)
    response = visit(started.rotation)
    rows = re.search(r"Who still tries the old key</h2>.*?</section>", response.text, re.DOTALL)[0].split("<tr>")
    told = {found[0]: words(row) for row in rows if (found := re.search(r"192\.0\.2\.\d+", row))}
    assert "used the key before" in told["192.0.2.1"]
    assert "used the key before" in told["192.0.2.2"], "it was seen with the new key"
    assert "possible leak never accepted with either key" in told["192.0.2.66"]
    assert len(told) == 3
    assert response.text.count("possible leak") == 1


def test_who_was_refused_before_the_end_has_not_tried_since(organization, old, visit):
    make_event(old, ago=HOUR, address="192.0.2.66", outcome=Outcome.SCOPE_MISSING)
    rotation = make_rotation(organization, old).rotation
    rotation.finish(by=BY)
    assert "192.0.2.66" not in card(visit(rotation), "Who still tries the old key")


def test_attempts_after_the_deadline_count_before_anybody_closed_it(organization, old, visit):
    rotation = make_overdue_rotation(organization, old).rotation
    make_event(old, address="192.0.2.66", outcome=Outcome.EXPIRED)
    response = visit(rotation)
    assert "possible leak" in response.text
    assert "The old key is refused since" in words(response.text)
    assert "Can the old key go?" not in response.text
    assert steps(response)[3][1].startswith("Revoke old key : done refused")


def test_a_cancelled_rotation_says_by_whom_and_that_the_old_key_goes_on(organization, visit):
    end = soon(30)
    rotation = make_rotation(organization, make_key(organization, expires_at=end).key).rotation
    rotation.cancel(by=BY)
    response = visit(rotation)
    text = words(response.text)
    assert re.search(r"Cancelled now by command line \. The old key goes on and expires .*, as before\.", text)
    assert "Who still tries the old key" not in text
    assert [state for state, _ in steps(response)] == ["done", "to come", "to come", "to come", "to come"]
    assert steps(response)[4][1] == "Watch the old key not needed"


def test_that_the_new_key_was_revoked_by_hand_is_explained(organization, old, visit):
    started = make_rotation(organization, old)
    started.issued.key.revoke(reason=RevocationReason.LEAKED, by=BY)
    text = words(visit(started.rotation).text)
    assert "Called off: somebody revoked the new key now by command line" in text
    assert "The old key goes on and never expires, as before." in text


def test_that_the_old_key_was_revoked_by_hand_is_an_end(organization, old, visit):
    rotation = make_rotation(organization, old).rotation
    ApiKey.objects.get(pk=old.pk).revoke(reason=RevocationReason.LEAKED, by=BY)
    response = visit(rotation)
    assert "The old key is refused since" in words(response.text)
    assert "Who still tries the old key" in response.text
    assert [state for state, _ in steps(response)][3:] == ["done", "now"]


@pytest.mark.parametrize(("which", "told"), [("new", "The new key is paused:"), ("old", "The old key is paused:")])
def test_a_key_that_is_paused_meanwhile_is_pointed_out(organization, old, visit, which, told):
    started = make_rotation(organization, old)
    key = {"new": started.issued.key, "old": ApiKey.objects.get(pk=old.pk)}[which]
    key.pause(by=BY)
    assert told in visit(started.rotation).text


def test_without_overlap_the_page_watches_the_old_key_at_once(organization, old, visit):
    started = make_rotation(organization, old, overlap=timedelta(), reason=RotationReason.COMPROMISE)
    text = words(visit(started.rotation).text)
    assert "Suspected compromise, started by" in text
    assert "Who still tries the old key" in text


# What can be done with it, by whom


def actions_of(response, organization, rotation):
    pages = ["rotation_extend", "rotation_finish", "rotation_cancel", "rotation_link"]
    return [page.removeprefix("rotation_") for page in pages if url(page, organization, rotation.pk) in response.text]


def test_what_can_be_done_depends_on_its_state(organization, operator, client_of):
    client = client_of(operator)

    def offered(rotation):
        return actions_of(client.get(rotation.get_absolute_url()), organization, rotation)

    running = make_rotation(organization).rotation
    assert offered(running) == ["extend", "finish", "cancel"]
    assert offered(make_rotation(organization, link_lasts=DAY).rotation) == ["extend", "finish", "cancel", "link"]
    assert offered(make_overdue_rotation(organization).rotation) == ["finish"]
    running.finish(by=BY)
    assert offered(running) == []
    ended = make_rotation(organization, overlap=timedelta(), link_lasts=DAY).rotation
    assert offered(ended) == ["link"], "the old key ended before the owner took the new one"
    cancelled = make_rotation(organization, link_lasts=DAY).rotation
    cancelled.cancel(by=BY)
    assert offered(cancelled) == []


def test_a_viewer_sees_it_and_is_offered_nothing(organization, old, visit):
    rotation = make_rotation(organization, old, link_lasts=DAY).rotation
    assert actions_of(visit(rotation), organization, rotation) == []


# By itself


def test_htmx_gets_the_board_alone(organization, old, visit):
    response = visit(make_rotation(organization, old).rotation, HTMX)
    assert is_partial(response)
    assert response.text.lstrip().startswith('<div id="rotation_board"')
    assert "HX-Request" in response["Vary"]


def test_a_page_that_asks_again_is_drawn_again_while_its_state_is_the_same(organization, old, visit):
    started = make_rotation(organization, old)
    state = was(visit(started.rotation))
    make_event(started.issued.key, address="192.0.2.4")
    response = visit(started.rotation, HTMX | {"X-Rotation-Was": state})
    assert "HX-Refresh" not in response
    assert callers(response, "Moved to the new key") == ["192.0.2.4"]


def finish(started):
    started.rotation.finish(by=BY)


def cancel(started):
    started.rotation.cancel(by=BY)


def extend(started):
    started.rotation.extend(soon(8), by=BY)


def pass_the_deadline(started):
    ApiKey.objects.filter(pk=started.rotation.old_key_id).update(expires_at=timezone.now() - SECOND)


def pause_the_new_key(started):
    started.issued.key.pause(by=BY)


@pytest.mark.parametrize("change", [finish, cancel, extend, pass_the_deadline, pause_the_new_key])
def test_when_its_state_has_changed_the_whole_page_loads_itself_anew(organization, old, visit, change):
    started = make_rotation(organization, old)
    state = was(visit(started.rotation))
    change(started)
    response = visit(started.rotation, HTMX | {"X-Rotation-Was": state})
    assert response["HX-Refresh"] == "true"
    assert "HX-Refresh" not in visit(started.rotation, HTMX | {"X-Rotation-Was": was(visit(started.rotation))})


def test_a_first_use_that_starts_the_clock_loads_the_page_anew(organization, old, visit):
    started = make_rotation(organization, old, clock=Clock.FIRST_USE)
    state = was(visit(started.rotation))
    make_event(started.issued.key)
    assert visit(started.rotation, HTMX | {"X-Rotation-Was": state})["HX-Refresh"] == "true"


def test_a_key_that_is_taken_by_its_owner_loads_the_page_anew(organization, old, visit):
    started = make_rotation(organization, old, link_lasts=DAY)
    state = was(visit(started.rotation))
    started.rotation.take(started.token, by=BY)
    assert visit(started.rotation, HTMX | {"X-Rotation-Was": state})["HX-Refresh"] == "true"


# Bad and hostile


@pytest.mark.parametrize("number", [0, 999_999_999, 2**63 - 1, 2**63, 10**30])
def test_a_number_that_is_none_is_not_there(organization, visit, viewer, client_of, number):
    make_rotation(organization)
    assert client_of(viewer).get(url("rotation_detail", organization, number)).status_code == 404


def test_another_organizations_rotation_is_not_there(organization, viewer, client_of):
    theirs = make_rotation(make_organization()).rotation
    for headers in (None, HTMX):
        response = client_of(viewer).get(url("rotation_detail", organization, theirs.pk), headers=headers)
        assert response.status_code == 404


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_names_notes_and_callers_are_escaped(organization, visit, text):
    old = make_key(organization, text).key
    make_event(old, ago=DAY, user_agent=text)
    started = make_rotation(organization, old, note=text)
    make_event(started.issued.key, user_agent=text)
    for end in (lambda: None, lambda: started.rotation.finish(by=BY)):
        end()
        make_event(old, user_agent=text, address="192.0.2.66", outcome=Outcome.REVOKED)
        for headers in (None, HTMX):
            response = visit(started.rotation, headers)
            assert response.status_code == 200
            assert "<script>alert" not in response.text
            assert "<img src=x" not in response.text
            assert "csrf" not in card(response, "Still on the old key")


def test_a_header_that_is_nonsense_loads_the_page_anew(organization, old, visit):
    rotation = make_rotation(organization, old).rotation
    for header in ("", "x" * 5000, "<script>alert(1)</script>", "\u00e9"):
        assert visit(rotation, HTMX | {"X-Rotation-Was": header})["HX-Refresh"] == "true"


def test_it_costs_a_bounded_number_of_queries(organization, old, visit):
    rotation = make_rotation(organization, old).rotation
    make_event(old, address="192.0.2.1")
    visit(rotation)
    with CaptureQueriesContext(connection) as few:
        visit(rotation)
    make_events([event_of(old, place) for place in range(40)])
    with CaptureQueriesContext(connection) as many:
        visit(rotation)
    assert len(many) == len(few)
