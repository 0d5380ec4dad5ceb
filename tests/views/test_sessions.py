"""The page of a person's own sessions."""

import re

import pytest
from django.test import Client

from apikeys.models import Role
from tests.factories import make_member, make_user
from tests.place_database import BERLIN, FRANCE, LISBON, SINGAPORE, UNKNOWN, record, write_places

pytestmark = pytest.mark.django_db
PATH = "/sessions"


@pytest.fixture
def person(organization):
    return make_member(organization, Role.VIEWER, make_user())


@pytest.fixture
def client(person, client_of):
    return client_of(person)


def test_nobody_is_led_to_the_sign_in():
    assert Client().get(PATH)["Location"].startswith("/accounts/login/")


def test_it_lists_this_one_first_and_nobody_elses(organization, person, client, client_of):
    client_of(person)
    client_of(make_member(organization, Role.ADMIN, make_user()))
    response = client.get(PATH)
    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]
    shown = response.context["sessions"]
    assert [one.user_id for one in shown] == [person.user.pk] * 2
    assert shown[0].session_key == client.session.session_key
    # A session's key is as good as a password.
    assert not [one for one in shown if one.session_key in response.text]


def test_one_alone_has_nothing_to_end(client):
    text = client.get(PATH).text
    assert "this one" in text
    assert "End all others" not in text


def test_what_a_browser_says_it_is_is_no_markup(client, person, client_of):
    other = client_of(person)
    session = other.session
    session["from"] = ("192.0.2.1", "<script>alert(1)</script>")
    session.save()
    assert "<script>alert" not in client.get(PATH).text


# Where from


@pytest.fixture
def places(tmp_path, settings):
    settings.GEOIP_DATABASE = str(tmp_path / "places.mmdb")
    return tmp_path / "places.mmdb"


def told_of(client, person, client_of, *addresses):
    """Return what the page says of sessions from some addresses, beside the one that looks."""
    for address in addresses:
        other = client_of(person)
        session = other.session
        session["from"] = (address, "curl/8.5.0")
        session.save()
    text = re.sub(r"</?bdi>", "", client.get(PATH).text)
    return [re.search(rf"{re.escape(address or 'unknown address')}([^<]*)</small>", text)[1] for address in addresses]


def test_each_is_told_with_its_place(places, client, person, client_of):
    write_places(places)
    assert told_of(
        client, person, client_of, BERLIN, FRANCE, SINGAPORE, LISBON, UNKNOWN, "127.0.0.1", "fd00::1", None
    ) == [
        " · Berlin, Germany",
        " · France",
        " · Singapore",
        " · Lisbon, Portugal",
        "",
        " · this machine",
        " · private network",
        "",
    ]


def test_a_place_is_shown_to_the_person_alone(organization, places, person, client_of):
    write_places(places)
    somebody = client_of(make_member(organization, Role.ADMIN, make_user()))
    assert told_of(client_of(person), person, client_of, BERLIN) == [" · Berlin, Germany"]
    assert "Berlin" not in somebody.get(PATH).text


def test_without_a_database_only_what_is_near_has_a_place(settings, client, person, client_of):
    settings.GEOIP_DATABASE = ""
    found = told_of(client, person, client_of, BERLIN, "192.168.1.7", "::1")
    assert found == ["", " · private network", " · this machine"]
    assert "Places are estimates" not in client.get(PATH).text


@pytest.mark.parametrize("content", [None, b"", b"no database"], ids=["missing", "empty", "damaged"])
def test_the_page_is_shown_whatever_the_file_is(places, client, person, client_of, content):
    if content is not None:
        places.write_bytes(content)
    assert told_of(client, person, client_of, BERLIN, "10.0.0.1") == ["", " · private network"]


def test_what_a_database_says_is_no_markup(places, client, person, client_of):
    write_places(places, {"203.0.113.0/24": record("</small><script>alert(1)</script>", "\u202eBer\nlin" * 20)})
    told_of(client, person, client_of)
    [told] = told_of(client, person, client_of, BERLIN)
    assert told.endswith("…, &lt;/small&gt;&lt;script&gt;alert(1)&lt;/script&gt;")
    assert "\u202e" not in told
    assert "\n" not in told
    assert "<script>alert" not in client.get(PATH).text


def test_whose_data_it_is_is_told_where_the_licence_asks_for_it(places, client):
    write_places(places, kind="DBIP-City-Lite")
    assert '<a href="https://db-ip.com"' in client.get(PATH).text
    write_places(places, kind="GeoIP2-City")
    assert "Places are estimates" not in client.get(PATH).text
