from datetime import timedelta

import pytest
from django.utils import timezone

from apikeys.models import JobRun, RecordingState
from apikeys.models.job import CHECK, KEPT_RUNS, LATE_AFTER

pytestmark = pytest.mark.django_db


def make_run(job="roll_up_usage", ago=timedelta(), error="", **values):
    at = timezone.now() - ago
    return JobRun.objects.create(job=job, started_at=at, finished_at=at, error=error, **values)


def test_a_run_is_kept_with_what_it_did():
    with JobRun.objects.record("roll_up_usage") as run:
        assert JobRun.objects.latest_of("roll_up_usage").finished_at is None
        run.done = "Rolled up 3 hours."
    run = JobRun.objects.latest_of("roll_up_usage")
    assert (run.done, run.error) == ("Rolled up 3 hours.", "")
    assert run.finished_at >= run.started_at
    assert JobRun.objects.newest() == {"roll_up_usage": run}


def test_a_run_that_fails_says_why_without_secrets():
    with pytest.raises(ValueError, match="ka_prod"), JobRun.objects.record("flag_keys"):
        raise ValueError("ka_prod_4kT9wX2mQ7bN_" + "a" * 49)
    run = JobRun.objects.latest_of("flag_keys")
    assert run.error == "ka_prod_4kT9wX2mQ7bN_[redacted]"


@pytest.mark.parametrize(("status", "error"), [(0, ""), (3, ""), (1, "ended with status 1")])
def test_a_status_is_an_answer(status, error):
    with pytest.raises(SystemExit), JobRun.objects.record("flag_keys"):
        raise SystemExit(status)
    assert JobRun.objects.latest_of("flag_keys").error == error


def test_old_runs_are_forgotten():
    for number in range(KEPT_RUNS + 5):
        make_run(ago=timedelta(minutes=200 - number))
    make_run("flag_keys", ago=timedelta(days=3))
    with JobRun.objects.record("roll_up_usage"):
        pass
    assert JobRun.objects.filter(job="roll_up_usage").count() == KEPT_RUNS
    assert JobRun.objects.filter(job="flag_keys").count() == 1


def test_a_job_that_never_ran_or_failed_for_long_is_late():
    assert JobRun.objects.late() == list(LATE_AFTER)
    for job, limit in LATE_AFTER.items():
        make_run(job, ago=limit - timedelta(minutes=1))
    assert JobRun.objects.late() == []
    JobRun.objects.filter(job="prune_usage").update(finished_at=timezone.now() - LATE_AFTER["prune_usage"])
    make_run("prune_usage", error="The database failed")
    assert JobRun.objects.late() == ["prune_usage"]


def test_each_job_is_reported_with_when_it_began_and_succeeded_last():
    assert [(one.job, one.state) for one in JobRun.objects.report()] == [(job, "never") for job in LATE_AFTER]
    check = make_run(CHECK)
    failed = make_run("roll_up_usage", error="The database failed")
    late = make_run("flag_keys", ago=timedelta(days=2))
    JobRun.objects.create(job="prune_usage", started_at=timezone.now())
    found = {one.job: one for one in JobRun.objects.report()}
    assert {job: one.state for job, one in found.items()} == {
        CHECK: "works",
        "finish_rotations": "never",
        "evaluate_alerts": "never",
        "send_alerts": "never",
        "remind_reviews": "never",
        "verify_audit_log": "never",
        "checkpoint_audit_log": "never",
        "roll_up_usage": "failed",
        "flag_keys": "late",
        "prune_usage": "late",
    }
    assert (found[CHECK].started_at, found[CHECK].worked_at) == (check.started_at, check.finished_at)
    assert (found["roll_up_usage"].started_at, found["roll_up_usage"].worked_at) == (failed.started_at, None)
    assert found["flag_keys"].worked_at == late.finished_at


def test_recording_is_unknown_before_the_first_check_and_when_the_last_is_old():
    assert JobRun.objects.recording().state == RecordingState.UNKNOWN
    make_run(CHECK, ago=LATE_AFTER[CHECK] + timedelta(minutes=1), done="Recording works")
    recording = JobRun.objects.recording()
    assert recording.state == RecordingState.UNKNOWN
    assert recording.checked_at == recording.worked_at


def test_recording_works_or_has_stopped():
    works = make_run(CHECK, ago=timedelta(minutes=5), done="Recording works")
    recording = JobRun.objects.recording()
    assert (recording.state, recording.checked_at, recording.words) == ("works", works.finished_at, "Recording works")
    stopped = make_run(CHECK, error="The verifier does not answer")
    JobRun.objects.create(job=CHECK, started_at=timezone.now())
    recording = JobRun.objects.recording()
    assert recording.state == RecordingState.STOPPED
    assert (recording.checked_at, recording.worked_at) == (stopped.finished_at, works.finished_at)
    assert recording.words == "The verifier does not answer"
