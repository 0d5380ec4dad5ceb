"""The database itself refuses to bring a revoked key back, and to change or delete an audit entry.

SQLite drops a table's triggers when a later migration remakes the table: such a migration must run
``operations`` of this one again. tests/test_guards.py finds a database where they are missing.
"""

from django.db import migrations

# A key's identity: with any of it changed, a dead key could live on under another row or organization.
IDENTITY = ("id", "organization_id", "prefix", "public_id", "digest", "pepper_number", "created_at")
REVOCATION = ("revoked_at", "revoked_by_id", "revoked_by_label", "revoked_reason", "revoked_note")

POSTGRESQL = f"""
CREATE FUNCTION keyadmin_guard_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF ROW({", ".join(f"NEW.{c}" for c in IDENTITY)}) IS DISTINCT FROM ROW({", ".join(f"OLD.{c}" for c in IDENTITY)}) THEN
            RAISE EXCEPTION 'keyadmin: the identity of a key cannot be changed';
        END IF;
        IF OLD.revoked_at IS NOT NULL AND ROW({", ".join(f"NEW.{c}" for c in REVOCATION)})
            IS DISTINCT FROM ROW({", ".join(f"OLD.{c}" for c in REVOCATION)}) THEN
            RAISE EXCEPTION 'keyadmin: a revoked key stays revoked';
        END IF;
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'keyadmin: a key cannot be deleted';
END $$;
CREATE TRIGGER keyadmin_key_update BEFORE UPDATE OR DELETE ON apikeys_apikey
    FOR EACH ROW EXECUTE FUNCTION keyadmin_guard_key();
CREATE TRIGGER keyadmin_key_truncate BEFORE TRUNCATE ON apikeys_apikey
    FOR EACH STATEMENT EXECUTE FUNCTION keyadmin_guard_key();

CREATE FUNCTION keyadmin_guard_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'keyadmin: an audit entry cannot be changed or deleted';
END $$;
CREATE TRIGGER keyadmin_audit_update BEFORE UPDATE OR DELETE ON apikeys_auditentry
    FOR EACH ROW EXECUTE FUNCTION keyadmin_guard_audit();
CREATE TRIGGER keyadmin_audit_truncate BEFORE TRUNCATE ON apikeys_auditentry
    FOR EACH STATEMENT EXECUTE FUNCTION keyadmin_guard_audit();
"""

# INSERT OR REPLACE deletes the older row without firing a DELETE trigger: the INSERT triggers stop it.
SQLITE = [
    f"""
    CREATE TRIGGER keyadmin_key_identity BEFORE UPDATE ON apikeys_apikey
    WHEN {" OR ".join(f"NEW.{c} IS NOT OLD.{c}" for c in IDENTITY)}
    BEGIN SELECT RAISE(ABORT, 'keyadmin: the identity of a key cannot be changed'); END
    """,
    f"""
    CREATE TRIGGER keyadmin_key_revoked BEFORE UPDATE ON apikeys_apikey
    WHEN OLD.revoked_at IS NOT NULL AND ({" OR ".join(f"NEW.{c} IS NOT OLD.{c}" for c in REVOCATION)})
    BEGIN SELECT RAISE(ABORT, 'keyadmin: a revoked key stays revoked'); END
    """,
    """
    CREATE TRIGGER keyadmin_key_delete BEFORE DELETE ON apikeys_apikey
    BEGIN SELECT RAISE(ABORT, 'keyadmin: a key cannot be deleted'); END
    """,
    """
    CREATE TRIGGER keyadmin_key_replace BEFORE INSERT ON apikeys_apikey
    WHEN EXISTS (
        SELECT 1 FROM apikeys_apikey WHERE id = NEW.id OR public_id = NEW.public_id
        OR (organization_id = NEW.organization_id AND form_token = NEW.form_token)
    )
    BEGIN SELECT RAISE(ABORT, 'UNIQUE constraint failed: keyadmin: a key cannot be replaced'); END
    """,
    """
    CREATE TRIGGER keyadmin_key_token BEFORE UPDATE OF form_token ON apikeys_apikey
    WHEN NEW.form_token IS NOT OLD.form_token
    BEGIN SELECT RAISE(ABORT, 'keyadmin: the identity of a key cannot be changed'); END
    """,
    *(
        f"""
        CREATE TRIGGER keyadmin_audit_{operation.lower()} BEFORE {operation} ON apikeys_auditentry
        BEGIN SELECT RAISE(ABORT, 'keyadmin: an audit entry cannot be changed or deleted'); END
        """
        for operation in ("UPDATE", "DELETE")
    ),
    """
    CREATE TRIGGER keyadmin_audit_replace BEFORE INSERT ON apikeys_auditentry
    WHEN EXISTS (SELECT 1 FROM apikeys_auditentry WHERE id = NEW.id)
    BEGIN SELECT RAISE(ABORT, 'keyadmin: an audit entry cannot be changed or deleted'); END
    """,
]


def guard(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(POSTGRESQL)
    else:
        for statement in SQLITE:
            schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [("apikeys", "0001_initial")]
    # No way back: undoing this migration would take the guards away.
    operations = [migrations.RunPython(guard)]
