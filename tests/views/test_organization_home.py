"""An organization's bare address."""

import pytest
from django.test import Client

from tests.pages import url

pytestmark = pytest.mark.django_db


def test_it_leads_to_the_keys(organization, viewer, client_of):
    response = client_of(viewer).get(url("organization_home", organization))
    assert (response.status_code, response["Location"]) == (302, "/acme/keys/")


@pytest.mark.parametrize("path", ["/unknown/", "/elsewhere/", "/ACME/", "/v1/", "/static/", "/accounts/"])
def test_what_is_no_organization_of_the_person_is_not_there(organization, outsider, viewer, client_of, path):
    assert client_of(viewer).get(path).status_code == 404


def test_the_switcher_offers_every_organization_of_the_person_and_no_other(organization, viewer, outsider, client_of):
    response = client_of(viewer).get("/acme/keys/")
    assert [member.organization for member in response.context["memberships"]] == [organization]
    assert "Elsewhere" not in response.text


def test_nobody_is_led_to_the_sign_in_and_back(db):
    assert Client().get("/acme/")["Location"] == "/accounts/login/?next=/acme/"
