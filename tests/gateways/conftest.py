"""A real verifier, an API behind a gateway, and a key to ask with. Each gateway's file starts its own server."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

import pytest
from django.db import connection
from pytest_django import DjangoDbBlocker

from apikeys.models import Organization
from tests.commands.running import ROOT, database_url
from tests.factories import make_apart, make_scope
from tests.gateways.servers import START_SECONDS, Api, Gateway, NotInstalledError, Tap, find
from tests.ports import free_port

pytest.register_assert_rewrite("tests.gateways.behaviour")

LEFT_OUT = "The tests of gateways were left out"
PROGRAMS = {"test_nginx": "nginx", "test_caddy": "caddy", "test_haproxy": "haproxy"}
# No packages of Debian: tested where somebody has put them onto PATH, and ./dev test says when not.
collect_ignore = [f"test_{program}.py" for program in ("traefik", "envoy") if not shutil.which(program)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        program = PROGRAMS.get(item.path.stem)
        if item.get_closest_marker("gateway") and program:
            try:
                find(program)
            except NotInstalledError as error:
                item.add_marker(
                    pytest.mark.skip(reason=f"{LEFT_OUT}: {error}" if item.path.stem in PROGRAMS else str(error))
                )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if LEFT_OUT in str(report.longrepr)]
    if skipped:
        terminalreporter.write_sep("!", f"{len(skipped)} TESTS OF GATEWAYS WERE LEFT OUT", red=True, bold=True)


@pytest.fixture(scope="session")
def protected(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Organization:
    """The organization whose keys open the API."""
    with django_db_blocker.unblock():
        organization = make_apart("gateways")
        make_scope(organization, "payments:write")
        connection.close()
        return organization


@pytest.fixture(autouse=True)
def committing(protected: Organization, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Let the test write to the database so that the verifier's process sees it."""
    with django_db_blocker.unblock():
        yield
        connection.close()


@pytest.fixture(scope="session")
def line(protected: Organization, django_db_blocker: DjangoDbBlocker) -> Iterator[Tap]:
    """The line to the real verifier, which trusts the gateway's address and no other."""
    with django_db_blocker.unblock():
        environment = os.environ | {"DATABASE_URL": database_url(), "TRUSTED_PROXIES": "127.0.0.1"}
    port = free_port()
    log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the server runs
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "granian", "--interface", "asginl", "--loop", "uvloop"),
            *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            *("--log-level", "warning", "keyadmin.asgi:application"),
        ],
        cwd=ROOT,
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    tap = Tap(port)
    try:
        _wait_for(f"http://127.0.0.1:{port}/healthz", server)
        yield tap
    finally:
        tap.stop()
        server.terminate()
        server.wait(START_SECONDS)
        log.close()


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()  # noqa: S310 - our own server
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


@pytest.fixture(scope="session")
def shared_api() -> Iterator[Api]:
    api = Api()
    yield api
    api.stop()


@pytest.fixture
def api(shared_api: Api) -> Api:
    """The API behind the gateway, which no request has reached yet."""
    shared_api.reached.clear()
    return shared_api


type PrepareGateway = Callable[..., Gateway]


@pytest.fixture(scope="module")
def prepared(line: Tap, shared_api: Api, protected: Organization) -> PrepareGateway:
    """Return a function that copies a recipe for the servers of these tests."""

    def prepare(recipe: str, values: Mapping[str, object] = MappingProxyType({})) -> Gateway:
        return Gateway(recipe, {"8000": line.port, "9000": shared_api.port, "northwind": protected.slug, **values})

    return prepare


@pytest.fixture
def broken_database() -> Iterator[None]:
    """The verifier's database fails every question about a key."""
    with _renamed("apikeys_apikey", "apikeys_gone"):
        yield


@contextmanager
def _renamed(table: str, name: str) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO {name}")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {name} RENAME TO {table}")
