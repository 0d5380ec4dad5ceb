"""What a person chooses for themselves: the time zone of their pages."""

import pytest
from django.test import Client

from tests.factories import make_event, make_key
from tests.pages import day, messages_of, snapshot

pytestmark = pytest.mark.django_db
PATH = "/settings"


@pytest.fixture
def person(viewer, client_of):
    return client_of(viewer)


def test_nobody_is_led_to_the_sign_in():
    assert Client().get(PATH)["Location"].startswith("/accounts/login/")


@pytest.mark.parametrize("typed", ["Europe/Berlin", " europe/berlin ", "EUROPE/BERLIN"])
def test_a_zone_is_kept_by_its_own_name(person, viewer, typed):
    response = person.post(PATH, {"time_zone": typed})
    assert (response.status_code, response["Location"]) == (302, PATH)
    assert messages_of(response) == ["Saved. Days and hours are in Europe/Berlin."]
    viewer.refresh_from_db()
    assert viewer.time_zone == "Europe/Berlin"
    assert "in Europe/Berlin" in person.get(PATH).text


@pytest.mark.parametrize(
    "typed", ["Mars/Olympus", "../etc/passwd", "/usr/share/zoneinfo/UTC", "UTC+2", "<script>", "\u202e", "🔑"]
)
def test_a_zone_that_does_not_exist_is_refused_by_name_and_changes_nothing(person, typed):
    before = snapshot()
    response = person.post(PATH, {"time_zone": typed})
    assert response.status_code == 422
    assert "There is no time zone" in response.text
    assert "One is Europe/Berlin." in response.text
    assert "<script>" not in response.text.replace('<script src="', "")
    assert snapshot() == before


def test_a_text_that_is_too_long_is_refused(person):
    response = person.post(PATH, {"time_zone": "x" * 65})
    assert response.status_code == 422
    assert "at most 64 characters" in response.text


def test_an_empty_one_is_what_the_browser_says(person, viewer):
    viewer.choose_time_zone("Asia/Tokyo")
    person.cookies["zone"] = "America/New_York"
    assert "in Asia/Tokyo" in person.get(PATH).text
    person.post(PATH, {"time_zone": ""})
    assert "in America/New_York, as the browser says" in person.get(PATH).text


@pytest.mark.parametrize("told", ["", "Mars/Olympus", "%2e%2e", "x" * 4000])
def test_a_browser_that_says_nothing_known_is_in_utc(person, told):
    person.cookies["zone"] = told
    assert "in UTC" in person.get(PATH).text


def test_the_times_of_a_page_are_told_in_the_zone_of_whoever_reads_it(
    organization, person, viewer, operator, client_of
):
    key = make_key(organization).key
    make_event(key, at=day(2026, 7, 1))
    viewer.choose_time_zone("Asia/Kolkata")
    assert "1 Jul 2026, 05:30:00 Asia/Kolkata" in person.get(key.get_absolute_url()).text
    text = client_of(operator).get(key.get_absolute_url()).text
    assert "1 Jul 2026, 00:00:00 UTC" in text
    assert "Kolkata" not in text


def test_an_expiry_is_told_by_the_day_that_was_chosen(organization, person, viewer):
    viewer.choose_time_zone("Pacific/Auckland")
    key = make_key(organization, expires_at=day(2027, 6, 23).replace(hour=23, minute=59)).key
    assert ">23 Jun 2027<" in person.get(key.get_absolute_url()).text
