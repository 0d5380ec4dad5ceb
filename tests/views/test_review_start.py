"""Starting a review."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from apikeys.models import AuditAction, Delivery, Review
from tests.factories import make_actor, make_key, make_member, make_old_key, make_organization, make_review, make_user
from tests.pages import HTMX, entries, is_partial, is_whole_page, make_keys, messages_of, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


@pytest.fixture
def send(organization, client):
    def post(**form):
        sent = {"title": "Winter review", "due_on": day(14), "note": ""} | form
        return client.post(url("review_start", organization), sent)

    return post


def day(days):
    return (timezone.now().astimezone(UTC) + timedelta(days=days)).date().isoformat()


def test_it_shows_how_many_keys_and_owners_before_anything_is_done(organization, client):
    owner = make_member(organization, user=make_user("owner@example.com", name="Olga Owner"))
    for _ in range(3):
        make_key(organization, owner=owner)
    make_key(organization, environment="dev")
    make_old_key(organization, timedelta(days=300), owner=owner)
    before = snapshot()
    response = client.get(url("review_start", organization))
    assert is_whole_page(response)
    preview = response.context["preview"]
    # The old key is a copy of a fifth one.
    assert (preview["keys"], preview["owners"], preview["foreign"], preview["unused"]) == (6, 1, 1, 1)
    assert preview["shown"] == [("Olga Owner", 5)]
    narrowed = client.get(url("review_start", organization, environment="dev"), headers=HTMX)
    assert is_partial(narrowed)
    assert narrowed.context["preview"]["keys"] == 1
    assert snapshot() == before


def test_it_starts_and_the_owners_are_mailed(organization, admin, send):
    owner = make_member(organization, user=make_user("owner@example.com"))
    make_key(organization, owner=owner)
    response = send(note="Every quarter")
    review = Review.objects.get()
    assert response["Location"] == review.get_absolute_url()
    assert (review.title, review.note, review.keys, review.started_by) == (
        "Winter review",
        "Every quarter",
        "all usable keys",
        admin,
    )
    last = datetime.fromisoformat(day(14)).replace(hour=23, minute=59, second=59, tzinfo=UTC)
    assert review.due_at == last
    assert list(Delivery.objects.values_list("email", flat=True)) == ["owner@example.com"]
    [entry] = entries(organization, AuditAction.REVIEW_START)
    assert entry.changes["mailed"] == [None, 1]


def test_filters_choose_the_keys_and_are_kept_in_words(organization, send):
    make_key(organization, "Here", environment="dev")
    make_key(organization, "There")
    send(environment="dev", q="ere")
    review = Review.objects.get()
    assert [item.name for item in review.items.all()] == ["Here"]
    assert review.keys == "Search: ere, Environment: development"


def test_a_search_comes_along_from_the_key_list_and_cannot_be_written_here(organization, client):
    make_key(organization, "<b>Here</b>")
    text = client.get(url("review_start", organization, q="<b>Here")).text
    assert '<input type="hidden" name="q" value="&lt;b&gt;Here">' in text
    assert 'id="id_q"' not in text


def test_the_key_list_leads_here_with_its_filters(organization, client):
    make_key(organization, environment="dev")
    text = client.get(url("key_list", organization, environment="dev")).text
    assert f"{url('review_start', organization)}?environment=dev" in text


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"title": ""}, "This field is required."),
        ({"title": "x" * 101}, "at most 100 characters"),
        ({"title": "a\x07"}, "Control characters"),
        ({"due_on": ""}, "This field is required."),
        ({"due_on": "soon"}, "This is no day."),
        ({"due_on": "2020-01-01"}, "The last day must be today or later."),
        ({"due_on": day(400)}, "The last day must be within a year."),
        ({"due_on": "9999-12-31"}, "The last day must be within a year."),
        ({"note": "x" * 501}, "at most 500 characters"),
        ({"environment": "odd"}, "odd"),
        ({"owner": "odd"}, "odd"),
        ({"q": "nothing is called so"}, "No key that can be used matches."),
        ({"status": "revoked"}, "No key that can be used matches."),
    ],
)
def test_bad_input_is_a_422_that_names_it_and_starts_nothing(organization, send, form, told):
    make_key(organization)
    before = snapshot()
    response = send(**form)
    assert response.status_code == 422
    assert told in response.text
    assert snapshot() == before


def test_what_was_written_is_kept_while_keys_are_chosen(organization, client):
    make_key(organization)
    response = client.get(url("review_start", organization, title="Mine", note="Hello", due_on=day(30)))
    assert 'value="Mine"' in response.text
    assert "Hello" in response.text
    assert day(30) in response.text


def test_a_pasted_key_chooses_nothing_and_is_nowhere(organization, client, send):
    issued = make_key(organization)
    assert issued.secret.text not in client.get(url("review_start", organization, q=issued.secret.text)).text
    send(q=issued.secret.text)
    assert Review.objects.get().keys == "all usable keys"


def test_a_second_one_leads_to_the_one_that_runs(organization, client, send):
    make_key(organization)
    review = make_review(organization)
    before = snapshot()
    for response in (client.get(url("review_start", organization)), send()):
        assert response["Location"] == review.get_absolute_url()
        assert messages_of(response)[-1] == "Autumn review runs already. Close it before you start another one."
    assert snapshot() == before
    review.close(by=make_actor())
    assert send().status_code == 302


def test_a_double_submit_starts_one(organization, send):
    make_key(organization)
    assert {send().status_code, send().status_code} == {302}
    assert Review.objects.count() == 1


def test_keys_of_other_organizations_are_not_asked_about(organization, client, send):
    make_key(organization)
    make_key(make_organization())
    assert client.get(url("review_start", organization)).context["preview"]["keys"] == 1
    send()
    assert Review.objects.get().items.count() == 1


def test_without_keys_it_says_that_one_is_needed(organization, client):
    assert "a review needs at least one" in client.get(url("review_start", organization)).text


def test_many_keys_cost_no_more_queries_than_few(organization, client, django_assert_max_num_queries):
    make_keys(organization, 100)
    with django_assert_max_num_queries(25):
        client.get(url("review_start", organization))
