"""A rotation from its start to the last attempt with the old key, as a person does it, with and without JavaScript."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Locator, Page, expect

from apikeys import key_secret
from tests.e2e.conftest import OpenPage, Watch
from tests.e2e.site import Site
from tests.e2e.test_key_page import issue
from tests.factories import PASSWORD

pytestmark = pytest.mark.e2e

BOTH = pytest.mark.parametrize("javascript", [True, False], ids=["with-javascript", "without-javascript"])
# The board asks every five seconds.
SOON = 15_000
FIRST, SECOND, STRANGER = "203.0.113.9", "203.0.113.10", "203.0.113.66"


def begin(page: Page, name: str) -> tuple[str, str]:
    """Issue a key and rotate it; return the texts of both. The page shows the rotation."""
    old = issue(page, name)
    page.get_by_role("link", name="Rotate…").click()
    expect(page.get_by_role("heading", name=f"Rotate {name}")).to_be_visible()
    page.get_by_role("button", name="Start the rotation").click()
    new = shown_once(page)
    page.get_by_role("link", name="I have stored it, to the rotation").click()
    expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()
    assert new not in page.content()
    return old, new


def shown_once(page: Page) -> str:
    field = page.get_by_role("textbox", name="The key", exact=True)
    expect(field).to_be_visible()
    secret = field.input_value()
    assert key_secret.parse(secret)
    assert secret not in page.url
    return secret


def looks_again(page: Page, *, javascript: bool) -> None:
    """Without JavaScript people load the board again; otherwise it does so by itself."""
    if not javascript:
        page.get_by_role("link", name="Load again").click()


def card(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name)


def asks(page: Page, link: str, *, javascript: bool) -> Locator:
    """Press a button that asks a question, and return where that stands."""
    page.get_by_role("link", name=link).click()
    question = page.get_by_role("dialog") if javascript else page.get_by_role("main")
    expect(question.get_by_role("heading", level=1)).to_be_visible()
    return question


@BOTH
def test_a_key_is_rotated_while_its_callers_move_one_after_another(
    site: Site, open_page: OpenPage, watch: Watch, javascript: bool
) -> None:
    watch.allow("status of 422")
    name = f"Rotated {'quick' if javascript else 'plain'}"
    page = open_page("operator", javascript=javascript)
    old, new = begin(page, name)
    assert (site.verify(old), site.verify(new)) == ((200, "valid"), (200, "valid"))
    for address in (FIRST, SECOND):
        assert site.authorize(old, address=address) == 200
    looks_again(page, javascript=javascript)
    still_old, moved = card(page, "Still on the old key"), card(page, "Moved to the new key")
    expect(still_old).to_contain_text(FIRST, timeout=SOON)
    expect(still_old).to_contain_text(SECOND)

    assert site.authorize(new, address=FIRST) == 200
    looks_again(page, javascript=javascript)
    expect(moved).to_contain_text(FIRST, timeout=SOON)
    expect(still_old).not_to_contain_text(FIRST)
    expect(page.get_by_role("list", name="Steps of the rotation")).to_contain_text(
        re.compile(r"\d of \d callers moved")
    )

    safety = card(page, "Can the old key go?")
    expect(safety).to_contain_text("Not safe yet")
    expect(safety).to_contain_text("how long it usually is silent is not known")
    expect(safety).to_contain_text("The new key is in use.")
    expect(safety).to_contain_text("of the old key")

    extends(page, javascript=javascript)
    finishes(page, name, javascript=javascript)

    assert site.verify(old) == (401, "revoked")
    assert site.verify(new) == (200, "valid")
    for address in (SECOND, STRANGER):
        assert site.authorize(old, address=address) == 401
    looks_again(page, javascript=javascript)
    attempts = card(page, "Who still tries the old key")
    expect(attempts.get_by_role("row").filter(has_text=STRANGER)).to_contain_text("possible leak", timeout=SOON)
    expect(attempts.get_by_role("row").filter(has_text=SECOND)).to_contain_text("used the key before")
    for link in ("Finish now…", "Cancel…", "Extend…"):
        expect(page.get_by_role("link", name=link)).to_have_count(0)


def extends(page: Page, *, javascript: bool) -> None:
    question = asks(page, "Extend…", javascript=javascript)
    end = datetime.now(UTC) + timedelta(days=40)
    question.get_by_label("Both keys work until").fill((end - timedelta(days=200)).strftime("%Y-%m-%dT%H:%M"))
    question.get_by_role("button", name="Move the end").click()
    expect(page.get_by_text("The end must be in the future.", exact=True)).to_be_visible()
    question.get_by_label("Both keys work until").fill(end.strftime("%Y-%m-%dT%H:%M"))
    question.get_by_role("button", name="Move the end").click()
    expect(page.get_by_role("status").filter(has_text="The end was moved.")).to_be_visible()
    expect(page.get_by_role("main")).to_contain_text(re.compile(rf"Both keys work until {end.day}\D"))


def finishes(page: Page, name: str, *, javascript: bool) -> None:
    question = asks(page, "Finish now…", javascript=javascript)
    expect(question).to_contain_text("Not safe yet")
    # One of the two has moved.
    breaks = question.get_by_role("region", name="What this breaks")
    expect(breaks).to_contain_text("This will break 1 caller that has not moved")
    expect(breaks).to_contain_text(SECOND)
    expect(breaks).not_to_contain_text(re.compile(rf"{re.escape(FIRST)}\b"))
    button = question.get_by_role("button", name="Revoke the old key")
    if javascript:
        expect(button).to_be_disabled()
    else:
        question.get_by_label(f"Type {name} to confirm").fill(name.lower())
        button.click()
        expect(page.get_by_text(f"This does not match. Type {name} to confirm.", exact=True)).to_be_visible()
    question.get_by_label(f"Type {name} to confirm").fill(name)
    button.click()
    expect(
        page.get_by_role("status").filter(has_text=f"The old key of {name} is revoked. 1 caller had not moved.")
    ).to_be_visible()


@BOTH
def test_a_cancelled_rotation_leaves_the_old_key_as_it_was(site: Site, open_page: OpenPage, javascript: bool) -> None:
    name = f"Kept {'quick' if javascript else 'plain'}"
    page = open_page("operator", javascript=javascript)
    old, new = begin(page, name)
    assert site.authorize(new) == 200
    question = asks(page, "Cancel…", javascript=javascript)
    expect(question).to_contain_text("is revoked at once and never comes back")
    expect(question).to_contain_text(FIRST)
    question.get_by_label(f"Type {name} to confirm").fill(name)
    question.get_by_role("button", name="Cancel the rotation").click()
    expect(card(page, "Cancelled")).to_contain_text("The old key goes on")
    assert site.verify(new) == (401, "revoked")
    assert site.verify(old) == (200, "valid")
    parsed = key_secret.parse(old)
    assert parsed
    page.goto(f"/acme/keys/{parsed.public_id}")
    expect(page.get_by_role("link", name="Rotate…")).to_be_visible()


@BOTH
def test_the_owner_alone_gets_the_new_key_by_a_link_that_is_good_once(
    site: Site, open_page: OpenPage, watch: Watch, javascript: bool
) -> None:
    watch.allow("status of 4")
    name = f"Handed over {'quick' if javascript else 'plain'}"
    page = open_page("admin", javascript=javascript)
    old = issue(page, name)
    page.get_by_role("link", name="Rotate…").click()
    page.get_by_role("radio", name=re.compile("^Operator Person, by a link")).check()
    page.get_by_label("The link is good for").select_option("1 day")
    page.get_by_role("button", name="Start the rotation").click()
    expect(page.get_by_text("A link to the new key was sent to operator@example.com.")).to_be_visible()
    expect(page.get_by_role("main")).to_contain_text("operator@example.com")
    board = page.url

    mail = site.mailbox.mails[-1]
    assert mail["To"] == "operator@example.com"
    assert name in mail["Subject"]
    text = mail.get_body(("plain",))
    assert text is not None
    [link] = re.findall(rf"{re.escape(site.url)}/handover/\S+", text.get_content())

    other = open_page("viewer", javascript=javascript)
    other.goto(link)
    expect(other.get_by_role("heading", name="This link is for somebody else")).to_be_visible()
    expect(other.get_by_role("button", name="Show me the new key")).to_have_count(0)

    # Whoever is not signed in does so first, and then is where the link leads.
    owner = open_page(javascript=javascript)
    owner.goto(link)
    owner.get_by_label("Email").fill("operator@example.com")
    sign_in_here(owner)
    expect(owner.get_by_role("heading", name=f"Your new key for {name}")).to_be_visible()
    owner.get_by_role("button", name="Show me the new key").click()
    new = shown_once(owner)
    assert (site.verify(old), site.verify(new)) == ((200, "valid"), (200, "valid"))

    again = open_page("operator", javascript=javascript)
    again.goto(link)
    expect(again.get_by_role("heading", name="This link is not good")).to_be_visible()
    page.goto(board)
    steps = page.get_by_role("list", name="Steps of the rotation")
    expect(steps).to_contain_text("by its owner")
    expect(steps).to_contain_text("first used")
    assert new not in page.content()


def sign_in_here(page: Page) -> None:
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


def test_the_board_follows_what_somebody_else_does(site: Site, open_page: OpenPage) -> None:
    page = open_page("operator")
    begin(page, "Watched by two")
    url = page.url
    other = open_page("admin")
    other.goto(url)
    other.get_by_role("link", name="Cancel…").click()
    other.get_by_role("dialog").get_by_role("button", name="Cancel the rotation").click()
    expect(card(page, "Cancelled")).to_be_visible(timeout=SOON)
    expect(page.get_by_role("link", name="Extend…")).to_have_count(0)


def test_a_viewer_sees_how_far_a_rotation_is_and_no_way_to_change_it(site: Site, open_page: OpenPage) -> None:
    page = open_page("viewer")
    page.goto("/acme/rotations/")
    page.get_by_role("link", name="Rotating reporter").click()
    expect(card(page, "Moved to the new key")).to_be_visible()
    for link in ("Finish now…", "Cancel…", "Extend…", "Send the link again…"):
        expect(page.get_by_role("link", name=link)).to_have_count(0)
