"""Searching the inbox by POST."""

import pytest

from tests.factories import make_alert, make_key, make_organization
from tests.pages import HTMX, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def find(organization, viewer, client_of):
    client = client_of(viewer)
    return lambda q, headers=None, **fields: client.post(
        url("alert_find", organization), {"q": q, **fields}, headers=headers
    )


def test_a_text_leads_to_the_list_with_the_other_filters_kept(find):
    before = snapshot()
    response = find("check out", status="all", environment=["prod", "dev"], owner="", other="x")
    assert response.status_code == 303
    assert response["Location"] == "/acme/alerts/?q=check+out&status=all&environment=prod&environment=dev"
    assert snapshot() == before


def test_a_code_leads_to_its_alert_however_it_is_written(organization, find):
    alert = make_alert(organization)
    for text in (alert.code, alert.code.lower(), f"  {alert.code.replace('-', '')}\n"):
        assert find(text)["Location"] == alert.get_absolute_url()
    assert find(alert.code, HTMX)["HX-Redirect"] == alert.get_absolute_url()


def test_a_code_of_another_organization_or_of_none_is_a_text_like_any_other(find):
    theirs = make_alert(make_organization())
    for code in (theirs.code, "AL-0000000"):
        assert find(code)["Location"] == f"/acme/alerts/?q={code}"


def test_a_pasted_key_takes_no_secret_with_it(organization, find):
    key, secret = make_key(organization)
    assert find(secret.text)["Location"] == f"/acme/alerts/?q={key.public_id}&lookup=pasted"
    assert find(secret.text[:-1])["Location"] == "/acme/alerts/?lookup=unknown"
