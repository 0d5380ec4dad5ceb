"""What is too large, too many, too deep or of no method that a page has is refused, and costs little."""

import base64

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from apikeys.models import ApiKey
from tests.pages import key_form, snapshot
from tests.test_access import OF_AN_ORGANIZATION, Things
from tests.test_architecture import OURS, patterns

pytestmark = pytest.mark.django_db
NEW = "/acme/keys/new"
ROUTES = {pattern.name: route for route, pattern in OURS}


@pytest.fixture
def client(operator, client_of):
    return client_of(operator)


def test_a_form_of_300_kb_is_refused_with_its_limit(client):
    before = snapshot()
    for large in ("x" * 300_000, "%00" * 100_000):
        response = client.post(NEW, key_form(purpose=large))
        assert response.status_code == 413
        assert "larger than 256 KB" in response.text
    assert snapshot() == before


def test_a_form_of_ten_thousand_fields_is_refused_with_its_limit(client):
    before = snapshot()
    response = client.post(NEW, key_form() | {f"f{number}": "" for number in range(10_000)})
    assert response.status_code == 400
    assert "more than 1,000 fields" in response.text
    response = client.get("/acme/keys/", {f"f{number}": "" for number in range(10_000)})
    assert response.status_code == 400
    assert snapshot() == before


@pytest.mark.parametrize("address", [NEW, "/accounts/login/", "/acme/keys/find"])
def test_a_file_is_refused_before_it_is_read_and_by_whoever_sends_it(client, address):
    before = snapshot()
    for who in (client, Client()):
        form = key_form(owner_contact=SimpleUploadedFile("x.txt", b"x" * 3_000_000))
        response = who.post(address, form)
        # Who is not signed in is led away before anything is read.
        assert response.status_code == 302 or "no page takes one" in response.text
        assert response.status_code == (302 if address.startswith("/acme/") and who is not client else 400)
    assert snapshot() == before


def test_a_form_in_parts_without_a_file_is_a_form(client):
    """As the tests' own client sends every form: it is the file that is refused, not how a form is written."""
    assert client.post(NEW, key_form()).status_code == 200
    assert ApiKey.objects.filter(name="checkout").exists()


@pytest.mark.parametrize("body", [b"[" * 10_000 + b"]" * 10_000, b'{"key":' * 2_000 + b"1" + b"}" * 2_000])
def test_json_that_is_nested_ten_thousand_deep_is_a_400(organization, verifier, body):
    answer = verifier.verify(organization, body)
    assert answer.status in {400, 413}
    assert len(answer.json()["errors"]) == 1


def test_a_cursor_that_is_nested_deeply_is_a_422(client):
    """It is JSON, too."""
    cursor = base64.urlsafe_b64encode(b"[" * 10_000).decode()
    for name in ("keys", "audit", "alerts", "rotations"):
        assert client.get(f"/acme/{name}/", {"after": cursor}).status_code == 422


@pytest.mark.parametrize("method", ["TRACE", "TRACK", "CONNECT", "PROPFIND", "FOO", "OPTIONS"])
def test_a_method_that_no_page_has_is_a_405(organization, admin, client_of, method):
    """Also of the pages of django-allauth; OPTIONS tells nothing but what there is."""
    things, client = Things(organization), client_of(admin)
    before = snapshot()
    addresses = [things.url(name) for name in OF_AN_ORGANIZATION]
    asked = [(client, address) for address in [*addresses, "/", "/settings", "/sessions"]]
    asked += [(Client(), address) for address in ("/accounts/login/", "/accounts/password/reset/", "/assets/script.js")]
    for who, address in asked:
        response = who.generic(method, address)
        assert response.status_code == 405 or (method == "OPTIONS" and address.startswith("/accounts/")), address
        assert things.key.name not in response.text
    assert snapshot() == before


@pytest.mark.parametrize("number", [0, 2**31, 2**63 - 1, 2**63, 10**40])
def test_a_number_that_no_row_has_is_a_404(organization, admin, client_of, number):
    things, client = Things(organization), client_of(admin)
    for name in OF_AN_ORGANIZATION:
        for argument in ("number", "pk"):
            if f"<int:{argument}>" in ROUTES[name]:
                response = client.get(things.url(name, **{argument: number}))
                assert response.status_code in {404, 405}, name


NO_NAMES = ["%00", "%ff%fe", "%ed%a0%80", "x" * 5000, "..%2f..%2fetc%2fpasswd", "%0d%0aSet-Cookie:a=b"]


@pytest.mark.parametrize("text", NO_NAMES)
def test_a_text_that_no_thing_is_called_is_a_404(organization, admin, client_of, text):
    client = client_of(admin)
    addresses = [f"/acme/keys/{text}", f"/acme/scopes/{text}/edit", f"/acme/settings/environments/{text}/edit"]
    addresses += [f"/{text}/", f"/acme/alerts/rules/{text}", f"/acme/keys/export.{text}", f"/handover/{text}"]
    for address in addresses:
        response = client.get(address)
        assert response.status_code in {400, 404, 410}, address
        assert "a=b" not in str(response.cookies)


def test_every_address_is_known_to_the_tests_above():
    assert {name for name in ROUTES if ROUTES[name].startswith("<slug:organization>/")} == set(OF_AN_ORGANIZATION)
    assert len(list(patterns())) > len(OURS) > 60
