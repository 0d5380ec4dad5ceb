"""Single sign-on as a person meets it, through a real provider on this machine."""

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.database import server_key
from tests.e2e.conftest import PHONE, Watch
from tests.e2e.site import Site
from tests.e2e.test_pages import look_at
from tests.identity_provider import CLIENT, SECRET, IdentityProvider, identity_provider

pytestmark = pytest.mark.e2e

BOTH = pytest.mark.parametrize("javascript", [True, False], ids=["with-javascript", "without-javascript"])
BUTTON = "Sign in with Acme Login"


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with identity_provider() as provider:
        for subject in ("kim", "kim-without-javascript"):
            provider.know(subject, email=f"{subject}@acme.example", email_verified=True, name=subject.title())
        provider.know("eve", email="eve@other.example", email_verified=True)
        yield provider


@pytest.fixture(scope="module")
def sign_on_site(pytestconfig: pytest.Config, provider: IdentityProvider) -> Iterator[Site]:
    folder = tempfile.mkdtemp(prefix="keyadmin-sign-on-")
    server = pytestconfig.stash.get(server_key, None)
    site = Site(
        server.make_database("sign_on_site") if server else f"sqlite:///{folder}/site.sqlite3",
        OIDC_ISSUER=provider.url,
        OIDC_CLIENT_ID=CLIENT,
        OIDC_CLIENT_SECRET=SECRET,
        OIDC_NAME="Acme Login",
    )
    site.manage("map_domain", "acme.example", "--organization", "acme", "--role", "admin")
    yield site
    # A provider that is away is one of the tests.
    log = site.stop().replace(" ERROR django.request Bad Gateway: /accounts/oidc/", "")
    shutil.rmtree(folder)
    assert not re.search(r" (ERROR|CRITICAL) |panicked|Traceback", log), log


type Open = Callable[..., Page]


@pytest.fixture
def open_window(browser: Browser, sign_on_site: Site, watch: Watch) -> Iterator[Open]:
    """Return a function that opens a window; the provider's own pages are not ours to watch."""
    # Its pages load a stylesheet from elsewhere, which cannot be had here.
    watch.allow("cdn.jsdelivr.net")
    watch.allow("net::ERR_")
    watch.allow("status of 404 (NOT FOUND)")

    contexts: list[BrowserContext] = []

    def open_window(*, javascript: bool = True) -> Page:
        context = browser.new_context(
            base_url=sign_on_site.url, java_script_enabled=javascript, reduced_motion="reduce"
        )
        contexts.append(context)
        context.set_default_timeout(15_000)
        context.on("page", watch.on)
        return context.new_page()

    yield open_window
    for context in contexts:
        context.close()


def choose(page: Page, subject: str) -> None:
    """Be somebody at the provider."""
    expect(page.get_by_role("heading", name="Authorize Client")).to_be_visible()
    page.get_by_role("textbox", name="Subject").fill(subject)
    page.get_by_role("button", name="Authorize", exact=True).click()


def sign_on(page: Page, subject: str) -> None:
    page.goto("/acme/keys/")
    page.get_by_role("button", name=BUTTON).click()
    choose(page, subject)


@BOTH
def test_a_person_signs_in_and_is_where_they_were_going(open_window: Open, javascript: bool) -> None:
    page = open_window(javascript=javascript)
    sign_on(page, "kim" if javascript else "kim-without-javascript")
    expect(page).to_have_url(re.compile(r"/acme/keys/$"))
    expect(page.get_by_role("heading", name="Keys", level=1)).to_be_visible()


def test_the_sign_in_page_offers_it_in_every_look(open_window: Open) -> None:
    page = open_window()
    page.goto("/accounts/login/")
    expect(page.get_by_role("button", name=BUTTON)).to_be_visible()
    look_at(page)


def test_the_settings_show_the_domain_in_every_look(open_window: Open) -> None:
    page = open_window()
    sign_on(page, "kim")
    page.goto("/acme/settings/")
    expect(page.get_by_role("region", name="Single sign-on")).to_contain_text("acme.example")
    look_at(page)


def stay(route: Route) -> None:
    """Take from the page on the way that it goes on by itself."""
    response = route.fetch()
    route.fulfill(response=response, headers={k: v for k, v in response.headers.items() if k != "refresh"})


def test_the_page_on_the_way_goes_on_by_a_link_too(open_window: Open, provider: IdentityProvider) -> None:
    page = open_window()
    page.route("**/accounts/oidc/", stay)
    page.goto("/accounts/login/")
    page.get_by_role("button", name=BUTTON).click()
    expect(page.get_by_role("heading", name="On the way to Acme Login")).to_be_visible()
    expect(page.get_by_role("link", name="Go on")).to_have_attribute("href", re.compile(f"^{provider.url}/oauth2/"))
    look_at(page)


@pytest.mark.parametrize("state", ["refused", "cancelled", "stale", "away"])
def test_what_went_wrong_is_told_in_every_look(
    open_window: Open, watch: Watch, provider: IdentityProvider, state: str
) -> None:
    watch.allow("status of 4")
    page = open_window()
    if state == "away":
        watch.allow("502")
        provider.broken = {"/.well-known/openid-configuration"}
    page.goto("/accounts/login/" if state != "stale" else "/accounts/oidc/callback?state=x&code=y")
    if state != "stale":
        page.get_by_role("button", name=BUTTON).click()
    if state == "refused":
        choose(page, "eve")
    if state == "cancelled":
        page.get_by_role("button", name="Deny access").click()
    provider.broken = set()
    titles = {"refused": "This opens nothing here", "cancelled": "You are not signed in"}
    titles |= {"stale": "This sign-in is over", "away": "Acme Login cannot be asked now"}
    expect(page.get_by_role("heading", name=titles[state])).to_be_visible()
    look_at(page)
    page.get_by_role("link", name="Back to sign in").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def age_proof(page: Page, site: Site) -> None:
    cookies: list[Any] = [cookie for cookie in page.context.cookies() if cookie.get("name") == "sessionid"]
    site.age_proof(cookies[0]["value"])


@BOTH
def test_a_form_waits_while_they_sign_on_again_in_another_tab(
    open_window: Open, sign_on_site: Site, watch: Watch, javascript: bool
) -> None:
    watch.allow("status of 422")
    page = open_window(javascript=javascript)
    sign_on(page, "kim" if javascript else "kim-without-javascript")
    expect(page).to_have_url(re.compile(r"/acme/keys/$"))
    age_proof(page, sign_on_site)
    page.goto("/acme/settings/")
    age = "640" if javascript else "641"
    page.get_by_label("Maximum key age").fill(age)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="Confirm that it is you")).to_be_visible()
    page.get_by_role("button", name="Confirm and go on").click()
    expect(page.get_by_role("alert")).to_contain_text("You have not signed in again yet.")
    if javascript:
        look_at(page)
    with page.context.expect_page() as opening:
        page.get_by_role("button", name="Sign in again with Acme Login").click()
    tab = opening.value
    choose(tab, "kim" if javascript else "kim-without-javascript")
    expect(tab.get_by_role("heading", name="It is you")).to_be_visible()
    if javascript:
        look_at(tab)
    tab.close()
    page.get_by_role("button", name="Confirm and go on").click()
    expect(page.get_by_role("status").filter(has_text="The organization was saved.")).to_be_visible()
    expect(page.get_by_label("Maximum key age")).to_have_value(age)


def test_a_dialog_waits_too(open_window: Open, sign_on_site: Site, watch: Watch) -> None:
    watch.allow("status of 422")
    page = open_window()
    sign_on(page, "kim")
    expect(page).to_have_url(re.compile(r"/acme/keys/$"))
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    page.goto(f"/acme/keys/{sign_on_site.seeded['keys']['leaked']}")
    age_proof(page, sign_on_site)
    page.get_by_role("link", name="Revoke…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").select_option("Suspected leak")
    dialog.get_by_role("button", name="Revoke now").click()
    with page.context.expect_page() as opening:
        dialog.get_by_role("button", name="Sign in again with Acme Login").click()
    choose(opening.value, "kim")
    expect(opening.value.get_by_role("heading", name="It is you")).to_be_visible()
    opening.value.close()
    dialog.get_by_role("button", name="Confirm and go on").click()
    expect(page.get_by_role("status").filter(has_text="is revoked")).to_be_visible()


def test_an_export_begins_after_they_signed_on_again(open_window: Open, sign_on_site: Site) -> None:
    page = open_window()
    sign_on(page, "kim")
    expect(page).to_have_url(re.compile(r"/acme/keys/$"))
    age_proof(page, sign_on_site)
    page.goto("/acme/audit/")
    page.get_by_role("link", name="JSON Lines").click()
    page.get_by_role("button", name="Sign in again with Acme Login").click()
    expect(page.get_by_role("heading", name="Authorize Client")).to_be_visible()
    page.get_by_role("textbox", name="Subject").fill("kim")
    with page.expect_download() as downloading:
        page.get_by_role("button", name="Authorize", exact=True).click()
    assert "sign_on.link" in downloading.value.path().read_text()
