"""Second factors as a person meets them, with Chromium's own virtual authenticator in the place of a finger."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import OpenPage, Watch, code_now, sign_in
from tests.e2e.site import Site
from tests.e2e.test_step_up import age_proof
from tests.factories import PASSWORD

pytestmark = pytest.mark.e2e


def add_authenticator(page: Page, *, verifies: bool = True) -> None:
    """Plug a device into the browser that makes and uses passkeys without being touched."""
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": verifies,
        "hasUserVerification": verifies,
        "isUserVerified": verifies,
        "automaticPresenceSimulation": True,
    }
    session.send("WebAuthn.addVirtualAuthenticator", {"options": options})


def sign_out(page: Page) -> None:
    page.goto("/accounts/logout/")
    page.get_by_role("main").get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/accounts/login/")


def test_a_passkey_is_added_signs_in_alone_and_confirms(open_page: OpenPage, site: Site, watch: Watch) -> None:
    watch.allow("status of 422")
    page = open_page()
    add_authenticator(page)
    sign_in(page, "keyholder")
    page.goto("/accounts/2fa/")
    page.get_by_role("link", name="Add").click()
    page.get_by_label("Name").fill("Laptop <b>")
    page.get_by_role("button", name="Add the passkey").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    expect(page.locator(".codes li")).to_have_count(10)
    page.get_by_role("link", name="I have kept them").click()
    expect(page.get_by_role("main")).to_contain_text("Laptop <b>")
    expect(page.get_by_role("main")).to_contain_text("signs in alone")

    sign_out(page)
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url(lambda url: "/accounts/" not in url)

    page.goto("/acme/settings/")
    age_proof(page, site)
    page.get_by_label("Maximum key age").fill("702")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("status").filter(has_text="The organization was saved.")).to_be_visible()

    # After the password the password is not enough, and the passkey is.
    sign_out(page)
    page.get_by_label("Email").fill("keyholder@example.com")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("heading", name="One more step")).to_be_visible()
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url(lambda url: "/accounts/" not in url)

    page.goto("/accounts/2fa/")
    page.get_by_role("link", name="Remove Laptop").click()
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("main")).not_to_contain_text("Laptop")


def test_a_browser_without_that_passkey_says_so(open_page: OpenPage, watch: Watch) -> None:
    page = open_page()
    add_authenticator(page)
    page.goto("/accounts/login/")
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("alert").filter(has_text="No passkey was used")).to_be_visible()
    expect(page.get_by_role("button", name="Use a passkey")).to_be_enabled()


@pytest.mark.parametrize("javascript", [True, False], ids=["with-javascript", "without-javascript"])
def test_an_authenticator_app_is_set_up_and_asked_for(open_page: OpenPage, javascript: bool) -> None:
    person = "roaming" if javascript else "careful"
    page = open_page(javascript=javascript)
    sign_in(page, person)
    page.goto("/accounts/2fa/")
    page.get_by_role("link", name="Set up").click()
    secret = page.locator("#totp_secret").inner_text()
    assert re.fullmatch(r"[A-Z2-7]{32}", secret)
    page.get_by_label("Code").fill("000000")
    page.get_by_role("button", name="Turn on").click()
    expect(page.get_by_role("main")).to_contain_text("That code is not right")
    assert page.locator("#totp_secret").inner_text() == secret
    page.get_by_label("Code").fill(code_now(secret))
    page.get_by_role("button", name="Turn on").click()
    first = page.locator(".codes li").first.inner_text()
    page.get_by_role("link", name="I have kept them").click()
    sign_out(page)
    page.get_by_label("Email").fill(f"{person}@example.com")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_label("Code of your authenticator app").fill(first)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url(lambda url: "/accounts/" not in url)
    page.goto("/accounts/2fa/")
    expect(page.get_by_role("main")).to_contain_text("9 left")
    page.get_by_role("link", name="Turn off…").click()
    page.get_by_role("button", name="Turn off").click()
    expect(page.get_by_role("main")).to_contain_text("your password alone signs in")
