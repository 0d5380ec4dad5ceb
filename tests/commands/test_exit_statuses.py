"""The statuses that a scheduler sees, from processes of their own on a database where transactions commit."""

from datetime import timedelta

from django.utils import timezone

from tests.commands.running import run_process
from tests.factories import make_key

PRODUCTION = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": "7Vh1kq0mPz3Xb8Yt5Rw2Nd6Cj9Lf4Gs1Ea7Ku0Mo3Qi8Xv5Z",
    "KEY_PEPPERS": "1:kq0mPz3Xb8Yt5Rw2Nd6Cj9Lf4Gs1Ea7Ku0Mo3Qi8Xv4=",
    "BASE_URL": "https://keys.example.com",
}


def test_flag_keys_exits_with_3_when_something_is_flagged(committed):
    make_key(committed, expires_at=timezone.now() + timedelta(days=5))
    ran = run_process("flag_keys", "--organization", committed.slug, "--json")
    assert ran.status == 3
    assert len(ran.json_lines) == 1


def test_flag_keys_exits_with_0_when_nothing_is(committed):
    assert run_process("flag_keys", "--organization", committed.slug).status == 0


def test_a_lost_database_exits_with_1_and_a_line(tmp_path):
    ran = run_process("flag_keys", DATABASE_URL=f"sqlite:///{tmp_path}/empty.sqlite3")
    assert ran.status == 1
    assert ran.err.startswith("CommandError: The database failed: no such table")
    assert "Traceback" not in ran.err


def test_wrong_usage_exits_with_2(tmp_path):
    ran = run_process("flag_keys", "--within", "soon", DATABASE_URL=f"sqlite:///{tmp_path}/empty.sqlite3")
    assert ran.status == 2


def test_the_demo_is_refused_in_production(tmp_path):
    ran = run_process("seed_demo", DATABASE_URL=f"sqlite:///{tmp_path}/empty.sqlite3", **PRODUCTION)
    assert ran.status == 1
    assert "it is not for ENVIRONMENT=production" in ran.err


def test_help_states_the_exit_statuses(tmp_path):
    ran = run_process("flag_keys", "--help", DATABASE_URL=f"sqlite:///{tmp_path}/empty.sqlite3")
    assert ran.status == 0
    assert "exit status:\n  0  no key is flagged\n  1  failed\n  2  wrong usage\n  3  at least one key" in ran.out
