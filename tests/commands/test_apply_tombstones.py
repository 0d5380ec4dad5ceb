"""apply_tombstones, and what is written for it: a restored backup brings no revoked key back to life."""

import json
import logging
import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from django.db import transaction

from apikeys import tombstones
from apikeys.models import AuditAction, AuditEntry, Status
from tests.commands.running import ROOT, run, run_process
from tests.database import server_key
from tests.factories import make_actor, make_key, make_revoked_key
from tests.threads import run_together


@pytest.fixture
def file(tmp_path, settings, monkeypatch):
    """A file of tombstones, none of which has been looked at."""
    path = tmp_path / "tombstones"
    path.touch()
    settings.TOMBSTONE_FILE = str(path)
    monkeypatch.setattr(tombstones._Seen, "until", 0)
    return path


def stones(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def stone(of, **changed):
    told = {"key": of.public_id, "revoked_at": "2026-03-01T12:00:00+00:00", "by": "mara@example.org"}
    return json.dumps(told | {"reason": "leaked"} | changed) + "\n"


def revoke(key):
    key.revoke(reason="leaked", note="Seen in a public repository", by=make_actor())


# Writing


def test_a_revocation_leaves_a_tombstone_without_anything_secret(committed, file):
    issued = make_key(committed)
    revoke(issued.key)
    [told] = stones(file)
    assert told == {
        "key": issued.key.public_id,
        "revoked_at": issued.key.revoked_at.isoformat(),
        "by": issued.key.revoked_by_label,
        "reason": "leaked",
    }
    assert issued.secret.text not in file.read_text()


def test_one_that_is_rolled_back_leaves_none(committed, file):
    key = make_key(committed).key
    with transaction.atomic():
        revoke(key)
        transaction.set_rollback(True)
    assert stones(file) == []


def test_each_way_to_end_a_key_leaves_one(committed, file):
    one, other = make_key(committed).key, make_key(committed).key
    one.regenerate(by=make_actor())
    member = committed.members.get()
    ran = run("revoke_key", other.public_id, "--reason", "unused", "--by", member.user.email)
    assert ran.status == 0
    assert [told["key"] for told in stones(file)] == [one.public_id, other.public_id]


def test_many_at_once_each_leave_a_whole_line(committed, file):
    keys = [make_key(committed).key for _ in range(12)]
    results = run_together(*(lambda key=key: revoke(key) for key in keys))
    assert results == [None] * 12
    assert {told["key"] for told in stones(file)} == {key.public_id for key in keys}


def test_a_file_that_is_away_stops_no_revocation_and_is_made_good_later(committed, file, caplog):
    file.unlink()
    key = make_key(committed).key
    with caplog.at_level(logging.ERROR, logger="apikeys.tombstones"):
        revoke(key)
    assert "No such file or directory" in caplog.text
    key.refresh_from_db()
    assert key.status == Status.REVOKED
    assert not file.exists()
    assert "Tombstones were not written" in run("finish_rotations").err
    file.touch()
    assert run("finish_rotations").status == 0
    assert key.public_id in {told["key"] for told in stones(file)}
    size = file.stat().st_size
    assert run("finish_rotations").status == 0
    assert file.stat().st_size == size


def test_a_line_that_was_torn_takes_none_with_it(committed, file):
    file.write_text('{"key": "ABC')
    key = make_key(committed).key
    revoke(key)
    assert [found.key for found in tombstones.read(skip=True)] == [key.public_id]


def test_nothing_is_written_where_none_are_kept(committed, settings):
    settings.TOMBSTONE_FILE = ""
    revoke(make_key(committed).key)
    assert tombstones.are_applied()
    assert tombstones.catch_up() == 0


# Applying


@pytest.mark.django_db
def test_a_key_that_lives_again_is_revoked_as_it_was(organization, file):
    key = make_key(organization).key
    file.write_text(stone(key) + stone(key) + stone(make_revoked_key(organization).key))
    assert not tombstones.are_applied()
    dry = run("apply_tombstones", "--dry-run", "--json")
    assert dry.json == {"revoked": [key.public_id], "written": 0}
    key.refresh_from_db()
    assert key.revoked_at is None
    ran = run("apply_tombstones")
    assert ran.status == 0
    assert ran.out.startswith("1 keys were revoked again")
    assert key.fingerprint in ran.err
    key.refresh_from_db()
    assert key.revoked_at == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert key.revoked_reason == "leaked"
    assert key.revoked_note == "Revoked on 2026-03-01 12:00 UTC by mara@example.org, and again after a restore."
    assert AuditEntry.objects.filter(action=AuditAction.KEY_REVOKE, key_id=key.pk).count() == 1
    assert tombstones.are_applied()
    assert run("apply_tombstones").out == "0 keys were revoked again, 0 tombstones written.\n"


@pytest.mark.django_db
def test_the_tombstones_that_are_missing_are_written(organization, file):
    keys = [make_revoked_key(organization).key for _ in range(3)]
    assert run("apply_tombstones").out == "0 keys were revoked again, 3 tombstones written.\n"
    assert {told["key"] for told in stones(file)} == {key.public_id for key in keys}


@pytest.mark.django_db
def test_a_key_that_the_backup_did_not_have_is_no_matter(organization, file):
    file.write_text(stone(make_key(organization).key, key="A" * 12))
    assert tombstones.are_applied()
    assert run("apply_tombstones").status == 0


@pytest.mark.django_db
@pytest.mark.parametrize(
    "bad",
    [
        "no json\n",
        "[]\n",
        "{}\n",
        "1\n",
        '{"key": 5, "revoked_at": 5, "by": 5, "reason": 5}\n',
        '{"key": "short", "revoked_at": "2026-03-01T12:00:00+00:00", "by": "", "reason": ""}\n',
        '{"key": "ABCDEFGHIJKL", "revoked_at": "2026-03-01T12:00:00", "by": "", "reason": ""}\n',
        '{"key": "ABCDEFGHIJKL", "revoked_at": "yesterday", "by": "", "reason": ""}\n',
        "[" * 9000 + "\n",
        "x" * 20_000 + "\n",
        '{"key": "ABC',
    ],
)
def test_a_line_that_is_none_is_told_after_the_others_were_applied(organization, file, bad):
    key, other = make_key(organization).key, make_key(organization).key
    file.write_text(stone(key) + bad + ("" if not bad.endswith("\n") else stone(other)))
    ran = run("apply_tombstones")
    assert ran.status == 1
    assert f"no tombstone at byte {len(stone(key))}" in ran.err
    key.refresh_from_db()
    other.refresh_from_db()
    assert key.revoked_at
    assert bool(other.revoked_at) is bad.endswith("\n")
    assert tombstones.are_applied()


@pytest.mark.django_db
def test_a_reason_that_is_none_any_more_is_another_one(organization, file):
    key = make_key(organization).key
    file.write_text(stone(key, reason="hunch", by="x" * 600))
    assert run("apply_tombstones").status == 0
    key.refresh_from_db()
    assert key.revoked_reason == "other"


@pytest.mark.django_db
def test_wrong_usage_is_told(organization, file, settings):
    file.unlink()
    assert "No such file or directory" in run("apply_tombstones").err
    assert run("apply_tombstones", "--create").status == 0
    assert file.stat().st_mode & 0o777 == 0o600
    settings.TOMBSTONE_FILE = ""
    ran = run("apply_tombstones")
    assert (ran.status, "TOMBSTONE_FILE is not set" in ran.err) == (1, True)


# Readiness


@pytest.mark.django_db
def test_readiness_looks_at_new_tombstones_alone(organization, file, django_assert_num_queries):
    for _ in range(3):
        file.write_text(file.read_text() + stone(make_revoked_key(organization).key))
    with django_assert_num_queries(1):
        assert tombstones.are_applied()
    with django_assert_num_queries(0):
        assert tombstones.are_applied()
    file.write_text(file.read_text() + stone(make_key(organization).key))
    with django_assert_num_queries(1):
        assert not tombstones.are_applied()
    # A file that has become shorter is another one.
    file.write_text(stone(make_key(organization).key))
    assert not tombstones.are_applied()


@pytest.mark.django_db
def test_a_line_that_is_being_written_is_looked_at_again(organization, file):
    line = stone(make_key(organization).key)
    file.write_text(line[:40])
    assert tombstones.are_applied()
    file.write_text(line)
    assert not tombstones.are_applied()


READY = """if True:
    from keyadmin.wsgi import application
    from tests.verifier import Verifier
    answer = Verifier(application).call("GET", "/readyz")
    print(answer.status, answer.body.decode().strip())
"""


def test_after_a_restore_it_is_not_ready_until_they_are_applied(request, tmp_path):
    server = request.config.stash.get(server_key, None)
    file = tmp_path / "tombstones"
    live, backup = tmp_path / "live.sqlite3", tmp_path / "backup.sqlite3"
    address = server.make_database("restored") if server else f"sqlite:///{live}"
    environment = {"DATABASE_URL": address, "TOMBSTONE_FILE": str(file)}

    def manage(*arguments):
        ran = run_process(*arguments, **environment)
        assert ran.status == 0, ran.err
        return ran

    def ready():
        command = [sys.executable, "-c", READY]
        ran = subprocess.run(
            command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=True
        )
        return ran.stdout.strip()

    def status():
        shell = "from apikeys.models import ApiKey; print(*(key.status for key in ApiKey.objects.order_by('pk')))"
        return manage("shell", "--no-imports", "-c", shell).out.strip()

    manage("migrate")
    manage("create_organization", "--name", "Acme", "--slug", "acme", "--email", "mara@example.com")
    assert ready() == "503 not ready: tombstones"
    manage("apply_tombstones", "--create")
    assert ready() == "200 ok"
    shell = (
        "from apikeys.models import *; from tests.factories import make_key, make_scope\n"
        "acme = Organization.objects.get(); make_scope(acme, 'orders:read')\n"
        "for _ in range(2): make_key(acme)"
    )
    manage("shell", "--no-imports", "-c", shell)
    _copy(server, "restored", "backup", live, backup)
    shell = "from apikeys.models import *; ApiKey.objects.first().revoke(reason='leaked', by=Actor.command())"
    manage("shell", "--no-imports", "-c", shell)
    assert sorted(status().split()) == ["active", "revoked"]
    _copy(server, "backup", "restored", backup, live)
    assert status() == "active active"
    assert ready() == "503 not ready: tombstones"
    manage("apply_tombstones")
    assert sorted(status().split()) == ["active", "revoked"]
    assert ready() == "200 ok"
    manage("verify_audit_log")


def _copy(server, source, target, source_file: Path, target_file: Path):
    if server:
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{target}"')
            connection.execute(f'CREATE DATABASE "{target}" TEMPLATE "{source}"')
        return
    target_file.unlink(missing_ok=True)
    for side in ("-wal", "-shm"):
        Path(f"{target_file}{side}").unlink(missing_ok=True)
    old, new = sqlite3.connect(source_file), sqlite3.connect(target_file)
    old.backup(new)
    old.close()
    new.close()
