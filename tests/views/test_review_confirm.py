"""Answering for one key."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apikeys.models import AuditAction, RevocationReason, Role
from tests.factories import make_actor, make_key, make_member, make_organization, make_review
from tests.pages import HTMX, entries, is_partial, is_whole_page, messages_of, snapshot
from tests.views.reviewing import answer, confirm_url, item_of, member_of, seen_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def key(organization, viewer):
    """A key that the viewer owns."""
    return make_key(organization, "Nightly report", owner=member_of(organization, viewer)).key


@pytest.fixture
def review(organization, key):
    make_key(organization, "Of nobody")
    return make_review(organization)


def send(client, organization, review, key, headers=None, **form):
    form = {"decision": "needed", "note": "", "seen": ""} | form
    return client.post(confirm_url(organization, review, key), form, headers=headers)


def test_the_form_is_a_page_and_for_htmx_a_dialog(organization, review, key, viewer, client_of):
    client, before = client_of(viewer), snapshot()
    response = client.get(confirm_url(organization, review, key))
    assert is_whole_page(response)
    assert "Is <bdi>Nightly report</bdi> still needed?" in response.text
    dialog = client.get(confirm_url(organization, review, key), headers=HTMX)
    assert is_partial(dialog)
    assert "dialog_title" in dialog.text
    assert snapshot() == before


def test_its_owner_answers_without_javascript_and_comes_back_to_the_same_list(
    organization, review, key, viewer, client_of
):
    response = send(client_of(viewer), organization, review, key, note="Until spring", back="status=open&owner=x")
    assert response["Location"] == f"{review.get_absolute_url()}?status=open&owner=x"
    assert messages_of(response) == ["Nightly report: still needed."]
    item = item_of(review, key)
    assert (item.decision, item.note, item.decided_by) == ("needed", "Until spring", viewer)
    [entry] = entries(organization, AuditAction.REVIEW_CONFIRM)
    assert (entry.actor, entry.key_id, entry.address) == (viewer, key.pk, "127.0.0.1")


def test_the_way_back_leads_nowhere_else(organization, review, key, viewer, client_of):
    response = send(client_of(viewer), organization, review, key, back="https://evil.example/?x=1&next=//evil.example")
    assert response["Location"].startswith(f"{review.get_absolute_url()}?")


def test_htmx_gets_the_row_and_how_far_the_review_is(organization, review, key, viewer, client_of):
    response = send(client_of(viewer), organization, review, key, HTMX)
    assert is_partial(response)
    item = item_of(review, key)
    assert response.text.lstrip().startswith(f'<tr id="item_{item.pk}"')
    assert 'hx-swap-oob="true"' in response.text
    assert "Still needed" in response.text
    assert f'value="{item.decided_at.isoformat()}"' in response.text


def test_who_does_not_own_it_is_refused(organization, review, viewer, operator, client_of):
    nobodys = organization.keys.get(name="Of nobody")
    clients = [client_of(viewer), client_of(operator)]
    before = snapshot()
    for client in clients:
        for headers in (None, HTMX):
            assert client.get(confirm_url(organization, review, nobodys), headers=headers).status_code == 403
            response = send(client, organization, review, nobodys, headers)
            assert response.status_code == 403
            assert "You may answer for the keys that you own." in response.text
    assert snapshot() == before


def test_an_admin_answers_for_all(organization, review, admin, client_of):
    client = client_of(admin)
    for key in organization.keys.all():
        assert send(client, organization, review, key, decision="unneeded").status_code == 302
    assert review.progress.unneeded == 2


def test_an_answer_given_meanwhile_is_shown_and_not_replaced(organization, review, key, admin, viewer, client_of):
    answer(review, key, member_of(organization, viewer))
    client = client_of(admin)
    for headers in (None, HTMX):
        response = send(client, organization, review, key, headers, decision="unneeded")
        assert response.status_code == 422
        assert "viewer@example.com answered “still needed” since you opened this." in response.text
        # What it shows now can be answered.
        assert seen_of(item_of(review, key)).replace("+00:00", "") in response.text.replace("Z", "")
    assert item_of(review, key).decision == "needed"
    again = send(client, organization, review, key, decision="unneeded", seen=seen_of(item_of(review, key)))
    assert again.status_code == 302
    assert item_of(review, key).decision == "unneeded"


def test_a_double_submit_writes_one_answer(organization, review, key, viewer, client_of):
    client = client_of(viewer)
    for _ in range(2):
        assert send(client, organization, review, key).status_code == 302
    assert len(entries(organization, AuditAction.REVIEW_CONFIRM)) == 1


def test_a_revoked_key_needs_no_answer(organization, review, key, viewer, client_of):
    key.revoke(reason=RevocationReason.UNUSED, by=make_actor())
    client, before = client_of(viewer), snapshot()
    told = "Nightly report is revoked: no answer is needed."
    assert messages_of(client.get(confirm_url(organization, review, key))) == [told]
    response = send(client, organization, review, key, HTMX)
    assert response.status_code == 200
    assert told in response.text
    assert send(client, organization, review, key).status_code == 302
    assert snapshot() == before


def test_a_closed_review_takes_no_answer(organization, review, key, viewer, client_of):
    review.close(by=make_actor())
    client, before = client_of(viewer), snapshot()
    for headers in (None, HTMX):
        response = send(client, organization, review, key, headers)
        assert response.status_code in {200, 302}
    assert "Autumn review is closed" in messages_of(client.get(confirm_url(organization, review, key)))[-1]
    assert snapshot() == before


@pytest.mark.parametrize(
    "form",
    [
        {"decision": ""},
        {"decision": "open"},
        {"decision": "odd"},
        {"note": "x" * 501},
        {"note": "a\x07"},
        {"seen": "odd"},
    ],
)
def test_bad_input_is_a_422_that_changes_nothing(organization, review, key, viewer, client_of, form):
    client, before = client_of(viewer), snapshot()
    for headers in (None, HTMX):
        assert send(client, organization, review, key, headers, **form).status_code == 422
    assert snapshot() == before


def test_a_key_that_is_not_in_the_review_is_not_there(organization, review, admin, client_of):
    later = make_key(organization).key
    theirs = make_key(other := make_organization()).key
    make_review(other)
    client = client_of(admin)
    for key in (later, theirs):
        assert client.get(confirm_url(organization, review, key)).status_code == 404
        assert send(client, organization, review, key).status_code == 404


def test_whoever_was_removed_may_not(organization, review, key, viewer, client_of):
    heir = make_member(organization, Role.VIEWER)
    make_member(make_organization("elsewhere"), Role.VIEWER, viewer)  # without another one the session ends
    client = client_of(viewer)
    member_of(organization, viewer).remove(by=make_actor(), keys_to=heir)
    assert send(client, organization, review, key).status_code == 404
    assert send(client_of(heir), organization, review, key).status_code == 302
    assert timezone.now() - item_of(review, key).decided_at < timedelta(minutes=1)
