import pytest

from apikeys.models import AuditAction, Role, Session
from tests.commands.running import run
from tests.factories import make_member, make_user
from tests.pages import entries, snapshot

pytestmark = pytest.mark.django_db


@pytest.fixture
def olga(organization):
    return make_member(organization, Role.ADMIN, make_user("olga@example.com"))


@pytest.fixture
def kim(organization):
    return make_member(organization, Role.VIEWER, make_user("kim@example.com"))


def status(client):
    return client.get("/acme/keys/").status_code


def test_it_signs_a_person_out_of_every_browser(organization, olga, kim, client_of):
    browsers, other = [client_of(olga), client_of(olga)], client_of(kim)
    assert [status(one) for one in (*browsers, other)] == [200, 200, 200]
    ran = run("end_sessions", " Olga@Example.com ")
    assert (ran.status, ran.out.strip()) == (0, "2 sessions ended.")
    assert [status(one) for one in (*browsers, other)] == [302, 302, 200]
    found = entries(organization, AuditAction.SESSION_END)
    assert [(one.actor_label, one.target_label) for one in found] == [("command line", "olga@example.com")] * 2
    assert "unknown address" in found[0].reason or "127.0.0.1" in found[0].reason
    assert status(client_of(olga)) == 200


def test_it_signs_everybody_out(organization, olga, kim, client_of):
    browsers = [client_of(olga), client_of(kim)]
    ran = run("end_sessions", "--everybody", "--json")
    assert (ran.status, ran.json) == (0, {"sessions_ended": 2})
    assert [status(one) for one in browsers] == [302, 302]
    assert not Session.objects.exists()
    assert len(entries(organization, AuditAction.SESSION_END)) == 2


def test_nobody_signed_in_is_no_fault(olga):
    assert run("end_sessions", "olga@example.com").out.strip() == "0 sessions ended."
    assert run("end_sessions", "--everybody").out.strip() == "0 sessions ended."


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["nobody@example.com"], 1, "There is no account of nobody@example.com"),
        (["<b>"], 1, "There is no account of <b>"),
        ([], 2, "one of the arguments email --everybody is required"),
        (["olga@example.com", "--everybody"], 2, "not allowed with argument"),
    ],
)
def test_what_it_cannot_do_it_says_and_ends_nothing(olga, client_of, words, status, told):
    client_of(olga)
    before = snapshot()
    ran = run("end_sessions", *words)
    assert (ran.status, told in ran.err) == (status, True), ran.err
    assert snapshot() == before
