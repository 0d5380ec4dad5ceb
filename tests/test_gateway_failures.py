"""What the verifier answers when its database fails: 503, and never a verdict."""

import logging

import pytest
from django.db import connection

from apikeys.models import UsageEvent
from tests.factories import make_key
from tests.outage import away, lose_the_connection

READ_ONLY = {"sqlite": "PRAGMA query_only = ON", "postgresql": "SET default_transaction_read_only = on"}


@pytest.fixture
def issued(committed):
    issued = make_key(committed)
    yield issued
    connection.close()  # with whatever a test did to it


def test_a_database_that_is_away_is_a_503_and_never_a_verdict(committed, issued, verifier):
    for ask in (verifier.verify, verifier.authorize):
        with away():
            answer = ask(committed, issued.secret.text)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


def test_the_next_request_gets_a_new_connection(committed, issued, verifier):
    with away():
        assert verifier.verify(committed, issued.secret.text).status == 503
    assert verifier.verify(committed, issued.secret.text).status == 200


def test_a_connection_that_died_unused_is_replaced(committed, issued, verifier):
    lose_the_connection()
    assert verifier.verify(committed, issued.secret.text).status == 200
    assert UsageEvent.objects.filter(key_id=issued.key.pk).count() == 1


def test_noise_is_refused_without_the_database(committed, verifier):
    with away():
        assert verifier.authorize(committed, "nonsense").status == 401


def test_a_request_that_cannot_be_recorded_is_not_accepted(committed, issued, verifier):
    with connection.cursor() as cursor:
        cursor.execute(READ_ONLY[connection.vendor])
    assert verifier.verify(committed, issued.secret.text).status == 503
    assert not UsageEvent.objects.filter(key_id=issued.key.pk).exists()


def test_a_503_tells_nothing_of_the_database(committed, issued, verifier):
    with away():
        answer = verifier.verify(committed, issued.secret.text)
    assert answer.json() == {"error": "The key could not be checked. Try again.", "outcome": None}


def test_neither_answer_nor_log_of_a_failure_holds_the_key(committed, issued, verifier, caplog):
    secret = issued.secret.text
    with away():
        answers = [verifier.verify(committed, secret), verifier.authorize(committed, secret)]
    assert [answer.status for answer in answers] == [503, 503]
    assert any("database failed" in record.getMessage() for record in caplog.records)
    told = [*caplog.messages, *(logging.Formatter().format(record) for record in caplog.records)]
    for text in [*told, *(f"{answer.headers}{answer.body!r}" for answer in answers)]:
        assert issued.secret.secret not in text
