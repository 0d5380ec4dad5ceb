"""What silence means: a table of cases, and SQL and Python that agree on every key."""

from datetime import timedelta

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apikeys.models import ApiKey, KeyActivity, RevocationReason, Silence, UsageWatermark
from apikeys.models.silence import silence_at, silence_conditions
from tests.factories import make_actor, make_key, make_old_key, make_rhythm

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
NEVER, DORMANT, SEASONAL, UNKNOWN = (
    Silence.NEVER_USED,
    Silence.DORMANT,
    Silence.SEASONAL,
    Silence.NOT_MEASURABLE,
)

# Days ago: created, last used, recording began; and the longest usual gap in days.
CASES = {
    "made today": ((0, None, None, None), None),
    "made 90 days ago to the second": ((90, None, None, None), None),
    "never used for 91 days": ((91, None, None, None), NEVER),
    "never used, recorded from its first day": ((91, None, 91, None), NEVER),
    "never used, recorded for long, though not from its first day": ((400, None, 91, None), NEVER),
    "never used, recorded for as long as it takes": ((400, None, 90, None), UNKNOWN),
    "never used, recorded since yesterday": ((400, None, 1, None), UNKNOWN),
    "young, recorded since yesterday": ((89, None, 1, None), None),
    "used just now": ((400, 0, None, 1), None),
    "used 90 days ago to the second": ((400, 90, None, None), None),
    "used once, 91 days ago": ((400, 91, None, None), DORMANT),
    "used once, 91 days ago, before recording is said to have begun": ((400, 91, 10, None), DORMANT),
    "every minute, then silent for 60 days": ((400, 60, None, 1 / 24), None),
    "every minute, then silent for 91 days": ((400, 91, None, 1 / 24), DORMANT),
    "on weekdays, then silent for 91 days": ((400, 91, None, 64 / 24), DORMANT),
    "once a month, silent for 60 days": ((400, 60, None, 31), None),
    "once a month, silent for 91 days": ((400, 91, None, 31), DORMANT),
    "every two months, silent for 91 days": ((400, 91, None, 61), SEASONAL),
    "every two months, silent for 92 days": ((400, 92, None, 61), DORMANT),
    "once a quarter, silent for 89 days": ((400, 89, None, 92), None),
    "once a quarter, silent for 100 days": ((400, 100, None, 92), SEASONAL),
    "once a quarter, silent for 138 days": ((400, 138, None, 92), SEASONAL),
    "once a quarter, silent for 139 days": ((400, 139, None, 92), DORMANT),
    "once a year, silent for 300 days": ((800, 300, None, 365), SEASONAL),
    "once a year, silent for 600 days": ((800, 600, None, 365), DORMANT),
    "used in the future, by a clock that is wrong": ((400, -1, None, None), None),
    "made a day ago, used 100 days ago, by a clock that is wrong": ((1, 100, None, None), None),
    "made in the future, by a clock that is wrong": ((-1, None, None, None), None),
}


@pytest.mark.parametrize(("facts", "kind"), CASES.values(), ids=CASES)
def test_a_silence_is_told(organization, facts, kind):
    assert told(organization, *facts) == (kind, kind)


def told(organization, created, used, recorded, gap, days=90):
    """Return what Python and SQL make of a new key when so many days have gone by."""
    key = make_key(organization).key
    now = key.created_at + created * DAY
    last_used = None if used is None else now - used * DAY
    recording = None if recorded is None else now - recorded * DAY
    usual = None if gap is None else timedelta(seconds=round(gap * 86400))
    put(key, last_used, usual, recording)
    return (
        silence_at(now, days, key.created_at, last_used, usual, recording),
        in_sql(ApiKey.objects.filter(pk=key.pk), now, days),
    )


def put(key, last_used, usual_gap, recording):
    if last_used:
        KeyActivity.objects.update_or_create(key=key, defaults={"last_used_at": last_used})
    if usual_gap:
        make_rhythm(key, usual_gap=usual_gap)
    UsageWatermark.objects.update_or_create(pk=1, defaults={"recording_since": recording})


def in_sql(keys, now, days):
    found = [kind for kind, condition in silence_conditions(now, days).items() if keys.filter(condition).exists()]
    assert len(found) < 2
    return found[0] if found else None


instants = st.timedeltas(-2 * DAY, 900 * DAY)
# Where one second, or less, decides.
near = st.sampled_from([timedelta(), SECOND, -SECOND, SECOND / 2, SECOND / 1_000_000, -SECOND / 1_000_000])
gaps = st.integers(0, 500 * 86400)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    created=instants,
    used=st.none() | instants,
    gap=st.none() | gaps | st.just("half of the silence and a third"),
    recorded=st.none() | instants | st.just("the border"),
    days=st.integers(1, 400),
    aside=near,
)
def test_python_and_sql_agree_on_every_key(organization, created, used, gap, recorded, days, aside):
    key = make_key(organization).key
    now = key.created_at + created + aside
    last_used = None if used is None else now - used
    if gap == "half of the silence and a third":  # two thirds: the border of what is explained
        gap = max(0, (now - (last_used or key.created_at) + aside) // SECOND * 2 // 3)
    usual = None if gap is None else timedelta(seconds=gap)
    recording = now - days * DAY + aside if recorded == "the border" else recorded and now - recorded
    put(key, last_used, usual, recording)
    expected = silence_at(now, days, key.created_at, last_used, usual, recording)
    assert in_sql(ApiKey.objects.filter(pk=key.pk), now, days) == expected


def test_with_silence_is_of_usable_keys_and_says_since_when(organization):
    now = timezone.now()
    never, dormant = make_old_key(organization, 100 * DAY), make_old_key(organization, 300 * DAY)
    KeyActivity.objects.update_or_create(key=dormant, defaults={"last_used_at": now - 200 * DAY})
    for dead in (make_old_key(organization, 100 * DAY), make_old_key(organization, 100 * DAY)):
        dead.revoke(reason=RevocationReason.UNUSED, by=make_actor())
    found = {key: key.quiet_since for key in organization.keys.with_silence(*Silence)}
    assert found == {never: never.created_at, dormant: now - 200 * DAY}
    assert list(organization.keys.with_silence(Silence.DORMANT)) == [dormant]
    assert set(organization.keys.unused()) == {never, dormant}


REASONS = {
    "created 147 days ago, never used": (147, None, None, None),
    "created 500 days ago, not used in the 147 days for which usage has been recorded": (500, None, 147, None),
    "silent 147 days, longest usual gap 3 days": (500, 147, None, 3),
    "silent 147 days, longest usual gap 64 hours": (500, 147, None, 64 / 24),
    "silent 1,200 days, longest usual gap 1 hour": (1300, 1200, None, 1 / 24),
    "silent 147 days, no usual gap known": (500, 147, None, None),
    "silent 100 days, longest usual gap 92 days: expected up to 138 days": (500, 100, None, 92),
    "created 500 days ago, not used in the 47 hours for which usage has been recorded": (500, None, 47 / 24, None),
}


@pytest.mark.parametrize(("reason", "facts"), REASONS.items(), ids=REASONS)
def test_a_silence_says_why(organization, reason, facts):
    created, used, recorded, gap = facts
    now = timezone.now()
    key = make_old_key(organization, created * DAY)
    put(
        key,
        None if used is None else now - used * DAY,
        None if gap is None else timedelta(days=gap),
        None if recorded is None else now - recorded * DAY,
    )
    for found in (ApiKey.objects.for_pages().get(pk=key.pk), ApiKey.objects.get(pk=key.pk)):
        assert found.silence.reason == reason


def test_silence_of_keys_read_for_pages_asks_nothing_more(organization, django_assert_num_queries):
    for age in (10, 100, 200):
        make_old_key(organization, age * DAY)
    keys = list(organization.keys.for_pages())
    with django_assert_num_queries(0):
        assert [key.silence.label if key.silence else "" for key in keys].count("never used") == 2
        assert not any(key.exemption_now for key in keys)
