"""Alerts as a person works through them: the inbox, one alert, and the rules with their preview."""

import re
from contextlib import suppress

import pytest
from playwright.sync_api import Error, Locator, Page, Route, expect

from tests.e2e.conftest import OpenPage, Watch
from tests.e2e.site import Site

pytestmark = pytest.mark.e2e

BOTH = pytest.mark.parametrize("javascript", [True, False], ids=["with-javascript", "without-javascript"])


def row(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has_text=name)


def question_of(page: Page, *, javascript: bool) -> Locator:
    """Return where a question stands: in a dialog, or without JavaScript on a page of its own."""
    question = page.get_by_role("dialog") if javascript else page.get_by_role("main")
    expect(question.get_by_role("heading", level=1)).to_be_visible()
    return question


def told(page: Page, words: str) -> Locator:
    return page.get_by_role("status").filter(has_text=words)


@BOTH
def test_an_alert_is_taken_in_hand_and_resolved(open_page: OpenPage, watch: Watch, javascript: bool) -> None:
    watch.allow("status of 422")
    name = f"Alerting job {0 if javascript else 1}"
    page = open_page("operator", javascript=javascript)
    page.goto("/acme/alerts/")
    expect(page.get_by_role("navigation", name="Main", exact=True)).to_contain_text(re.compile(r"Alerts.*\d+ open"))
    row(page, name).get_by_role("link").first.click()
    expect(page.get_by_role("heading", name="Rate limit hit", level=1)).to_be_visible()
    code = page.url.rpartition("/")[2]

    page.get_by_role("link", name="Acknowledge…").click()
    question = question_of(page, javascript=javascript)
    question.get_by_text("1 week").click()
    question.get_by_role("button", name="Acknowledge").click()
    expect(told(page, f"{code} is acknowledged until")).to_be_visible()
    expect(page.get_by_role("region", name="Acknowledged")).to_contain_text("operator@example.com has it in hand")
    page.goto("/acme/alerts/")
    expect(row(page, name)).to_have_count(0)
    page.get_by_role("link", name=re.compile("^Acknowledged")).click()
    expect(row(page, name)).to_contain_text("Acknowledged")

    row(page, name).get_by_role("link").first.click()
    page.get_by_role("link", name="Resolve…").click()
    question = question_of(page, javascript=javascript)
    question.get_by_label("Note").fill(" ")
    question.get_by_role("button", name="Resolve").click()
    expect(page.get_by_role("alert").filter(has_text="Say in a few words")).to_be_visible()
    question.get_by_label("Note").fill("Its owner sends less now")
    question.get_by_role("button", name="Resolve").click()
    expect(told(page, f"{code} is resolved.")).to_be_visible()
    expect(page.get_by_role("region", name="What happened since")).to_contain_text("Its owner sends less now")
    expect(page.get_by_role("link", name="Acknowledge…")).to_have_count(0)


@BOTH
def test_several_are_resolved_together(open_page: OpenPage, javascript: bool) -> None:
    names = ("Alerting job 2", "Alerting job 3") if javascript else ("Alerting job 4", "Alerting job 5")
    page = open_page("operator", javascript=javascript)
    page.goto("/acme/alerts/?kind=rate_limited")
    for name in names:
        row(page, name).get_by_role("checkbox").check()
    if javascript:
        expect(page.get_by_text("2 selected")).to_be_visible()
    page.get_by_role("button", name="Resolve…").click()
    question = question_of(page, javascript=javascript)
    expect(question.get_by_role("region", name="The alerts")).to_contain_text(names[1])
    question.get_by_label("Note").fill("A test of the load")
    question.get_by_role("button", name="Resolve").click()
    expect(told(page, "2 alerts are resolved.")).to_be_visible()
    for name in names:
        expect(row(page, name)).to_have_count(0)
    page.goto("/acme/alerts/?status=resolved")
    for name in names:
        expect(row(page, name)).to_contain_text("operator@example.com")


@BOTH
@pytest.mark.parametrize("place", ["keys", "alerts"])
def test_a_code_in_the_search_leads_to_its_alert(site: Site, open_page: OpenPage, javascript: bool, place: str) -> None:
    code = site.seeded["alerts"]["alert_abuse"]
    page = open_page("viewer", javascript=javascript)
    page.goto(f"/acme/{place}/")
    if javascript:
        page.keyboard.press("/")
        page.keyboard.type(code.lower())
    else:
        page.get_by_role("searchbox").fill(code)
        page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("heading", name="Abuse", level=1)).to_be_visible()
    assert page.url.endswith(f"/acme/alerts/{code}")


def test_the_inbox_is_searched_and_filtered_in_place_and_walked_by_keys(open_page: OpenPage) -> None:
    page = open_page("operator")
    page.goto("/acme/alerts/")
    page.keyboard.press("/")
    page.keyboard.type("Busy")
    expect(page).to_have_url(re.compile("q=Busy"))
    expect(page.get_by_role("row")).to_have_count(3)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("x")
    expect(page.get_by_text("1 selected")).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Abuse", level=1)).to_be_visible()
    page.go_back()
    page.get_by_text("Filter", exact=True).click()
    page.get_by_label("Kind").select_option("Unusual usage")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("row")).to_have_count(2)
    page.get_by_role("link", name="Remove the filter Kind: Unusual usage").click()
    expect(page.get_by_role("row")).to_have_count(3)


def test_an_alert_suggests_what_to_do_and_leads_there(site: Site, open_page: OpenPage) -> None:
    page = open_page("operator")
    page.goto(f"/acme/keys/{site.seeded['keys']['busy']}")
    page.get_by_role("list", name="Open alerts of this key").get_by_role("link", name="Abuse").click()
    expect(page.get_by_role("region", name="Callers involved")).to_contain_text("never accepted with the key")
    means = page.get_by_role("region", name="What this means")
    means.get_by_role("link", name="Pause…").click()
    expect(page.get_by_role("dialog")).to_contain_text("Pause Busy reporter?")
    page.keyboard.press("Escape")
    means.get_by_role("link", name="Rotate…").click()
    expect(page).to_have_url(re.compile(r"/rotate\?reason=compromise$"))


@BOTH
def test_a_rule_is_tried_on_real_usage_before_it_is_saved(open_page: OpenPage, watch: Watch, javascript: bool) -> None:
    watch.allow("status of 422")
    page = open_page("admin", javascript=javascript)
    page.goto("/acme/alerts/rules")
    page.get_by_role("link", name="Tune Abuse").click()
    preview = page.get_by_role("region", name="The last 90 days with these values")
    if not javascript:
        page.get_by_role("button", name="Preview").click()
    expect(preview).to_contain_text("Revoked crawler")
    page.get_by_label("Requests with the revoked key in an hour").fill("1000")
    page.get_by_role("button", name="Preview").click()
    expect(preview).not_to_contain_text("Revoked crawler")
    assert "csrf" not in page.url
    page.get_by_role("button", name="Save").click()
    expect(told(page, "Abuse: saved.")).to_be_visible()
    expect(row(page, "Abuse")).to_contain_text("Requests with the revoked key in an hour: 1,000")
    expect(row(page, "Abuse")).to_contain_text("changed")
    page.get_by_role("link", name="Tune Abuse").click()
    page.get_by_role("button", name="Back to the usual").click()
    expect(told(page, "Abuse: back to the usual.")).to_be_visible()
    expect(row(page, "Abuse")).to_contain_text("as usual")


def test_a_bad_value_is_told_in_the_preview_with_its_limits(open_page: OpenPage, watch: Watch) -> None:
    watch.allow("status of 422")
    page = open_page("admin")
    page.goto("/acme/alerts/rules/expiry")
    page.get_by_label("Days before the end").fill("30, 400")
    page.get_by_role("button", name="Preview").click()
    preview = page.get_by_role("region", name="The last 90 days with these values")
    expect(preview).to_contain_text("Days before the end: Whole days between 1 and 365.")


def test_the_look_back_that_a_page_begins_by_itself_gives_way_to_the_one_asked_for(open_page: OpenPage) -> None:
    page = open_page("admin")
    begun: list[Route] = []

    def hold(route: Route) -> None:
        begun.append(route)

    page.route(lambda url: "preview=1" in url, hold)
    page.goto("/acme/alerts/rules/abuse")
    preview = page.get_by_role("region", name="The last 90 days with these values")
    expect(preview).to_contain_text("Looking back")
    page.get_by_label("Requests with the revoked key in an hour").fill("1000")
    page.get_by_role("button", name="Preview").click()
    expect(preview).to_contain_text("Looking back")
    by_itself, asked_for = begun
    # The older answer comes first, and the page has time to take it.
    with suppress(Error):
        by_itself.continue_()
    page.wait_for_timeout(1_000)
    asked_for.continue_()
    expect(page).to_have_url(re.compile("=1000"))
    expect(page.locator("#rule_preview.htmx-request")).to_have_count(0)
    expect(preview).to_contain_text("Nothing in the last 90 days would have raised one.")


@BOTH
def test_a_member_chooses_what_to_be_mailed(open_page: OpenPage, javascript: bool) -> None:
    page = open_page("operator", javascript=javascript)
    page.goto("/acme/alerts/mails")
    expect(row(page, "Abuse")).to_contain_text("at once")
    page.get_by_text("None", exact=True).click()
    page.get_by_role("button", name="Save").click()
    expect(told(page, "Saved.")).to_be_visible()
    expect(row(page, "Abuse")).to_contain_text("You chose nothing.")
    page.get_by_text(re.compile("^All: ")).click()
    page.get_by_role("button", name="Save").click()
    expect(row(page, "Abuse")).to_contain_text("Your role is operator.")


def test_the_digest_moves_in_a_dialog(open_page: OpenPage) -> None:
    page = open_page("admin")
    page.goto("/acme/alerts/rules")
    page.get_by_role("link", name="Change…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Hour").select_option("07:00")
    dialog.get_by_label("Time zone").fill("Europe/Lisbon")
    dialog.get_by_role("button", name="Save").click()
    expect(told(page, "The digest comes at 07:00, Europe/Lisbon.")).to_be_visible()
