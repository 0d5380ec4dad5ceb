"""Changing a rule, and what it would have raised."""

from datetime import timedelta

import pytest

from apikeys.models import AlertKind, AlertRule, AlertSettings, AuditAction, Outcome, Role
from tests.factories import make_event, make_key, make_old_key, make_revoked_key
from tests.pages import HOSTILE, HTMX, entries, is_partial, is_whole_page, messages_of, snapshot, url

pytestmark = pytest.mark.django_db
ABUSE = {
    "is_on": "on",
    "when": "urgent",
    "role": "operator",
    "to_owner": "on",
    "wrong_secrets": "5",
    "refusals": "20",
    "revoked": "1",
}


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


@pytest.fixture
def edit(organization, client):
    def post(kind="abuse", headers=None, **form):
        sent = {name: value for name, value in form.items() if value is not None}
        return client.post(url("alert_rule_edit", organization, kind), sent, headers=headers)

    return post


@pytest.fixture
def preview(organization, client):
    return lambda kind="abuse", headers=None, **form: client.get(
        url("alert_rule_edit", organization, kind, preview="1", **form), headers=headers
    )


@pytest.mark.parametrize("kind", AlertKind)
def test_each_kind_has_a_form_with_what_holds_and_saving_it_changes_nothing(organization, client, edit, kind):
    AlertSettings(organization=organization).save()
    before = snapshot()
    response = client.get(url("alert_rule_edit", organization, kind))
    assert is_whole_page(response)
    form = response.context["form"]
    sent = {field.html_name: field.value() for field in form}
    sent = {name: ", ".join(map(str, value)) if isinstance(value, list) else value for name, value in sent.items()}
    sent |= {name: "on" if value is True else None for name, value in sent.items() if isinstance(value, bool)}
    answer = edit(kind, **{name: str(value) if value is not None else None for name, value in sent.items()})
    assert messages_of(answer) == [f"{kind.label}: nothing was changed."]
    assert snapshot() == before


def test_a_change_is_saved_and_recorded(organization, admin, edit):
    response = edit(**ABUSE | {"when": "digest", "role": "", "to_owner": None, "revoked": "3"})
    assert (response.status_code, response["Location"]) == (302, "/acme/alerts/rules")
    terms = AlertRule.objects.one(organization, AlertKind.ABUSE).terms
    assert (terms.is_on, terms.is_urgent, terms.role, terms.to_owner) == (True, False, None, False)
    assert terms.options == {"wrong_secrets": 5, "refusals": 20, "revoked": 3}
    [entry] = entries(organization, AuditAction.ALERT_RULE_EDIT)
    assert entry.actor == admin
    assert entry.changes["revoked"] == [1, 3]
    assert entry.changes["role"] == ["operator", ""]


def test_days_are_written_as_people_write_them(organization, edit):
    for text, days in (("30, 5", [30, 5]), ("1 7;14", [14, 7, 1]), (" 3,3 ,", [3])):
        edit("expiry", is_on="on", when="digest", role=Role.ADMIN, days=text)
        assert AlertRule.objects.one(organization, AlertKind.EXPIRY).option("days") == days


BAD = {
    "nothing": ("abuse", {"revoked": ""}, "revoked", "A whole number between 1 and 1,000,000."),
    "zero": ("abuse", {"revoked": "0"}, "revoked", "A whole number between 1 and 1,000,000."),
    "a million and one": ("abuse", {"revoked": "1000001"}, "revoked", "A whole number between 1 and 1,000,000."),
    "a part": ("abuse", {"revoked": "1.5"}, "revoked", "A whole number between 1 and 1,000,000."),
    "a word": ("abuse", {"revoked": "many"}, "revoked", "A whole number between 1 and 1,000,000."),
    "many digits": ("abuse", {"revoked": "9" * 150}, "revoked", "A whole number between 1 and 1,000,000."),
    "another time": ("abuse", {"when": "never"}, "when", "Select a valid choice."),
    "another role": ("abuse", {"role": "owner"}, "role", "Select a valid choice."),
    "no days": ("expiry", {"days": ""}, "days", "Between 1 and 8 numbers of days."),
    "nine days": ("expiry", {"days": "1,2,3,4,5,6,7,8,9"}, "days", "Between 1 and 8 numbers of days."),
    "a day too far": ("expiry", {"days": "366"}, "days", "Whole days between 1 and 365."),
    "days in words": ("expiry", {"days": "a week"}, "days", "Whole days between 1 and 365."),
    "another sensitivity": ("unusual_usage", {"sensitivity": "huge"}, "sensitivity", "One of low, normal, high."),
    "too many hours": ("rate_limited", {"hours": "25"}, "hours", "A whole number between 1 and 24."),
}


@pytest.mark.parametrize(("kind", "form", "field", "told"), BAD.values(), ids=BAD)
def test_bad_input_is_a_422_that_names_the_field_and_its_limits(edit, preview, kind, form, field, told):
    usual = ABUSE | {"days": "60", "sensitivity": "normal", "hours": "3"}
    before = snapshot()
    for response in (edit(kind, **usual | form), preview(kind, **usual | form)):
        assert response.status_code == 422
        assert told in " ".join(response.context["form"].errors[field])
        assert response.context["preview"] is None
    assert snapshot() == before


def test_a_kind_that_does_not_exist_is_not_there(organization, client):
    for kind in ("odd", "ABUSE", "x" * 500):
        assert client.get(url("alert_rule_edit", organization, kind)).status_code == 404


def test_a_preview_shows_what_the_values_in_the_form_would_have_raised_and_saves_nothing(organization, preview):
    key = make_revoked_key(organization, "crawler").key
    for hours in (100, 100, 100, 5):
        make_event(key, ago=timedelta(hours=hours), outcome=Outcome.REVOKED)
    before = snapshot()
    response = preview(**ABUSE)
    assert is_whole_page(response)
    assert (response.context["preview"].total, response.context["preview"].keys) == (2, 1)
    assert "crawler" in response.text
    assert "3 requests with the revoked key" in response.text
    fewer = preview(**ABUSE | {"revoked": "2"})
    assert fewer.context["preview"].total == 1
    assert fewer.context["form"]["revoked"].value() == "2"
    assert "None." in preview(**ABUSE | {"revoked": "20"}).text
    assert snapshot() == before


def test_htmx_gets_the_preview_alone(organization, preview):
    make_old_key(organization, timedelta(days=100))
    for kind, form in (("abuse", ABUSE), ("unused", {"when": "digest", "role": "admin"})):
        response = preview(kind, HTMX, **form)
        assert is_partial(response)
        assert response.text.lstrip().startswith('<section id="rule_preview"')
        assert 'hx-trigger="load"' not in response.text


@pytest.mark.parametrize("kind", AlertKind)
def test_each_kind_has_a_preview(client, organization, preview, kind):
    form = {"when": "digest", "role": "admin", "days": "7", "sensitivity": "normal"}
    form |= {"wrong_secrets": "1", "refusals": "1", "revoked": "1", "hours": "1"}
    assert preview(kind, **form).status_code == 200


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_names_are_escaped(organization, preview, text):
    make_event(make_revoked_key(organization, text).key, ago=timedelta(hours=5), outcome=Outcome.REVOKED)
    response = preview(**ABUSE)
    assert response.context["preview"].total == 1
    assert "<script>alert" not in response.text
    assert "<img src=x" not in response.text


def test_who_is_no_admin_may_not(organization, operator, client_of):
    make_key(organization)
    client = client_of(operator)
    before = snapshot()
    assert client.get(url("alert_rule_edit", organization, "abuse")).status_code == 403
    assert client.post(url("alert_rule_edit", organization, "abuse"), ABUSE).status_code == 403
    assert snapshot() == before
