import pytest
from allauth.mfa.models import Authenticator
from django.core.cache import cache

from apikeys.models import Role
from apikeys.sealing import unseal
from tests.commands.running import run
from tests.factories import PASSWORD, make_member, make_user
from tests.factors import CODE, CODES, STEP, add_passkey, code_of, give_password, set_up_app
from tests.passkey import Passkey

pytestmark = pytest.mark.django_db
NEW = b"another pepper, of thirty-two or more bytes"


@pytest.fixture
def person(organization):
    cache.clear()
    return make_member(organization, Role.ADMIN, make_user("olga@example.com", password=PASSWORD))


def test_afterwards_the_older_pepper_may_go(person, client_of, clock, settings):
    client = client_of(person)
    secret = set_up_app(client, clock)
    codes = client.get(CODES).context["unused_codes"]
    add_passkey(client, Passkey())
    settings.KEY_PEPPERS = settings.KEY_PEPPERS | {2: NEW}
    ran = run("reseal_secrets", "--json")
    assert ran.json == {"sealed": 2, "unreadable": 0}
    assert run("reseal_secrets").out.startswith("0 secrets")
    settings.KEY_PEPPERS = {2: NEW}
    clock.on(STEP)
    for code in (code_of(secret, clock), codes[0]):
        other, _ = give_password()
        assert other.post(CODE, {"code": code})["Location"] == "/"


def test_what_cannot_be_read_is_told_and_kept(person, client_of, clock, settings):
    set_up_app(client_of(person), clock)
    before = list(Authenticator.objects.values_list("data"))
    settings.KEY_PEPPERS = {2: NEW}
    ran = run("reseal_secrets")
    assert ran.status == 1
    assert "2 secrets cannot be read" in ran.err
    assert list(Authenticator.objects.values_list("data")) == before


def test_somebody_whose_secret_cannot_be_read_is_told_what_to_do(person, client_of, clock, settings):
    secret = set_up_app(client_of(person), clock)
    settings.KEY_PEPPERS = {2: NEW}
    other, _ = give_password()
    response = other.post(CODE, {"code": code_of(secret, clock)})
    assert response.status_code == 200
    assert "can no longer be checked" in response.text


def test_a_changed_secret_is_not_read(person, client_of, clock):
    set_up_app(client_of(person), clock)
    authenticator = Authenticator.objects.get(type="totp")
    sealed = authenticator.data["secret"]
    for changed in (sealed[:-5] + "AAAA=", sealed.replace("1:", "9:"), sealed.replace("1:", ""), "", ":", "x:y"):
        with pytest.raises(Exception, match=r"pepper|changed"):
            unseal(changed)
