"""A person who finds a session that they do not know, and ends it."""

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import OpenPage, sign_in

pytestmark = pytest.mark.e2e

BOTH = pytest.mark.parametrize("javascript", [True, False], ids=["with-javascript", "without-javascript"])


@BOTH
def test_a_session_elsewhere_is_ended_at_once(open_page: OpenPage, javascript: bool) -> None:
    here, elsewhere = open_page(javascript=javascript), open_page(javascript=javascript)
    person = "roaming"
    sign_in(here, person)
    sign_in(elsewhere, person)
    here.goto("/sessions")
    expect(here.get_by_role("main")).to_contain_text("Chrome on Linux")
    before = here.get_by_role("button", name="End the session of").count()
    here.get_by_role("button", name="End the session of").first.click()
    expect(here.get_by_role("status").filter(has_text="is over")).to_be_visible()
    expect(here.get_by_role("button", name="End the session of")).to_have_count(before - 1)
    elsewhere.goto("/acme/keys/")
    expect(elsewhere.get_by_role("button", name="Sign in")).to_be_visible()
    here.goto("/acme/keys/")
    expect(here.get_by_role("heading", name="Keys")).to_be_visible()
