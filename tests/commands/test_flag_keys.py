import csv
import io
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apikeys.management.flag_formats import fit
from apikeys.models import ApiKey, RevocationReason
from tests.commands.running import run
from tests.factories import make_actor, make_event, make_expired_key, make_key, make_old_key, make_organization

pytestmark = pytest.mark.django_db
LONG = timedelta(days=91)


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
    assert ran.err == "4 unused for more than 90 days, 6 expiring within 60 days, in all organizations.\n"


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
        "organization": "acme",
        "id": key.public_id,
        "fingerprint": key.fingerprint,
        "name": key.name,
        "environment": "prod",
        "owner": "team@example.com",
        "created_at": f"{key.created_at:%Y-%m-%dT%H:%M:%SZ}",
        "last_used_at": f"{key.activity.last_used_at:%Y-%m-%dT%H:%M:%SZ}",
        "expires_at": None,
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


@pytest.mark.parametrize("option", ["--unused-days", "--within"])
@pytest.mark.parametrize("value", ["0", "-1", "3651", "x", "1.5", ""])
def test_days_out_of_range_are_wrong_usage(option, value):
    ran = run("flag_keys", f"{option}={value}")
    assert ran.status == 2
    assert f"argument {option}: must be a whole number from 1 to 3650" in ran.err


def test_nothing_flagged_exits_with_0(organization):
    make_key(organization)
    ran = run("flag_keys")
    assert (ran.status, ran.out) == (0, "")
    assert ran.err == "0 unused for more than 90 days, 0 expiring within 60 days, in all organizations.\n"


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
    assert header[:6] == ["flag", "days", "organization", "id", "fingerprint", "name"]
    assert {first[5], second[5]} == {'\'=cmd|"/c calc"!A1, "x"', "'+1"}
    assert first[:3] == ["expiring", "7", "acme"]
    assert first[-1] == f"{soon:%Y-%m-%dT%H:%M:%SZ}"


def test_json_survives_any_name(organization):
    name = 'quote " backslash \\ line\u2028 emoji 🚀 עברית'
    make_key(organization, name, expires_at=timezone.now() + timedelta(days=5))
    assert [line["name"] for line in run("flag_keys", "--json").json_lines] == [name]


def test_json_and_csv_exclude_each_other():
    assert run("flag_keys", "--json", "--csv").status == 2


@pytest.mark.parametrize("keys", [1, 30])
def test_the_queries_do_not_grow_with_the_keys(organization, keys):
    for _ in range(keys):
        make_old_key(organization, LONG, expires_at=timezone.now() + timedelta(days=5))
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert run("flag_keys", "--json").err.startswith(f"{keys} unused")
    statements = [query["sql"] for query in queries if "SELECT" in query["sql"]]
    assert len(statements) <= 2  # server-side cursors of PostgreSQL are not captured
