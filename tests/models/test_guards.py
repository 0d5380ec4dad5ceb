"""The database itself refuses: by raw SQL, a revoked key stays revoked and an audit entry stays as it is."""

import pytest
from django.db import DatabaseError, connection, transaction

from apikeys.models import Actor, ApiKey, AuditEntry, RevocationReason
from tests.factories import make_key

pytestmark = pytest.mark.django_db
BY = Actor.command()


def refused(sql, *params):
    with (
        pytest.raises(DatabaseError, match=r"keyadmin|UNIQUE|unique"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(sql, params)


@pytest.fixture
def dead(organization):
    key = make_key(organization).key
    key.revoke(reason=RevocationReason.LEAKED, by=BY)
    return key


@pytest.mark.parametrize(
    "change",
    [
        "revoked_at = NULL",
        "revoked_at = '2090-01-01 00:00:00+00:00'",
        "revoked_reason = 'other'",
        "revoked_by_label = 'somebody else'",
        "revoked_note = 'no, it was not'",
        "public_id = 'AAAAAAAAAAAA'",
        "prefix = 'kb'",
        "pepper_number = 7",
        "id = 999999999",
    ],
)
def test_no_update_brings_a_revoked_key_back(dead, change):
    refused(f"UPDATE apikeys_apikey SET {change} WHERE id = %s", dead.pk)
    assert ApiKey.objects.get(pk=dead.pk).revoked_at == dead.revoked_at


def test_no_delete_makes_room_for_it(dead):
    refused("DELETE FROM apikeys_apikey WHERE id = %s", dead.pk)
    with pytest.raises(DatabaseError), transaction.atomic():
        ApiKey.objects.filter(pk=dead.pk).delete()
    assert ApiKey.objects.filter(pk=dead.pk).exists()


def test_no_orm_call_brings_it_back(dead):
    dead.revoked_at = None
    with pytest.raises(DatabaseError), transaction.atomic():
        dead.save()
    with pytest.raises(DatabaseError), transaction.atomic():
        ApiKey.objects.bulk_update([dead], ["revoked_at"])
    with pytest.raises(DatabaseError), transaction.atomic():
        ApiKey.objects.filter(pk=dead.pk).update(revoked_at=None)


def test_no_insert_takes_its_place(dead):
    columns = [field.column for field in ApiKey._meta.concrete_fields]
    chosen = ", ".join("NULL" if name == "revoked_at" else name for name in columns)
    verb = "INSERT OR REPLACE" if connection.vendor == "sqlite" else "INSERT"
    refused(
        f"{verb} INTO apikeys_apikey ({', '.join(columns)}) SELECT {chosen} FROM apikeys_apikey WHERE id = %s", dead.pk
    )
    renumbered = chosen.replace("id,", "888888888,", 1)
    refused(
        f"{verb} INTO apikeys_apikey ({', '.join(columns)}) SELECT {renumbered} FROM apikeys_apikey WHERE id = %s",
        dead.pk,
    )
    assert ApiKey.objects.get(pk=dead.pk).revoked_at


def test_a_living_key_cannot_take_a_dead_ones_identity(organization, dead):
    other = make_key(organization).key
    verb = "UPDATE OR REPLACE" if connection.vendor == "sqlite" else "UPDATE"
    for column in ("digest", "public_id", "organization_id", "id", "created_at"):
        refused(
            f"{verb} apikeys_apikey SET {column} = (SELECT x.{column} FROM apikeys_apikey x WHERE x.id = %s)"
            + (" || ''" if column == "public_id" else "")
            + " WHERE id = %s",
            dead.pk,
            other.pk,
        ) if column != "organization_id" else refused(
            f"{verb} apikeys_apikey SET organization_id = organization_id + 1 WHERE id = %s", other.pk
        )


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE apikeys_auditentry SET actor_label = 'nobody' WHERE id = %s",
        "UPDATE apikeys_auditentry SET reason = reason WHERE id = %s",
        "DELETE FROM apikeys_auditentry WHERE id = %s",
    ],
)
def test_no_statement_changes_an_audit_entry(dead, sql):
    entry = AuditEntry.objects.filter(key_id=dead.pk).first()
    refused(sql, entry.pk)


def test_no_insert_replaces_an_audit_entry(dead):
    entry = AuditEntry.objects.filter(key_id=dead.pk).first()
    columns = ", ".join(field.column for field in AuditEntry._meta.concrete_fields)
    verb = "INSERT OR REPLACE" if connection.vendor == "sqlite" else "INSERT"
    refused(
        f"{verb} INTO apikeys_auditentry ({columns}) SELECT {columns} FROM apikeys_auditentry WHERE id = %s", entry.pk
    )


@pytest.mark.parametrize("table", ["apikeys_apikey", "apikeys_auditentry"])
def test_no_truncate_empties_a_guarded_table(dead, table):
    if connection.vendor == "sqlite":
        refused(f"DELETE FROM {table}")  # SQLite's truncate: a DELETE without a condition
    else:
        connection.check_constraints()  # deferred ones still wait, and TRUNCATE refuses because of them
        refused(f"TRUNCATE {table} CASCADE")


def test_a_key_that_lives_may_be_edited_and_paused_by_the_orm(organization):
    key = make_key(organization).key
    assert ApiKey.objects.filter(pk=key.pk).update(name="renamed") == 1
