from datetime import timedelta

import pytest

from apikeys.models import ApiKey, AuditAction, Ending, JobRun, Outcome, Rotation, RotationReason
from apikeys.verification import Presented, verify
from tests.commands.running import run, run_process
from tests.factories import (
    make_actor,
    make_event,
    make_key,
    make_organization,
    make_overdue_rotation,
    make_rotation,
)
from tests.pages import entries, snapshot

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def stored(rotation):
    return Rotation.objects.for_pages().get(pk=rotation.pk)


def make_safe(organization, key=None, **terms):
    """Start a rotation whose old key nobody uses any longer."""
    key = key or make_key(organization).key
    make_event(key, ago=3 * DAY, address="192.0.2.1")
    started = make_rotation(organization, key, **{"finishes_when_safe": True} | terms)
    make_event(started.issued.key, address="192.0.2.1")
    return started.rotation


def test_with_nothing_to_do_it_says_so_and_changes_nothing(organization):
    make_rotation(organization)
    ran = run("finish_rotations")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == "0 ended at their deadline, 0 were safe; 1 run.\n"


def test_one_whose_deadline_has_passed_is_closed_as_of_its_deadline(organization):
    rotation = make_overdue_rotation(organization, make_key(organization, "checkout").key).rotation
    ended = rotation.old_key.expires_at
    ran = run("finish_rotations")
    assert ran.out == "1 ended at their deadline, 0 were safe; 0 run.\n"
    assert ran.err == f"acme: checkout ({rotation.old_key.fingerprint}) ended at its deadline.\n"
    found = stored(rotation)
    assert (found.ending, found.closed_by_label) == (Ending.DEADLINE, "scheduled job")
    assert (found.old_key.revoked_at, found.old_key.revoked_by_label) == (ended, "scheduled job")
    [entry] = entries(organization, AuditAction.ROTATION_FINISH)
    assert (entry.actor, entry.actor_label, entry.via) == (None, "scheduled job", "command")


def test_before_it_runs_the_old_key_is_refused_already(organization):
    key, secret = make_key(organization)
    make_overdue_rotation(organization, key)
    assert verify(Presented(secret.text, "acme")).outcome is Outcome.EXPIRED
    run("finish_rotations")
    assert verify(Presented(secret.text, "acme")).outcome is Outcome.REVOKED


def test_one_that_is_safe_and_was_to_finish_by_itself_is_finished(organization):
    rotation = make_safe(organization, make_key(organization, "checkout").key)
    ran = run("finish_rotations")
    assert ran.out == "0 ended at their deadline, 1 were safe; 0 run.\n"
    assert ran.err == f"acme: checkout ({rotation.old_key.fingerprint}) finished by itself, when it was safe.\n"
    assert (stored(rotation).ending, ApiKey.objects.get(pk=rotation.old_key_id).status) == (Ending.SAFE, "revoked")
    assert stored(rotation).new_key.is_usable


def test_one_that_is_safe_but_waits_for_its_deadline_goes_on(organization):
    rotation = make_safe(organization, finishes_when_safe=False)
    assert run("finish_rotations", "--json").json == {"deadline": 0, "safe": 0, "running": 1}
    assert stored(rotation).is_open


def in_use(organization):
    rotation = make_safe(organization)
    make_event(rotation.old_key)
    return rotation


def not_used_yet(organization):
    return make_rotation(organization, finishes_when_safe=True).rotation


def not_taken_yet(organization):
    return make_rotation(organization, finishes_when_safe=True, link_lasts=DAY).rotation


@pytest.mark.parametrize("make", [in_use, not_used_yet, not_taken_yet])
def test_one_that_is_not_safe_goes_on(organization, make):
    rotation = make(organization)
    assert run("finish_rotations", "--json").json == {"deadline": 0, "safe": 0, "running": 1}
    assert stored(rotation).is_open


def test_after_its_deadline_one_that_was_safe_ended_at_its_deadline(organization):
    rotation = make_safe(organization)
    ApiKey.objects.filter(pk=rotation.old_key_id).update(expires_at=stored(rotation).started_at)
    assert run("finish_rotations", "--json").json == {"deadline": 1, "safe": 0, "running": 0}
    assert stored(rotation).ending == Ending.DEADLINE


def test_the_link_of_one_that_ended_stays_good(organization):
    started = make_overdue_rotation(organization, link_lasts=DAY)
    run("finish_rotations")
    assert stored(started.rotation).link_is_good


def test_it_does_so_for_every_organization(organization):
    make_overdue_rotation(organization)
    make_overdue_rotation(make_organization("elsewhere"))
    ran = run("finish_rotations", "--json")
    assert ran.json == {"deadline": 2, "safe": 0, "running": 0}
    assert sorted(line.partition(":")[0] for line in ran.err.splitlines()) == ["acme", "elsewhere"]


def test_running_it_again_changes_nothing_more(organization):
    make_overdue_rotation(organization)
    make_safe(organization)
    run("finish_rotations")
    before = {name: rows for name, rows in snapshot().items() if name != "apikeys.JobRun"}
    assert run("finish_rotations", "--json").json == {"deadline": 0, "safe": 0, "running": 0}
    assert {name: rows for name, rows in snapshot().items() if name != "apikeys.JobRun"} == before


def test_those_that_are_closed_are_left_alone(organization):
    for end in ("finish", "cancel"):
        getattr(make_rotation(organization).rotation, end)(by=make_actor())
    make_rotation(organization, overlap=timedelta(), reason=RotationReason.COMPROMISE)
    assert run("finish_rotations", "--json").json == {"deadline": 0, "safe": 0, "running": 0}


def test_each_run_is_kept_for_the_overview(organization):
    make_overdue_rotation(organization)
    run("finish_rotations")
    job = JobRun.objects.get(job="finish_rotations")
    assert job.finished_at
    assert (job.error, job.done) == ("", "1 ended at their deadline, 0 were safe; 0 run.")


def test_wrong_usage_exits_with_2():
    ran = run("finish_rotations", "--soon")
    assert ran.status == 2
    assert "unrecognized arguments: --soon" in ran.err


def test_help_states_the_exit_statuses(capsys):
    assert run("finish_rotations", "--help").status == 0
    told = capsys.readouterr().out
    assert "exit status:\n  0  done, also when there was nothing to do\n  1  failed\n  2  wrong usage" in told


def test_a_lost_database_exits_with_1_and_a_line(tmp_path):
    ran = run_process("finish_rotations", DATABASE_URL=f"sqlite:///{tmp_path}/empty.sqlite3")
    assert ran.status == 1
    assert ran.err.startswith("CommandError: The database failed: no such table")
    assert "Traceback" not in ran.err
