"""Nothing leads a person away: no next=, no host that was asked for, no header that a client makes up."""

import re

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils.http import urlencode

from apikeys.models import Role
from tests.factories import PASSWORD, make_member, make_user
from tests.pages import rotate_form
from tests.test_access import OF_AN_ORGANIZATION, Things

pytestmark = [pytest.mark.django_db, pytest.mark.any_engine]

ELSEWHERE = [
    "https://evil.example",
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "\\/evil.example",
    "https:evil.example",
    "http:\\\\evil.example",
    "/\t/evil.example",
    "\t//evil.example",
    "https://localhost@evil.example",
    "https://localhost:8000@evil.example",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)//evil.example",
    "data:text/html,evil.example",
    "/acme/\r\nLocation: https://evil.example",
]
HERE = re.compile(r"/(?![/\\])[^\x00-\x1f\\]*")


@pytest.fixture(autouse=True)
def no_limit_from_before(db):
    cache.clear()


@pytest.fixture
def person(organization):
    return make_member(organization, Role.ADMIN, make_user("olga@example.com", password=PASSWORD)).user


@pytest.fixture
def client(person, client_of):
    return client_of(person)


def is_here(response):
    """Say whether an answer leads to a page of ours, or nowhere."""
    location = response.get("Location", "") or response.get("HX-Redirect", "") or response.get("HX-Location", "")
    return not location or HERE.fullmatch(location)


@pytest.mark.parametrize("target", ELSEWHERE)
def test_no_page_leads_where_its_address_or_form_says(organization, client, target):
    things = Things(organization)
    asked = [
        ("/accounts/login/", {"login": "olga@example.com", "password": PASSWORD}, Client()),
        ("/accounts/reauthenticate/", {"password": PASSWORD}, client),
        ("/accounts/password/reset/", {"email": "olga@example.com"}, Client()),
        ("/settings", {"time_zone": "Europe/Berlin"}, client),
        (things.url("prove"), {"proof_password": PASSWORD}, client),
        (things.url("key_find"), {"q": "x"}, client),
        ("/accounts/logout/", {}, client),
    ]
    more = dict.fromkeys(("next", "redirect", "return_to", "url"), target)
    for address, form, who in asked:
        query = f"{address}?{urlencode(more)}"
        for response in (who.get(query), who.post(query, form), who.post(address, form | more)):
            assert is_here(response), (address, response["Location"])


# The host


HOSTS = ["evil.example", "localhost.evil.example", "localhost@evil.example", "localhost, evil.example", "évil", ""]


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_that_is_not_ours_is_a_400_everywhere_and_is_not_repeated(organization, client, host):
    things = Things(organization)
    for address in [
        *(things.url(name) for name in OF_AN_ORGANIZATION),
        "/accounts/login/",
        "/accounts/password/reset/",
    ]:
        response = client.get(address, headers={"Host": host})
        assert response.status_code == 400, address
        assert "evil.example" not in response.text


@pytest.mark.parametrize("forged", [{"X-Forwarded-Host": "evil.example"}, {"Forwarded": "host=evil.example"}])
def test_a_forwarded_host_counts_nowhere(organization, client, person, mailoutbox, settings, forged):
    """Not from a trusted proxy either: what is mailed, and shown with a key, begins with BASE_URL."""
    settings.BASE_URL = "https://keys.example.com"
    Client().post("/accounts/password/reset/", {"email": person.email}, headers=forged)
    things = Things(organization)
    client.post(things.url("key_rotate"), rotate_form(handover="link"), headers=forged)
    client.post(things.url("invitation_create"), {"email": "new@example.com", "role": "viewer"}, headers=forged)
    client.post(things.url("rotation_link"), {"link_lasts": "60"}, headers=forged)
    assert len(mailoutbox) == 4
    for mail in mailoutbox:
        assert "evil.example" not in mail.body
        for link in re.findall(r"https?://\S+", mail.body):
            assert link.startswith("https://keys.example.com/"), mail.body
    shown = client.post(things.url("key_create"), things.form("key_create"), headers=forged).text
    assert "evil.example" not in shown
    assert "https://keys.example.com/v1/acme/verify" in shown


def test_a_form_from_elsewhere_is_refused_whatever_host_it_names(person):
    client = Client(enforce_csrf_checks=True)
    client.force_login(person)
    page = client.get("/settings")
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)[1]
    form = {"time_zone": "Europe/Berlin", "csrfmiddlewaretoken": token}
    for origin in ("https://evil.example", "null", "https://localhost.evil.example", "http://localhost:8001"):
        response = client.post("/settings", form, headers={"Origin": origin})
        assert response.status_code == 403, origin
    person.refresh_from_db()
    assert person.time_zone == ""
    assert client.post("/settings", form, headers={"Origin": "http://testserver"}).status_code in {302, 403}
    assert client.post("/settings", form | {"csrfmiddlewaretoken": token[::-1]}).status_code == 403
    assert client.post("/settings", form).status_code == 302


def test_a_link_to_a_key_leads_to_the_sign_in_and_back_alone(organization):
    response = Client().get(reverse("rotation_take", args=[Things(organization).token]), {"next": "//evil.example"})
    assert is_here(response)
