"""Whoever has the database and gets past its triggers is found: 1,000 random ways to change an audit log."""

import random

import pytest
from django.db import connection, transaction

from apikeys.audit_proof import Wrong, verify_chain
from apikeys.models import Actor, AuditAction, AuditEntry, AuditLink, Organization, Via
from apikeys.models.audit import Target
from apikeys.models.audit_chain import COLUMNS, content_of, hash_of, link_now, link_of
from tests.factories import make_organization
from tests.pages import without_guards

pytestmark = pytest.mark.django_db

ENTRIES = 30
CASES = 1000
OTHER = {
    "at": "2020-02-02 02:02:02",
    "actor_id": None,
    "actor_label": "nobody@example.org",
    "via": "command",
    "address": "192.0.2.77",
    "user_agent": "curl/8",
    "action": "key.pause",
    "target_label": "another",
    "key_id": 4711,
    "key_public_id": "ABCDEFGHIJKL",
    "key_fingerprint": "ka_prod_ABCD…WXYZ",
    "changes": '{"name": ["a", "c"]}',
    "reason": "",
}


@pytest.fixture
def chain(organization):
    """An organization's chain, without the triggers that guard it, and one of somebody else."""
    other = make_organization("other", admin=organization.members.get().user)
    by = Actor("mara@example.org", Via.DASHBOARD, organization.members.get().user, "2001:db8::1", "Firefox")
    for whose in (other, organization):
        targets = [Target(f"key {number}", None, {"name": ["a", f"b{number}"]}) for number in range(ENTRIES)]
        AuditEntry.objects.record_all(AuditAction.KEY_EDIT, targets, by=by, organization=whose, reason="why")
    link_now()
    without_guards()
    return organization


class Attack:
    """One way to change a log; what it does, and what has to be found, by the random numbers that it is given."""

    def __init__(self, organization, rng):
        self.organization, self.rng = organization, rng
        self.links = list(AuditLink.objects.filter(chain=organization.pk).order_by("sequence"))
        self.last = len(self.links)

    def sql(self, statement, *values):
        with connection.cursor() as cursor:
            cursor.execute(statement, values)

    def place(self, least=1, most=None):
        return self.rng.randint(least, most or self.last)

    def row(self, sequence):
        return self.links[sequence - 1].entry_id

    def hash_now(self, sequence):
        """Return the hash of what an entry says now."""
        return hash_of(content_of(AuditEntry.objects.filter(pk=self.row(sequence)).values_list(*COLUMNS.values())[0]))

    def change(self):
        """Change what an entry says, with or without its hash, with or without its link."""
        place = self.place()
        values = OTHER | {"organization_id": Organization.objects.get(slug="other").pk}
        before = self.hash_now(place)
        # The first entries say in some columns what they are changed to.
        while self.hash_now(place) == before:
            column = self.rng.choice(list(values))
            self.sql(f"UPDATE apikeys_auditentry SET {column} = %s WHERE id = %s", values[column], self.row(place))
        how = self.rng.randint(1, 3)
        if how > 1:
            changed = self.hash_now(place)
            self.sql("UPDATE apikeys_auditentry SET content_hash = %s WHERE id = %s", changed, self.row(place))
        if how > 2:
            link = link_of(place, self.links[place - 1].previous, changed)
            self.sql("UPDATE apikeys_auditlink SET hash = %s WHERE entry_id = %s", link, self.row(place))
        return Wrong.CHANGED, place

    def change_a_hash(self):
        place = self.place()
        table, column, key = self.rng.choice(
            [("entry", "content_hash", "id"), ("link", "hash", "entry_id"), ("link", "previous", "entry_id")]
        )
        self.sql(f"UPDATE apikeys_audit{table} SET {column} = %s WHERE {key} = %s", "f" * 64, self.row(place))
        return Wrong.CHANGED, place

    def change_the_end(self):
        self.sql("UPDATE apikeys_auditchain SET hash = %s WHERE number = %s", "0" * 64, self.organization.pk)
        return Wrong.CHANGED, self.last

    def delete(self):
        """Delete entries, with their links or without, and close the gap or not."""
        number = self.rng.randint(1, 3)
        place = self.place(1, self.last - number)
        is_linked = self.rng.random() < 0.7
        self._delete(place, place + number, links=is_linked)
        if is_linked and self.rng.random() < 0.5:
            self._renumber(place + number, -number)
            self.sql(
                "UPDATE apikeys_auditchain SET sequence = sequence - %s WHERE number = %s", number, self.organization.pk
            )
        return Wrong.MISSING, place

    def truncate(self):
        """Delete the newest; what says where the chain ends stays or goes."""
        place = self.place()
        self._delete(place, self.last + 1, links=self.rng.random() < 0.7)
        return Wrong.MISSING, place

    def lose_the_end(self):
        self.sql("DELETE FROM apikeys_auditchain WHERE number = %s", self.organization.pk)
        return Wrong.MISSING, self.last + 1

    def insert(self):
        """Add an entry, in no place, at the end, or in another's, which moves on."""
        place = self.rng.choice([None, self.place(2), self.last + 1])
        entry = AuditEntry.objects.record(
            self.rng.choice(list(AuditAction)), by=Actor.command(), organization=self.organization, target="forged"
        )
        if place is None:
            return Wrong.INSERTED, None
        self._renumber(place, 1)
        previous = self.links[place - 2].hash
        link = self.rng.choice([link_of(place, previous, "0" * 64), "a" * 64])
        if place > self.last:
            link = link_of(place, previous, entry.content_hash)
        self.sql(
            "INSERT INTO apikeys_auditlink (entry_id, chain, sequence, previous, hash) VALUES (%s, %s, %s, %s, %s)",
            *(entry.pk, self.organization.pk, place, previous, link),
        )
        if place <= self.last and self.rng.random() < 0.5:
            self.sql("UPDATE apikeys_auditchain SET sequence = sequence + 1 WHERE number = %s", self.organization.pk)
        return Wrong.INSERTED, place

    def swap(self):
        """Let two entries change places, by what they say or by their links."""
        one, other = sorted(self.rng.sample(range(1, self.last + 1), 2))
        how = self.rng.choice(["content", "with its hash", "links", "places"])
        if how in {"content", "with its hash"}:
            columns = [*COLUMNS.values()] + ["content_hash"] * (how == "with its hash")
            read = "SELECT {} FROM apikeys_auditentry WHERE id = %s".format(", ".join(columns))
            with connection.cursor() as cursor:
                cursor.execute(read, [self.row(one)])
                first = cursor.fetchone()
                cursor.execute(read, [self.row(other)])
                second = cursor.fetchone()
            write = "UPDATE apikeys_auditentry SET {} WHERE id = %s".format(", ".join(f"{c} = %s" for c in columns))
            self.sql(write, *second, self.row(one))
            self.sql(write, *first, self.row(other))
        elif how == "links":
            self._set("entry_id", other, -1)
            self._set("entry_id", one, self.row(other))
            self.sql("UPDATE apikeys_auditlink SET entry_id = %s WHERE entry_id = -1", self.row(one))
        else:
            self._set("sequence", other, -1)
            self._set("sequence", one, other)
            self.sql("UPDATE apikeys_auditlink SET sequence = %s WHERE sequence = -1", one)
        return Wrong.REORDERED, one

    def _set(self, column, sequence, value):
        self.sql(
            f"UPDATE apikeys_auditlink SET {column} = %s WHERE chain = %s AND sequence = %s",
            *(value, self.organization.pk, sequence),
        )

    def _delete(self, first, end, *, links):
        for place in range(first, end):
            if links:
                self.sql("DELETE FROM apikeys_auditlink WHERE entry_id = %s", self.row(place))
            self.sql("DELETE FROM apikeys_auditentry WHERE id = %s", self.row(place))

    def _renumber(self, first, by):
        move = "UPDATE apikeys_auditlink SET sequence = %s WHERE entry_id = %s"
        for place in range(first, self.last + 1) if by < 0 else range(self.last, first - 1, -1):
            self.sql(move, place + by, self.row(place))


ATTACKS = [
    Attack.change,
    Attack.change,
    Attack.change_a_hash,
    Attack.change_the_end,
    Attack.delete,
    Attack.truncate,
    Attack.lose_the_end,
    Attack.insert,
    Attack.swap,
    Attack.swap,
]


def test_a_log_that_nobody_touched_is_as_written(chain):
    verdict = verify_chain(chain.pk)
    assert verdict.fault is None
    assert verdict.entries == AuditEntry.objects.filter(organization=chain).count() > ENTRIES


def test_each_of_a_thousand_random_changes_is_found_and_named(chain):
    wrong = []
    for case in range(CASES):
        rng = random.Random(case)  # noqa: S311 - the same cases each time
        with transaction.atomic():
            attack = rng.choice(ATTACKS)
            expected = attack(Attack(chain, rng))
            fault = verify_chain(chain.pk).fault
            if fault is None or (fault.wrong, fault.sequence) != expected:
                wrong.append(f"case {case}, {attack.__name__}: {expected}, found {fault}")
            transaction.set_rollback(True)
    assert not wrong, "\n".join(wrong[:20]) + f"\n{len(wrong)} in all"
