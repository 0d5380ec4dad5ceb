"""verify_audit_log: the database, one organization, or an export."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from django.db import connection
from django.test import Client

from apikeys.models import Actor, AuditAction, AuditCheck, AuditEntry, JobRun, Via
from apikeys.models.audit_chain import link_now
from tests.commands.running import ROOT, run, run_process
from tests.database import server_key
from tests.factories import make_key, make_organization
from tests.pages import url

DOCS = ROOT / "docs/audit-log.md"


def forge(entry):
    """Change what an entry says, past the guards."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL session_replication_role = replica")
        else:
            cursor.execute("DROP TRIGGER keyadmin_audit_update")
        cursor.execute("UPDATE apikeys_auditentry SET reason = 'forged' WHERE id = %s", [entry.pk])
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL session_replication_role = origin")


@pytest.fixture
def export(organization, admin, client_of, tmp_path):
    """Return the path of an export of an organization with some entries."""
    for number in range(5):
        make_key(organization, f"key {number} 💶")
    link_now()
    return lambda **query: _export(client_of(admin), organization, tmp_path, **query)


def _export(client: Client, organization, folder, **query):
    response = client.get(url("audit_export", organization, "jsonl", **query))
    assert response["Content-Disposition"] == f'attachment; filename="{organization.slug}-audit.jsonl"'
    path = folder / "audit.jsonl"
    path.write_bytes(b"".join(response.streaming_content))
    return path


@pytest.mark.django_db
def test_all_chains_are_checked_and_what_was_found_is_kept(organization):
    make_key(organization)
    other = make_organization("other", admin=organization.members.get().user)
    by = Actor("x@example.org", Via.DASHBOARD)
    AuditEntry.objects.record(AuditAction.SIGN_IN_FAILED, by=by, organization=None, target="x@example.org")
    link_now()
    ran = run("verify_audit_log")
    entries = AuditEntry.objects.count()
    assert (ran.status, ran.out) == (0, f"{entries:,} entries are as written.\n")
    found = {check.number: (check.entries, check.fault) for check in AuditCheck.objects.all()}
    assert set(found) == {organization.pk, other.pk, 0}
    assert all(not fault for _, fault in found.values())
    assert sum(count for count, _ in found.values()) == entries
    assert JobRun.objects.latest_of("verify_audit_log").done == ran.out.strip()


@pytest.mark.django_db
def test_the_first_fault_is_told_kept_and_shown(organization, admin, client_of):
    make_key(organization)
    link_now()
    run("verify_audit_log")
    client = client_of(admin)
    assert "History verified" in client.get(url("audit_list", organization)).text
    entry = AuditEntry.objects.filter(organization=organization).order_by("pk")[1]
    forge(entry)
    ran = run("verify_audit_log", "--json")
    assert ran.status == 3
    [fault] = ran.json["faults"]
    told = f"Entry 2 (row {entry.pk}) was changed."
    assert fault == {"in": "acme", "wrong": "changed", "sequence": 2, "until": None, "row": entry.pk, "told": told}
    assert run("verify_audit_log").out.startswith(f"acme: Entry 2 (row {entry.pk}) was changed.")
    for page in ("audit_list", "overview"):
        text = client.get(url(page, organization)).text
        assert "is not as it was written" in text
        assert f"Entry 2 (row {entry.pk}) was changed." in text
    assert "History verified" not in client.get(url("audit_list", organization)).text


@pytest.mark.django_db
def test_one_organization_alone_is_no_run_of_the_job(organization):
    other = make_organization("other", admin=organization.members.get().user)
    make_key(other)
    link_now()
    forge(AuditEntry.objects.filter(organization=other).first())
    assert run("verify_audit_log", "--organization", "acme").status == 0
    assert not JobRun.objects.filter(job="verify_audit_log").exists()
    assert run("verify_audit_log").status == 3


@pytest.mark.django_db
def test_a_page_says_that_nobody_has_checked(organization, admin, client_of):
    assert "Not verified yet" in client_of(admin).get(url("audit_list", organization)).text


@pytest.mark.django_db
def test_an_export_is_checked_without_the_database(export):
    path = export()
    lines = path.read_text().splitlines()
    assert [json.loads(line)["sequence"] for line in lines] == list(range(1, len(lines) + 1))
    ran = run("verify_audit_log", "--export", str(path))
    assert (ran.status, ran.out) == (0, f"{len(lines)} entries are as written.\n")
    assert not AuditCheck.objects.exists()
    assert not JobRun.objects.filter(job="verify_audit_log").exists()
    path.write_text("\n".join(lines[3:]))
    assert run("verify_audit_log", "--export", str(path)).status == 0


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lines: lines[:2] + lines[3:], "Entry 3 is missing."),
        (lambda lines: [*lines[:3], lines[2], *lines[3:]], "Entry 3 was inserted."),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "Entry 2 is missing."),
    ],
)
def test_a_changed_export_is_told(export, change, told):
    path = export()
    lines = path.read_text().splitlines()
    path.write_text("\n".join(change(lines)))
    ran = run("verify_audit_log", "--export", str(path))
    assert ran.status == 3
    assert told in ran.out


@pytest.mark.django_db
def test_an_entry_that_says_something_else_is_told(export):
    path = export()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for name, value in {"actor": "eve@example.org", "organization": None, "changes": {}, "at": "2020-01-01"}.items():
        changed = [*lines[:3], lines[3] | {name: value}, *lines[4:]]
        path.write_text("\n".join(json.dumps(line) for line in changed))
        ran = run("verify_audit_log", "--export", str(path))
        assert ran.status == 3
        assert "Entry 4 was changed." in ran.out


@pytest.mark.django_db
def test_a_filtered_export_has_gaps_and_each_entry_holds(export):
    path = export(action="key.issue")
    assert "missing" in run("verify_audit_log", "--export", str(path)).out
    ran = run("verify_audit_log", "--export", str(path), "--filtered")
    assert (ran.status, ran.out) == (0, "5 entries are as written.\n")
    path.write_text(path.read_text().replace("key 3", "key 4"))
    assert run("verify_audit_log", "--export", str(path), "--filtered").status == 3


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"not json\n", "Line 1 is no entry of an audit log"),
        (b"\n[1]\n", "Line 2 is no entry of an audit log: it is no JSON object"),
        (b'{"at": 1.5}', "1.5 is no whole number"),
        (b'{"at": NaN}', "NaN is no whole number"),
        (b'{"a": 1, "a": 2}', "names something twice"),
        (b'{"sequence": true, "previous": "", "hash": ""}', '"sequence", "previous" and "hash"'),
        (b'{"sequence": 1, "previous": "", "hash": "", "x": "\\ud800"}', "surrogates not allowed"),
        (b"\xff\xfe{}", "Line 1 is no entry"),
        (b'{"a": ' + b"[" * 100_000, "Line 1 is no entry"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "Line 1 is no entry"),
        (b"x" * 1_000_001, "longer than 1,000,000 bytes"),
    ],
)
def test_a_file_that_is_no_export_is_told_by_its_line(tmp_path, content, told):
    path = tmp_path / "file"
    path.write_bytes(content)
    ran = run("verify_audit_log", "--export", str(path))
    assert ran.status == 1
    assert told in ran.err


@pytest.mark.django_db
def test_wrong_usage_is_told(tmp_path):
    assert "No such file" in run("verify_audit_log", "--export", str(tmp_path / "none")).err
    assert "Is a directory" in run("verify_audit_log", "--export", str(tmp_path)).err
    assert run("verify_audit_log", "--filtered").status == 2
    assert run("verify_audit_log", "--organization", "nobody").status == 1
    empty = tmp_path / "empty"
    empty.touch()
    assert run("verify_audit_log", "--export", str(empty)).out == "0 entries are as written.\n"


def test_it_reads_standard_input(committed, tmp_path):
    make_key(committed)
    admin = committed.members.get().user
    client = Client()
    client.force_login(admin)
    text = _export(client, committed, tmp_path).read_text()
    ran = run_process("verify_audit_log", "--export", "-", stdin=text)
    assert (ran.status, ran.err) == (0, "")
    ran = run_process("verify_audit_log", "--organization", committed.slug)
    assert ran.status == 0


@pytest.mark.django_db
@pytest.mark.parametrize("language", ["python", "javascript"])
def test_the_checkers_of_the_specification_agree(export, tmp_path, language):
    [code] = re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert sum(1 for line in code.splitlines() if line.strip()) <= 20
    program = tmp_path / ("check.py" if language == "python" else "check.js")
    program.write_text(code)
    runs = sys.executable if language == "python" else shutil.which("node")
    if runs is None:
        pytest.skip("there is no node")
    path = export()
    command = [runs, str(program), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "As written, up to" in done.stdout
    path.write_text(path.read_text().replace("key 3", "key 4"))
    assert subprocess.run(command, capture_output=True, text=True, check=False).returncode != 0


def test_the_entries_there_were_are_hashed_and_linked_by_the_migration(request, tmp_path):
    server = request.config.stash.get(server_key, None)
    address = server.make_database("before") if server else f"sqlite:///{tmp_path}/before.sqlite3"
    assert run_process("migrate", "apikeys", "0021", DATABASE_URL=address).status == 0
    insert = (
        "INSERT INTO apikeys_auditentry (at, actor_label, via, address, user_agent, action, target_label, key_id,"
        " key_public_id, key_fingerprint, changes, reason) VALUES ('2026-01-0{} 12:00:00.5', 'mara@example.org',"
        " 'dashboard', '2001:db8::1', '', 'account.sign_in', 'é', NULL, '', '', '{{\"a\": [null, 1]}}', '')"
    )
    shell = "from django.db import connection as c\nwith c.cursor() as cursor:\n" + "".join(
        f"    cursor.execute({insert.format(day)!r})\n" for day in range(1, 6)
    )
    ran = run_process("shell", "--no-imports", "-c", shell, DATABASE_URL=address)
    assert (ran.status, ran.err) == (0, "")
    assert run_process("migrate", DATABASE_URL=address).status == 0
    ran = run_process("verify_audit_log", DATABASE_URL=address)
    assert (ran.status, ran.out) == (0, "5 entries are as written.\n")
    for change in ("UPDATE apikeys_auditentry SET reason = ''", "DELETE FROM apikeys_auditentry"):
        refused = run_process(
            *("shell", "--no-imports", "-c", f"from django.db import connection as c\nc.cursor().execute({change!r})"),
            DATABASE_URL=address,
        )
        assert "an audit entry cannot be changed or deleted" in refused.err
