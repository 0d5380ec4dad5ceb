"""A webhook as an admin makes it: added, tried, its secret renewed, what it was told looked at, and deleted."""

import json

import pytest
import standardwebhooks
from playwright.sync_api import Page, expect

from tests.e2e.conftest import OpenPage, Watch
from tests.receiver import receiver

pytestmark = pytest.mark.e2e

BOTH = pytest.mark.parametrize("javascript", [True, False], ids=["with-javascript", "without-javascript"])


def told(page: Page, words: str) -> None:
    expect(page.get_by_role("status").filter(has_text=words)).to_be_visible()


def secret_on(page: Page) -> str:
    """Return the secret that a page shows once."""
    words = page.get_by_role("main").inner_text().split()
    [secret] = {word for word in words if word.startswith("whsec_")}
    return secret


@BOTH
def test_it_is_added_tried_renewed_and_deleted(open_page: OpenPage, watch: Watch, javascript: bool) -> None:
    watch.allow("status of 422")
    name = f"Receiver {'with' if javascript else 'without'}"
    page = open_page("admin", javascript=javascript)
    with receiver() as here:
        page.goto("/acme/alerts/webhooks/")
        page.get_by_role("link", name="New webhook").first.click()
        page.get_by_label("Name").fill(name)
        page.get_by_label("URL").fill("http://169.254.169.254/latest/meta-data")
        page.get_by_role("button", name="Add the webhook").click()
        expect(page.get_by_role("main")).to_contain_text("private or reserved address")
        page.get_by_label("URL").fill(here.url)
        page.get_by_role("button", name="Add the webhook").click()
        expect(page.get_by_role("main")).to_contain_text("whsec_")
        first = secret_on(page)

        page.goto("/acme/alerts/webhooks/")
        page.get_by_role("link", name=name).first.click()
        expect(page.get_by_role("main")).not_to_contain_text("whsec_")
        page.get_by_role("button", name="Send a test").click()
        told(page, "The test was accepted with 204.")
        assert standardwebhooks.Webhook(first).verify(here.got[0].body, here.got[0].headers)["type"] == "test"

        page.get_by_role("link", name="New secret…").click()
        question = page.get_by_role("dialog") if javascript else page.get_by_role("main")
        question.get_by_role("button", name="Make a new secret").click()
        expect(page.get_by_role("main")).to_contain_text("whsec_")
        second = secret_on(page)
        assert second != first
        page.goto("/acme/alerts/webhooks/")
        page.get_by_role("link", name=name).first.click()
        here.status = 500
        page.get_by_role("button", name="Send a test").click()
        told(page, "The test failed: It answered 500.")
        for secret in (first, second):
            assert standardwebhooks.Webhook(secret).verify(here.got[1].body, here.got[1].headers)
        assert json.loads(here.got[1].body)["data"]["organization"] == "acme"

    page.get_by_role("region", name="What it was told last").get_by_role("link").first.click()
    expect(page.get_by_role("main")).to_contain_text("It answered 500.")
    page.go_back()
    page.get_by_role("link", name="Delete…").click()
    question = page.get_by_role("dialog") if javascript else page.get_by_role("main")
    question.get_by_role("button", name="Delete").click()
    told(page, name)
    expect(page.get_by_role("link", name=name)).to_have_count(0)
