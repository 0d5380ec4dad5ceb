"""The decision, as a table of cases, and what is recorded of it."""

import ipaddress
import threading
from datetime import timedelta
from itertools import pairwise

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from apikeys import blocking, key_secret
from apikeys.ledger import read_keys
from apikeys.models import (
    Actor,
    ApiKey,
    KeyActivity,
    Outcome,
    RateLimit,
    RevocationReason,
    UsageEvent,
)
from apikeys.verification import Presented, decide, verify
from tests.factories import make_expired_key, make_key, make_organization
from tests.statements import counted_statements
from tests.threads import run_together

BY = Actor.command()


def present(organization, secret, **values):
    text = secret if isinstance(secret, str) else secret.text
    return Presented(credential=text, organization=organization.slug, **values)


def revoked(key):
    key.revoke(reason=RevocationReason.LEAKED, by=BY)


def paused(key):
    key.pause(by=BY)


def expired(key):
    ApiKey.objects.filter(pk=key.pk).update(expires_at=timezone.now())


def nothing(key):
    pass


NETWORKS = ["10.0.0.0/8", "2001:db8::/32"]
CASES = {
    "a good key": (nothing, {}, Outcome.VALID),
    "a scope that it holds": (nothing, {"scope": "orders:read"}, Outcome.VALID),
    "a scope that it lacks": (nothing, {"scope": "orders:write"}, Outcome.SCOPE_MISSING),
    "a scope that nobody has": (nothing, {"scope": "nothing:at.all"}, Outcome.SCOPE_MISSING),
    "an address inside": (nothing, {"address": "10.1.2.3"}, Outcome.VALID),
    "an IPv6 address inside": (nothing, {"address": "2001:db8::7"}, Outcome.VALID),
    "an address outside": (nothing, {"address": "11.0.0.1"}, Outcome.NETWORK_DENIED),
    "no address": (nothing, {"address": None}, Outcome.NETWORK_DENIED),
    "outside and without the scope": (
        nothing,
        {"address": "11.0.0.1", "scope": "orders:write"},
        Outcome.NETWORK_DENIED,
    ),
    "revoked": (revoked, {}, Outcome.REVOKED),
    "expired": (expired, {}, Outcome.EXPIRED),
    "paused": (paused, {}, Outcome.PAUSED),
    "revoked, and from outside": (revoked, {"address": "11.0.0.1"}, Outcome.REVOKED),
    "paused, then expired": (lambda key: (paused(key), expired(key)), {}, Outcome.EXPIRED),
    "paused, then revoked": (lambda key: (paused(key), revoked(key)), {}, Outcome.REVOKED),
}


@pytest.mark.parametrize(("change", "request_", "outcome"), CASES.values(), ids=CASES)
def test_each_case_has_its_outcome_and_its_event(organization, change, request_, outcome):
    key, secret = make_key(organization, networks=NETWORKS)
    change(key)
    request_ = {"address": "10.0.0.1", "user_agent": "agent/1", "method": "GET", "path": "/x", **request_}
    verdict = verify(present(organization, secret, **request_))
    assert verdict.outcome is outcome
    event = UsageEvent.objects.get(key_id=key.pk)
    assert event.outcome == outcome
    assert (event.address, event.user_agent, event.method, event.path) == (request_["address"], "agent/1", "GET", "/x")
    assert event.scope == request_.get("scope", "")


@pytest.mark.parametrize("change", [nothing, revoked, expired, paused])
def test_who_does_not_know_the_secret_learns_nothing(organization, change):
    key, secret = make_key(organization)
    change(key)
    guess = key_secret.KeySecret(secret.prefix, secret.code, secret.public_id, "0" * 43)
    verdict = verify(present(organization, guess))
    assert verdict.outcome is Outcome.UNKNOWN
    assert verdict.key is None
    assert UsageEvent.objects.get(key_id=key.pk).outcome == Outcome.UNKNOWN


def test_a_key_of_another_organization_is_unknown_and_leaves_no_trace(organization):
    key, secret = make_key(organization)
    assert verify(present(make_organization(), secret)).outcome is Outcome.UNKNOWN
    assert verify(Presented(credential=secret.text, organization="nobody")).outcome is Outcome.UNKNOWN
    assert not UsageEvent.objects.filter(key_id=key.pk).exists()


def test_noise_costs_no_database_work(organization):
    with counted_statements() as statements:
        assert verify(present(organization, "ka_prod_nonsense")).outcome is Outcome.MALFORMED
        typing_error = make_text_with_one_wrong_character()
        assert verify(present(organization, typing_error)).outcome is Outcome.MALFORMED
    assert statements == []


def make_text_with_one_wrong_character():
    text = key_secret.make("ka", "prod").text
    return text[:-1] + ("A" if text[-1] != "A" else "B")


def test_a_verification_takes_at_most_three_statements_and_a_transaction(organization):
    few = make_key(organization).secret
    many = make_key(organization, scopes=[scope.name for scope in organization.scopes.all()]).secret
    limited = make_key(organization, rate_limit=RateLimit(100, 1, 100)).secret
    for secret in (few, many, limited):
        # SQLite counts what triggers do: one looks for a rotation whose clock a first use starts.
        for on_sqlite in (9, 8):
            most = {"postgresql": 3, "sqlite": on_sqlite}[connection.vendor]
            with counted_statements() as statements:
                assert verify(present(organization, secret)).outcome is Outcome.VALID
            assert 2 <= len(statements) <= most, statements


def test_a_busy_keys_activity_is_not_written_at_every_request(organization):
    key, secret = make_key(organization)
    verify(present(organization, secret))
    with counted_statements() as statements:
        verify(present(organization, secret))
    # SQLite: beside them the transaction, which the first of the two had, too, and the insert again for its trigger.
    assert len(statements) == {"postgresql": 2, "sqlite": 5}[connection.vendor], statements
    assert UsageEvent.objects.of(key).count() == 2


def test_decide_asks_nobody(organization):
    key, secret = make_key(organization)
    loaded = blocking.run(lambda: read_keys([key.public_id]))[key.public_id]
    with counted_statements() as statements:
        outcome = decide(loaded, secret, present(organization, secret), timezone.now(), settings.KEY_PEPPERS)
    assert outcome is Outcome.VALID
    assert statements == []


def test_a_flood_of_guesses_leaves_one_event_a_caller_and_minute(organization):
    key, secret = make_key(organization)
    guess = key_secret.KeySecret(secret.prefix, secret.code, secret.public_id, "0" * 43)
    for address in ("192.0.2.1", "192.0.2.2"):
        for _ in range(30):
            assert verify(present(organization, guess, address=address)).outcome is Outcome.UNKNOWN
    events = UsageEvent.objects.of(key).filter(outcome=Outcome.UNKNOWN)
    # The minute may change meanwhile.
    assert 2 <= events.count() <= 4
    assert set(events.values_list("address", flat=True)) == {"192.0.2.1", "192.0.2.2"}
    assert KeyActivity.objects.get(key=key).last_refused_at is None


def test_a_pepper_that_is_gone_makes_its_keys_unknown(organization, settings):
    secret = make_key(organization).secret
    settings.KEY_PEPPERS = {9: b"x" * 32}
    assert verify(present(organization, secret)).outcome is Outcome.UNKNOWN


def test_activity_tells_first_and_last_use_and_last_refusal(organization):
    key, secret = make_key(organization)
    verify(present(organization, secret, address="10.0.0.1"))
    first = KeyActivity.objects.get(key=key)
    assert first.first_used_at == first.last_used_at is not None
    assert (first.last_address, first.last_refused_at) == ("10.0.0.1", None)
    KeyActivity.objects.filter(key=key).update(last_used_at=timezone.now() - timedelta(hours=1))
    verify(present(organization, secret, address="10.0.0.2"))
    verify(present(organization, secret, scope="orders:write"))
    second = KeyActivity.objects.get(key=key)
    assert second.first_used_at == first.first_used_at
    assert second.last_used_at > first.last_used_at
    assert second.last_address == "10.0.0.2"
    assert second.last_refused_at is not None


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has no heap-only tuples")
@pytest.mark.parametrize("limit", [None, RateLimit(6000, 60, 100)])
def test_a_request_writes_no_index_of_it_but_once_a_minute(organization, limit):
    key, secret = make_key(organization, rate_limit=limit)
    verify(present(organization, secret))
    minutes = [KeyActivity.objects.get().last_used_minute]
    before = _updates()
    for _ in range(5):
        # As if the last use had been two seconds ago, which may be in the minute before.
        KeyActivity.objects.filter(key=key).update(last_used_at=timezone.now() - timedelta(seconds=2))
        minutes.append(KeyActivity.objects.get().last_used_minute)
        verify(present(organization, secret))
        minutes.append(KeyActivity.objects.get().last_used_minute)
    made, hot = (now - then for now, then in zip(_updates(), before, strict=True))
    assert made >= 10
    assert made - hot <= sum(one != other for one, other in pairwise(minutes))


def _updates() -> tuple[int, int]:
    """Return how many rows of activity this transaction has updated, and how many of them within their page."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_stat_get_xact_tuples_updated(c), pg_stat_get_xact_tuples_hot_updated(c)"
            " FROM CAST('apikeys_keyactivity' AS regclass) AS c"
        )
        return cursor.fetchone()


def test_a_refused_key_is_not_a_used_one(organization):
    key, secret = make_expired_key(organization)
    verify(present(organization, secret))
    assert KeyActivity.objects.get(key=key).last_used_at is None


def test_a_limit_lets_the_burst_pass_and_then_says_when_to_come_back(organization):
    secret = make_key(organization, rate_limit=RateLimit(6, 60, 3)).secret
    verdicts = [verify(present(organization, secret)) for _ in range(5)]
    assert [v.outcome for v in verdicts] == [Outcome.VALID] * 3 + [Outcome.RATE_LIMITED] * 2
    assert [v.quota.remaining for v in verdicts] == [2, 1, 0, 0, 0]
    assert 9 <= verdicts[-1].quota.retry_after <= 10
    assert UsageEvent.objects.filter(outcome=Outcome.RATE_LIMITED, key_id=verdicts[0].key.id).count() == 2
    assert KeyActivity.objects.get(key_id=verdicts[0].key.id).last_refused_at is not None


def test_a_limit_refills_at_its_rate(organization):
    key, secret = make_key(organization, rate_limit=RateLimit(6, 60, 3))
    for _ in range(4):
        verify(present(organization, secret))
    activity = KeyActivity.objects.filter(key=key)
    activity.update(limited_until=activity.get().limited_until - 10_000_000)
    assert verify(present(organization, secret)).outcome is Outcome.VALID
    assert verify(present(organization, secret)).outcome is Outcome.RATE_LIMITED


def test_the_debt_of_an_older_limit_is_forgotten(organization):
    key, secret = make_key(organization, rate_limit=RateLimit(1, 86400, 2))
    while verify(present(organization, secret)).outcome is Outcome.VALID:
        pass
    ApiKey.objects.filter(pk=key.pk).update(rate_limit=1000, rate_period=1, rate_burst=10)
    assert verify(present(organization, secret)).quota.remaining == 9


def test_refused_requests_take_nothing_from_a_limit(organization):
    secret = make_key(organization, rate_limit=RateLimit(1, 3600, 2)).secret
    for _ in range(5):
        verify(present(organization, secret, scope="orders:write"))
    assert verify(present(organization, secret)).quota.remaining == 1


def test_exactly_the_limit_passes_from_many_threads(committed):
    secret = make_key(committed, rate_limit=RateLimit(1, 3600, 7)).secret
    calls = [lambda: [verify(present(committed, secret)).outcome for _ in range(5)]] * 6
    outcomes = [outcome for answers in run_together(*calls) for outcome in answers]
    assert outcomes.count(Outcome.VALID) == 7
    assert outcomes.count(Outcome.RATE_LIMITED) == 23


def test_no_request_after_a_revocation_is_accepted(committed):
    """Threads verify while another revokes: whatever began after the verb returned is refused."""
    key, secret = make_key(committed)
    ended = threading.Event()

    def revoke():
        for _ in range(20):
            verify(present(committed, secret))
        key.revoke(reason=RevocationReason.LEAKED, by=BY)
        ended.set()

    def ask():
        late = []
        while len(late) < 20:
            began_late = ended.is_set()
            outcome = verify(present(committed, secret)).outcome
            if began_late:
                late.append(outcome)
        return late

    answers = run_together(revoke, ask, ask, ask)
    assert answers[0] is None
    for late in answers[1:]:
        assert set(late) == {Outcome.REVOKED}


def test_networks_are_compared_within_their_own_family():
    from apikeys.proxies import is_in, parse_address  # noqa: PLC0415

    networks = [ipaddress.ip_network("0.0.0.0/0")]
    assert is_in(parse_address("10.0.0.1"), networks)
    assert not is_in(parse_address("2001:db8::1"), networks)


def test_the_text_of_a_presented_request_does_not_hold_the_key(organization):
    secret = make_key(organization).secret
    assert secret.secret not in repr(present(organization, secret))
    assert connection.vendor in {"sqlite", "postgresql"}
