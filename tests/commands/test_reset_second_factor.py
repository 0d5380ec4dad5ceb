import pytest
from allauth.mfa.models import Authenticator
from django.core.cache import cache

from apikeys.models import AuditAction, Role, Session
from tests.commands.running import run
from tests.factories import PASSWORD, make_member, make_user
from tests.factors import add_passkey, give_password, set_up_app
from tests.pages import entries, snapshot
from tests.passkey import Passkey

pytestmark = pytest.mark.django_db


@pytest.fixture
def person(organization):
    cache.clear()
    return make_member(organization, Role.ADMIN, make_user("olga@example.com", password=PASSWORD))


def test_it_takes_every_factor_and_ends_the_sessions(person, organization, client_of, clock):
    client, other = client_of(person), client_of(make_member(organization, Role.ADMIN, make_user()))
    set_up_app(client, clock)
    add_passkey(client, Passkey())
    set_up_app(other, clock)
    ran = run("reset_second_factor", " Olga@Example.com ", "--json")
    assert ran.json == {
        "email": "olga@example.com",
        "removed": ["authenticator app", "recovery codes", "passkey Laptop"],
        "sessions_ended": 1,
    }
    assert not Authenticator.objects.filter(user=person.user).exists()
    assert Authenticator.objects.count() == 2
    assert not Session.objects.filter(user=person.user).exists()
    assert client.get("/acme/keys/").status_code == 302
    assert give_password()[1]["Location"] == "/"
    assert len(entries(organization, AuditAction.FACTOR_REMOVE)) == 3
    assert entries(organization, AuditAction.FACTOR_REMOVE)[0].actor_label == "command line"


def test_of_somebody_who_has_none_it_changes_nothing_and_says_so(person, client_of):
    client_of(person)
    before = snapshot()
    ran = run("reset_second_factor", "olga@example.com")
    assert (ran.status, ran.out.strip()) == (0, "olga@example.com has none.")
    assert snapshot() == before


@pytest.mark.parametrize("email", ["nobody@example.com", "", "<b>"])
def test_an_account_that_is_none_is_named(person, email):
    ran = run("reset_second_factor", email)
    assert ran.status == 1
    assert f"There is no account of {email}" in ran.err
