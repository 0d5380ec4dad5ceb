"""Recording is checked as a service sees it, with a key that is written down nowhere."""

import re
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO
from urllib.parse import urlsplit
from wsgiref.headers import Headers

import pytest
from django.core.management import call_command
from django.urls import reverse

from apikeys import self_check
from apikeys.models import ApiKey, AuditEntry, JobRun, KeyActivity, Organization, Outcome, UsageEvent
from apikeys.models.organization import SYSTEM_SLUG
from apikeys.self_check import RecordingStoppedError, check, system_key
from tests.commands.running import run
from tests.factories import make_member
from tests.verifier import Answer

pytestmark = pytest.mark.django_db


@pytest.fixture
def wire(verifier, monkeypatch):
    """Carry requests to the application in this process instead of over the network; the last one is kept."""
    sent = []

    class Carried:
        def __init__(self, answer: Answer):
            self.status = answer.status
            self.read = lambda: answer.body

    class Opener:
        def open(self, request, timeout):
            sent.append((request.full_url, request.data))
            path = urlsplit(request.full_url).path
            answer = verifier.call(request.get_method(), path, body=request.data)
            return _context(Carried(answer))

    monkeypatch.setattr(self_check, "build_opener", lambda *_: Opener())
    return sent


@contextmanager
def _context(value):
    yield value


def test_a_request_is_accepted_and_its_event_found(wire):
    assert check() == timedelta()
    key = ApiKey.objects.get(organization__slug=SYSTEM_SLUG)
    event = UsageEvent.objects.of(key).get()
    assert (event.outcome, event.method) == (Outcome.VALID, "GET")
    assert event.path.startswith("/self-check/")
    assert check() == timedelta()
    assert UsageEvent.objects.of(key).count() == 2
    assert ApiKey.objects.filter(organization__slug=SYSTEM_SLUG).count() == 1


def test_the_key_is_nowhere_at_rest(wire, caplog):
    check()
    _, secret = system_key()
    assert secret.text.encode() in wire[0][1]
    assert secret.secret not in wire[0][0]
    out = StringIO()
    call_command("dumpdata", "apikeys", stdout=out)
    assert secret.public_id in out.getvalue()
    assert secret.secret not in out.getvalue()
    assert secret.secret not in caplog.text


def test_a_new_pepper_makes_a_new_key_and_ends_the_old(wire, settings):
    old, old_secret = system_key()
    settings.KEY_PEPPERS = {**settings.KEY_PEPPERS, 9: b"another pepper of thirty-two bytes or more"}
    new, new_secret = system_key()
    old.refresh_from_db()
    assert old.revoked_at
    assert new.pepper_number == 9
    assert new_secret.secret != old_secret.secret
    assert check() == timedelta()
    assert AuditEntry.objects.filter(organization=new.organization).count() == 4


def test_a_verifier_that_refuses_is_told(wire, settings):
    system_key()
    [(number, pepper)] = settings.KEY_PEPPERS.items()
    settings.KEY_PEPPERS = {number: pepper[::-1]}
    with pytest.raises(RecordingStoppedError, match="answered unknown to a key that is valid"):
        check()


def test_an_accepted_request_without_an_event_is_told(wire, monkeypatch):
    monkeypatch.setattr(self_check, "_present", lambda *_: "valid")
    with pytest.raises(RecordingStoppedError, match="accepted a request and recorded none"):
        check()


def test_a_last_use_that_does_not_move_is_told(wire, monkeypatch):
    present = self_check._present

    def without_activity(secret, path):
        outcome = present(secret, path)
        KeyActivity.objects.all().delete()
        return outcome

    monkeypatch.setattr(self_check, "_present", without_activity)
    with pytest.raises(RecordingStoppedError, match="did not move when the key was last used"):
        check()


def test_a_clock_that_is_wrong_is_told(wire, monkeypatch):
    present = self_check._present

    def skewed(secret, path):
        outcome = present(secret, path)
        event = UsageEvent.objects.get(path=path)
        UsageEvent.objects.filter(path=path).delete()
        event.at -= timedelta(minutes=7)
        event.save(force_insert=True)
        return outcome

    monkeypatch.setattr(self_check, "_present", skewed)
    ran = run("check_recording")
    assert ran.status == 0
    assert re.search(r"Its clock is 420 seconds behind this machine's\.", ran.out)


def test_a_verifier_that_is_not_there_is_told(settings):
    settings.BASE_URL = "http://127.0.0.1:9"
    ran = run("check_recording")
    assert ran.status == 1
    assert "The verifier at http://127.0.0.1:9 does not answer" in ran.err
    recording = JobRun.objects.recording()
    assert recording.state == "stopped"
    assert recording.words.startswith("The verifier at http://127.0.0.1:9 does not answer")


@pytest.mark.parametrize(
    ("content", "status", "outcome"),
    [
        (b'{"outcome": "valid"}', 200, "valid"),
        (b"<h1>Welcome to nginx</h1>", 200, "HTTP 200"),
        (b"[1]", 502, "HTTP 502"),
        (b'{"outcome": "<script>"}', 200, "HTTP 200"),
        (b"\xff", 301, "HTTP 301"),
    ],
)
def test_whatever_answers_is_told_in_a_word(content, status, outcome):
    assert self_check._outcome(content, status) == outcome


def test_nobody_sees_the_system_key(wire, admin, client_of, organization):
    key, _ = system_key()
    key.created_at = key.created_at - timedelta(days=200)
    client = client_of(admin)
    assert client.get(reverse("key_detail", args=[SYSTEM_SLUG, key.public_id])).status_code == 404
    assert client.get(reverse("key_list", args=[SYSTEM_SLUG])).status_code == 404
    assert key.public_id not in run("flag_keys", "--json", "--unused-days", "1").out
    ran = run("issue_key", "--organization", SYSTEM_SLUG, "--name", "n", "--purpose", "p", "--environment", "self")
    assert ran.status in {1, 2}
    assert Organization.objects.of_people().get(slug=organization.slug)
    assert not Organization.objects.of_people().filter(slug=SYSTEM_SLUG).exists()
    with pytest.raises(Exception, match="slug"):
        Organization.objects.found(name="x", slug=SYSTEM_SLUG, admin=admin, by=self_check.Actor.command())
    assert make_member(organization)


def test_redirects_are_not_followed():
    assert self_check._NoRedirect().redirect_request(None, None, 301, "", Headers(), "http://evil.example") is None
