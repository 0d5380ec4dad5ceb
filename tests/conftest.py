"""The cast and the clients of every test. Nothing here happens unless a test names it."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.core.cache import caches
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connection, connections
from django.test import Client
from django.test.utils import setup_databases, teardown_databases
from django.utils import timezone
from pytest_django import DjangoDbBlocker, Settings

from apikeys.models import AlertKind, AlertRule, Delivery, Member, Organization, Role, UsageWatermark, User
from apikeys.sending import end_switched_on
from keyadmin.wsgi import application
from tests.factories import make_apart, make_member, make_organization, make_user
from tests.factors import Clock
from tests.verifier import Verifier


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the tests of tests/guarantees be made as thorough as there is time."""
    group = parser.getgroup("guarantees")
    group.addoption(
        *("--guarantee-requests",),
        type=int,
        default=20_000,
        help="Requests while keys are changed (default: 20000).",
    )
    group.addoption(
        *("--guarantee-samples",),
        type=int,
        default=2_000,
        help="Timed requests of each kind of refusal (default: 2000).",
    )
    group.addoption("--guarantee-seed", default="", help="Repeat the random choices of a run that told its seed.")


def pytest_configure() -> None:
    """Make the folder of collected static files, which a new checkout has not: WhiteNoise warns without it.

    Nor let it list all of them for each new client, and hash with less work: both take longer than most requests.
    """
    Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)
    settings.WHITENOISE_AUTOREFRESH = True
    settings.PASSWORD_HASHERS = ["tests.hashing.QuickArgon2PasswordHasher"]


def pytest_collection_finish() -> None:
    """Let the garbage collector leave alone what is there for the whole run: it is searched some thousand times."""
    gc.freeze()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """SQLite's tests use a file: an in-memory database is not what runs, and threads cannot share it."""
    if connection.vendor == "sqlite":
        connection.settings_dict["TEST"]["NAME"] = str(tmp_path_factory.mktemp("database") / "test.sqlite3")


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None,
    django_db_blocker: DjangoDbBlocker,
    django_db_modify_db_settings: None,
) -> Iterator[None]:
    """Make the test database, for ``committed`` alone too: pytest-django's own does so only for marked tests."""
    with django_db_blocker.unblock():
        made = setup_databases(verbosity=0, interactive=False, aliases={"default"})
        # As where tables were emptied: usage was recorded always. A test of its beginning says when that was.
        UsageWatermark.objects.update(recording_since=None)
        connection.close()
    yield
    with django_db_blocker.unblock():
        connections.close_all()
        teardown_databases(made, verbosity=0)


@pytest.fixture(autouse=True)
def nothing_known_from_before() -> None:
    """What a process remembers of rows must not be told of those of another test that have the same ids."""
    caches["process"].clear()


@pytest.fixture
def organization(db: None) -> Organization:
    """An organization with three environments and the scopes orders:read and orders:write."""
    return make_organization("acme", name="Acme", admin=make_user("founder@example.com", name="Fay Founder"))


@pytest.fixture
def viewer(organization: Organization) -> User:
    return _person(organization, Role.VIEWER)


@pytest.fixture
def operator(organization: Organization) -> User:
    return _person(organization, Role.OPERATOR)


@pytest.fixture
def admin(organization: Organization) -> User:
    return _person(organization, Role.ADMIN)


@pytest.fixture
def outsider(organization: Organization) -> User:
    """An admin of another organization."""
    user = make_user("outsider@example.com", name="Otto Outsider")
    make_organization("elsewhere", name="Elsewhere", admin=user)
    return user


def _person(organization: Organization, role: Role) -> User:
    return make_member(organization, role, make_user(f"{role}@example.com", name=f"{role} Person".title())).user


@pytest.fixture
def client_of() -> Callable[[User | Member], Client]:
    """Return a client in which a person is signed in."""

    def sign_in(person: User | Member) -> Client:
        client = Client()
        client.force_login(person.user if isinstance(person, Member) else person)
        return client

    return sign_in


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time by which codes of authenticator apps are checked: it stands, and a test moves it on."""
    clock = Clock()
    monkeypatch.setattr("allauth.mfa.totp.internal.auth.time.time", clock)
    return clock


@pytest.fixture
def mail_server(settings: Settings) -> Callable[[str], None]:
    """Return how to let all mail go to one of tests/broken_mail.py, by its name; to none, it arrives again."""

    def choose(name: str = "") -> None:
        backend = f"tests.broken_mail.{name}" if name else "django.core.mail.backends.locmem.EmailBackend"
        settings.MAILERS = {"default": {"BACKEND": backend}}

    return choose


@pytest.fixture
def verifier() -> Iterator[Verifier]:
    """The whole ASGI application, called as a server calls it; Django's pages answer through it as well."""
    # As Django's own test client does: at each request's begin and end Django would close the test's connection.
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield Verifier(application)
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def committed(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Organization]:
    """An organization of the test's own in a database where transactions really commit.

    For what only threads or processes with connections of their own can show. The rows stay: the database refuses
    to delete keys and audit entries, so no test may count on an empty table.
    """
    with django_db_blocker.unblock():
        yield make_apart("committed")


@pytest.fixture
def outbox(committed: Organization) -> Iterator[Organization]:
    """An organization whose deliveries are the only ones, and nobody is mailed of jobs that do not run here.

    A run sends what is due to anybody.
    """
    Delivery.objects.all().delete()
    quiet = [AlertRule.objects.usual(one, AlertKind.JOB_LATE) for one in Organization.objects.all()]
    for rule in quiet:
        rule.is_on = False
    AlertRule.objects.bulk_create(quiet)
    yield committed
    AlertRule.objects.filter(kind=AlertKind.JOB_LATE).delete()
    Delivery.objects.all().delete()
    committed.webhooks.all().delete()
    end_switched_on(timezone.now())


@pytest.fixture
def watermark(committed: Organization) -> Iterator[None]:
    """Put the watermark back afterwards: what is committed stays for other tests."""
    mark = UsageWatermark.read()
    yield
    mark.save()
