"""Every page, dialog and state as a person with other eyes, another screen or another theme meets it."""

import re
from collections.abc import Callable
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.template.loader import render_to_string
from django.urls import URLPattern, URLResolver, get_resolver, resolve
from playwright.sync_api import Page, expect

from tests.e2e.conftest import DESKTOP, PHONE, OpenPage, Watch
from tests.e2e.site import Site
from tests.factories import PASSWORD

pytestmark = [pytest.mark.e2e, pytest.mark.any_engine]

COLOUR_RULES = ["color-contrast", "link-in-text-block"]
LATER_ROWS = "tbody > tr:nth-child(n + 11)"
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")

RULE = "is_on=on&when=urgent&role=operator&wrong_secrets=5&refusals=20&preview=1"

POLICY = "expiry_required=on&max_lifetime=90&owner_required=on&max_key_age=60&unused_after_days=30"

# Person and path; {words} are ids of tests/e2e/seed.py.
PAGES = {
    "sign-in": ("", "/accounts/login/"),
    "sign-up-closed": ("", "/accounts/signup/"),
    "account-closed": ("", "/accounts/inactive/"),
    "password-reset": ("", "/accounts/password/reset/"),
    "password-reset-sent": ("", "/accounts/password/reset/done/"),
    "password-reset-dead-link": ("", "/accounts/password/reset/key/1-set-password/"),
    "password-reset-done": ("", "/accounts/password/reset/key/done/"),
    "sign-out": ("viewer", "/accounts/logout/"),
    "reauthenticate": ("viewer", "/accounts/reauthenticate/"),
    "password-change": ("viewer", "/accounts/password/change/"),
    "factors-none": ("viewer", "/accounts/2fa/"),
    "factors": ("guarded", "/accounts/2fa/"),
    "factor-app-on": ("viewer", "/accounts/2fa/totp/activate/"),
    "factor-app-off": ("guarded", "/accounts/2fa/totp/deactivate/"),
    "factor-codes": ("guarded", "/accounts/2fa/recovery-codes/"),
    "factor-codes-new": ("guarded", "/accounts/2fa/recovery-codes/generate/"),
    "factor-passkey-add": ("viewer", "/accounts/2fa/webauthn/add/"),
    "factor-passkey-rename": ("guarded", "/accounts/2fa/webauthn/keys/{passkey}/edit/"),
    "factor-passkey-remove": ("guarded", "/accounts/2fa/webauthn/keys/{passkey}/remove/"),
    "reauthenticate-by-code": ("guarded", "/accounts/2fa/reauthenticate/"),
    "reauthenticate-by-passkey": ("guarded", "/accounts/2fa/webauthn/reauthenticate/"),
    "preferences": ("viewer", "/settings"),
    "no-organization": ("nowhere", "/"),
    "overview": ("operator", "/acme/"),
    "overview-of-a-viewer": ("viewer", "/acme/"),
    "overview-first-steps": ("admin", "/empty/"),
    "usage": ("operator", "/acme/usage/"),
    "usage-of-a-viewer": ("viewer", "/acme/usage/?range=24h"),
    "usage-13m": ("operator", "/acme/usage/?range=13m"),
    "usage-none": ("admin", "/empty/usage/"),
    "usage-bad-range": ("operator", "/acme/usage/?since=2026-02-30&until=2026-01-01"),
    "keys": ("operator", "/acme/keys/"),
    "keys-of-a-viewer": ("viewer", "/acme/keys/"),
    "keys-none": ("admin", "/empty/keys/"),
    "keys-none-match": ("operator", "/acme/keys/?q=nothing+is+called+so"),
    "keys-filtered": ("operator", "/acme/keys/?status=active&environment=dev&environment=prod&expires=never&sort=name"),
    "keys-unused": ("operator", "/acme/keys/?status=unused"),
    "keys-silent": ("viewer", "/acme/keys/?silence=exempt"),
    "keys-revoked": ("operator", "/acme/keys/?status=revoked"),
    "key-busy": ("operator", "/acme/keys/{busy}"),
    "key-busy-24h": ("operator", "/acme/keys/{busy}?range=24h"),
    "key-busy-13m": ("operator", "/acme/keys/{busy}?range=13m&callers=network"),
    "key-bad-range": ("operator", "/acme/keys/{busy}?since=2026-02-30&until=2026-01-01"),
    "key-narrow": ("operator", "/acme/keys/{busy}/narrow"),
    "key-narrow-hostile": ("operator", "/acme/keys/{hostile}/narrow"),
    "key-idle": ("operator", "/acme/keys/{idle}"),
    "key-expiring": ("operator", "/acme/keys/{expiring}"),
    "key-unused": ("operator", "/acme/keys/{unused}"),
    "key-exempt": ("operator", "/acme/keys/{exempt}"),
    "key-exempt-of-a-viewer": ("viewer", "/acme/keys/{exempt}"),
    "key-expired": ("operator", "/acme/keys/{expired}"),
    "key-revoked": ("operator", "/acme/keys/{revoked}"),
    "key-paused": ("operator", "/acme/keys/{paused}"),
    "key-hostile": ("operator", "/acme/keys/{hostile}"),
    "key-of-a-viewer": ("viewer", "/acme/keys/{busy}"),
    "key-requests": ("operator", "/acme/keys/{busy}/requests"),
    "key-requests-filtered": ("operator", "/acme/keys/{busy}/requests?outcome=paused&caller=curl&range=7d"),
    "key-requests-bad-filter": ("operator", "/acme/keys/{busy}/requests?outcome=odd"),
    "key-first-request": ("operator", "/acme/keys/{idle}/first-request"),
    "key-create": ("operator", "/acme/keys/new"),
    "key-edit": ("operator", "/acme/keys/{busy}/edit"),
    "key-edit-hostile": ("operator", "/acme/keys/{hostile}/edit"),
    "key-pause": ("operator", "/acme/keys/{busy}/pause"),
    "key-resume": ("operator", "/acme/keys/{paused}/resume"),
    "key-exempt-form": ("operator", "/acme/keys/{unused}/exempt"),
    "key-exempt-change": ("operator", "/acme/keys/{exempt}/exempt"),
    "key-exempt-end": ("operator", "/acme/keys/{exempt}/exempt/end"),
    "key-violating": ("admin", "/acme/keys/{hostile}"),
    "policy-exempt": ("admin", "/acme/keys/{hostile}/policy/rate/exempt"),
    "policy-exempt-change": ("admin", "/acme/keys/{exempt}/policy/owner/exempt"),
    "policy-exempt-end": ("admin", "/acme/keys/{exempt}/policy/owner/exempt/end"),
    "key-regenerate": ("operator", "/acme/keys/{busy}/regenerate"),
    "key-revoke-in-use": ("operator", "/acme/keys/{busy}/revoke"),
    "key-revoke-idle": ("operator", "/acme/keys/{idle}/revoke"),
    "key-revoke-hostile": ("operator", "/acme/keys/{hostile}/revoke"),
    "keys-bulk-revoke": ("operator", "/acme/keys/revoke?key={busy}&key={hostile}&key={revoked}"),
    "key-rotate": ("operator", "/acme/keys/{idle}/rotate"),
    "key-rotate-in-use": ("operator", "/acme/keys/{busy}/rotate?reason=compromise"),
    "key-rotate-hostile": ("operator", "/acme/keys/{hostile}/rotate"),
    "keys-bulk-rotate": ("operator", "/acme/keys/rotate?key={busy}&key={hostile}&key={revoked}"),
    "key-rotating-old": ("operator", "/acme/keys/{old_key}"),
    "key-rotating-new": ("viewer", "/acme/keys/{new_key}"),
    "rotations": ("operator", "/acme/rotations/"),
    "rotations-of-a-viewer": ("viewer", "/acme/rotations/?show=all"),
    "rotations-ended": ("operator", "/acme/rotations/?show=ended"),
    "rotations-none": ("admin", "/empty/rotations/"),
    "rotations-bad-cursor": ("viewer", "/acme/rotations/?after=odd"),
    "rotation-running": ("operator", "/acme/rotations/{running}"),
    "rotation-of-a-viewer": ("viewer", "/acme/rotations/{running}"),
    "rotation-waiting": ("operator", "/acme/rotations/{waiting}"),
    "rotation-hostile": ("operator", "/acme/rotations/{hostile_rotation}"),
    "rotation-finished": ("operator", "/acme/rotations/{finished}"),
    "rotation-cancelled": ("operator", "/acme/rotations/{cancelled}"),
    "rotation-overdue": ("operator", "/acme/rotations/{overdue}"),
    "rotation-handed": ("operator", "/acme/rotations/{handed}"),
    "rotation-extend": ("operator", "/acme/rotations/{running}/extend"),
    "rotation-finish": ("operator", "/acme/rotations/{running}/finish"),
    "rotation-finish-waiting": ("operator", "/acme/rotations/{waiting}/finish"),
    "rotation-finish-hostile": ("operator", "/acme/rotations/{hostile_rotation}/finish"),
    "rotation-cancel": ("operator", "/acme/rotations/{running}/cancel"),
    "rotation-cancel-hostile": ("operator", "/acme/rotations/{hostile_rotation}/cancel"),
    "rotation-link": ("operator", "/acme/rotations/{handed}/link"),
    "rotation-take": ("operator", "/handover/{token}"),
    "rotation-take-of-another": ("viewer", "/handover/{token}"),
    "rotation-take-not-good": ("", "/handover/made-up"),
    "reviews": ("admin", "/acme/reviews/"),
    "reviews-of-a-viewer": ("viewer", "/acme/reviews/"),
    "reviews-none": ("admin", "/empty/reviews/"),
    "reviews-bad-cursor": ("viewer", "/acme/reviews/?after=odd"),
    "review-start": ("admin", "/empty/reviews/new"),
    "review-start-no-key": ("admin", "/empty/reviews/new?q=nothing"),
    "review": ("admin", "/acme/reviews/{review}"),
    "review-of-a-viewer": ("viewer", "/acme/reviews/{review}"),
    "review-of-an-operator": ("operator", "/acme/reviews/{review}?status=open&owner=operator@example.com"),
    "review-unneeded": ("admin", "/acme/reviews/{review}?status=unneeded"),
    "review-none-match": ("admin", "/acme/reviews/{review}?q=nothing+is+called+so"),
    "review-bad-filter": ("viewer", "/acme/reviews/{review}?owner=odd"),
    "review-bad-cursor": ("viewer", "/acme/reviews/{review}?after=odd"),
    "review-closed": ("admin", "/acme/reviews/{review_closed}"),
    "review-print": ("viewer", "/acme/reviews/{review}/print"),
    "review-print-closed": ("viewer", "/acme/reviews/{review_closed}/print"),
    "review-confirm": ("admin", "/acme/reviews/{review}/keys/{hostile}"),
    "review-bulk-confirm": ("admin", "/acme/reviews/{review}/confirm?key={busy}&key={hostile}"),
    "review-close": ("admin", "/acme/reviews/{review}/close"),
    "alerts": ("operator", "/acme/alerts/"),
    "alerts-of-a-viewer": ("viewer", "/acme/alerts/?status=all"),
    "alerts-filtered": ("operator", "/acme/alerts/?kind=abuse&urgency=urgent&environment=prod"),
    "alerts-acknowledged": ("operator", "/acme/alerts/?status=acknowledged"),
    "alerts-resolved": ("operator", "/acme/alerts/?status=resolved"),
    "alerts-none": ("admin", "/empty/alerts/"),
    "alerts-none-resolved": ("admin", "/empty/alerts/?status=resolved"),
    "alerts-none-match": ("operator", "/acme/alerts/?q=nothing+is+called+so"),
    "alerts-bad-filter": ("viewer", "/acme/alerts/?kind=odd"),
    "alerts-bad-cursor": ("viewer", "/acme/alerts/?after=odd"),
    "alert": ("operator", "/acme/alerts/{alert_abuse}"),
    "alert-of-a-viewer": ("viewer", "/acme/alerts/{alert_abuse}"),
    "alert-unusual": ("operator", "/acme/alerts/{alert_unusual}"),
    "alert-hostile": ("operator", "/acme/alerts/{alert_hostile}"),
    "alert-acknowledged": ("operator", "/acme/alerts/{alert_held}"),
    "alert-resolved": ("operator", "/acme/alerts/{alert_resolved}"),
    "alert-of-a-job": ("operator", "/acme/alerts/{alert_job}"),
    "alert-acknowledge": ("operator", "/acme/alerts/{alert_held}/acknowledge"),
    "alert-resolve": ("operator", "/acme/alerts/{alert_hostile}/resolve"),
    "alerts-bulk-acknowledge": (
        "operator",
        "/acme/alerts/acknowledge?alert={alert_abuse}&alert={alert_hostile}&alert={alert_resolved}",
    ),
    "alerts-bulk-resolve": ("operator", "/acme/alerts/resolve?all=1"),
    "alert-rules": ("admin", "/acme/alerts/rules"),
    "alert-rules-of-a-viewer": ("viewer", "/acme/alerts/rules"),
    "alert-rule": ("admin", "/acme/alerts/rules/abuse"),
    "alert-rule-unusual": ("admin", "/acme/alerts/rules/unusual_usage"),
    "alert-rule-preview": ("admin", f"/acme/alerts/rules/abuse?{RULE}&revoked=1"),
    "alert-rule-bad-values": ("admin", f"/acme/alerts/rules/abuse?{RULE}&revoked=0"),
    "alert-digest": ("admin", "/acme/alerts/digest"),
    "alert-mails": ("viewer", "/acme/alerts/mails"),
    "webhooks": ("admin", "/acme/alerts/webhooks/"),
    "webhooks-none": ("admin", "/empty/alerts/webhooks/"),
    "webhook-create": ("admin", "/acme/alerts/webhooks/new"),
    "webhook": ("admin", "/acme/alerts/webhooks/{webhook}"),
    "webhook-edit": ("admin", "/acme/alerts/webhooks/{webhook}/edit"),
    "webhook-secret": ("admin", "/acme/alerts/webhooks/{webhook}/secret"),
    "webhook-delete": ("admin", "/acme/alerts/webhooks/{webhook}/delete"),
    "deliveries": ("admin", "/acme/alerts/deliveries/"),
    "deliveries-bad-filter": ("operator", "/acme/alerts/deliveries/?state=odd"),
    "deliveries-none": ("admin", "/empty/alerts/deliveries/"),
    "delivery": ("admin", "/acme/alerts/deliveries/{delivery}"),
    "audit": ("admin", "/acme/audit/"),
    "sessions": ("viewer", "/sessions"),
    "prove": ("viewer", "/acme/prove?next=/acme/audit/export.jsonl"),
    "audit-none-match": ("admin", "/acme/audit/?actor=nobody"),
    "scopes": ("admin", "/acme/scopes/"),
    "scopes-of-a-viewer": ("viewer", "/acme/scopes/"),
    "scope-edit": ("admin", "/acme/scopes/{scope}/edit"),
    "scope-delete": ("admin", "/acme/scopes/{scope}/delete"),
    "members": ("admin", "/acme/members/"),
    "members-of-a-viewer": ("viewer", "/acme/members/"),
    "member-edit": ("admin", "/acme/members/{operator}/edit"),
    "member-edit-limited": ("admin", "/acme/members/{limited}/edit"),
    "member-remove": ("admin", "/acme/members/{operator}/remove"),
    "member-leave": ("operator", "/acme/members/leave"),
    "invitation-new-account": ("", "/invitation/{way_in}"),
    "invitation-to-sign-in": ("", "/invitation/{way_in_known}"),
    "invitation-to-accept": ("nowhere", "/invitation/{way_in_known}"),
    "invitation-of-another": ("viewer", "/invitation/{way_in}"),
    "invitation-not-good": ("", "/invitation/made-up"),
    "key-of-a-limited-operator": ("limited", "/acme/keys/{busy}"),
    "keys-of-a-limited-operator": ("limited", "/acme/keys/"),
    "key-create-of-a-limited-operator": ("limited", "/acme/keys/new"),
    "rotation-of-a-limited-operator": ("limited", "/acme/rotations/{running}"),
    "alert-of-a-limited-operator": ("limited", "/acme/alerts/{alert_abuse}"),
    "not-allowed-by-environment": ("limited", "/acme/keys/{busy}/edit"),
    "settings": ("admin", "/acme/settings/"),
    "policies": ("admin", "/acme/settings/policies"),
    "policies-of-a-viewer": ("viewer", "/acme/settings/policies"),
    "policies-none": ("admin", "/empty/settings/policies"),
    "policy-edit": ("admin", "/acme/settings/policies/edit"),
    "policy-preview": ("admin", f"/acme/settings/policies/preview?{POLICY}"),
    "policy-preview-of-a-rule": ("admin", f"/acme/settings/policies/preview?{POLICY}&rule=expiry"),
    "policy-preview-same": ("admin", "/empty/settings/policies/preview"),
    "policy-preview-bad-values": ("admin", "/acme/settings/policies/preview?max_lifetime=0&max_rate=-1"),
    "policy-preview-bad-cursor": ("admin", f"/acme/settings/policies/preview?{POLICY}&rule=expiry&after=odd"),
    "policy-exemptions": ("admin", "/acme/settings/policies/exemptions"),
    "policy-exemptions-none": ("admin", "/empty/settings/policies/exemptions"),
    "keys-violating": ("operator", "/acme/keys/?policy=violating"),
    "environment-create": ("admin", "/acme/settings/environments/new"),
    "environment-edit": ("admin", "/acme/settings/environments/{environment}/edit"),
    "environment-delete": ("admin", "/acme/settings/environments/{environment}/delete"),
    "not-found": ("viewer", "/acme/keys/nothing"),
    "not-allowed": ("viewer", "/acme/keys/new"),
    "bad-request": ("viewer", "/acme/keys/?q=%00"),
    "bad-filter": ("viewer", "/acme/keys/?environment=mars&status=odd"),
    "bad-cursor": ("viewer", "/acme/keys/?after=odd"),
}

# What is no page: it redirects, downloads, or only takes a form.
NO_PAGES = {"stylesheet", "script", "key_find", "key_export", "audit_export", "key_usage_export", "usage_export"}
NO_PAGES |= {"alert_find", "alert_export", "alert_rule_reset", "scope_create", "account_set_password"}
NO_PAGES |= {"invitation_create", "invitation_resend", "invitation_withdraw"}
NO_PAGES |= {"alert_mail_test", "delivery_export", "delivery_resend", "webhook_switch", "webhook_test"}
NO_PAGES |= {"mfa_download_recovery_codes", "mfa_list_webauthn", "mfa_login_webauthn"}
# Comes after the password: in STATES.
NO_PAGES |= {"mfa_authenticate"}
NO_PAGES |= {"review_export", "review_find", "review_remind", "review_revoke"}
NO_PAGES |= {"rotation_export", "rotation_callers_export", "session_end", "sessions_end"}
# tests/e2e/test_single_sign_on.py looks at these: here there is no provider.
NO_PAGES |= {"sign_on", "sign_on_return"}


def test_every_page_of_ours_is_looked_at() -> None:
    looked_at = {resolve(path.partition("?")[0].format_map(Anything())).url_name for _, path in PAGES.values()}
    assert {name for name in names(get_resolver()) if name not in NO_PAGES} == looked_at


class Anything(dict[str, str]):
    def __missing__(self, key: str) -> str:
        if key == "delivery":
            return "00000000-0000-4000-8000-000000000000"
        return "AL-0000001" if key.startswith("alert_") else "1"


def names(resolver: URLResolver) -> set[str]:
    found: set[str] = set()
    for entry in resolver.url_patterns:
        if isinstance(entry, URLPattern):
            found.add(entry.name or "")
        else:
            found |= names(entry)
    return found


@pytest.mark.parametrize("name", PAGES)
def test_page_is_accessible_and_fits(site: Site, open_page: OpenPage, watch: Watch, name: str) -> None:
    person, path = PAGES[name]
    watch.allow("Failed to load resource: the server responded with a status of 4")
    page = open_page(person)
    page.goto(filled(path, site))
    # What comes by itself is looked at when it is there.
    expect(page.locator("#rule_preview.htmx-request")).to_have_count(0)
    look_at(page)


def filled(path: str, site: Site) -> str:
    ids: dict[str, Any] = site.seeded
    every = {
        **ids["reviews"],
        **ids["keys"],
        **ids["members"],
        **ids["rotations"],
        **ids["alerts"],
        **ids["factors"],
        **ids["ways_in"],
    }
    return path.format(**every, scope=ids["scope"], environment=ids["environment"])


def look_at(page: Page) -> None:
    """Check what is open now, in both themes, on a phone and on a desktop."""
    found: list[str] = []
    for width, height in (DESKTOP, PHONE):
        page.set_viewport_size({"width": width, "height": height})
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            found.append(f"{width} pixels: the page scrolls sideways")
        for theme in THEMES:
            page.emulate_media(color_scheme=theme)
            # The themes differ in their colours alone.
            rules = {"runOnly": COLOUR_RULES} if theme == "dark" else {}
            options = {"resultTypes": ["violations"], **rules}
            # Long tables are looked at whole once: their rows are alike, and contrast takes most of the time.
            left_out = {} if (width, theme) == (DESKTOP[0], "light") else {"exclude": [[LATER_ROWS]]}
            # Half a megabyte that Axe().run would send before each look. A page that follows what happens may have been
            # loaded anew since the last one.
            if not page.evaluate("'axe' in window"):
                page.evaluate(Axe().axe_script)
            result = page.evaluate(
                "([leftOut, options]) => axe.run({include: [document], ...leftOut}, options)", [left_out, options]
            )
            for violation in result["violations"]:
                where = "; ".join(f"{node['target']} {node['html'][:150]}" for node in violation["nodes"])
                found.append(f"{width} pixels, {theme}: {violation['id']}: {violation['help']}: {where}")
    assert not found, "\n".join(found)


# States that no address leads to

type Act = Callable[[Page], None]


def opens_a_dialog(link: str) -> Act:
    def act(page: Page) -> None:
        page.get_by_role("main").get_by_role("link", name=link).first.click()
        expect(page.get_by_role("dialog")).to_be_visible()

    return act


def selects_two_keys_to_revoke(page: Page) -> None:
    for name in ("Select Batch job 58", "Select Batch job 57"):
        page.get_by_role("checkbox", name=name).check()
    page.get_by_role("button", name="Revoke…").click()
    expect(page.get_by_role("dialog")).to_be_visible()


def selects_all_alerts_to_resolve(page: Page) -> None:
    page.get_by_role("checkbox", name="Select all alerts on this page").check()
    page.get_by_role("button", name="Resolve…").click()
    expect(page.get_by_role("dialog")).to_be_visible()


def answers_for_a_key(page: Page) -> None:
    progress = page.locator("#review_progress dl")
    before = progress.inner_text()
    page.get_by_role("button", name="Not needed: Batch job 2", exact=True).click()
    row = page.locator("tr").filter(has=page.get_by_role("link", name="Batch job 2", exact=True))
    expect(row.get_by_text("No longer needed")).to_be_visible()
    # How far the review is was drawn again with the row.
    expect(progress).not_to_have_text(before, use_inner_text=True)
    page.get_by_text("By owner", exact=True).click()
    expect(page.locator("#review_progress").get_by_role("row")).not_to_have_count(0)


def selects_two_keys_to_confirm(page: Page) -> None:
    for name in ("Select Batch job 10", "Select Batch job 11"):
        page.get_by_role("checkbox", name=name, exact=True).check()
    page.get_by_role("button", name="Needed…", exact=True).click()
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page.get_by_role("radio", name="Still needed")).to_be_checked()


def opens(text: str) -> Act:
    return lambda page: page.get_by_text(text, exact=True).first.click()


def walks_the_chart(page: Page) -> None:
    page.get_by_role("img", name=re.compile("^Requests per day")).focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("[data-tip]:visible")).to_have_count(1)


def walks_the_chart_of_both(page: Page) -> None:
    page.locator("[data-figure]").get_by_role("img").first.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("[data-tip]:visible")).to_have_count(1)


def opens_the_tables(page: Page) -> None:
    for summary in page.get_by_text("As a table", exact=True).all():
        summary.click()


def chooses_a_week(page: Page) -> None:
    page.get_by_role("link", name="7 d", exact=True).click()
    expect(page).to_have_url(re.compile(r"range=7d"))
    expect(page.get_by_role("img", name=re.compile("^Requests per 6 hours"))).to_be_visible()


def takes_a_used_scope(page: Page) -> None:
    page.get_by_role("checkbox", name="orders:read").check()
    page.get_by_role("button", name="Take the ticked scopes").click()
    expect(page.get_by_role("alert")).to_be_visible()


def pauses_the_requests(page: Page) -> None:
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.get_by_text("Paused", exact=True)).to_be_visible()


def opens_the_person_menu(page: Page) -> None:
    page.get_by_role("complementary").locator("summary").last.click()


def opens_the_organizations(page: Page) -> None:
    page.get_by_role("complementary").locator("summary").first.click()


def asks_for_the_shortcuts(page: Page) -> None:
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()


def submits(button: str) -> Act:
    def act(page: Page) -> None:
        # As a script or an old browser would: the server's own words are to be seen, not the browser's.
        page.locator("form").evaluate_all("forms => forms.forEach(form => { form.noValidate = true })")
        page.get_by_role("button", name=button).click()
        expect(page.locator("[aria-invalid=true], .errorlist").first).to_be_visible()

    return act


def fills_in_a_key(page: Page) -> None:
    page.get_by_label("Name").fill("Looked at")
    page.get_by_label("Purpose").fill("To be looked at")
    page.get_by_role("combobox", name="Owner").select_option("Operator Person")
    page.get_by_role("checkbox", name="orders:read").check()


def creates_a_key(page: Page) -> None:
    fills_in_a_key(page)
    page.get_by_role("button", name="Create key").click()
    expect(page.get_by_role("textbox", name="The key", exact=True)).to_be_visible()


def creates_a_key_twice(page: Page) -> None:
    fills_in_a_key(page)
    form = "document.querySelector('main form')"
    page.evaluate(f"fetch('', {{method: 'POST', body: new FormData({form})}}).then(answer => answer.text())")
    page.get_by_role("button", name="Create key").click()
    expect(page.get_by_role("textbox", name="The key", exact=True)).to_have_count(0)
    expect(page.get_by_role("main")).to_contain_text("already")


def regenerates_a_key(page: Page) -> None:
    page.get_by_role("link", name="Batch job 40", exact=True).click()
    page.get_by_role("link", name="Regenerate…").click()
    page.get_by_role("dialog").get_by_role("button", name="Regenerate").click()
    expect(page.get_by_role("textbox", name="The key", exact=True)).to_be_visible()


def starts_a_rotation(page: Page) -> None:
    page.get_by_role("link", name="Batch job 41", exact=True).click()
    page.get_by_role("link", name="Rotate…").click()
    page.get_by_role("button", name="Start the rotation").click()
    expect(page.get_by_role("textbox", name="The key", exact=True)).to_be_visible()


def starts_two_rotations(page: Page) -> None:
    for number in (38, 37):
        page.get_by_role("checkbox", name=f"Select Batch job {number}").check()
    page.get_by_role("button", name="Rotate…").click()
    page.get_by_role("button", name="Start 2 rotations").click()
    expect(page.get_by_role("textbox", name="The new key of Batch job 38")).to_be_visible()


def takes_a_new_key(page: Page) -> None:
    page.get_by_role("button", name="Show me the new key").click()
    expect(page.get_by_role("textbox", name="The key", exact=True)).to_be_visible()


def moves_the_end_wrongly(page: Page) -> None:
    page.get_by_label("Both keys work until").fill("2020-01-01T00:00")
    page.get_by_role("button", name="Move the end").click()
    expect(page.get_by_text("The end must be in the future.", exact=True)).to_be_visible()


def types_a_wrong_name(button: str) -> Act:
    def act(page: Page) -> None:
        page.locator("form").evaluate_all("forms => forms.forEach(form => { form.noValidate = true })")
        page.get_by_label(re.compile("^Type .* to confirm")).fill("something else")
        page.get_by_role("button", name=button).evaluate("button => { button.disabled = false; button.click() }")
        expect(page.get_by_text("This does not match.").first).to_be_visible()

    return act


def saves(button: str) -> Act:
    def act(page: Page) -> None:
        page.get_by_role("button", name=button).first.click()
        expect(page.get_by_role("status").filter(has_text=re.compile("saved|nothing", re.IGNORECASE))).to_be_visible()

    return act


def signs_in_wrongly(page: Page) -> None:
    page.get_by_label("Email").fill("stranger@example.com")
    page.get_by_label("Password").fill(PASSWORD + "?")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("not correct")).to_be_visible()


def gives_half(page: Page) -> None:
    page.get_by_label("Email").fill("guarded@example.com")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Code of your authenticator app").fill("no code")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("That code is not right").first).to_be_visible()


def asks_too_often(page: Page) -> None:
    page.context.set_extra_http_headers({"X-Forwarded-For": "203.0.113.77"})
    for _ in range(6):
        page.goto("/accounts/password/reset/")
        page.get_by_label("Email").fill("hurried@example.com")
        page.get_by_role("button", name="Send the link").click()
    expect(page.get_by_role("heading", level=1)).not_to_contain_text("Reset")


STATES: dict[str, tuple[str, str, Act]] = {
    "sign-in-wrong": ("", "/accounts/login/", signs_in_wrongly),
    "sign-in-second-step": ("", "/accounts/login/", gives_half),
    "too-many-requests": ("", "/accounts/password/reset/", asks_too_often),
    "keys-filter-open": ("operator", "/acme/keys/?environment=dev", opens("Filter")),
    "keys-person-menu": ("admin", "/acme/keys/", opens_the_person_menu),
    "keys-organizations": ("admin", "/acme/keys/", opens_the_organizations),
    "keys-shortcuts": ("operator", "/acme/keys/", asks_for_the_shortcuts),
    "keys-bulk-revoke-dialog": ("operator", "/acme/keys/?q=Batch+job+5", selects_two_keys_to_revoke),
    "key-revoke-dialog": ("operator", "/acme/keys/{busy}", opens_a_dialog("Revoke…")),
    "key-revoke-dialog-idle": ("operator", "/acme/keys/{idle}", opens_a_dialog("Revoke…")),
    "key-revoke-dialog-hostile": ("operator", "/acme/keys/{hostile}", opens_a_dialog("Revoke…")),
    "key-narrow-dialog": ("operator", "/acme/keys/{busy}", opens_a_dialog("Narrow to used…")),
    "key-narrow-used": ("operator", "/acme/keys/{busy}/narrow", takes_a_used_scope),
    "key-chart-figures": ("operator", "/acme/keys/{busy}", walks_the_chart),
    "key-charts-as-tables": ("operator", "/acme/keys/{busy}", opens_the_tables),
    "key-days-open": ("operator", "/acme/keys/{busy}", opens("Days…")),
    "usage-chart-figures": ("operator", "/acme/usage/", walks_the_chart),
    "usage-charts-as-tables": ("operator", "/acme/usage/", opens_the_tables),
    "usage-other-span": ("operator", "/acme/usage/", chooses_a_week),
    "usage-days-open": ("operator", "/acme/usage/", opens("Days…")),
    "key-requests-paused": ("operator", "/acme/keys/{busy}", pauses_the_requests),
    "key-pause-dialog": ("operator", "/acme/keys/{busy}", opens_a_dialog("Pause…")),
    "key-resume-dialog": ("operator", "/acme/keys/{paused}", opens_a_dialog("Resume…")),
    "keys-unused-explained": ("operator", "/acme/keys/?status=unused", opens("What is unused?")),
    "key-exempt-dialog": ("operator", "/acme/keys/{unused}", opens_a_dialog("It may be silent…")),
    "key-exempt-end-dialog": ("operator", "/acme/keys/{exempt}", opens_a_dialog("End…")),
    "key-exempt-faults": ("operator", "/acme/keys/{unused}/exempt", submits("Let it be silent")),
    "key-regenerate-dialog": ("operator", "/acme/keys/{busy}", opens_a_dialog("Regenerate…")),
    "key-rotate-faults": ("operator", "/acme/keys/{busy}/rotate?reason=compromise", submits("Start the rotation")),
    "key-rotated": ("operator", "/acme/keys/?q=Batch+job+41", starts_a_rotation),
    "keys-rotated": ("operator", "/acme/keys/?q=Batch+job+3", starts_two_rotations),
    "rotation-figures": ("operator", "/acme/rotations/{running}", walks_the_chart_of_both),
    "rotation-chart-as-table": ("operator", "/acme/rotations/{running}", opens_the_tables),
    "rotation-paused": ("operator", "/acme/rotations/{running}", pauses_the_requests),
    "rotation-extend-dialog": ("operator", "/acme/rotations/{running}", opens_a_dialog("Extend…")),
    "rotation-finish-dialog": ("operator", "/acme/rotations/{running}", opens_a_dialog("Finish now…")),
    "rotation-cancel-dialog": ("operator", "/acme/rotations/{running}", opens_a_dialog("Cancel…")),
    "rotation-link-dialog": ("operator", "/acme/rotations/{handed}", opens_a_dialog("Send the link again…")),
    "rotation-extend-faults": ("operator", "/acme/rotations/{running}/extend", moves_the_end_wrongly),
    "rotation-finish-faults": (
        "operator",
        "/acme/rotations/{running}/finish",
        types_a_wrong_name("Revoke the old key"),
    ),
    "rotation-taken": ("operator", "/handover/{token_to_take}", takes_a_new_key),
    "key-create-faults": ("operator", "/acme/keys/new", submits("Create key")),
    "key-created": ("operator", "/acme/keys/new", creates_a_key),
    "key-created-twice": ("operator", "/acme/keys/new", creates_a_key_twice),
    "key-regenerated": ("operator", "/acme/keys/?q=Batch+job+40", regenerates_a_key),
    "key-saved": ("operator", "/acme/keys/{expiring}/edit", saves("Save")),
    "review-owners-open": ("admin", "/acme/reviews/{review}", opens("By owner")),
    "review-answered": ("operator", "/acme/reviews/{review}?q=Batch+job+2", answers_for_a_key),
    "review-bulk-dialog": ("operator", "/acme/reviews/{review}?q=Batch+job+1", selects_two_keys_to_confirm),
    "review-note-dialog": ("admin", "/acme/reviews/{review}", opens_a_dialog("Note… about ")),
    "review-close-dialog": ("admin", "/acme/reviews/{review}", opens_a_dialog("Close…")),
    "review-confirm-faults": ("operator", "/acme/reviews/{review}/keys/{idle}", submits("Answer")),
    "alerts-filter-open": ("operator", "/acme/alerts/?kind=abuse", opens("Filter")),
    "alerts-bulk-dialog": ("operator", "/acme/alerts/", selects_all_alerts_to_resolve),
    "alert-acknowledge-dialog": ("operator", "/acme/alerts/{alert_unusual}", opens_a_dialog("Acknowledge…")),
    "alert-resolve-dialog": ("operator", "/acme/alerts/{alert_hostile}", opens_a_dialog("Resolve…")),
    "alert-revoke-dialog": ("operator", "/acme/alerts/{alert_abuse}", opens_a_dialog("Revoke…")),
    "alert-resolve-faults": ("operator", "/acme/alerts/{alert_hostile}/resolve", submits("Resolve")),
    "alert-figures": ("operator", "/acme/alerts/{alert_unusual}", walks_the_chart_of_both),
    "alert-chart-as-table": ("operator", "/acme/alerts/{alert_unusual}", opens_the_tables),
    "alert-digest-dialog": ("admin", "/acme/alerts/rules", opens_a_dialog("Change…")),
    "audit-filter-open": ("admin", "/acme/audit/", opens("Filter")),
    "scope-create-faults": ("admin", "/acme/scopes/", submits("Add")),
    "invitation-faults": ("admin", "/acme/members/", submits("Invite")),
    "invitation-account-faults": ("", "/invitation/{way_in}", submits("Make my account and join")),
}


@pytest.mark.parametrize("name", STATES)
def test_state_is_accessible_and_fits(site: Site, open_page: OpenPage, watch: Watch, name: str) -> None:
    person, path, act = STATES[name]
    watch.allow("Failed to load resource: the server responded with a status of 4")
    page = open_page(person)
    page.goto(filled(path, site))
    act(page)
    look_at(page)


def test_menu_on_a_phone_is_accessible_and_fits(open_page: OpenPage) -> None:
    page = open_page("admin", size=PHONE)
    page.goto("/acme/keys/")
    page.locator("summary").filter(has_text="Menu").click()
    expect(page.get_by_role("navigation", name="Main menu")).to_be_visible()
    look_at(page)


@pytest.mark.parametrize("template", ["500.html", "503.html"])
def test_page_of_a_failure_is_accessible_and_fits(open_page: OpenPage, template: str) -> None:
    page = open_page()
    page.route("**/failing", lambda route: route.fulfill(body=render_to_string(template), content_type="text/html"))
    page.goto("/failing")
    look_at(page)
