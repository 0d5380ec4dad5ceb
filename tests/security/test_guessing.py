"""Guessing passwords: what an answer and its time tell, from one address or from many, one after another or at once."""

import pytest
from django.contrib.auth.hashers import Argon2PasswordHasher
from django.core.cache import cache
from django.test import Client

from apikeys.models import AuditAction, AuditEntry, Role
from tests.factories import PASSWORD, make_member, make_user
from tests.pages import age_proof, url
from tests.threads import run_together


@pytest.fixture(autouse=True)
def no_limit_from_before(request):
    request.getfixturevalue("committed" if "committed" in request.fixturenames else "db")
    cache.clear()


@pytest.fixture
def person(organization):
    return make_member(organization, Role.ADMIN, make_user("olga@example.com", password=PASSWORD)).user


@pytest.fixture
def hashed(monkeypatch):
    """Return what is hashed, or compared with a hash, from now on."""
    done = []
    for name in ("encode", "verify"):
        real = getattr(Argon2PasswordHasher, name)

        def counted(self, *arguments, real=real, **names):
            done.append(real.__name__)
            return real(self, *arguments, **names)

        monkeypatch.setattr(Argon2PasswordHasher, name, counted)
    return done


def sign_in(email="olga@example.com", password="not my password", address="203.0.113.9"):
    client = Client()
    form = {"login": email, "password": password}
    return client, client.post("/accounts/login/", form, headers={"X-Forwarded-For": address})


@pytest.mark.parametrize("who", ["known", "unknown", "closed", "without a password"])
def test_each_failed_sign_in_costs_one_argon2_whoever_it_was(organization, person, hashed, who):
    """So that its time does not tell whether there is such an account: counted, because a clock is never sure."""
    if who == "closed":
        person.is_active = False
        person.save()
    if who == "without a password":
        person.set_unusable_password()
        person.save()
    hashed.clear()
    sign_in("nobody@example.com" if who == "unknown" else "olga@example.com")
    assert len(hashed) == 1


def test_one_account_is_guarded_against_guesses_from_any_number_of_addresses(organization, person, hashed):
    answers = [sign_in(address=f"198.51.{number // 250}.{number % 250 + 1}")[1] for number in range(20)]
    assert ["Too many" in answer.text or answer.status_code == 429 for answer in answers] == [False] * 5 + [True] * 15
    # What is refused by the limit is not even compared.
    assert len(hashed) == 5
    client, _ = sign_in(password=PASSWORD, address="192.0.2.1")
    assert client.get("/acme/keys/").status_code == 302


def test_the_same_account_in_other_words_has_the_same_limit(organization, person):
    for email in ("olga@example.com", "OLGA@example.com", " olga@example.com", "Olga@Example.Com", "olga@EXAMPLE.com"):
        sign_in(email)
    _, answer = sign_in("oLGA@example.com", address="198.51.100.9")
    assert "Too many" in answer.text or answer.status_code == 429


def test_an_ipv6_network_is_one_address(organization):
    answers = [
        sign_in(f"person{number}@example.com", address=f"2001:db8:0:1::{number + 1:x}")[1] for number in range(12)
    ]
    assert "Too many" in answers[-1].text or answers[-1].status_code == 429


def test_guesses_at_once_in_several_sessions_are_limited_as_those_one_after_another(committed, client_of):
    person = committed.members.get().user
    person.set_password(PASSWORD)
    person.save()
    clients = [age_proof(client_of(person), 24 * 3600) for _ in range(16)]
    address = url("key_create", committed)

    def guess(client):
        return client.post(address, {"proof_password": "not my password"}).status_code

    answers = run_together(*(lambda client=client: guess(client) for client in clients))
    failed = AuditEntry.objects.filter(organization=committed, action=AuditAction.PROOF_FAILED).count()
    assert failed == answers.count(422) <= 10
    assert set(answers) <= {422, 429}
    cache.clear()
