import csv
import io
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apikeys.management.flag_formats import fit
from apikeys.models import Alert, AlertKind, ApiKey, JobRun, KeyExemption, RevocationReason, UsageWatermark
from tests.commands.running import run
from tests.factories import (
    make_actor,
    make_event,
    make_exemption,
    make_expired_key,
    make_key,
    make_old_key,
    make_organization,
    make_policy,
    make_rhythm,
)
from tests.pages import age_limit

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
LONG = 91 * DAY


@pytest.fixture
def cast(organization):
    """Make a key of every kind that is flagged, and of every kind that is not, named for what it is."""
    now = timezone.now()
    make_old_key(organization, LONG, name="never used, old")
    make_event(make_old_key(organization, 4 * LONG, name="used long ago"), ago=LONG)
    make_old_key(organization, timedelta(days=89), name="never used, young")
    make_event(make_old_key(organization, LONG, name="used lately"), ago=timedelta(days=1))
    make_old_key(organization, LONG, name="revoked").revoke(reason=RevocationReason.UNUSED, by=make_actor())
    make_old_key(organization, LONG, name="paused").pause(by=make_actor())
    make_expired_key(organization, "expired")
    for days in (0.5, 3, 20, 59, 61):
        make_key(organization, f"ends in {days}", expires_at=now + timedelta(days=days))
    make_old_key(organization, LONG, name="unused and ending", expires_at=now + timedelta(days=2))
    return organization


def names(ran, flag):
    return {line["name"] for line in ran.json_lines if line["flag"] == flag}


def test_it_lists_unused_keys_and_ones_near_their_end(cast):
    ran = run("flag_keys", "--json")
    assert ran.status == 3
    assert names(ran, "unused") == {"never used, old", "used long ago", "paused", "unused and ending"}
    within = {line["name"]: line["days"] for line in ran.json_lines if line["flag"] == "expiring"}
    assert within == {
        "ends in 0.5": 1, "ends in 3": 7, "ends in 20": 30, "ends in 59": 60, "unused and ending": 7,
    }  # fmt: skip
    # make_old_key leaves a young twin, which ends as well.
    counts = "4 unused for more than 90 days, 6 expiring within 60 days, 0 to rotate within 14 days"
    assert ran.err == f"{counts}, in all organizations.\n"


@pytest.fixture
def quiet(organization):
    """Make a silent key of every kind, named for what it is."""
    make_old_key(organization, LONG, name="never used")
    make_event(make_old_key(organization, 4 * LONG, name="stopped"), ago=100 * DAY)
    slow = make_old_key(organization, 4 * LONG, name="slow and stopped")
    make_event(slow, ago=140 * DAY)
    make_rhythm(slow, usual_gap=92 * DAY)
    quarterly = make_old_key(organization, 4 * LONG, name="quarterly")
    make_event(quarterly, ago=100 * DAY)
    make_rhythm(quarterly, usual_gap=92 * DAY)
    make_exemption(make_old_key(organization, LONG, name="standby"))
    make_exemption(make_old_key(organization, LONG, name="no standby any more"), until=-DAY)
    return organization


def test_silence_is_told_apart(quiet):
    ran = run("flag_keys", "--json")
    told = {line["name"]: (line["kind"], line["days"], line["usual_gap_hours"]) for line in ran.json_lines}
    assert told == {
        "never used": ("never_used", 90, None),
        "stopped": ("dormant", 90, None),
        "slow and stopped": ("dormant", 138, 92 * 24),
        "no standby any more": ("never_used", 90, None),
    }
    assert ran.err.splitlines() == [
        "4 unused for more than 90 days, 0 expiring within 60 days, 0 to rotate within 14 days, in all organizations.",
        "Silent, but not flagged: 1 seasonal, 1 exempt.",
    ]


def test_keys_older_than_the_recording_of_usage_are_not_flagged_until_it_has_gone_on_for_as_long(quiet):
    UsageWatermark.objects.update_or_create(pk=1, defaults={"recording_since": timezone.now() - 80 * DAY})
    ran = run("flag_keys", "--json")
    assert names(ran, "unused") == {"stopped", "slow and stopped"}
    assert ran.err.endswith("Silent, but not flagged: 1 seasonal, 3 not measurable.\n")
    assert names(run("flag_keys", "--json", "--unused-days", "79"), "unused") > {"never used"}


def test_exempt_keys_are_listed_when_asked_for_with_the_end_of_their_exemption(quiet):
    ran = run("flag_keys", "--json", "--include-exempt")
    until = {line["name"]: line["exempt_until"] for line in ran.json_lines}
    end = KeyExemption.objects.get(key__name="standby").until
    assert until.pop("standby") == f"{end:%Y-%m-%dT%H:%M:%SZ}"
    assert set(until.values()) == {None}
    assert ran.err.endswith("Silent, but not flagged: 1 seasonal.\n")
    table = run("flag_keys", "--include-exempt").out.splitlines()
    assert table[2].endswith("LAST USED   EXPIRES     KIND        SILENT  USUAL GAP")
    rows = {row[table[2].index("NAME") :][:34].strip(): row[table[2].index("KIND") :] for row in table[3:]}
    assert rows == {
        "slow and stopped": "dormant      140 d       92 d",
        "stopped": "dormant      100 d",
        "never used": "never used    91 d",
        "standby": f"never used    91 d             exempt until {end:%Y-%m-%d}",
        "no standby any more": "never used    91 d",
    }


def test_csv_tells_them_apart_as_well(quiet):
    rows = csv.DictReader(io.StringIO(run("flag_keys", "--csv", "--include-exempt").out))
    told = {row["name"]: (row["kind"], row["silent_days"], row["usual_gap_hours"]) for row in rows}
    assert told["slow and stopped"] == ("dormant", "140", "2208")
    assert told["standby"] == ("never_used", "91", "")


def test_what_it_flags_is_what_the_list_shows(cast):
    ran = run("flag_keys", "--json")
    assert names(ran, "unused") == set(ApiKey.objects.unused().values_list("name", flat=True))
    assert names(ran, "expiring") == set(ApiKey.objects.expiring().values_list("name", flat=True))


def test_a_line_has_what_a_program_needs(cast):
    key = ApiKey.objects.unused().get(name="used long ago")
    line = next(one for one in run("flag_keys", "--json").json_lines if one["name"] == key.name)
    assert line == {
        "flag": "unused",
        "days": 90,
        "kind": "dormant",
        "silent_days": 91,
        "usual_gap_hours": None,
        "exempt_until": None,
        "organization": "acme",
        "id": key.public_id,
        "fingerprint": key.fingerprint,
        "name": key.name,
        "environment": "prod",
        "owner": "team@example.com",
        "created_at": f"{key.created_at:%Y-%m-%dT%H:%M:%SZ}",
        "last_used_at": f"{key.activity.last_used_at:%Y-%m-%dT%H:%M:%SZ}",
        "expires_at": None,
        "rotate_by": None,
        "days_left": None,
    }


def test_a_member_is_told_by_address(organization, operator):
    owner = organization.members.get(user=operator)
    make_key(organization, owner=owner, expires_at=timezone.now() + timedelta(days=5))
    assert run("flag_keys", "--json").json_lines[0]["owner"] == operator.email


def test_days_and_thresholds_can_be_chosen(cast):
    ran = run("flag_keys", "--json", "--unused-days", "80", "--within", "2", "70")
    assert names(ran, "unused") >= {"never used, young"}
    within = {line["name"]: line["days"] for line in ran.json_lines if line["flag"] == "expiring"}
    assert within["ends in 61"] == 70
    assert within["ends in 0.5"] == 2


def test_one_organization_sees_its_own(cast):
    other = make_organization("other")
    make_key(other, "of another", expires_at=timezone.now() + timedelta(days=1))
    assert {line["organization"] for line in run("flag_keys", "--json").json_lines} == {"acme", "other"}
    assert {line["organization"] for line in run("flag_keys", "--json", "--organization", "acme").json_lines} == {
        "acme"
    }


def test_an_organization_that_does_not_exist_is_an_error(cast):
    ran = run("flag_keys", "--organization", "nowhere")
    assert (ran.status, ran.out) == (1, "")
    assert "--organization: there is no organization 'nowhere'." in ran.err


@pytest.mark.parametrize("option", ["--unused-days", "--within", "--rotate-within"])
@pytest.mark.parametrize("value", ["0", "-1", "3651", "x", "1.5", ""])
def test_days_out_of_range_are_wrong_usage(option, value):
    ran = run("flag_keys", f"{option}={value}")
    assert ran.status == 2
    assert f"argument {option}: must be a whole number from 1 to 3650" in ran.err


def test_nothing_flagged_exits_with_0(organization):
    make_key(organization)
    ran = run("flag_keys")
    assert (ran.status, ran.out) == (0, "")
    counts = "0 unused for more than 90 days, 0 expiring within 60 days, 0 to rotate within 14 days"
    assert ran.err == f"{counts}, in all organizations.\n"


def test_a_scheduler_can_ask_for_0(cast):
    assert run("flag_keys", "--exit-zero").status == 0


def test_the_table_is_aligned_whatever_the_names(organization):
    soon = timezone.now() + timedelta(days=5)
    for name in ("plain", "n" * 100, "日本語のとても長い名前のキーです、本当に長い", "مفتاح", "e\u0301cole 🚀", "Ключ"):
        make_key(organization, name, expires_at=soon, owner_contact=f"{'o' * 60}@example.com")
    lines = run("flag_keys").out.splitlines()
    assert lines[1] == "Expiring within 60 days"
    rows = lines[3:]
    assert len(rows) == 6
    # What stands after the name and the owner says how wide both were drawn.
    assert {row[row.index("never") :] for row in rows} == {f"never       {soon:%Y-%m-%d}  within 7 days"}
    assert any("n" * 33 + "…" in row for row in rows)


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("abc", "abc   "),
        ("abcdef", "abcdef"),
        ("abcdefg", "abcde…"),
        ("naïveté!", "naïve…"),
        ("日本", "日本  "),
        ("日本語", "日本語"),
        ("日本語a", "日本… "),
        ("e\u0301" * 6, "e\u0301" * 6),
        ("e\u0301" * 7, "e\u0301" * 5 + "…"),
        ("", "      "),
    ],
)
def test_texts_take_the_columns_that_a_terminal_gives_them(text, drawn):
    assert fit(text, 6) == drawn


def test_csv_is_complete_and_runs_nothing_in_a_spreadsheet(organization):
    soon = timezone.now() + timedelta(days=5)
    make_key(organization, '=cmd|"/c calc"!A1, "x"', expires_at=soon)
    make_key(organization, "+1", expires_at=soon)
    ran = run("flag_keys", "--csv")
    header, first, second = csv.reader(io.StringIO(ran.out))
    assert header[:3] == ["flag", "days", "kind"]
    assert header[6:10] == ["organization", "id", "fingerprint", "name"]
    assert {first[9], second[9]} == {'\'=cmd|"/c calc"!A1, "x"', "'+1"}
    assert first[:7] == ["expiring", "7", "", "", "", "", "acme"]
    assert first[-3:] == [f"{soon:%Y-%m-%dT%H:%M:%SZ}", "", ""]


def test_json_survives_any_name(organization):
    # The line separator is of a name that was given before names could not hold one.
    name = 'quote " backslash \\ line\u2028 emoji 🚀 עברית'
    key = make_key(organization, "named since", expires_at=timezone.now() + timedelta(days=5)).key
    ApiKey.objects.filter(pk=key.pk).update(name=name)
    assert [line["name"] for line in run("flag_keys", "--json").json_lines] == [name]


def test_json_and_csv_exclude_each_other():
    assert run("flag_keys", "--json", "--csv").status == 2


@pytest.mark.parametrize("keys", [1, 30])
def test_the_queries_do_not_grow_with_the_keys(organization, keys):
    age_limit(organization, 90)
    for _ in range(keys):
        make_old_key(organization, LONG, expires_at=timezone.now() + timedelta(days=5))
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert run("flag_keys", "--json").err.startswith(f"{keys} unused")
    statements = [query["sql"] for query in queries if "SELECT" in query["sql"]]
    # One is of the run itself, one asks whether organizations have days of their own. Server-side cursors of
    # PostgreSQL are not captured.
    assert len(statements) <= 6


# Keys to rotate


@pytest.fixture
def aged(organization):
    """Make a key of every age, and two organizations with another maximum and with none."""
    age_limit(organization, 60)
    for days in (30, 45, 47, 59, 61, 75):
        make_old_key(organization, timedelta(days=days, hours=1), name=f"{days} days old")
    make_old_key(organization, 80 * DAY, name="revoked").revoke(reason=RevocationReason.UNUSED, by=make_actor())
    make_old_key(organization, 80 * DAY, name="expired", expires_at=timezone.now() + DAY)
    ApiKey.objects.filter(name="expired").update(expires_at=timezone.now() - DAY)
    lax, free = make_organization("lax"), make_organization("free")
    age_limit(lax, 80)
    for other in (lax, free):
        make_old_key(other, 70 * DAY + DAY / 2, name=f"70 days old, {other.slug}")
    return organization


def test_keys_to_rotate_are_told_with_their_days_overdue_or_left_the_oldest_first(aged):
    ran = run("flag_keys", "--json")
    assert ran.status == 3
    told = [(line["name"], line["days"], line["days_left"]) for line in ran.json_lines if line["flag"] == "rotate"]
    assert told == [
        ("75 days old", 0, -15),
        ("61 days old", 0, -1),
        ("59 days old", 14, 0),
        ("47 days old", 14, 12),
        ("70 days old, lax", 14, 9),
    ]
    key = ApiKey.objects.to_rotate().get(name="75 days old")
    assert ran.json_lines[0]["rotate_by"] == f"{key.rotate_by:%Y-%m-%dT%H:%M:%SZ}"
    assert {line["kind"] for line in ran.json_lines} == {None}
    assert ran.err == (
        "0 unused for more than 90 days, 0 expiring within 60 days, 5 to rotate within 14 days, in all organizations.\n"
    )


def test_how_soon_can_be_chosen(aged):
    assert names(run("flag_keys", "--json", "--rotate-within", "1"), "rotate") == {
        "75 days old", "61 days old", "59 days old",
    }  # fmt: skip
    assert names(run("flag_keys", "--json", "--rotate-within", "15"), "rotate") >= {"45 days old"}
    assert run("flag_keys", "--rotate-within", "1").err.startswith(
        "0 unused for more than 90 days, 0 expiring within 60 days, 3 to rotate within 1 days"
    )


def test_those_to_rotate_are_the_ones_of_the_list(aged):
    flagged = names(run("flag_keys", "--json", "--organization", "acme"), "rotate")
    keys = aged.keys.all()
    due, soon = keys.to_rotate(organization=aged), keys.to_rotate_soon(organization=aged)
    assert flagged == {key.name for key in [*due, *soon]}


def test_the_table_of_keys_to_rotate_is_aligned(aged):
    lines = run("flag_keys", "--organization", "acme").out.splitlines()
    assert lines[1] == "To be rotated by now or within 14 days"
    assert lines[2].endswith("LAST USED   EXPIRES     ROTATE BY")
    place = lines[2].index("ROTATE BY")
    dates = [f"{key.rotate_by:%Y-%m-%d}" for key in aged.keys.to_rotate(within=14 * DAY).order_by("created_at")]
    told = ["overdue 15 d", "overdue 1 d", "0 d left", "12 d left"]
    assert [row[place:] for row in lines[3:]] == [f"{date}  {words}" for date, words in zip(dates, told, strict=True)]


def test_csv_has_them_as_well(aged):
    rows = list(csv.DictReader(io.StringIO(run("flag_keys", "--csv").out)))
    told = [(row["flag"], row["days"], row["rotate_by"][:10], row["days_left"]) for row in rows]
    key = ApiKey.objects.to_rotate().get(name="61 days old")
    assert told[1] == ("rotate", "0", f"{key.rotate_by:%Y-%m-%d}", "-1")
    assert [len(row) for row in rows] == [17] * 5
    assert {(row["kind"], row["silent_days"]) for row in rows} == {("", "")}


def test_one_key_to_rotate_alone_is_status_3(organization):
    age_limit(organization, 30)
    make_old_key(organization, 40 * DAY)
    assert run("flag_keys").status == 3
    assert run("flag_keys", "--exit-zero").status == 0


def test_it_raises_the_alerts_of_what_it_lists_once_and_by_the_rules(cast):
    ran = run("flag_keys", "--json", "--raise")
    assert ran.status == 3
    assert "alerts opened, 0 got worse or are told again, 0 ended." in ran.err
    unused = set(Alert.objects.filter(kind=AlertKind.UNUSED).values_list("key__name", flat=True))
    assert unused == names(ran, "unused")
    before = Alert.objects.count()
    assert "0 alerts opened" in run("flag_keys", "--raise", "--unused-days", "1").err
    assert Alert.objects.count() == before
    assert "alerts opened" in JobRun.objects.filter(job="flag_keys").latest("pk").done


def test_it_raises_nothing_unless_it_is_asked_and_of_one_organization_alone(cast):
    other = make_organization()
    make_old_key(other, LONG)
    run("flag_keys")
    assert not Alert.objects.exists()
    run("flag_keys", "--raise", "--organization", other.slug)
    assert {alert.organization for alert in Alert.objects.all()} == {other}
    run("flag_keys", "--raise")
    assert Alert.objects.filter(organization=cast).exists()


def test_each_organization_has_the_days_of_its_policy_unless_others_are_named(organization):
    other = make_organization("other-days")
    for one in (organization, other):
        make_old_key(one, timedelta(days=40), name=f"{one.slug} key")
    assert names(run("flag_keys", "--json"), "unused") == set()
    make_policy(organization, unused_after_days=30)
    ran = run("flag_keys", "--json")
    assert names(ran, "unused") == {f"{organization.slug} key"}
    assert "1 unused for more than the days of each organization" in ran.err
    assert "Unused for more than the days of each organization" in run("flag_keys").out
    [line] = ran.json_lines
    assert line["days"] == 30
    assert "1 unused for more than 30 days" in run("flag_keys", "--organization", organization.slug).err
    assert names(run("flag_keys", "--json", "--unused-days", "35"), "unused") >= {"other-days key"}
