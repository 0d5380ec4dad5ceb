"""A list of many keys: the page comes first, the numbers in its tabs after it."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from apikeys.tallies import AT_ONCE
from tests.e2e.conftest import OpenPage

pytestmark = pytest.mark.e2e

# What the seed copied, the copied one, and those that are paused.
ALL = f"{AT_ONCE + 104:,}"
LATER = "Count the keys of each tab"


def tab(page: Page, name: str) -> Locator:
    return page.get_by_role("navigation", name="Keys by status").get_by_role("link", name=re.compile(f"^{name} "))


def test_the_numbers_of_a_filter_come_after_the_page(open_page: OpenPage) -> None:
    page = open_page("crowded")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "counts=now" in request.url else None)
    page.goto("/wide/keys/?environment=prod")
    expect(tab(page, "All").locator("small")).to_have_text(ALL)
    expect(tab(page, "Paused").locator("small")).to_have_text("3")
    expect(page.get_by_role("navigation", name="Keys by status")).not_to_have_attribute("aria-busy", "true")
    assert len(asked) == 1
    assert page.url.endswith("/wide/keys/?environment=prod")
    tab(page, "Paused").click()
    expect(page).to_have_url(re.compile(r"\?environment=prod&status=paused$"))
    expect(page.get_by_role("table").locator("tbody tr")).to_have_count(3)
    expect(tab(page, "Paused").locator("small")).to_have_text("3")
    page.go_back()
    expect(page.get_by_role("table").locator("tbody tr")).to_have_count(50)
    expect(tab(page, "All").locator("small")).to_have_text(ALL)


def test_kinds_of_silence_are_counted_after_the_page(open_page: OpenPage) -> None:
    page = open_page("crowded")
    page.goto("/wide/keys/?status=unused")
    expect(page.get_by_role("link", name="Never used 0")).to_be_visible()
    expect(page.get_by_role("link", name="May be silent 0")).to_be_visible()
    expect(tab(page, "Unused").locator("small")).to_have_text("0")


def test_without_javascript_a_link_asks_for_the_numbers(open_page: OpenPage) -> None:
    page = open_page("crowded", javascript=False)
    page.goto("/wide/keys/?environment=prod")
    expect(page.get_by_role("table").locator("tbody tr")).to_have_count(50)
    page.get_by_role("link", name=LATER).click()
    expect(tab(page, "All").locator("small")).to_have_text(ALL)
    expect(page.get_by_role("link", name=LATER)).to_have_count(0)
    tab(page, "Paused").click()
    expect(page.get_by_role("table").locator("tbody tr")).to_have_count(3)
    assert "counts" not in page.url
