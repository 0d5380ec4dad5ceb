"""Each audit entry gets its place in a chain of hashes, in the transaction in which it is written.

On PostgreSQL the link is made when that transaction commits: until then it holds nothing that another one of the same
organization waits for, whatever order either takes its locks in. SQLite has one writer at a time.
"""

from importlib import import_module

import django.db.models.deletion
from django.db import migrations, models

import apikeys.models.audit_chain
from apikeys.models.audit_chain import COLUMNS, GENESIS, NOBODY, content_of, hash_of, link_of

CHAIN = "COALESCE(NEW.organization_id, 0)"

GUARDS = f"""
CREATE FUNCTION keyadmin_guard_audit_link() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'keyadmin: the link of an audit entry cannot be changed or deleted';
END $$;
CREATE TRIGGER keyadmin_audit_link_update BEFORE UPDATE OR DELETE ON apikeys_auditlink
    FOR EACH ROW EXECUTE FUNCTION keyadmin_guard_audit_link();
CREATE TRIGGER keyadmin_audit_link_truncate BEFORE TRUNCATE ON apikeys_auditlink
    FOR EACH STATEMENT EXECUTE FUNCTION keyadmin_guard_audit_link();

CREATE FUNCTION keyadmin_guard_audit_chain() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.number = OLD.number AND NEW.sequence = OLD.sequence + 1 THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'keyadmin: a chain of audit entries only grows';
END $$;
CREATE TRIGGER keyadmin_audit_chain_update BEFORE UPDATE OR DELETE ON apikeys_auditchain
    FOR EACH ROW EXECUTE FUNCTION keyadmin_guard_audit_chain();
CREATE TRIGGER keyadmin_audit_chain_truncate BEFORE TRUNCATE ON apikeys_auditchain
    FOR EACH STATEMENT EXECUTE FUNCTION keyadmin_guard_audit_chain();

CREATE FUNCTION keyadmin_audit_link_hash(sequence bigint, previous text, content text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT encode(sha256(convert_to(sequence || ':' || previous || ':' || content, 'UTF8')), 'hex')
$$;
CREATE FUNCTION keyadmin_link_audit() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    head apikeys_auditchain;
    link text;
BEGIN
    SELECT * INTO head FROM apikeys_auditchain WHERE number = {CHAIN} FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO apikeys_auditchain (number, sequence, hash) VALUES ({CHAIN}, 0, '{GENESIS}') ON CONFLICT DO NOTHING;
        SELECT * INTO head FROM apikeys_auditchain WHERE number = {CHAIN} FOR UPDATE;
    END IF;
    link := keyadmin_audit_link_hash(head.sequence + 1, head.hash, NEW.content_hash);
    INSERT INTO apikeys_auditlink (entry_id, chain, sequence, previous, hash)
        VALUES (NEW.id, head.number, head.sequence + 1, head.hash, link);
    UPDATE apikeys_auditchain SET sequence = head.sequence + 1, hash = link WHERE number = head.number;
    RETURN NULL;
END $$;
"""

LINK_POSTGRESQL = """
CREATE CONSTRAINT TRIGGER keyadmin_audit_link AFTER INSERT ON apikeys_auditentry DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION keyadmin_link_audit();
"""

# SHA256 is Django's own function in SQLite: who writes an entry without it is refused.
LINK_SQLITE = f"""
CREATE TRIGGER keyadmin_audit_link AFTER INSERT ON apikeys_auditentry
BEGIN
    INSERT INTO apikeys_auditchain (number, sequence, hash)
        SELECT {CHAIN}, 0, '{GENESIS}' WHERE NOT EXISTS (SELECT 1 FROM apikeys_auditchain WHERE number = {CHAIN});
    INSERT INTO apikeys_auditlink (entry_id, chain, sequence, previous, hash)
        SELECT NEW.id, number, sequence + 1, hash, SHA256((sequence + 1) || ':' || hash || ':' || NEW.content_hash)
        FROM apikeys_auditchain WHERE number = {CHAIN};
    UPDATE apikeys_auditchain
        SET sequence = sequence + 1, hash = (SELECT hash FROM apikeys_auditlink WHERE entry_id = NEW.id)
        WHERE number = {CHAIN};
END
"""

_LINK_STANDS = "keyadmin: the link of an audit entry cannot be changed or deleted"
_CHAIN_GROWS = "keyadmin: a chain of audit entries only grows"
GUARDS_SQLITE = [
    *(
        f"""
        CREATE TRIGGER keyadmin_audit_link_{operation.lower()} BEFORE {operation} ON apikeys_auditlink
        BEGIN SELECT RAISE(ABORT, '{_LINK_STANDS}'); END
        """
        for operation in ("UPDATE", "DELETE")
    ),
    f"""
    CREATE TRIGGER keyadmin_audit_link_replace BEFORE INSERT ON apikeys_auditlink
    WHEN EXISTS (
        SELECT 1 FROM apikeys_auditlink
        WHERE entry_id = NEW.entry_id OR (chain = NEW.chain AND sequence = NEW.sequence)
    )
    BEGIN SELECT RAISE(ABORT, '{_LINK_STANDS}'); END
    """,
    f"""
    CREATE TRIGGER keyadmin_audit_chain_update BEFORE UPDATE ON apikeys_auditchain
    WHEN NEW.number IS NOT OLD.number OR NEW.sequence IS NOT OLD.sequence + 1
    BEGIN SELECT RAISE(ABORT, '{_CHAIN_GROWS}'); END
    """,
    f"""
    CREATE TRIGGER keyadmin_audit_chain_delete BEFORE DELETE ON apikeys_auditchain
    BEGIN SELECT RAISE(ABORT, '{_CHAIN_GROWS}'); END
    """,
    f"""
    CREATE TRIGGER keyadmin_audit_chain_replace BEFORE INSERT ON apikeys_auditchain
    WHEN EXISTS (SELECT 1 FROM apikeys_auditchain WHERE number = NEW.number)
    BEGIN SELECT RAISE(ABORT, '{_CHAIN_GROWS}'); END
    """,
]


def hash_and_link(apps, schema_editor):
    """Hash and link the entries there are, in the order of their ids, then let the database do it."""
    connection = schema_editor.connection
    is_postgresql = connection.vendor == "postgresql"
    if is_postgresql:
        schema_editor.execute("ALTER TABLE apikeys_auditentry DISABLE TRIGGER keyadmin_audit_update")
    # SQLite has remade the table for the new column, without its triggers.
    entries = apps.get_model("apikeys", "AuditEntry").objects
    chains, links = (apps.get_model("apikeys", name) for name in ("AuditChain", "AuditLink"))
    heads = {}
    rows = entries.order_by("id").values_list("id", *COLUMNS.values())
    last = 0
    while batch := list(rows.filter(id__gt=last)[:2000]):
        last = batch[-1][0]
        hashed = {row[0]: hash_of(content_of(row[1:])) for row in batch}
        with connection.cursor() as cursor:
            cursor.executemany(
                "UPDATE apikeys_auditentry SET content_hash = %s WHERE id = %s",
                [(content_hash, pk) for pk, content_hash in hashed.items()],
            )
        made = []
        for row in batch:
            number = row[1 + list(COLUMNS.values()).index("organization_id")] or NOBODY
            sequence, previous = heads.get(number, (0, GENESIS))
            sequence += 1
            link = link_of(sequence, previous, hashed[row[0]])
            heads[number] = sequence, link
            made.append(links(entry_id=row[0], chain=number, sequence=sequence, previous=previous, hash=link))
        links.objects.bulk_create(made)
    chains.objects.bulk_create([chains(number=one, sequence=head[0], hash=head[1]) for one, head in heads.items()])
    if is_postgresql:
        # What is checked at the end of a transaction stands in the way of a change to a table.
        schema_editor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        schema_editor.execute("ALTER TABLE apikeys_auditentry ENABLE TRIGGER keyadmin_audit_update")
        schema_editor.execute(GUARDS)
        schema_editor.execute(LINK_POSTGRESQL)
        return
    for statement in [*_audit_guards(), *GUARDS_SQLITE, LINK_SQLITE]:
        schema_editor.execute(statement)


def _audit_guards():
    return [one for one in import_module("apikeys.migrations.0002_guards").SQLITE if "keyadmin_audit" in one]


class Migration(migrations.Migration):
    dependencies = [("apikeys", "0021_webhook_previous_pepper")]
    operations = [
        migrations.CreateModel(
            name="AuditChain",
            fields=[
                ("number", models.BigIntegerField(primary_key=True, serialize=False)),
                ("sequence", models.BigIntegerField()),
                ("hash", models.CharField(max_length=64)),
            ],
            options={"verbose_name": "chain of audit entries"},
        ),
        migrations.CreateModel(
            name="AuditCheck",
            fields=[
                ("number", models.BigIntegerField(primary_key=True, serialize=False)),
                ("checked_at", models.DateTimeField()),
                ("entries", models.BigIntegerField()),
                ("fault", models.CharField(blank=True, max_length=200)),
            ],
            options={"verbose_name": "check of audit entries"},
        ),
        migrations.CreateModel(
            name="AuditLink",
            fields=[
                (
                    "entry",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="link",
                        serialize=False,
                        to="apikeys.auditentry",
                    ),
                ),
                ("chain", models.BigIntegerField()),
                ("sequence", models.BigIntegerField()),
                ("previous", models.CharField(max_length=64)),
                ("hash", models.CharField(max_length=64)),
            ],
            options={
                "verbose_name": "link of an audit entry",
                "constraints": [models.UniqueConstraint(fields=("chain", "sequence"), name="audit_link_place")],
            },
        ),
        migrations.AddField(
            model_name="auditentry",
            name="content_hash",
            field=apikeys.models.audit_chain.ContentHashField(default="", editable=False, max_length=64),
            preserve_default=False,
        ),
        # No way back: undoing this would take the proof away.
        migrations.RunPython(hash_and_link),
    ]
