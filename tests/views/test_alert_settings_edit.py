"""When the daily digest comes."""

import pytest

from apikeys.models import AlertSettings, AuditAction
from tests.pages import HTMX, entries, is_partial, is_whole_page, messages_of, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


@pytest.fixture
def edit(organization, client):
    return lambda headers=None, **form: client.post(
        url("alert_settings_edit", organization), {"digest_hour": "6", "digest_zone": "UTC"} | form, headers=headers
    )


def test_the_form_is_a_page_and_for_htmx_a_dialog_with_what_holds(organization, client):
    before = snapshot()
    response = client.get(url("alert_settings_edit", organization))
    assert is_whole_page(response)
    assert response.context["form"].initial == {"digest_hour": 8, "digest_zone": "UTC"}
    assert is_partial(client.get(url("alert_settings_edit", organization), headers=HTMX))
    assert snapshot() == before


def test_a_change_is_saved_and_recorded_and_the_same_again_is_not(organization, admin, edit):
    response = edit(digest_zone="europe/berlin")
    assert response["Location"] == "/acme/alerts/rules"
    assert messages_of(response) == ["The digest comes at 06:00, Europe/Berlin."]
    settings = AlertSettings.objects.of(organization)
    assert (settings.digest_hour, settings.digest_zone) == (6, "Europe/Berlin")
    [entry] = entries(organization, AuditAction.ALERT_SETTINGS_EDIT)
    assert (entry.actor, entry.changes["digest_hour"]) == (admin, [8, 6])
    before = snapshot()
    assert messages_of(edit(digest_zone="Europe/Berlin"))[-1] == "Nothing was changed."
    assert snapshot() == before


BAD = {
    "no hour": ({"digest_hour": ""}, "digest_hour"),
    "the 24th hour": ({"digest_hour": "24"}, "digest_hour"),
    "no zone": ({"digest_zone": ""}, "digest_zone"),
    "a zone of another world": ({"digest_zone": "Mars/Olympus"}, "digest_zone"),
    "a long zone": ({"digest_zone": "x" * 65}, "digest_zone"),
    "a path": ({"digest_zone": "../../etc/passwd"}, "digest_zone"),
}


@pytest.mark.parametrize(("form", "field"), BAD.values(), ids=BAD)
def test_bad_input_is_a_422_that_names_the_field(organization, edit, form, field):
    edit()
    before = snapshot()
    response = edit(**form)
    assert response.status_code == 422
    assert field in response.context["form"].errors
    assert snapshot() == before


def test_who_is_no_admin_may_not(organization, operator, client_of):
    form = {"digest_hour": "6", "digest_zone": "UTC"}
    assert client_of(operator).post(url("alert_settings_edit", organization), form).status_code == 403
