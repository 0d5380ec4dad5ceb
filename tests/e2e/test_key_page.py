"""A key's page under a person's hands: figures by pointer and by keyboard, requests as they come, narrowing."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from apikeys import key_secret
from tests.e2e.conftest import OpenPage, Watch
from tests.e2e.site import Site

pytestmark = pytest.mark.e2e

BOTH = pytest.mark.parametrize("javascript", [True, False], ids=["with-javascript", "without-javascript"])


def chart(page: Page) -> Locator:
    return page.get_by_role("img", name=re.compile("^Requests per"))


def tip(page: Page) -> Locator:
    return page.locator("[data-tip]:visible")


def test_the_figures_of_a_bar_are_told_by_pointer(site: Site, open_page: OpenPage) -> None:
    page = open_page("viewer")
    page.goto(f"/acme/keys/{site.seeded['keys']['busy']}")
    box = chart(page).bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] - 3, box["y"] + 40)
    expect(tip(page)).to_contain_text("(so far)")
    expect(tip(page)).to_contain_text("accepted")
    page.mouse.move(box["x"] + 3, box["y"] + 40)
    expect(tip(page)).to_contain_text("no requests")
    page.mouse.move(5, 5)
    expect(tip(page)).to_have_count(0)


def test_the_figures_of_each_bar_are_told_by_keyboard_and_agree_with_the_table(site: Site, open_page: OpenPage) -> None:
    page = open_page("viewer")
    page.goto(f"/acme/keys/{site.seeded['keys']['busy']}?range=7d")
    rows = page.locator("[data-figure]").filter(has=chart(page)).locator("tbody tr")
    chart(page).focus()
    page.keyboard.press("Home")
    for number in range(rows.count()):
        cells = rows.nth(number).locator("th, td").all_text_contents()
        expect(tip(page)).to_contain_text(cells[0].strip())
        told = re.findall(r"[\d,]+$", "\n".join(tip(page).locator("i").all_text_contents()), re.MULTILINE)
        assert told == [count for count in cells[1:-1] if count != "0"][::-1]
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    expect(tip(page)).to_have_count(0)


def test_the_hours_of_the_week_are_walked_in_two_directions(site: Site, open_page: OpenPage) -> None:
    page = open_page("viewer")
    page.goto(f"/acme/keys/{site.seeded['keys']['busy']}")
    page.get_by_role("img", name=re.compile("^Accepted requests by weekday")).focus()
    page.keyboard.press("Home")
    expect(tip(page)).to_contain_text("Mon 00:00")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    expect(tip(page)).to_contain_text("Tue 01:00")


@BOTH
def test_a_span_of_time_is_chosen_and_a_wrong_one_is_refused_with_its_limit(
    site: Site, open_page: OpenPage, watch: Watch, javascript: bool
) -> None:
    watch.allow("status of 422")
    page = open_page("viewer", javascript=javascript)
    page.goto(f"/acme/keys/{site.seeded['keys']['busy']}")
    page.get_by_role("navigation", name="Time range").get_by_role("link", name="90 d").click()
    expect(page).to_have_url(re.compile("range=90d"))
    expect(page.get_by_text("Requests, 90 d", exact=True)).to_be_visible()
    page.get_by_text("Days…").click()
    page.get_by_label("From").first.fill("2031-01-01")
    page.get_by_role("button", name="Show").first.click()
    expect(page.get_by_role("alert")).to_contain_text("is still to come; the last day is today")
    page.get_by_role("navigation", name="Time range").get_by_role("link", name="24 h").click()
    expect(chart(page)).to_be_visible()


@BOTH
def test_requests_appear_as_they_come_until_they_are_paused(site: Site, open_page: OpenPage, javascript: bool) -> None:
    page = open_page("operator", javascript=javascript)
    secret = issue(page, f"Followed {'quick' if javascript else 'plain'}")
    table = page.get_by_role("table", name="Recent requests")
    expect(table).to_have_count(0)
    assert site.authorize(secret) == 200
    if not javascript:
        page.get_by_role("link", name="Load again").click()
        expect(page.get_by_role("table", name="Recent requests")).to_contain_text("accepted")
        return
    expect(table.get_by_role("row")).to_have_count(2, timeout=15_000)
    page.get_by_role("button", name="Pause", exact=True).first.click()
    assert site.authorize(secret) == 200
    page.wait_for_timeout(6_000)
    expect(table.get_by_role("row")).to_have_count(2)
    page.get_by_role("button", name="Resume").click()
    expect(table.get_by_role("row")).to_have_count(3)


def issue(page: Page, name: str) -> str:
    page.goto("/acme/keys/new")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Purpose").fill("To be watched")
    page.get_by_role("combobox", name="Owner").select_option("Operator Person")
    page.get_by_role("checkbox", name="orders:read").check()
    page.get_by_role("checkbox", name="orders:write").check()
    page.get_by_role("button", name="Create key").click()
    secret = page.get_by_role("textbox", name="The key", exact=True).input_value()
    parsed = key_secret.parse(secret)
    assert parsed
    page.goto(f"/acme/keys/{parsed.public_id}")
    return secret


def test_requests_are_narrowed_while_typing(site: Site, open_page: OpenPage) -> None:
    page = open_page("viewer")
    page.goto(f"/acme/keys/{site.seeded['keys']['busy']}")
    table = page.get_by_role("table", name="Recent requests")
    page.get_by_role("searchbox", name="Caller").press_sequentially("198.51.100.3")
    expect(table).not_to_contain_text("198.51.100.4")
    expect(table).to_contain_text("198.51.100.3")
    page.get_by_role("combobox", name="Outcome").select_option("rate limit hit")
    expect(table).not_to_contain_text("accepted")
    expect(page.get_by_role("searchbox", name="Caller")).to_have_value("198.51.100.3")


@BOTH
def test_a_key_is_narrowed_to_what_it_uses(site: Site, open_page: OpenPage, watch: Watch, javascript: bool) -> None:
    watch.allow("status of 422")
    page = open_page("operator", javascript=javascript)
    secret = issue(page, f"Narrowed {'quick' if javascript else 'plain'}")
    assert site.authorize(secret, scope="orders:read") == 200
    page.reload()
    expect(page.get_by_text("1 of 2 used in 90 days")).to_be_visible()
    page.get_by_role("link", name="Narrow to used…").click()
    question = page.get_by_role("dialog") if javascript else page.get_by_role("main")
    expect(question).to_contain_text("It would have refused none of 1 requests in 90 days")
    expect(question.get_by_role("checkbox", name="orders:write")).to_be_checked()
    expect(question.get_by_role("checkbox", name="orders:read")).not_to_be_checked()

    # It is used while the question is open: what is said then is not what was said before.
    assert site.authorize(secret, scope="orders:write") == 200
    question.get_by_role("button", name="Take the ticked scopes").click()
    expect(question.get_by_role("alert")).to_contain_text("refused 1 of 2 accepted requests: orders:write (1)")
    question.get_by_role("button", name="Take the ticked scopes").click()
    expect(page.get_by_role("status").filter(has_text="1 scope taken from Narrowed")).to_be_visible()
    assert site.authorize(secret, scope="orders:write") == 403
    assert site.authorize(secret, scope="orders:read") == 200
    expect(page.get_by_role("link", name="Narrow to used…")).to_have_count(0)


@BOTH
def test_an_export_of_each_format_is_a_file(site: Site, open_page: OpenPage, javascript: bool) -> None:
    public_id = site.seeded["keys"]["busy"]
    page = open_page("viewer", javascript=javascript)
    page.goto(f"/acme/keys/{public_id}?range=7d")
    for kind in ("CSV", "JSON"):
        with page.expect_download() as started:
            page.get_by_role("link", name=f"Export callers as {kind}").click()
        assert started.value.suggested_filename == f"acme-{public_id}-callers-7d.{kind.lower()}"
