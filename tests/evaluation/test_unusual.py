"""Unusual usage of stored keys: what is raised from roll-ups and events, when, and when somebody knows why."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apikeys.evaluation.preview import preview
from apikeys.evaluation.unusual import evaluate_unusual
from apikeys.models import (
    Alert,
    AlertEvent,
    AlertKind,
    AlertRule,
    AlertSettings,
    Delivery,
    JobRun,
    KeyActivity,
    LateHour,
    Outcome,
    UsageEvent,
    UsageForecast,
    UsageHour,
    UsageWatermark,
)
from apikeys.models.alert_rule import AlertRuleTerms
from apikeys.models.job import CHECK
from apikeys.models.series import floor_day, floor_hour
from apikeys.models.usage import DAY, HOUR, MINUTE
from tests.factories import ADDRESS, make_actor, make_key, make_organization, make_rotation

pytestmark = pytest.mark.django_db
MIDNIGHT = floor_day(timezone.now()) - DAY
NOW = MIDNIGHT + HOUR * 15 + MINUTE * 12
WEEKS = 10
ACTOR = make_actor()


def usual(hour):
    """Return the requests of an hour: 20 at night, 60 at noon."""
    return 20 + max(0, 40 - 5 * abs(hour.hour - 12))


def use(key, *, until=NOW, since=None, **others):
    """Let a key have its usual requests in whole hours up to an instant, and others in some hours ago: h3=600."""
    since = since or floor_day(until) - 7 * WEEKS * DAY
    counts = {
        since + HOUR * number: usual(since + HOUR * number) for number in range((floor_hour(until) - since) // HOUR)
    }
    for name, count in others.items():
        counts[floor_hour(until) - HOUR * int(name.removeprefix("h"))] = count
    rows = [
        UsageHour(key_id=key.pk, hour=hour, outcome=Outcome.VALID, count=count)
        for hour, count in counts.items()
        if count
    ]
    UsageHour.objects.filter(key_id=key.pk).delete()
    UsageHour.objects.bulk_create(rows, batch_size=2000)
    KeyActivity.objects.filter(key=key).update(first_used_at=since, last_used_at=max(row.hour for row in rows))
    UsageWatermark.objects.update_or_create(
        pk=1, defaults={"until": floor_hour(until), "raw_from": None, "recording_since": since - DAY}
    )


def look(now=NOW, **options):
    """Evaluate as a scheduler does, after a look an hour before."""
    evaluate_unusual(now - HOUR, **options)
    return evaluate_unusual(now, **options)


def raised():
    return [(alert.key_id, alert.facts["shape"], alert.facts["hour"]) for alert in Alert.objects.order_by("pk")]


@pytest.fixture
def key(organization):
    return make_key(organization).key


def test_a_spike_is_an_alert_with_its_callers_and_told_at_once(organization, key):
    use(key, h1=900)
    event = UsageEvent(key_id=key.pk, at=NOW - HOUR, outcome=Outcome.VALID, address=ADDRESS, user_agent="x/1")
    UsageEvent.objects.bulk_create([event])
    LateHour.objects.all().delete()
    look()
    [alert] = Alert.objects.all()
    assert (alert.organization, alert.kind, alert.key, alert.occurrences) == (
        organization,
        AlertKind.UNUSUAL_USAGE,
        key,
        1,
    )
    hour = floor_hour(NOW) - HOUR
    assert alert.facts["hour"] == hour.isoformat()
    assert (alert.facts["shape"], alert.facts["count"], alert.facts["is_complete"]) == ("spike", 900, True)
    assert alert.facts["low"] <= usual(hour) <= alert.facts["high"] < 200
    assert [caller["address"] for caller in alert.facts["callers"]] == [ADDRESS]
    assert Delivery.objects.exists()
    assert AlertEvent.objects.get().is_urgent


def test_what_is_usual_raises_nothing_and_twice_is_once(key):
    use(key)
    look()
    assert raised() == []
    use(key, h1=900)
    for _ in range(3):
        evaluate_unusual(NOW)
    assert raised() == []  # that hour was judged before
    evaluate_unusual(NOW + HOUR)
    use(key, until=NOW + HOUR, h1=900)
    for _ in range(3):
        evaluate_unusual(NOW + 2 * HOUR)
    assert Alert.objects.count() == 1
    assert AlertEvent.objects.count() == 1


def test_a_running_hour_is_told_of_when_it_is_extreme_already(key):
    use(key)
    at = floor_hour(NOW) + MINUTE
    UsageEvent.objects.bulk_create(
        [UsageEvent(key_id=key.pk, at=at, nonce=number, outcome=Outcome.VALID) for number in range(700)]
    )
    look()
    [alert] = Alert.objects.all()
    assert (alert.facts["count"], alert.facts["is_complete"], alert.seen_at) == (700, False, NOW)
    # The same hour is told once, also when it is over.
    use(key, until=NOW + HOUR, h1=900)
    evaluate_unusual(NOW + HOUR)
    assert [(one.occurrences, one.facts["count"]) for one in Alert.objects.all()] == [(1, 700)]


def test_it_goes_on_in_the_same_alert(key):
    use(key, h1=900)
    look()
    use(key, until=NOW + HOUR, h1=950, h2=900)
    evaluate_unusual(NOW + HOUR)
    [alert] = Alert.objects.all()
    assert (alert.occurrences, alert.facts["count"]) == (2, 950)
    assert list(alert.events.values_list("event", flat=True)) == ["opened"]


def test_an_hour_is_judged_some_minutes_after_it_is_over(key):
    use(key, until=floor_hour(NOW), h1=0)
    evaluate_unusual(NOW - HOUR)
    evaluate_unusual(floor_hour(NOW) + MINUTE)
    assert raised() == []
    evaluate_unusual(floor_hour(NOW) + 5 * MINUTE)
    assert raised() == [(key.pk, "silence", (floor_hour(NOW) - HOUR).isoformat())]


def test_the_hour_before_midnight_is_judged_after_it(key):
    use(key, until=MIDNIGHT)
    look(MIDNIGHT - MINUTE)
    use(key, until=MIDNIGHT, h1=900)
    evaluate_unusual(MIDNIGHT + 6 * MINUTE)
    assert raised() == [(key.pk, "spike", (MIDNIGHT - HOUR).isoformat())]
    assert UsageForecast.objects.get().day == MIDNIGHT.date()


def test_days_that_were_missed_are_looked_at(key):
    before = NOW - 3 * DAY
    use(key, until=before)
    look(before)
    use(key, h50=900)
    evaluate_unusual(NOW)
    assert raised() == [(key.pk, "spike", (floor_hour(NOW) - 50 * HOUR).isoformat())]


def test_the_first_look_ever_tells_of_nothing_that_is_over(key):
    use(key, h5=900)
    evaluate_unusual(NOW)
    assert raised() == []


def test_a_key_that_is_young_is_left_alone(key):
    use(key, since=MIDNIGHT - 5 * DAY, h1=9000)
    look()
    assert raised() == []


def test_silence_is_told_of(key):
    use(key, h1=0)
    look()
    assert raised() == [(key.pk, "silence", (floor_hour(NOW) - HOUR).isoformat())]


def stop_recording(key):
    run = JobRun.objects.create(job=CHECK, started_at=NOW)
    run.finish(error="Recording has stopped.")


def pause(key):
    key.pause(by=ACTOR)


def pause_for_minutes(key):
    key.pause(by=ACTOR, lasting=timedelta(minutes=30))


def refuse_for_a_pause(key):
    UsageHour.objects.create(key_id=key.pk, hour=floor_hour(NOW) - HOUR, outcome=Outcome.PAUSED, count=60)


def rotate(key):
    make_rotation(key.organization, key)


def revoke(key):
    type(key).objects.filter(pk=key.pk).update(
        revoked_at=NOW - HOUR, revoked_reason="unused", revoked_by_label="somebody"
    )


def switch_off(key):
    terms = AlertRuleTerms.usual(AlertKind.UNUSUAL_USAGE)
    rule = AlertRule.objects.usual(key.organization, AlertKind.UNUSUAL_USAGE)
    rule.edit(
        AlertRuleTerms(is_on=False, is_urgent=True, role=terms.role, to_owner=True, options=terms.options), by=ACTOR
    )


KNOWN = [stop_recording, pause, pause_for_minutes, refuse_for_a_pause, rotate, revoke, switch_off]


@pytest.mark.parametrize("happens", KNOWN, ids=lambda one: one.__name__)
def test_silence_that_somebody_knows_of_is_not(key, happens):
    use(key, h1=0)
    evaluate_unusual(NOW - HOUR)
    happens(key)
    evaluate_unusual(NOW)
    assert raised() == []


def test_a_spike_is_told_of_while_recording_has_stopped(key):
    use(key, h1=900)
    evaluate_unusual(NOW - HOUR)
    stop_recording(key)
    evaluate_unusual(NOW)
    assert len(raised()) == 1


def test_forecasts_are_made_over_several_runs_and_nothing_is_lost(organization):
    keys = [make_key(organization).key for _ in range(3)]
    for key in keys:
        use(key, until=MIDNIGHT)
    look(MIDNIGHT - HOUR, most_forecasts=10)
    for key in keys:
        use(key, until=MIDNIGHT + HOUR, h2=900)
    for number in range(1, 4):
        evaluate_unusual(MIDNIGHT + number * 10 * MINUTE, most_forecasts=1)
        assert UsageForecast.objects.filter(day=MIDNIGHT.date()).count() == number
    assert raised() == [(key.pk, "spike", (MIDNIGHT - HOUR).isoformat()) for key in keys]


def test_each_organization_has_its_own_sensitivity(organization):
    other = make_organization()
    mine, theirs = make_key(organization).key, make_key(other).key
    usual_terms = AlertRuleTerms.usual(AlertKind.UNUSUAL_USAGE)
    options = {"sensitivity": "low"}
    rule = AlertRule.objects.usual(other, AlertKind.UNUSUAL_USAGE)
    rule.edit(AlertRuleTerms(True, True, usual_terms.role, to_owner=True, options=options), by=ACTOR)
    for one in (mine, theirs):
        # A little more than eight days before at the same hour.
        use(one, h193=300, h1=330)
    look()
    assert [key_id for key_id, *_ in raised()] == [mine.pk]


def test_the_number_of_statements_does_not_grow_with_keys(organization):
    def statements(keys):
        for _ in range(keys):
            use(make_key(organization).key, h1=900)
        UsageForecast.objects.all().delete()
        AlertSettings.objects.update(judged_until=NOW - HOUR)
        with CaptureQueriesContext(connection) as caught:
            evaluate_unusual(NOW)
        # What is read of each new alert's callers is of that alert.
        return len(
            [one for one in caught.captured_queries if "usageevent" not in one["sql"] and "usageday" not in one["sql"]]
        )

    statements(1)
    assert statements(1) == statements(5)


def test_forecasts_of_keys_that_nobody_uses_any_more_go(key):
    use(key)
    look()
    assert UsageForecast.objects.count() == 1
    KeyActivity.objects.filter(key=key).update(last_used_at=NOW - 100 * DAY)
    evaluate_unusual(NOW + 9 * DAY)
    assert not UsageForecast.objects.exists()


def test_clocks_that_jump_back_raise_nothing_again(key):
    use(key, h1=900)
    look()
    assert len(raised()) == 1
    for days in (2, 1, 0):
        evaluate_unusual(NOW - days * DAY)
    assert len(raised()) == 1
    assert AlertSettings.objects.get().judged_until == floor_hour(NOW)


def test_the_preview_tells_what_was_raised(organization, key):
    use(key, until=NOW - 3 * DAY)
    spikes = {f"h{hours}": 900 for hours in (5, 29, 30, 31, 70)}
    at = NOW - 3 * DAY
    evaluate_unusual(at)
    use(key, **spikes)
    while at < NOW:
        at = min(at + 6 * HOUR, NOW)
        UsageWatermark.objects.update(until=floor_hour(at))
        Alert.objects.end_all(Alert.objects.filter(cause_ended_at=None, seen_at__lt=at - DAY), now=at, why="calm")
        evaluate_unusual(at)
    UsageWatermark.objects.update(until=floor_hour(NOW))
    looked = preview(organization, AlertKind.UNUSUAL_USAGE, AlertRuleTerms.usual(AlertKind.UNUSUAL_USAGE), now=NOW)
    opened = list(Alert.objects.order_by("pk").values_list("key_id", flat=True))
    assert [one.key.pk for one in looked.foreseen] == opened
    assert looked.total == len(opened) == 2
