"""What comes from outside makes no line of a log, no header of an answer, and no header of a mail."""

import io
import json
import logging

import pytest
from django.core import mail
from django.test import Client

from apikeys.logs import JSONFormatter, RedactingFormatter
from apikeys.models import Role
from tests.factories import make_key, make_member, make_rotation, make_user
from tests.pages import HTMX, key_form, snapshot, url
from tests.test_access import Things

pytestmark = pytest.mark.django_db

FORGED = "\r\n2026-11-28 10:00:00,000 CRITICAL django forged\x1b[31m\u2028forged"
PATHS = ["/acme/keys/x%0A2026-11-28 10:00:00,000 CRITICAL django forged", "/acme/%0d%0aforged/", "/%E2%80%A8forged/"]
BREAKS = [
    "\r\nSet-Cookie: forged=1",
    "\nforged: 1",
    "\rforged: 1",
    "%0d%0aforged: 1",
    "\x00",
    "\u2028forged: 1",
    "\x85",
]


@pytest.fixture
def lines():
    """Return a function that gives the lines that were logged since, in both formats."""
    handlers = []
    for formatter in (RedactingFormatter("{asctime} {levelname} {name} {message}", style="{"), JSONFormatter()):
        handler = logging.StreamHandler(io.StringIO())
        handler.setFormatter(formatter)
        logging.getLogger().addHandler(handler)
        handlers.append(handler)
    yield lambda: [handler.stream.getvalue().splitlines() for handler in handlers]
    for handler in handlers:
        logging.getLogger().removeHandler(handler)


def test_no_path_or_agent_makes_a_line_of_a_log(organization, viewer, lines):
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.force_login(viewer)
    # The one line that each refused form writes has the path in it.
    for path in PATHS:
        client.post(path, {"x": FORGED}, headers={"User-Agent": FORGED.replace("\r\n", " "), "X-Request-ID": FORGED})
    client.post("/settings", {"x": FORGED}, headers={"Referer": f"https://x/{FORGED}", "Origin": "https://forged"})
    plain, objects = lines()
    assert plain
    assert all(line[:4].isdecimal() for line in plain), plain
    assert not [line for line in plain if line.startswith(("2026-11-28 10:00:00,000", "forged"))]
    assert len(plain) == len(objects)
    for line in objects:
        assert isinstance(json.loads(line)["event"], str)


@pytest.mark.parametrize("formatter", [RedactingFormatter("{levelname} {message}", style="{"), JSONFormatter()])
def test_a_message_or_an_exception_with_line_breaks_makes_no_line_that_passes_for_another(formatter):
    log = logging.getLogger("x")
    record = log.makeRecord("x", logging.WARNING, "f.py", 1, "Told: %s", (FORGED,), None)
    assert len(formatter.format(record).splitlines()) == 1
    try:
        raise ValueError(FORGED)
    except ValueError as error:
        record = log.makeRecord("x", logging.ERROR, "f.py", 1, "Failed", (), (type(error), error, error.__traceback__))
    first, *more = formatter.format(record).splitlines()
    assert "Failed" in first
    assert all(line.startswith("  ") for line in more)


@pytest.mark.parametrize("text", BREAKS)
def test_no_text_makes_a_header_of_an_answer(organization, admin, client_of, text):
    things, client = Things(organization), client_of(admin)
    addresses = [
        "/accounts/login/",
        "/",
        "/acme/keys/",
        "/acme/audit/export.csv",
        things.url("prove"),
        "/acme/keys/export.csv",
    ]
    for address in addresses:
        for headers in (None, HTMX):
            response = client.get(
                address, {"next": f"/acme/{text}", "q": text, "key": text, "actor": text}, headers=headers
            )
            assert "forged" not in response.headers
            assert "forged" not in response.cookies
            for name, value in response.headers.items():
                assert not set("\r\n\0") & set(name + value)


@pytest.mark.parametrize("text", [text for text in BREAKS if "%" not in text])
def test_no_text_makes_a_header_of_a_mail(organization, admin, client_of, text):
    """The names that stand in subjects, and addresses, hold no line break; what is sent has one recipient."""
    client = client_of(admin)
    before = snapshot()
    tried = [
        (url("organization_edit", organization), {"name": f"Acme{text}", "key_prefix": "ka"}),
        (
            url("organization_edit", organization),
            {"name": "A", "key_prefix": "ka", "checkpoint_mail": f"a@example.com{text}"},
        ),
        (url("invitation_create", organization), {"email": f"a@example.com{text}, b@example.com", "role": "viewer"}),
        (url("key_create", organization), key_form(name=f"name{text}")),
        (url("key_create", organization), key_form(owner_contact=f"a@example.com{text}")),
    ]
    for address, form in tried:
        response = client.post(address, form)
        # Django cuts white space off the ends of a text; what is left of these is refused.
        assert response.status_code == 422 or not text.strip(), (address, form)
    if text.strip():
        assert snapshot() == before
    assert not mail.outbox


def test_a_mail_has_one_recipient_and_its_subject_is_one_line(organization, mailoutbox):
    owner = make_member(organization, Role.OPERATOR, make_user("owner@example.com"))
    key = make_key(organization, "Bcc: forged@example.com", owner=owner).key
    make_rotation(organization, key)
    Client().post("/accounts/password/reset/", {"email": "owner@example.com\r\nBcc: forged@example.com"})
    assert [message.recipients() for message in mailoutbox] in ([], [["owner@example.com"]])
