"""No text becomes HTML but an answer of the server in which nothing could run."""

import pytest
from playwright.sync_api import Error, Page, Route, expect

from tests.e2e.conftest import OpenPage, Watch

pytestmark = pytest.mark.e2e

HARMLESS = {
    "text": "<b>bold</b> &lt;script&gt;",
    "a link": '<a href="/acme/keys/">keys</a><a href="mailto:team@example.com">team</a><a href="?after=x">next</a>',
    "a picture": '<svg viewBox="0 0 1 1"><rect width="1" height="1"></rect></svg>',
    "a template": "<template><p hidden>later</p></template>",
    "a whole page": '<!doctype html><html><head><script src="/a.js"></script></head><body class="x">y</body></html>',
}
COULD_RUN = {
    "a script": "<p>x</p><script>window.ran = 1</script>",
    "a script of elsewhere": '<script src="https://evil.example/x.js"></script>',
    "a handler": "<img src=x onerror='window.ran = 1'>",
    "a handler of the body": "<html><body onload='window.ran = 1'>x</body></html>",
    "a handler in capitals": "<svg OnLoad='window.ran = 1'></svg>",
    "a handler of htmx": "<p hx-on:click='window.ran = 1'>x</p>",
    "a handler of htmx by its other name": "<p data-hx-on:htmx:load='window.ran = 1'>x</p>",
    "an address that runs": "<a href='javascript:window.ran = 1'>x</a>",
    "an address that runs, hidden": "<a href=' java\tscript:window.ran = 1'>x</a>",
    "an address that runs in a picture": "<svg><a xlink:href='javascript:window.ran = 1'><text>x</text></a></svg>",
    "an address of a button": "<form><button formaction='javascript:window.ran = 1'>x</button></form>",
    "a document in an address": "<a href='data:text/html,<script>window.ran = 1</script>'>x</a>",
    "a frame": "<iframe srcdoc='<script>window.ran = 1</script>'></iframe>",
    "another base": "<base href='https://evil.example/'>",
    "a refresh": "<meta http-equiv='refresh' content='0;url=https://evil.example/'>",
    "something in a template": "<template><template><img src=x onerror='window.ran = 1'></template></template>",
    "something in a shadow": "<p><template shadowrootmode='open'><img src=x onerror='window.ran = 1'></template></p>",
    "an animation": "<svg><a><animate attributeName='href' values='javascript:window.ran = 1'/></a></svg>",
    "what a parser repairs": "<math><mtext><table><mglyph><style><img src=x onerror='window.ran = 1'></style></table>",
}
READERS = ["Document.parseHTMLUnsafe(text)", "new DOMParser().parseFromString(text, 'text/html')"]


@pytest.fixture
def page(open_page: OpenPage, watch: Watch) -> Page:
    # What a reader that runs nothing leaves to the policy is told by the policy too.
    for expected in ("Trusted", "trusted-types", "createPolicy", "Content Security Policy directive"):
        watch.allow(expected)
    page = open_page("operator")
    page.goto("/acme/keys/")
    return page


@pytest.mark.parametrize("reader", READERS)
def test_the_readers_take_what_cannot_run_and_nothing_else(page: Page, reader: str) -> None:
    for name, text in HARMLESS.items():
        assert page.evaluate(f"(text) => {{ {reader}; return 'read' }}", text) == "read", name
    for name, text in COULD_RUN.items():
        answer = page.evaluate(f"(text) => {{ try {{ {reader} }} catch (error) {{ return error.message }} }}", text)
        assert "TrustedHTML" in (answer or ""), name
    assert page.evaluate("window.ran") is None


@pytest.mark.parametrize(
    "sink",
    [
        "document.body.innerHTML = '<b>x</b>'",
        "document.querySelector('main').outerHTML = '<b>x</b>'",
        "document.body.insertAdjacentHTML('beforeend', '<b>x</b>')",
        "document.write('<b>x</b>')",
        "document.createElement('iframe').srcdoc = '<b>x</b>'",
        "document.createElement('script').src = '/assets/script.js'",
        "document.createElement('script').textContent = 'window.ran = 1'",
        "document.createRange().createContextualFragment('<b>x</b>')",
    ],
)
def test_no_other_way_takes_a_text(page: Page, sink: str) -> None:
    with pytest.raises(Error, match="Trusted"):
        page.evaluate(f"() => {{ {sink} }}")


@pytest.mark.parametrize("name", ["default", "keyadmin-reader", "another"])
def test_nobody_adds_a_policy(page: Page, name: str) -> None:
    with pytest.raises(Error, match=r"already exists|disallowed"):
        page.evaluate("(name) => { trustedTypes.createPolicy(name, { createHTML: (text) => text }) }", name)


def test_an_answer_in_which_something_could_run_is_not_shown(page: Page, watch: Watch) -> None:
    def poison(route: Route) -> None:
        route.fulfill(body="<div id='key_table'><img src=x onerror='window.ran = 1'>poisoned</div>")

    shown = page.locator("table tbody tr").count()
    page.route("**/acme/keys/find", poison)
    watch.allow("htmx:swapError")
    with page.expect_console_message(lambda message: "TrustedHTML" in message.text):
        page.get_by_role("searchbox").first.fill("reporting")
    expect(page.get_by_text("poisoned")).to_have_count(0)
    assert page.locator("table tbody tr").count() == shown
    assert page.evaluate("window.ran") is None
