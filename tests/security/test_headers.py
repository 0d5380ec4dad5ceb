"""What each answer asks of a browser and of caches, in production's settings, at every address."""

import json
import os
import re
import subprocess
import sys

import pytest
from django.test import Client
from django.urls import reverse

from apikeys.http import BrowserHeadersMiddleware
from tests.factories import make_key
from tests.test_access import OF_AN_ORGANIZATION, POST_ONLY, Things
from tests.test_architecture import OURS, ROOT, patterns
from tests.test_settings import PRODUCTION, environment_with

pytestmark = [pytest.mark.django_db, pytest.mark.any_engine]

# Sent to everybody, and the same for everybody: caches may keep them.
FILES = {"stylesheet", "script"}
POLICY = {
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "font-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types default keyadmin-reader",
}


@pytest.fixture
def https(settings):
    """Production's settings, as far as they can change in a process; and a client that comes by HTTPS."""
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_HSTS_SECONDS = 31536000
    settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = settings.SECURE_HSTS_PRELOAD = True
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = True
    settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME = "__Host-sessionid", "__Host-csrftoken"
    return {"secure": True}


def check(name, response):
    told = response.headers
    assert told["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains; preload", name
    assert told["X-Content-Type-Options"] == "nosniff", name
    # An address that is a secret itself goes nowhere, not even to us.
    assert told["Referrer-Policy"] == ("strict-origin" if name == "invitation_take" else "same-origin"), name
    assert told["Cross-Origin-Opener-Policy"] == "same-origin", name
    assert told["Cross-Origin-Resource-Policy"] == "same-origin", name
    assert "camera=()" in told["Permissions-Policy"], name
    assert set(told["Content-Security-Policy"].split("; ")) == POLICY, name
    assert "no-store" in told["Cache-Control"] or name in FILES, name
    assert not {"Server", "X-Powered-By", "Access-Control-Allow-Origin"} & set(told), name


def test_every_page_of_an_organization(organization, admin, client_of, https):
    things, client = Things(organization), client_of(admin)
    for name in OF_AN_ORGANIZATION:
        for method in ("get", "post"):
            if method == "post" or name not in POST_ONLY:
                response = getattr(client, method)(things.url(name), **https)
                check(name, response)
                assert response.headers["X-Frame-Options"] == "DENY", name


def test_every_other_page(organization, viewer, client_of, https):
    things = Things(organization)
    ids = {"handle": "x", "token": things.token, "uidb36": "1", "key": "1-x", "pk": 1}
    for client in (Client(), client_of(viewer)):
        for route, pattern in patterns():
            if not route.startswith("<slug:organization>"):
                asked = [*re.findall(r"<\w+:(\w+)>", route), *pattern.pattern.regex.groupindex]
                wanted = {name: ids[name] for name in asked}
                check(pattern.name, client.get(reverse(pattern.name, kwargs=wanted), **https))


@pytest.mark.parametrize("path", ["/nothing", "/acme/nothing/", "/acme/", "/acme/keys/%00", "/?next=%00"])
def test_errors_and_redirects(organization, path, https):
    check(path, Client(raise_request_exception=False).get(path, **https))


def test_a_request_without_tls_is_led_to_it_and_told_nothing_else(organization, admin, client_of, https):
    response = client_of(admin).get("/acme/keys/?q=x", headers={"Host": "localhost"})
    assert (response.status_code, response["Location"]) == (301, "https://localhost/acme/keys/?q=x")
    assert response["Cache-Control"] == "no-store"
    assert response.content == b""


def test_a_key_that_is_shown_once_is_stored_nowhere(organization, admin, client_of, https):
    response = client_of(admin).post(
        reverse("key_create", args=["acme"]),
        Things(organization).form("key_create"),
        **https,
    )
    assert "secret" in response.context
    check("key_create", response)


def test_the_verifier_and_what_machines_read(organization, verifier):
    issued = make_key(organization)
    answers = [verifier.verify(organization, issued.secret.text), verifier.authorize(organization, issued.secret.text)]
    answers += [verifier.authorize(organization, "wrong"), verifier.call("GET", "/v1/nothing")]
    answers += [verifier.call("GET", path) for path in ("/healthz", "/readyz", "/metrics")]
    for answer in answers:
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        for name in ("access-control-allow-origin", "server", "set-cookie"):
            assert answer.headers[name] is None


# Cookies


def test_the_cookies_of_a_sign_in_are_for_this_host_alone(organization, admin, https):
    admin.set_password("correct horse battery staple")
    admin.save()
    client = Client()
    client.get("/accounts/login/", **https)
    form = {"login": admin.email, "password": "correct horse battery staple"}
    client.post("/accounts/login/", form, **https)
    cookies = {name: cookie for name, cookie in client.cookies.items() if not name.startswith("messages")}
    assert set(cookies) == {"__Host-sessionid", "__Host-csrftoken"}
    for cookie in cookies.values():
        assert (cookie["secure"], cookie["path"], cookie["domain"]) == (True, "/", "")
        assert cookie["samesite"] == "Lax"
    assert cookies["__Host-sessionid"]["httponly"] is True


def test_production_itself_says_so(tmp_path):
    """The settings above are production's: asked of the server's own process."""
    told = subprocess.run(
        [sys.executable, "-c", ASK],
        check=True,
        cwd=ROOT,
        env=environment_with(tmp_path, PRODUCTION) | {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    found = json.loads(told.stdout)
    assert found["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains; preload"
    assert set(found["Content-Security-Policy"].split("; ")) == POLICY
    assert found["Permissions-Policy"].startswith("accelerometer=()")
    assert found["X-Frame-Options"] == "DENY"
    assert found["cookies"] == ["__Host-sessionid", True, True, "/", None, "__Host-csrftoken", True, "/", None]


ASK = """
import json, os
os.environ["DJANGO_SETTINGS_MODULE"] = "keyadmin.settings"
import django
django.setup()
from django.conf import settings
from django.test import Client
answer = Client().get("/assets/script.js", secure=True, headers={"Host": "keys.example.com"})
names = "SESSION_COOKIE_NAME SESSION_COOKIE_SECURE SESSION_COOKIE_HTTPONLY SESSION_COOKIE_PATH SESSION_COOKIE_DOMAIN"
names += " CSRF_COOKIE_NAME CSRF_COOKIE_SECURE CSRF_COOKIE_PATH CSRF_COOKIE_DOMAIN"
print(json.dumps(dict(answer.headers) | {"cookies": [getattr(settings, name) for name in names.split()]}))
"""


def test_the_headers_are_on_what_comes_before_the_pages_too(settings):
    assert settings.MIDDLEWARE[0] == f"apikeys.http.{BrowserHeadersMiddleware.__name__}"


def test_only_files_may_be_stored():
    assert {pattern.name for route, pattern in OURS if route.startswith("assets/")} == FILES
