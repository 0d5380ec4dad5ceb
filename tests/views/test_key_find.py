"""Searching by POST: a pasted key never gets into an address."""

import pytest

from apikeys import key_secret
from tests.factories import make_alert, make_key, make_organization, make_revoked_key
from tests.pages import HTMX, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def find(organization, viewer, client_of):
    client = client_of(viewer)

    def post(q, *, headers=None, **fields):
        return client.post(url("key_find", organization), {"q": q, **fields}, headers=headers)

    return post


def test_a_text_leads_to_the_list_with_the_other_filters_kept(find):
    response = find("check out", status="active", environment=["prod", "dev"], sort="name", owner="")
    assert response.status_code == 303
    assert response["Location"] == "/acme/keys/?q=check+out&status=active&environment=prod&environment=dev&sort=name"


def test_nothing_but_filters_goes_on(find):
    response = find("", csrfmiddlewaretoken="x", after="x", other="y", lookup="found")
    assert response["Location"] == "/acme/keys/"


def test_a_pasted_key_leads_to_its_row_and_takes_no_secret_with_it(organization, find):
    key, secret = make_key(organization)
    for text in [secret.text, f"  {secret.text}\n"]:
        assert find(text)["Location"] == f"/acme/keys/?q={key.public_id}&lookup=found"


def test_the_code_of_an_alert_leads_to_it(organization, find):
    alert = make_alert(organization)
    for text in (alert.code, alert.code.lower().replace("-", "")):
        assert find(text)["Location"] == alert.get_absolute_url()
    assert find(alert.code, headers=HTMX)["HX-Redirect"] == alert.get_absolute_url()
    theirs = make_alert(make_organization())
    assert find(theirs.code)["Location"] == f"/acme/keys/?q={theirs.code}"


def test_a_dead_key_is_found_too(organization, find):
    key, secret = make_revoked_key(organization)
    assert find(secret.text)["Location"] == f"/acme/keys/?q={key.public_id}&lookup=found"


def test_a_real_id_with_a_wrong_secret_is_told_apart(organization, find):
    key, secret = make_key(organization)
    wrong = key_secret.KeySecret(secret.prefix, secret.code, secret.public_id, "0" * 43)
    assert find(wrong.text)["Location"] == f"/acme/keys/?q={key.public_id}&lookup=mismatch"


def test_another_organizations_key_a_mistyped_and_an_unknown_one_are_alike(organization, find):
    real = make_key(organization).secret.text
    texts = [
        make_key(make_organization()).secret.text,
        key_secret.make("ka", "prod").text,
        real[:-1] + ("A" if real[-1] != "A" else "B"),
        real + "x",
        real[:-5],
        f"key={real}",
        real.upper(),
    ]
    for text in texts:
        assert find(text)["Location"] == "/acme/keys/?lookup=unknown", text


def test_htmx_is_led_on_by_the_same_redirect(organization, find):
    assert find("check", headers=HTMX).status_code == 303
    response = find("check", headers=HTMX)
    assert response["Location"] == "/acme/keys/?q=check"


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ufffd", "x" * 5000, "<script>", "مفتاح"])
def test_any_text_is_led_to_the_list_which_judges_it(organization, viewer, client_of, find, text):
    response = find(text)
    assert response.status_code == 303
    assert len(response["Location"]) < 5000
    assert client_of(viewer).get(response["Location"]).status_code in {200, 400, 422}


def test_it_changes_nothing_and_is_not_for_get(organization, viewer, client_of, find):
    secret = make_key(organization).secret
    before = snapshot()
    find(secret.text)
    assert snapshot() == before
    assert client_of(viewer).get(url("key_find", organization)).status_code == 405
