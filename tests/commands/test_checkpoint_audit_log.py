"""checkpoint_audit_log: what is signed, mailed, and seen by it later."""

import json
from datetime import timedelta
from hashlib import sha256

import pytest
from django.core import mail
from django.test import override_settings
from django.utils import timezone

from apikeys import checkpoints
from apikeys.audit_signing import CheckpointError, check, public_keys, statement_of
from apikeys.models import AuditAction, AuditChain, AuditCheck, AuditCheckpoint, AuditEntry, AuditLink, JobRun
from apikeys.models.audit_chain import COLUMNS, content_of, hash_of, link_now, link_of
from tests.commands.running import run
from tests.factories import make_actor, make_key
from tests.pages import url, without_guards

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture
def logged(organization):
    """An organization with an audit log and somebody who keeps its checkpoints."""
    organization.edit(
        name=organization.name, key_prefix="ka", max_key_age=None, checkpoint_mail="audit@example.net", by=make_actor()
    )
    for number in range(3):
        make_key(organization, f"key {number}")
    link_now()
    return organization


def grow(organization):
    make_key(organization)
    link_now()


def make(organization, *, later=timedelta()):
    """Make a checkpoint as the command does, some days later."""
    link_now()
    return checkpoints.make_checkpoint(AuditChain.objects.get(number=organization.pk), timezone.now() + later)


def test_what_was_signed_is_mailed_once_and_is_right(logged):
    ran = run("checkpoint_audit_log")
    assert (ran.status, ran.out) == (0, "Checkpoints: 1 made, 1 mailed, 0 not mailed.\n")
    [sent] = mail.outbox
    head = AuditChain.objects.get(number=logged.pk)
    assert sent.to == ["audit@example.net"]
    assert sent.subject == f"[Acme] Audit log: checkpoint of entry {head.sequence}"
    assert "http" not in sent.body
    [(name, text, _)] = sent.attachments
    assert name == f"acme-{head.sequence}.checkpoint.json"
    checked = check(json.loads(text), public_keys())
    assert (checked.organization, checked.sequence, checked.hash) == (logged.pk, head.sequence, head.hash)
    assert run("checkpoint_audit_log").out == "Checkpoints: 0 made, 0 mailed, 0 not mailed.\n"
    assert JobRun.objects.filter(job="checkpoint_audit_log").count() == 2
    assert "https" not in sent.body


def test_one_is_made_a_day_and_only_where_something_happened(logged):
    assert make(logged)
    grow(logged)
    assert make(logged) is None
    assert make(logged, later=DAY)
    assert make(logged, later=2 * DAY) is None
    assert AuditCheckpoint.objects.filter(number=logged.pk).count() == 2


def test_a_mail_that_is_refused_is_sent_by_the_next_run(logged):
    with override_settings(MAILERS={"default": {"BACKEND": "tests.broken_mail.Refusing"}}):
        assert run("checkpoint_audit_log", "--json").json == {
            "made": 1,
            "sent": 0,
            "failed": 1,
            "not_as_written": 0,
        }
    assert run("checkpoint_audit_log").out == "Checkpoints: 0 made, 1 mailed, 0 not mailed.\n"
    assert len(mail.outbox) == 1


def test_nobody_is_mailed_where_nobody_wants_it(organization):
    make_key(organization)
    link_now()
    assert run("checkpoint_audit_log").out == "Checkpoints: 1 made, 0 mailed, 0 not mailed.\n"
    assert not mail.outbox


def test_a_log_that_is_not_as_it_was_written_is_not_signed(logged):
    without_guards()
    AuditEntry.objects.filter(organization=logged).update(reason="forged")
    ran = run("checkpoint_audit_log")
    assert ran.status == 3
    assert "not as written, and not signed: 1" in ran.out
    assert not AuditCheckpoint.objects.exists()


def test_public_keys_are_those_of_the_peppers_the_newest_first():
    one, two = (sha256(text).digest() for text in (b"one", b"two"))
    with override_settings(KEY_PEPPERS={1: one}):
        [old] = public_keys()
    with override_settings(KEY_PEPPERS={1: one, 2: two}):
        assert public_keys()[1:] == [old]
        assert run("checkpoint_audit_log", "--public-key").out == "\n".join(public_keys()) + "\n"
    assert not JobRun.objects.exists()


# What a checkpoint shows


def forge_the_end(organization, keep):
    """Cut the log off after some entries, so that what is left is whole."""
    without_guards()
    links = AuditLink.objects.filter(chain=organization.pk)
    gone = list(links.filter(sequence__gt=keep).values_list("entry_id", flat=True))
    links.filter(sequence__gt=keep).delete()
    AuditEntry.objects.filter(pk__in=gone).delete()
    last = links.get(sequence=keep)
    AuditChain.objects.filter(number=organization.pk).update(sequence=keep, hash=last.hash)


def rewrite(organization, place):
    """Change an entry, and compute the chain anew from there to its end."""
    without_guards()
    links = AuditLink.objects.filter(chain=organization.pk).order_by("sequence")
    AuditEntry.objects.filter(pk=links.get(sequence=place).entry_id).update(reason="forged")
    previous = links.get(sequence=place).previous
    for link in links.filter(sequence__gte=place):
        content = hash_of(content_of(AuditEntry.objects.filter(pk=link.entry_id).values_list(*COLUMNS.values())[0]))
        AuditEntry.objects.filter(pk=link.entry_id).update(content_hash=content)
        hashed = link_of(link.sequence, previous, content)
        links.filter(pk=link.pk).update(previous=previous, hash=hashed)
        previous = hashed
    AuditChain.objects.filter(number=organization.pk).update(hash=previous)


def test_a_log_that_was_cut_off_is_told_by_its_checkpoint(logged):
    make(logged)
    end = AuditChain.objects.get(number=logged.pk).sequence
    grow(logged)
    forge_the_end(logged, end)
    assert run("verify_audit_log").status == 0, "what came after the checkpoint nobody has seen"
    forge_the_end(logged, end - 2)
    ran = run("verify_audit_log")
    assert (ran.status, f"Entry {end - 1} is missing." in ran.out) == (3, True)


def test_a_log_that_was_rewritten_to_its_end_is_told_by_its_checkpoints(logged):
    make(logged)
    first = AuditChain.objects.get(number=logged.pk).sequence
    grow(logged)
    grow(logged)
    make(logged, later=DAY)
    second = AuditChain.objects.get(number=logged.pk).sequence
    rewrite(logged, first + 2)
    ran = run("verify_audit_log", "--json")
    [fault] = ran.json["faults"]
    assert (fault["wrong"], fault["sequence"], fault["until"]) == ("changed", first + 1, second)
    assert f"Entries {first + 1} to {second} no longer lead" in AuditCheck.objects.get(number=logged.pk).fault


def test_a_mailed_checkpoint_shows_what_the_database_no_longer_does(logged, admin, client_of, tmp_path):
    link_now()
    run("checkpoint_audit_log")
    path = tmp_path / "kept.json"
    path.write_text(mail.outbox[0].attachments[0][1])
    AuditCheckpoint.objects.all().delete()
    end = AuditChain.objects.get(number=logged.pk).sequence
    forge_the_end(logged, end - 1)
    assert run("verify_audit_log").status == 0
    ran = run("verify_audit_log", "--checkpoints", str(path))
    assert f"Entry {end} is missing." in ran.out
    export = tmp_path / "export.jsonl"
    response = client_of(admin).get(url("audit_export", logged, "jsonl"))
    export.write_bytes(b"".join(response.streaming_content))
    ran = run("verify_audit_log", "--export", str(export), "--checkpoints", str(path), "--key", public_keys()[0])
    assert ran.status == 3


def test_an_export_up_to_the_checkpoint_is_as_written(logged, admin, client_of, tmp_path):
    link_now()
    run("checkpoint_audit_log")
    kept, export = tmp_path / "kept.json", tmp_path / "export.jsonl"
    kept.write_text(mail.outbox[0].attachments[0][1])
    response = client_of(admin).get(url("audit_export", logged, "jsonl"))
    export.write_bytes(b"".join(response.streaming_content))
    assert run("verify_audit_log", "--export", str(export), "--checkpoints", str(kept)).status == 0
    lines = export.read_text().splitlines()
    end = json.loads(kept.read_text())["sequence"]
    export.write_text("\n".join(lines[: end - 1]))
    assert run("verify_audit_log", "--export", str(export)).status == 0
    ran = run("verify_audit_log", "--export", str(export), "--checkpoints", str(kept))
    assert f"Entry {end} is missing." in ran.out
    export.write_text("\n".join(lines[2:]))
    assert run("verify_audit_log", "--export", str(export), "--checkpoints", str(kept)).status == 0


# Forged ones


def test_a_checkpoint_that_somebody_else_put_into_the_database_is_told(logged):
    make(logged)
    AuditCheckpoint.objects.update(hash="f" * 64)
    ran = run("verify_audit_log")
    assert ran.status == 3
    assert "The signature of the checkpoint of entry" in ran.out


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("sequence", 1, "The signature"),
        ("hash", "0" * 64, "The signature"),
        ("organization", 0, "The signature"),
        ("at", "2026-01-01T00:00:00.000000Z", "The signature"),
        ("signature", "", "The signature"),
        ("signature", "é", "The signature"),
        ("key", "A" * 44, "signed by another key"),
        ("sequence", "1", "A checkpoint has"),
        ("sequence", True, "A checkpoint has"),
        ("sequence", 10**30, "The signature"),
        ("more", 1, "A checkpoint has"),
    ],
)
def test_a_changed_checkpoint_is_refused(logged, tmp_path, name, value, told):
    make(logged)
    statement = statement_of(AuditCheckpoint.objects.get(number=logged.pk)) | {name: value}
    with pytest.raises(CheckpointError, match=told):
        check(statement, public_keys())
    path = tmp_path / "kept"
    path.write_text(json.dumps(statement))
    ran = run("verify_audit_log", "--checkpoints", str(path))
    assert ran.status == 1
    assert told in ran.err


@pytest.mark.parametrize("content", [b"\xff", b"[" * 9000, b"null", b"x" * 20_000])
def test_a_file_that_holds_no_checkpoint_is_told(tmp_path, content):
    path = tmp_path / "kept"
    path.write_bytes(content)
    ran = run("verify_audit_log", "--checkpoints", str(path))
    assert ran.status == 1
    assert ran.err.startswith("CommandError: --checkpoints: ")


def test_wrong_usage_of_checkpoints_is_told(tmp_path):
    path = tmp_path / "kept"
    path.touch()
    assert run("verify_audit_log", "--key", "x").status == 2
    for key in ("x", "é", "QQ==", "A" * 45):
        ran = run("verify_audit_log", "--checkpoints", str(path), "--key", key)
        assert (ran.status, "is no Ed25519 public key" in ran.err) == (1, True)
    assert "No such file" in run("verify_audit_log", "--checkpoints", str(tmp_path / "none")).err
    assert run("verify_audit_log", "--checkpoints", str(path)).status == 0
    assert AuditEntry.objects.filter(action=AuditAction.KEY_ISSUE).count() == 0
