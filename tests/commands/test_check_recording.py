"""check_recording through a real server."""

import pytest

from apikeys.models import JobRun, UsageEvent
from apikeys.models.organization import SYSTEM_SLUG
from tests.commands.running import run_process
from tests.serving import served


def test_it_asks_the_real_verifier_and_keeps_the_result(committed):
    with served(workers=1, threads=2) as server:
        url = f"http://127.0.0.1:{server.port}"
        ran = run_process("check_recording", "--json", BASE_URL=url)
        words = run_process("check_recording", BASE_URL=url)
    assert ran.status == 0, ran.err
    assert ran.json["works"] is True
    assert abs(ran.json["skew_seconds"]) < 5
    assert words.out == f"Recording works: {url} accepted and recorded a request.\n"
    recording = JobRun.objects.recording()
    assert (recording.state, recording.words) == ("works", words.out.strip())
    assert UsageEvent.objects.filter(path__startswith="/self-check/").exists()
    assert run_process("flag_keys", "--organization", SYSTEM_SLUG).status == 1


@pytest.mark.django_db
def test_wrong_usage_keeps_no_run():
    before = JobRun.objects.count()
    assert run_process("check_recording", "--nonsense").status == 2
    assert JobRun.objects.count() == before
