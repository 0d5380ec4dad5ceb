"""The chain of an organization's audit entries: what is hashed, and that nothing forks or tears it."""

import threading
from datetime import UTC, datetime

import pytest
from django.db import DatabaseError, connection, transaction

from apikeys.audit_proof import verify_chain
from apikeys.models import Actor, AuditAction, AuditChain, AuditEntry, AuditLink, Via
from apikeys.models.audit import difference
from apikeys.models.audit_chain import COLUMNS, GENESIS, NOBODY, content_of, hash_of, link_now, link_of
from tests.factories import make_key, make_organization, make_user
from tests.threads import run_together

BY = Actor("mara@example.org", Via.DASHBOARD, None, "2001:DB8::1", "Firefox")
VALUES = {
    "at": datetime(2026, 11, 28, 7, 5, tzinfo=UTC),
    "organization": 3,
    "actor_id": None,
    "actor": "mara@example.org",
    "via": Via.DASHBOARD,
    "address": "2001:DB8:0::1",
    "user_agent": 'Mozilla "é"',
    "action": AuditAction.KEY_EDIT,
    "target": "Zahlung 💶",
    "key_row": 12,
    "key_id": "ABCDEFGHIJKL",
    "fingerprint": "nw_prod_ABCD…WXYZ",
    "changes": {"scopes": [["a"], ["b", "a"]], "rate_limit": [None, 10]},
    "reason": "",
}


def record(organization, target="", action=AuditAction.SCOPE_CREATE):
    return AuditEntry.objects.record(action, by=BY, organization=organization, target=target)


def test_what_is_hashed_is_what_the_specification_says():
    # The hashes are those that JavaScript's JSON.stringify and crypto give of the same.
    assert tuple(VALUES) == tuple(COLUMNS)
    content = content_of(tuple(VALUES.values()))
    assert (content["at"], content["address"]) == ("2026-11-28T07:05:00.000000Z", "2001:db8::1")
    assert hash_of(content) == "e9d9e89d10e54bd90776f47f59dd705aa143ca189e5a2e8c183db25d134dbf7a"
    assert link_of(1, GENESIS, hash_of(content)) == "85de926ba56ad6b183224251814c000338debd5cba1a554440d0370355fefebf"


def test_no_change_holds_a_fraction():
    assert difference({"share": 0.5}, {"share": 1.0}) == {"share": ["0.5", "1.0"]}


@pytest.mark.django_db
def test_an_entry_is_hashed_and_linked_however_it_is_saved(organization):
    first = record(organization, "one")
    AuditEntry.objects.bulk_create([AuditEntry(organization=organization, at=first.at, actor_label="x", via="command")])
    link_now()
    links = list(AuditLink.objects.filter(chain=organization.pk).order_by("sequence").select_related("entry"))
    assert [link.sequence for link in links] == list(range(1, len(links) + 1))
    previous = GENESIS
    for link in links:
        assert link.previous == previous
        assert link.hash == link_of(link.sequence, previous, link.entry.content_hash)
        previous = link.hash
    head = AuditChain.objects.get(number=organization.pk)
    assert (head.sequence, head.hash) == (len(links), previous)
    assert verify_chain(organization.pk).entries == len(links)


@pytest.mark.django_db
def test_what_belongs_to_no_organization_has_a_chain_too(organization):
    before = verify_chain(NOBODY).entries
    record(None, "nobody@example.org", AuditAction.SIGN_IN_FAILED)
    link_now()
    verdict = verify_chain(NOBODY)
    assert (verdict.entries, verdict.fault) == (before + 1, None)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE apikeys_auditlink SET hash = 'x'",
        "UPDATE apikeys_auditlink SET sequence = sequence + 1000000",
        "DELETE FROM apikeys_auditlink",
        "DELETE FROM apikeys_auditchain",
        "UPDATE apikeys_auditchain SET sequence = 0",
        "UPDATE apikeys_auditchain SET hash = 'x'",
        "UPDATE apikeys_auditentry SET content_hash = 'x'",
    ],
)
def test_the_database_refuses_to_change_it(organization, statement):
    link_now()
    with pytest.raises(DatabaseError, match="keyadmin:"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


def test_fifty_changes_at_once_neither_fail_nor_fork_it(committed):
    other = make_organization(f"{committed.slug}-2", admin=make_user(f"two-{committed.slug}@example.org"))
    keys = [make_key(committed).key for _ in range(10)]
    before = {one.pk: verify_chain(one.pk).entries for one in (committed, other)}

    def change(number):
        if number % 5:
            keys[number % 10].pause(by=BY) if number % 2 else record(committed, str(number))
        else:
            record(other, str(number))

    results = run_together(*(lambda number=number: change(number) for number in range(50)))
    failed = [result for result in results if isinstance(result, Exception) and "paused" not in str(result)]
    assert not failed
    for one in (committed, other):
        verdict = verify_chain(one.pk)
        assert verdict.fault is None
        assert verdict.entries == AuditEntry.objects.filter(organization=one).count() > before[one.pk]


def test_what_is_rolled_back_leaves_no_gap(committed):
    before = verify_chain(committed.pk).entries
    with transaction.atomic():
        record(committed, "given up")
        transaction.set_rollback(True)
    record(committed, "kept")
    verdict = verify_chain(committed.pk)
    assert (verdict.entries, verdict.fault) == (before + 1, None)


def test_a_change_that_takes_long_holds_up_no_other(committed):
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    other = make_organization(f"{committed.slug}-3", admin=make_user(f"three-{committed.slug}@example.org"))
    begun, ended = threading.Event(), threading.Event()

    def slow():
        with transaction.atomic():
            record(committed, "slow")
            begun.set()
            assert ended.wait(10), "somebody else's change waited for it"

    def quick():
        begun.wait(10)
        record(committed, "quick")
        record(other, "elsewhere")
        ended.set()

    results = run_together(slow, quick)
    assert results == [None, None]
    assert verify_chain(committed.pk).fault is None
    order = AuditLink.objects.filter(chain=committed.pk, entry__target_label__in=["slow", "quick"])
    assert list(order.order_by("sequence").values_list("entry__target_label", flat=True)) == ["quick", "slow"]
