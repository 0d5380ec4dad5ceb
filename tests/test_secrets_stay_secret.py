"""A full key is shown once. Keys are issued, used, mistyped and pasted everywhere, then everything is searched."""

import base64
import copy
import inspect
import io
import json
import logging
import uuid
from datetime import timedelta

import pytest
from django.contrib.messages.storage.cookie import CookieStorage
from django.core.management import call_command
from django.db import connection
from django.test import Client

from apikeys import key_secret
from apikeys.logs import RedactingFormatter
from apikeys.models import AuditAction, Session, UsageEvent
from tests.commands.running import run
from tests.factories import make_key, make_rotation
from tests.pages import HTMX, edit_form, entries, key_form, rotate_form, url

pytestmark = pytest.mark.django_db
PIECE = 16  # so many characters in a row of a secret are as bad as all


class Watch:
    """Keeps everything that came out: what the server answered, what it logged."""

    def __init__(self):
        self.responses = []
        self.lines = []

    def client(self, user=None, **options):
        watch = self

        class WatchedClient(Client):
            def request(self, **request):
                response = super().request(**request)
                watch.responses.append(response)
                return response

        client = WatchedClient(raise_request_exception=False, **options)
        if user:
            client.force_login(user)
        return client


class Lines(logging.Handler):
    def __init__(self, lines):
        super().__init__(logging.DEBUG)
        self.lines = lines
        self.setFormatter(RedactingFormatter("{asctime} {levelname} {name} {message}", style="{"))

    def emit(self, record):
        self.lines.append(self.format(record))


@pytest.fixture
def watch():
    """Everything that is answered and logged, SQL with its parameters included."""
    watch = Watch()
    root, handler = logging.getLogger(), Lines(watch.lines)
    level, root.level = root.level, logging.DEBUG
    root.addHandler(handler)
    connection.force_debug_cursor = True
    yield watch
    connection.force_debug_cursor = False
    root.removeHandler(handler)
    root.level = level


def pieces(secret):
    """Return the windows of a secret that, together, no longer piece of it can avoid."""
    text = secret.secret
    return [text[start : start + PIECE] for start in range(len(text) - PIECE + 1)]


def holds(text, secret):
    return any(piece in text for piece in pieces(secret))


# Where to search


def database_texts():
    """Yield every value of every row of every table, also what is encoded in it."""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            for row in cursor.fetchall():
                for value in row:
                    yield from ((table, text) for text in _texts(value))
    for session in Session.objects.all():
        yield "sessions", repr(session.get_decoded())


def _texts(value):
    if isinstance(value, memoryview | bytes):
        value = bytes(value).decode("latin-1")
    yield str(value)
    if isinstance(value, str):
        try:
            yield base64.b64decode(value, validate=True).decode("latin-1")
        except ValueError:
            return


def response_texts(response):
    """Yield the head and the body of an answer, and the messages that its cookie carries."""
    head = "\n".join(f"{name}: {value}" for name, value in response.items())
    yield head + response.cookies.output()
    body = b"".join(response.streaming_content) if response.streaming else response.content
    yield body.decode()
    if "messages" in response.cookies:
        storage = CookieStorage(response.wsgi_request)
        yield str([str(message) for message in storage._decode(response.cookies["messages"].value) or []])


def mail_texts(mailoutbox):
    return [str(mail.message()) for mail in mailoutbox]


def search(watch, mailoutbox, secrets, shown=(), least=100):
    """Fail where a key is found, anywhere but in the answers that show it."""
    found = []
    texts = [("a log", line) for line in watch.lines]
    texts += [("a mail", text) for text in mail_texts(mailoutbox)]
    texts += [
        (f"the answer to {response.request['PATH_INFO']}", text)
        for response in watch.responses
        if response not in shown
        for text in response_texts(response)
    ]
    texts += database_texts()
    assert len(texts) > least
    for place, text in texts:
        found += [f"{place}: {_around(text, secret)}" for secret in secrets if holds(text, secret)]
    assert not found, "\n".join(found[:10])


def _around(text, secret):
    place = min(text.find(piece) for piece in pieces(secret) if piece in text)
    return f"…{text[max(0, place - 100) : place + 60]}…"


def mistyped(secret):
    """Return a key as people mistype it: each is unknown to the parser, and each holds most of the secret."""
    text = secret.text
    return [
        text[:-1],
        text + "x",
        text[:-1] + ("A" if text[-1] != "A" else "B"),
        text[:40] + "!" + text[41:],
        f"{text}_{text}",
        f" {text} {text}",
        text.swapcase(),
    ]


# How keys come into being


def issue_by_form(organization, client):
    response = client.post(url("key_create", organization), key_form())
    return key_secret.parse(response.context["secret"]), response


def regenerate(organization, client):
    key = make_key(organization).key
    response = client.post(url("key_regenerate", organization, key.public_id), {"token": str(uuid.uuid4())})
    return key_secret.parse(response.context["secret"]), response


def rotate(organization, client):
    key = make_key(organization).key
    response = client.post(url("key_rotate", organization, key.public_id), rotate_form())
    return key_secret.parse(response.context["secret"]), response


def rotate_several(organization, client):
    form = rotate_form(key=[make_key(organization).key.public_id])
    response = client.post(url("key_bulk_rotate", organization), form)
    return response.context["started"][0].issued.secret, response


def take_by_link(organization, client):
    response = client.post(f"/handover/{make_rotation(organization, link_lasts=timedelta(days=1)).token}")
    return key_secret.parse(response.context["secret"]), response


WAYS = [issue_by_form, regenerate, rotate, rotate_several, take_by_link]


def issue_by_command(organization):
    out, err = io.StringIO(), io.StringIO()
    asked = f"--organization={organization.slug} --name=nightly --purpose=Orders --owner=team@example.com "
    asked += "--environment=prod --scope=orders:read --expires-in=90d --json"
    call_command("issue_key", *asked.split(), stdout=out, stderr=err)
    secret = key_secret.parse(json.loads(out.getvalue())["key"])
    assert out.getvalue().count(secret.text) == 1
    assert not holds(err.getvalue(), secret)
    return secret


def rotate_by_command(organization, operator):
    ran = run("rotate_key", make_key(organization).key.public_id, "--reason=regular", f"--by={operator.email}")
    secret = key_secret.parse(ran.out.strip())
    assert ran.out.count(secret.text) == 1
    assert not holds(ran.err, secret)
    return secret


@pytest.mark.parametrize("way", WAYS)
def test_the_one_showing_holds_the_key_and_no_cache_may_keep_it(organization, operator, watch, mailoutbox, way):
    client = watch.client(operator)
    secret, showing = way(organization, client)
    head, body, *_ = response_texts(showing)
    assert secret.text in body
    assert not holds(head, secret)
    assert "no-store" in showing["Cache-Control"]
    client.get(url("key_list", organization))
    client.get(url("key_detail", organization, secret.public_id))
    client.get(url("audit_list", organization))
    search(watch, mailoutbox, [secret], shown=[showing])


@pytest.mark.parametrize("way", WAYS)
def test_to_htmx_too_it_is_shown_once_and_never_stored(organization, operator, watch, mailoutbox, way):
    client = watch.client(operator, headers=HTMX)
    secret, showing = way(organization, client)
    assert secret.text in showing.text
    assert "no-store" in showing["Cache-Control"]
    search(watch, mailoutbox, [secret], shown=[showing])


def use_at_the_verifier(organization, verifier, secret):
    """Send a key in every way that the verifier takes, and in every way that it does not."""
    answers = []
    for text in [secret.text, *mistyped(secret)]:
        answers += [
            verifier.verify(organization, text),
            verifier.verify(organization, {"key": text, "scope": "orders:write"}),
            verifier.verify(organization, {"key": text, "scope": "never:was"}),
            verifier.verify("elsewhere", text),
            verifier.verify(organization, {"key": secret.text, "path": f"/v2/{text}?k={text}", "user_agent": text}),
            verifier.verify(organization, {"key": secret.text, "method": text}),
            verifier.verify(organization, {"key": text, "scope": text}),
            verifier.verify(organization, {text: "key"}),
            verifier.verify(organization, {"key": [text]}),
            verifier.verify(organization, f'{{"key": "{text}"'.encode()),
            verifier.verify(organization, {"key": text, "address": text}),
            verifier.authorize(organization, text),
            verifier.authorize(organization, text, scope="orders:write"),
            verifier.authorize(organization, text, scope=text),
            verifier.authorize(organization, X_Api_Key=text),
            verifier.authorize(organization, secret.text, User_Agent=text, X_Original_URI=f"/a/{text}?k={text}"),
            verifier.authorize(organization, secret.text, X_Forwarded_URI=f"/{text}", X_Original_Method=text),
            verifier.call("GET", f"/v1/acme/authorize/{text}"),
            verifier.call("GET", "/v1/acme/authorize", query=f"key={text}"),
            verifier.call("GET", "/v1/acme/authorize", query=f"{text}=1"),
            verifier.call("GET", f"/v1/{text}/authorize"),
            verifier.call("POST", f"/v1/{text}/verify", body=b"{}"),
        ]
    for answer in answers:
        assert not holds(answer.body.decode() + str(answer.headers), secret), answer.body
    assert {answer.status for answer in answers} >= {200, 401, 403, 400, 404}


def paste_into_the_dashboard(organization, client, secret):
    """Put a key where a person might: into searches, addresses and forms that are not for it."""
    for text in [secret.text, *mistyped(secret)]:
        for headers in (None, HTMX):
            client.get(url("key_list", organization, q=text), headers=headers)
            client.post(url("key_find", organization), {"q": text, "status": "active"}, headers=headers, follow=True)
            client.get(url("audit_list", organization, key=text), headers=headers)
        list(client.get(url("key_export", organization, "csv", q=text)))
        list(client.get(url("audit_export", organization, "json", key=text)))
        client.get(f"/acme/keys/{text}")
        client.get(f"/healthz/{text}")
        client.post(f"/acme/keys/{text}/revoke", {"reason": "leaked"})
        client.get(url("audit_list", organization), headers={"User-Agent": text, "Referer": f"http://x/{text}"})
        list(client.get(url("audit_export", organization, "csv"), headers={"User-Agent": text}))
        client.post(url("key_bulk_revoke", organization), {"key": [text], "reason": "leaked"})
        client.get(url("key_bulk_rotate", organization, q=text, key=text))
        client.post(url("key_bulk_rotate", organization), rotate_form(key=[text], confirmation=text, token=text))
        client.get(f"/acme/keys/{text}/rotate")
        client.get(url("rotation_list", organization, after=text, show=text))
        client.get(f"/handover/{text}")
        client.post(f"/handover/{text}", {"token": text})


def test_a_key_that_is_used_mistyped_and_pasted_is_nowhere(organization, admin, verifier, watch, mailoutbox):
    client = watch.client(admin)
    first, showing = issue_by_form(organization, client)
    second, second_showing = regenerate(organization, client)
    third, fourth = issue_by_command(organization), rotate_by_command(organization, admin)
    for secret in (first, second, third, fourth):
        use_at_the_verifier(organization, verifier, secret)
        paste_into_the_dashboard(organization, client, secret)
    assert UsageEvent.objects.count() > 50
    search(watch, mailoutbox, [first, second, third, fourth], shown=[showing, second_showing])
    everything = [text for _, text in database_texts()]
    assert any(first.public_id in text for text in everything), "the search does not see the database"


def test_a_key_as_a_password_or_an_address_is_nowhere(organization, admin, watch, mailoutbox):
    secret = make_key(organization).secret
    nobody = watch.client()
    for text in [secret.text, *mistyped(secret)]:
        nobody.post("/accounts/login/", {"login": admin.email, "password": text})
        nobody.post("/accounts/password/reset/", {"email": admin.email, "password": text})
        nobody.get("/acme/keys/", headers={"User-Agent": text})
    search(watch, mailoutbox, [secret])


FIELDS = {
    "a key's name": (lambda key: url("key_create", key.organization), lambda key, text: key_form(name=text)),
    "a key's purpose": (lambda key: url("key_create", key.organization), lambda key, text: key_form(purpose=text)),
    "another name": (lambda key: f"{key.get_absolute_url()}/edit", lambda key, text: edit_form(key, name=text)),
    "another purpose": (
        lambda key: f"{key.get_absolute_url()}/edit",
        lambda key, text: edit_form(key, purpose=f"It is {text}."),
    ),
    "the note of its end": (
        lambda key: f"{key.get_absolute_url()}/revoke",
        lambda key, text: {"reason": "leaked", "note": f"{text} was found"},
    ),
    "the note of several ends": (
        lambda key: url("key_bulk_revoke", key.organization),
        lambda key, text: {"reason": "leaked", "note": text, "key": [key.public_id]},
    ),
    "the note of a rotation": (
        lambda key: f"{key.get_absolute_url()}/rotate",
        lambda key, text: rotate_form(note=f"{text} was found"),
    ),
    "the note of several rotations": (
        lambda key: url("key_bulk_rotate", key.organization),
        lambda key, text: rotate_form(note=text, key=[key.public_id]),
    ),
    "a scope's description": (
        lambda key: url("scope_create", key.organization),
        lambda key, text: {"name": "new:read", "description": text},
    ),
    "a person's name": (
        lambda key: url("invitation_create", key.organization),
        lambda key, text: {"email": "new@example.com", "name": text, "role": "viewer"},
    ),
    "the organization's name": (
        lambda key: url("organization_edit", key.organization),
        lambda key, text: {"name": text, "key_prefix": "ka"},
    ),
}


@pytest.mark.parametrize(("address", "form"), FIELDS.values(), ids=FIELDS)
def test_no_field_keeps_a_whole_key(organization, admin, watch, mailoutbox, address, form):
    key, secret = make_key(organization)
    response = watch.client(admin).post(address(key), form(key, secret.text))
    assert response.status_code == 422
    watch.responses.clear()  # the person sees again what the person has typed
    watch.client(admin).get(key.get_absolute_url())
    search(watch, mailoutbox, [secret])


def failing(part):
    """Return a wrapper under which a statement fails as by a fault of ours."""

    def fail(execute, sql, params, many, context):
        if part in sql:
            raise RuntimeError(f"nobody has thought of this: {sql}")
        return execute(sql, params, many, context)

    return fail


@pytest.mark.parametrize("accept", ["text/html", "text/plain"])
@pytest.mark.parametrize("debug", [False, True])
def test_an_error_page_does_not_show_the_key_that_was_sent(
    organization, operator, settings, watch, mailoutbox, debug, accept
):
    settings.DEBUG = debug
    secret = make_key(organization).secret
    client = watch.client(operator, headers={"Accept": accept})
    texts = [secret.text, *mistyped(secret)[:4]]
    for text in texts:
        with connection.execute_wrapper(failing('FROM "apikeys_apikey"')):
            for response in (
                client.post(url("key_find", organization), {"q": text, "other": f"x{text}"}),
                client.get(url("audit_list", organization), headers={"X-Api-Key": text, "Cookie": f"k={text}"}),
                client.post(url("key_bulk_revoke", organization), {"key": [text], "note": text}),
            ):
                assert response.status_code in {200, 302, 303, 500}
    assert 500 in {response.status_code for response in watch.responses}
    search(watch, mailoutbox, [secret])


made = []
# Where a view has made a key and shows it: the function and its local variable.
SHOWING = {"show_once": "issued", "rotation_take": "issued", "_show_all_started": "started"}


def break_rendering(request):
    """Fail as a context processor can, while the page that shows a key is rendered; keep what it would have shown."""
    for frame in inspect.stack():
        if frame.function in SHOWING:
            found = frame.frame.f_locals[SHOWING[frame.function]]
            made.append((found[0].issued if isinstance(found, list) else found).secret)
            raise RuntimeError("nobody has thought of this")
    return {}


@pytest.mark.parametrize("accept", ["text/html", "text/plain"])
@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("way", ["key_create", "key_regenerate", "key_rotate", "key_bulk_rotate", "rotation_take"])
def test_an_error_while_a_key_is_shown_does_not_show_it(
    organization, operator, settings, watch, mailoutbox, debug, way, accept
):
    settings.DEBUG = debug
    settings.TEMPLATES = copy.deepcopy(settings.TEMPLATES)
    settings.TEMPLATES[0]["OPTIONS"]["context_processors"].append(f"{__name__}.break_rendering")
    old = make_key(organization)
    client = watch.client(operator, headers={"Accept": accept})
    if way == "rotation_take":
        address = f"/handover/{make_rotation(organization, old.key, link_lasts=timedelta(days=1)).token}"
    else:
        address = url(way, organization, *([old.key.public_id] if way in {"key_regenerate", "key_rotate"} else []))
    form = key_form() if way == "key_create" else rotate_form(key=[old.key.public_id])
    made.clear()
    response = client.post(address, form)
    assert response.status_code == 500
    assert organization.keys.filter(public_id=made[0].public_id).exists()
    client.get(url("key_detail", organization, made[0].public_id))
    client.get(url("audit_list", organization))
    if debug:
        assert "break_rendering" in response.text
    search(watch, mailoutbox, [made[0], old.secret], least=30)


def test_the_showing_itself_is_an_entry_that_names_the_fingerprint_alone(organization, operator, watch, mailoutbox):
    secret, showing = issue_by_form(organization, watch.client(operator))
    [entry] = entries(organization, AuditAction.KEY_SHOW)
    assert entry.key_fingerprint == key_secret.fingerprint(secret.prefix, secret.code, secret.public_id)
    search(watch, mailoutbox, [secret], shown=[showing])
