"""Step-up as a person meets it: the password is asked for in the middle of a task, which then goes on."""

import json
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import OpenPage, Watch, sign_in
from tests.e2e.site import Site
from tests.factories import PASSWORD

pytestmark = pytest.mark.e2e

BOTH = pytest.mark.parametrize("javascript", [True, False], ids=["with-javascript", "without-javascript"])


def age_proof(page: Page, site: Site) -> None:
    """Let it be a day ago that whoever is signed in here gave their password."""
    cookies: list[Any] = [cookie for cookie in page.context.cookies() if cookie.get("name") == "sessionid"]
    site.age_proof(cookies[0]["value"])


@BOTH
def test_a_form_goes_on_after_the_password(open_page: OpenPage, site: Site, watch: Watch, javascript: bool) -> None:
    watch.allow("status of 422")
    page = open_page(javascript=javascript)
    sign_in(page, "admin")
    age_proof(page, site)
    page.goto("/acme/settings/")
    age = "700" if javascript else "701"
    page.get_by_label("Maximum key age").fill(age)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="Confirm that it is you")).to_be_visible()
    page.get_by_label("Your password").fill("not my password")
    page.get_by_role("button", name="Confirm and go on").click()
    expect(page.get_by_role("main")).to_contain_text("That is not your password.")
    expect(page.get_by_label("Your password")).to_have_value("")
    page.get_by_label("Your password").fill(PASSWORD)
    page.get_by_role("button", name="Confirm and go on").click()
    expect(page.get_by_role("status").filter(has_text="The organization was saved.")).to_be_visible()
    expect(page.get_by_label("Maximum key age")).to_have_value(age)
    # It holds for some time.
    page.get_by_label("Maximum key age").fill("")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status").filter(has_text="The organization was saved.")).to_be_visible()


def test_a_dialog_asks_in_its_place_and_by_the_keyboard(open_page: OpenPage, site: Site, watch: Watch) -> None:
    watch.allow("status of 422")
    page = open_page()
    sign_in(page, "admin")
    key = site.seeded["keys"]["leaked"]
    page.goto(f"/acme/keys/{key}")
    age_proof(page, site)
    page.get_by_role("link", name="Revoke…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").select_option("Suspected leak")
    dialog.get_by_role("button", name="Revoke now").click()
    expect(dialog.get_by_role("heading", name="Confirm that it is you")).to_be_visible()
    dialog.get_by_label("Your password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="is revoked")).to_be_visible()
    expect(page.get_by_role("main")).to_contain_text("Revoked")


def test_an_export_begins_after_the_password(open_page: OpenPage, site: Site) -> None:
    page = open_page()
    sign_in(page, "admin")
    age_proof(page, site)
    page.goto("/acme/audit/")
    page.get_by_role("link", name="JSON Lines").click()
    page.get_by_label("Your password").fill(PASSWORD)
    with page.expect_download() as downloading:
        page.get_by_role("button", name="Confirm and go on").click()
    lines = downloading.value.path().read_text().splitlines()
    assert [json.loads(line)["sequence"] for line in lines] == list(range(1, len(lines) + 1))
