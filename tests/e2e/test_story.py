"""The job that keyadmin exists for, done as a person does it in a browser, with and without JavaScript."""

import re

import pytest
from playwright.sync_api import Page, expect

from apikeys import key_secret
from tests.e2e.conftest import OpenPage, Watch, sign_in
from tests.e2e.site import Site
from tests.factories import PASSWORD

pytestmark = pytest.mark.e2e

BOTH = pytest.mark.parametrize("javascript", [True, False], ids=["with-javascript", "without-javascript"])


@BOTH
def test_a_key_is_found_issued_used_and_revoked_and_then_refused(
    site: Site, open_page: OpenPage, javascript: bool
) -> None:
    name = f"Nightly report {'quick' if javascript else 'plain'}"
    page = open_page(javascript=javascript)
    sign_in(page, "operator")
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Keys").click()

    filters_the_list(page, javascript=javascript)
    secret = issues_a_key(page, name, javascript=javascript)

    assert site.verify(secret) == (200, "valid")
    assert site.authorize(secret) == 200
    assert site.authorize(secret, scope="orders:write") == 403
    if javascript:
        expect(page.get_by_text("First request")).to_be_visible()
    page.get_by_role("link", name="I have stored it").click()
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    assert secret not in page.content()

    revokes(page, name, javascript=javascript)

    assert site.verify(secret) == (401, "revoked")
    assert site.authorize(secret) == 401
    page.reload()
    expect(page.get_by_role("region", name="Revoked")).to_contain_text("2 requests refused since then")
    expect(page.get_by_role("table", name="Recent requests")).to_contain_text("key revoked")
    finds_the_audit_entries(page, name)
    page.get_by_role("link", name=name).first.click()
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    for verb in ("Resume…", "Pause…", "Regenerate…", "Revoke…", "Edit"):
        expect(page.get_by_role("link", name=verb)).to_have_count(0)


def filters_the_list(page: Page, *, javascript: bool) -> None:
    table = page.get_by_role("table", name="API keys")
    search = page.get_by_role("searchbox")
    # With its blank, so that no random key id happens to hold it too ("…bUsY…" did once).
    search.fill("Busy reporter")
    if not javascript:
        page.get_by_role("button", name="Search").click()
    expect(table).to_contain_text("Busy reporter")
    expect(table).not_to_contain_text("Batch job")
    expect(page).to_have_url(re.compile(r"[?&]q=Busy(\+|%20)reporter"))
    page.get_by_role("link", name="Remove the filter Search").click()
    expect(table).to_contain_text("Batch job")

    page.get_by_role("navigation", name="Keys by status").get_by_role("link", name="Revoked").click()
    expect(table).to_contain_text("Revoked crawler")
    expect(table).not_to_contain_text("Busy reporter")
    page.get_by_role("navigation", name="Keys by status").get_by_role("link", name="All").click()
    expect(table).to_contain_text("Busy reporter")

    page.get_by_text("Filter", exact=True).click()
    page.get_by_role("checkbox", name="development").check()
    page.get_by_role("button", name="Apply").click()
    expect(table).to_contain_text("Batch job 1")
    expect(table).not_to_contain_text("Busy reporter")
    page.get_by_role("link", name="Remove the filter Environment").click()
    expect(table).to_contain_text("Busy reporter")


def issues_a_key(page: Page, name: str, *, javascript: bool) -> str:
    page.get_by_role("link", name="New key").click()
    page.get_by_label("Name").fill(name)
    page.get_by_label("Purpose").fill("Reads orders for the nightly report; kept in the vault")
    page.get_by_label("Environment").select_option("production")
    page.get_by_role("combobox", name="Owner").select_option("Operator Person")
    page.get_by_role("checkbox", name="orders:read").check()
    page.get_by_role("radio", name="30 days").check()
    page.get_by_role("button", name="Create key").click()

    field = page.get_by_role("textbox", name="The key", exact=True)
    secret = field.input_value()
    assert key_secret.parse(secret)
    assert secret not in page.url
    expect(page.get_by_role("region", name="A command that tests the key")).to_contain_text(secret)
    if javascript:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.get_by_role("region", name="The key").get_by_role("button", name="Copy").click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == secret
    return secret


def revokes(page: Page, name: str, *, javascript: bool) -> None:
    page.get_by_role("link", name="Revoke…").click()
    question = page.get_by_role("dialog") if javascript else page.get_by_role("main")
    expect(question.get_by_role("heading", name=f"Revoke {name}?")).to_be_visible()
    expect(question).to_contain_text("In use")
    expect(question).to_contain_text("203.0.113.9")
    button = question.get_by_role("button", name="Revoke now")
    if javascript:
        expect(button).to_be_disabled()
    question.get_by_label("Reason").select_option("Suspected leak")
    question.get_by_label("Note").fill("Seen in a public repository")
    question.get_by_label(f"Type {name} to confirm").fill(name)
    button.click()
    told = page.get_by_role("region", name="Revoked")
    expect(told).to_contain_text("by operator@example.com: Suspected leak")
    expect(told).to_contain_text("Seen in a public repository")


def finds_the_audit_entries(page: Page, name: str) -> None:
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Audit log").click()
    mine = page.get_by_role("row").filter(has_text=name)
    for text in ("Issued the key", "Saw the full key", "Revoked the key"):
        expect(mine.filter(has_text=text)).to_have_count(1)
    revoked = mine.filter(has_text="Revoked the key")
    expect(revoked).to_contain_text("operator@example.com")
    expect(revoked).to_contain_text("Suspected leak: Seen in a public repository")


@BOTH
def test_a_wrong_name_in_the_confirmation_revokes_nothing(
    site: Site, open_page: OpenPage, watch: Watch, javascript: bool
) -> None:
    watch.allow("status of 422")
    page = open_page("operator", javascript=javascript)
    page.goto(f"/acme/keys/{site.seeded['keys']['busy']}")
    page.get_by_role("link", name="Revoke…").click()
    page.get_by_label("Reason").select_option("Other")
    page.get_by_label("Type Busy reporter to confirm").fill("busy reporter")
    button = page.get_by_role("button", name="Revoke now")
    if javascript:
        expect(button).to_be_disabled()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(page.get_by_role("link", name="Revoke…")).to_be_focused()
    else:
        button.click()
        expect(page.get_by_text("This does not match. Type Busy reporter to confirm.", exact=True)).to_be_visible()
        page.get_by_role("link", name="Keep the key").click()
    expect(page.get_by_role("link", name="Revoke…")).to_be_visible()


def test_a_viewer_sees_keys_and_no_way_to_change_them(site: Site, open_page: OpenPage) -> None:
    page = open_page("viewer")
    page.goto("/acme/keys/")
    expect(page.get_by_role("table", name="API keys")).to_contain_text("Batch job 59")
    expect(page.get_by_role("link", name="New key")).to_have_count(0)
    page.goto(f"/acme/keys/{site.seeded['keys']['busy']}")
    for verb in ("Revoke…", "Pause…", "Regenerate…", "Edit"):
        expect(page.get_by_role("link", name=verb)).to_have_count(0)


@BOTH
def test_a_forgotten_password_is_reset_by_mail(site: Site, open_page: OpenPage, watch: Watch, javascript: bool) -> None:
    new = f"a new password for {'quick' if javascript else 'plain'}"
    page = open_page(javascript=javascript)
    page.goto("/accounts/login/")
    page.get_by_role("link", name="Forgot your password?").click()
    page.get_by_label("Email").fill("forgetful@example.com")
    page.get_by_role("button", name="Send the link").click()
    expect(page.get_by_role("button", name="Send the link")).to_have_count(0)

    mail = site.mailbox.mails[-1]
    assert mail["To"] == "forgetful@example.com"
    text = mail.get_body(("plain",))
    assert text is not None
    [link] = re.findall(rf"{re.escape(site.url)}/\S+", text.get_content())
    page.goto(link)
    page.get_by_label("New Password", exact=True).fill(new)
    page.get_by_label("New Password (again)").fill(new)
    page.get_by_role("button", name="Save the password").click()
    expect(page.get_by_role("button", name="Save the password")).to_have_count(0)

    refused = open_page(javascript=javascript)
    watch.allow("status of 4")
    refused.goto("/accounts/login/")
    refused.get_by_label("Email").fill("forgetful@example.com")
    refused.get_by_label("Password").fill(PASSWORD)
    refused.get_by_role("button", name="Sign in").click()
    expect(refused.get_by_text("not correct")).to_be_visible()
    sign_in(open_page(javascript=javascript), "forgetful", new)
    page.goto(link)
    expect(page.get_by_role("heading", name="This link no longer works")).to_be_visible()
