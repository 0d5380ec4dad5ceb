"""The way in."""

import pytest
from django.test import Client

from tests.factories import make_member, make_organization, make_user
from tests.pages import snapshot

pytestmark = pytest.mark.django_db


def test_a_member_is_led_to_the_first_organization_that_they_joined(organization, viewer, client_of):
    make_member(make_organization("another"), user=viewer)
    client = client_of(viewer)
    before = snapshot()
    assert client.get("/")["Location"] == "/acme/"
    assert snapshot() == before


def test_a_person_without_an_organization_is_told_so(db, client_of):
    response = client_of(make_user("alone@example.com")).get("/")
    assert response.status_code == 200
    assert "alone@example.com" in response.text


def test_nobody_is_led_to_the_sign_in(db):
    assert Client().get("/")["Location"] == "/accounts/login/?next=/"


def test_it_is_not_for_post(viewer, client_of):
    assert client_of(viewer).post("/").status_code == 405
