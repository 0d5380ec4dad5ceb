"""A browser, a running site, and pages that fail their test on any console error or policy violation."""

import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
from allauth.mfa.totp.internal import auth as totp
from playwright.sync_api import Browser, BrowserContext, Page, Request, Response, StorageState

from tests.database import server_key
from tests.e2e import chromium
from tests.e2e.site import Site
from tests.factories import PASSWORD

LEFT_OUT = "The browser tests were left out. "
PHONE, DESKTOP = (390, 844), (1440, 900)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Last: Playwright runs an event loop in this thread, and Django refuses the database to whoever is in one.
    items.sort(key=lambda item: item.get_closest_marker("e2e") is not None)
    try:
        chromium.find()
    except chromium.NotInstalledError as error:
        for item in items:
            if item.get_closest_marker("e2e"):
                item.add_marker(pytest.mark.skip(reason=LEFT_OUT + str(error)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if LEFT_OUT in str(report.longrepr)]
    if skipped:
        terminalreporter.write_sep("!", f"{len(skipped)} BROWSER TESTS WERE LEFT OUT: no Chromium", red=True, bold=True)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    quiet = ["--disable-background-networking", "--disable-component-update", "--no-first-run", "--disable-sync"]
    return {
        **browser_type_launch_args,
        "executable_path": chromium.find(),
        "args": ["--no-sandbox", "--disable-gpu", *quiet],
    }


@pytest.fixture(scope="session")
def site(pytestconfig: pytest.Config) -> Iterator[Site]:
    """The running product; its log must hold no error when it ends."""
    folder = tempfile.mkdtemp(prefix="keyadmin-site-")
    server = pytestconfig.stash.get(server_key, None)
    site = Site(server.make_database("site") if server else f"sqlite:///{folder}/site.sqlite3")
    yield site
    log = site.stop()
    shutil.rmtree(folder)
    assert not re.search(r" (ERROR|CRITICAL) |panicked", log), log


@pytest.fixture(scope="session")
def base_url(site: Site) -> str:
    """Where the paths that tests go to begin."""
    return site.url


# What htmx says in the console of a request that a newer one replaced, or that a page leaves behind. Of one that failed
# it says more: htmx:sendError, htmx:timeout or htmx:responseError.
ABORTED = ("error: htmx:afterRequest, ", "error: htmx:sendAbort, ")


class Watch:
    """What went wrong in a page that a person might not see."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._allowed: list[str] = []

    def allow(self, text: str) -> None:
        """Expect messages with this text, as of a status that the test asks for."""
        self._allowed.append(text)

    def on(self, page: Page) -> None:
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda error: self._note("error", f"uncaught: {error}"))
        page.on("requestfailed", self._failed)
        page.on("response", self._answered)

    def _note(self, kind: str, text: str) -> None:
        problem = f"{kind}: {text}"
        if problem.startswith(ABORTED) or any(allowed in text for allowed in self._allowed):
            return
        if kind in {"error", "warning"}:
            self.problems.append(problem)

    def _failed(self, request: Request) -> None:
        # Nor is such a request a failure to the browser.
        if request.failure != "net::ERR_ABORTED":
            self._note("error", f"{request.method} {request.url}: {request.failure}")

    def _answered(self, response: Response) -> None:
        if response.status >= 500:
            self._note("error", f"{response.request.method} {response.url}: {response.status}")


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Collects console errors, policy violations, failed requests and 5xx answers; any of them fails the test."""
    watch = Watch()
    yield watch
    assert not watch.problems, "\n".join(watch.problems)


type OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(
    new_context: Callable[..., BrowserContext],
    signed_in: Callable[[str], StorageState],
    watch: Watch,
) -> OpenPage:
    """Return a function that opens a new window, for nobody or for a person who has signed in."""

    def open_page(
        person: str = "",
        *,
        javascript: bool = True,
        size: tuple[int, int] = DESKTOP,
        theme: Literal["light", "dark"] = "light",
    ) -> Page:
        context = new_context(
            java_script_enabled=javascript,
            viewport={"width": size[0], "height": size[1]},
            color_scheme=theme,
            reduced_motion="reduce",
            storage_state=signed_in(person) if person else None,
        )
        context.set_default_timeout(10_000)
        page = context.new_page()
        watch.on(page)
        return page

    return open_page


@pytest.fixture(scope="session")
def signed_in(browser: Browser, base_url: str, site: Site) -> Callable[[str], StorageState]:
    """Return a function that gives the cookies of a person, who signs in once for all tests."""
    states: dict[str, StorageState] = {}

    def state_of(person: str) -> StorageState:
        if person not in states:
            context = browser.new_context(base_url=base_url)
            secret = site.seeded["factors"]["secret"] if person == "guarded" else ""
            sign_in(context.new_page(), person, secret=secret)
            states[person] = context.storage_state()
            context.close()
        return states[person]

    return state_of


def code_now(secret: str) -> str:
    """Return the code that an authenticator app with that secret shows now; it is taken for 30 seconds at least."""
    return str(totp.format_hotp_value(totp.hotp_value(secret, int(time.time()) // 30)))


def sign_in(page: Page, person: str, password: str = PASSWORD, *, secret: str = "") -> None:
    """Sign in as a person does, with the code of an authenticator app where they have one."""
    page.goto("/")
    page.get_by_label("Email").fill(f"{person}@example.com")
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    if secret:
        page.get_by_label("Code of your authenticator app").fill(code_now(secret))
        page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "/accounts/" not in url)
