from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from apikeys import key_secret
from apikeys.models import ApiKey, AuditAction, AuditEntry, Clock, Outcome, Rotation, RotationReason
from apikeys.models.rotation import LONGEST_WAIT
from apikeys.verification import Presented, verify
from tests.commands.running import run
from tests.factories import (
    make_actor,
    make_expired_key,
    make_key,
    make_member,
    make_old_key,
    make_overdue_rotation,
    make_policy,
    make_revoked_key,
    make_user,
)
from tests.pages import snapshot, soon

pytestmark = pytest.mark.django_db
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def issued(organization):
    return make_key(organization, "Nightly report")


@pytest.fixture
def rotate(operator):
    """Run it for a key, regularly and by the operator unless other options are named."""

    def command(key, *options, stdin=""):
        usual = {"--reason": "regular", "--by": operator.email}
        usual = [part for name, value in usual.items() if name not in options for part in (name, value)]
        return run("rotate_key", getattr(key, "public_id", key), *usual, *options, stdin=stdin)

    return command


def outcome(text):
    return verify(Presented(text, "acme")).outcome


def stored(key):
    return ApiKey.objects.get(pk=key.pk)


def near(first, second):
    return abs(first - second) < MINUTE


def test_stdout_holds_the_new_key_alone_and_both_work(issued, rotate):
    ran = rotate(issued.key)
    assert ran.status == 0
    text = ran.out.removesuffix("\n")
    secret = key_secret.parse(text)
    assert secret
    assert outcome(text) is outcome(issued.secret.text) is Outcome.VALID
    assert text not in ran.err
    assert issued.secret.text not in ran.out + ran.err
    until = stored(issued.key).expires_at
    new = key_secret.fingerprint(secret.prefix, secret.code, secret.public_id)
    assert ran.err == (
        f"The new key is {new}. Nightly report ({issued.key.fingerprint}) works until {until:%Y-%m-%d %H:%M} UTC.\n"
    )
    assert near(until, timezone.now() + 7 * DAY)


def test_json_says_what_was_started(issued, rotate):
    ran = rotate(issued.key, "--json")
    rotation = Rotation.objects.get()
    secret = key_secret.parse(ran.json["key"])
    assert ran.json == {
        "rotation": rotation.pk,
        "organization": "acme",
        "old_id": issued.key.public_id,
        "old_works_until": stored(issued.key).expires_at.isoformat(),
        "id": secret.public_id,
        "fingerprint": rotation.new_key.fingerprint,
        "key": secret.text,
        "expires_at": None,
        "link_sent_to": None,
    }
    assert ran.err == ""


def test_the_log_says_who_and_why(issued, operator, rotate):
    rotate(issued.key, "--by", operator.email.title(), "--reason", "expiry", "--note", "before the audit")
    entry = AuditEntry.objects.get(action=AuditAction.ROTATION_START)
    assert (entry.actor, entry.via, entry.reason) == (operator, "command", "before the audit")
    assert entry.changes["why"] == [None, "It expires soon"]
    assert Rotation.objects.get().started_by == operator


@pytest.mark.parametrize(("given", "overlap"), [("7d", 7 * DAY), ("12h", 12 * HOUR), ("90d", 90 * DAY)])
def test_both_work_for_as_long_as_is_asked(issued, rotate, given, overlap):
    assert rotate(issued.key, "--overlap", given).status == 0
    assert near(stored(issued.key).expires_at, timezone.now() + overlap)


@pytest.mark.parametrize("options", [["--overlap", "none"], ["--reason", "compromise"], ["--reason", "incident"]])
def test_without_overlap_the_old_key_is_refused_at_once(issued, rotate, options):
    ran = rotate(issued.key, *options)
    assert ran.status == 0
    assert outcome(issued.secret.text) is Outcome.REVOKED
    assert outcome(ran.out.strip()) is Outcome.VALID
    assert f"Nightly report ({issued.key.fingerprint}) is revoked." in ran.err


def test_for_a_suspected_leak_an_overlap_can_be_chosen(issued, rotate):
    rotate(issued.key, "--reason", "compromise", "--overlap", "1h")
    assert near(stored(issued.key).expires_at, timezone.now() + HOUR)


@pytest.mark.parametrize("reason", RotationReason.values)
def test_each_reason_is_known(issued, rotate, reason):
    assert rotate(issued.key, "--reason", reason).status == 0
    assert Rotation.objects.get().reason == reason


def test_the_clock_can_wait_for_the_first_use(issued, rotate):
    ran = rotate(issued.key, "--from", "first-use", "--overlap", "4h")
    assert Rotation.objects.get().clock == Clock.FIRST_USE
    assert near(stored(issued.key).expires_at, timezone.now() + LONGEST_WAIT + 4 * HOUR)
    assert "UTC at the latest." in ran.err


@pytest.mark.parametrize("zone", ["", "+00:00", "Z"])
def test_a_hard_end_is_in_utc(issued, rotate, zone):
    end = soon(3).replace(second=0, microsecond=0)
    rotate(issued.key, "--until", f"{end.astimezone(UTC):%Y-%m-%dT%H:%M}{zone}")
    assert stored(issued.key).expires_at == end


def test_a_hard_end_may_say_another_offset(issued, rotate):
    end = soon(3).replace(second=0, microsecond=0)
    rotate(issued.key, "--until", f"{end.astimezone(UTC) + 9 * HOUR:%Y-%m-%dT%H:%M}+09:00")
    assert stored(issued.key).expires_at == end


@pytest.mark.parametrize(("given", "by_itself"), [("deadline", False), ("safe", True)])
def test_it_finishes_as_is_asked(issued, rotate, given, by_itself):
    rotate(issued.key, "--finish", given)
    assert Rotation.objects.get().finishes_when_safe == by_itself


def test_the_new_keys_end_is_as_asked(organization, rotate):
    def end_of(*options):
        old = make_old_key(organization, 60 * DAY, expires_at=soon(30))
        given = rotate(old, "--json", *options).json["expires_at"]
        return given and datetime.fromisoformat(given)

    assert near(end_of(), timezone.now() + 90 * DAY)
    assert near(end_of("--expires-in", "same"), timezone.now() + 90 * DAY)
    assert near(end_of("--expires-in", "180d"), timezone.now() + 180 * DAY)
    assert end_of("--expires-in", "never") is None


def test_a_key_that_never_expires_is_followed_by_one_that_does_not(issued, rotate):
    assert rotate(issued.key, "--json").json["expires_at"] is None


def test_by_a_link_stdout_holds_nothing_and_the_owner_gets_a_mail(organization, rotate, mailoutbox):
    key = make_key(organization, owner=make_member(organization, user=make_user("olga@example.com"))).key
    ran = rotate(key, "--link", "24h")
    assert (ran.status, ran.out) == (0, "")
    assert "A link to the new key goes to olga@example.com." in ran.err
    [mail] = mailoutbox
    assert mail.to == ["olga@example.com"]
    rotation = Rotation.objects.get()
    assert near(rotation.link_until, timezone.now() + DAY)
    assert "/handover/" in mail.body
    assert "/handover/" not in ran.err


def test_by_a_link_json_holds_neither_key_nor_link(organization, rotate, mailoutbox):
    ran = rotate(make_key(organization).key, "--link", "1d", "--json")
    assert (ran.json["key"], ran.json["id"], ran.json["link_sent_to"]) == (None, None, "team@example.com")
    token = mailoutbox[0].body.partition("/handover/")[2].split()[0]
    assert token not in ran.out + ran.err


@pytest.mark.parametrize("server", ["Unreachable", "Refusing"])
def test_a_mail_server_that_fails_is_told_and_the_rotation_stays(organization, rotate, mail_server, server):
    mail_server(server)
    ran = rotate(make_key(organization).key, "--link", "1d")
    assert "The mail to team@example.com could not be sent; send it from the dashboard." in ran.err
    assert Rotation.objects.get().awaits_owner


def test_an_owner_without_a_mail_address_gets_no_link(organization, rotate):
    owner = make_member(organization, user=make_user(name="Olga Owner"))
    type(owner.user).objects.filter(pk=owner.user_id).update(email="")
    key = make_key(organization, owner=owner).key
    before = snapshot()
    ran = rotate(key, "--link", "1d")
    assert ran.status == 1
    assert "--link: Olga Owner has no mail address." in ran.err
    assert snapshot() == before


def test_the_id_may_be_a_fingerprint_or_come_from_stdin(organization, rotate):
    key = make_key(organization).key
    assert rotate(key.fingerprint, "--overlap", "1h").status == 0
    key = make_key(organization).key
    assert rotate("-", stdin=f"{key.public_id}\n").status == 0


def test_a_full_key_will_do_and_is_never_repeated(issued, rotate):
    ran = rotate("-", stdin=f"{issued.secret.text}\n")
    assert ran.status == 0
    assert issued.secret.secret not in ran.out + ran.err


@pytest.mark.parametrize("given", ["", "abc", "x" * 12 + "\n", "a" * 5000, "%", "zzzzzzzzzzzz"])
def test_what_is_no_id_of_a_key_is_refused(issued, rotate, given):
    before = snapshot()
    ran = rotate(given)
    assert ran.status == 1
    assert "ID: " in ran.err
    assert snapshot() == before


# What cannot be rotated, and who may not


def test_a_key_that_is_rotated_already_is_refused_and_the_rotation_named(issued, rotate):
    rotate(issued.key)
    rotation = Rotation.objects.get()
    before = snapshot()
    for key in (issued.key, rotation.new_key):
        ran = rotate(key)
        assert (ran.status, ran.out) == (1, "")
        assert ran.err == f"CommandError: Nightly report is in rotation {rotation.pk} already. Nothing changed."
    assert snapshot() == before


def test_one_whose_deadline_has_passed_is_in_its_rotation_still(organization, rotate):
    rotation = make_overdue_rotation(organization).rotation
    ran = rotate(rotation.old_key)
    assert f"is in rotation {rotation.pk} already" in ran.err


def paused(organization, name):
    issued = make_key(organization, name)
    issued.key.pause(by=make_actor())
    return issued


@pytest.mark.parametrize(
    ("make", "status"), [(make_revoked_key, "revoked"), (make_expired_key, "expired"), (paused, "paused")]
)
def test_a_key_that_does_not_work_is_refused(organization, rotate, make, status):
    key = make(organization, "Nightly report").key
    before = snapshot()
    ran = rotate(key)
    assert (ran.status, ran.out) == (1, "")
    assert ran.err == f"CommandError: Nightly report ({key.fingerprint}) is {status}: it cannot be rotated."
    assert snapshot() == before


def test_a_viewer_may_not(issued, viewer, rotate):
    ran = rotate(issued.key, "--by", viewer.email)
    assert ran.status == 1
    assert f"--by: {viewer.email} is viewer in acme; this needs operator or more." in ran.err
    assert not Rotation.objects.exists()


def test_an_admin_of_another_organization_may_not(issued, outsider, rotate):
    ran = rotate(issued.key, "--by", outsider.email)
    assert ran.status == 1
    assert f"--by: {outsider.email} is not a member of acme." in ran.err


# Bad input


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--overlap", "91d"], "--overlap: Both keys work for 0 to 90 days."),
        (["--overlap", "99999d"], "--overlap: Both keys work for 0 to 90 days."),
        (["--until", "2020-01-01T10:00"], "--until: The end must be in the future."),
        (["--until", "2020-01-01"], "--until: The end must be in the future."),
        (["--until", "0001-01-01T00:00+14:00"], "--until: The end must be in the future."),
        (["--until", "9999-12-31T23:59-12:00"], "--until: The end must be within 366 days."),
        (["--until", f"{soon(101):%Y-%m-%dT%H:%M}"], "--until: The old key expires by itself on"),
        (["--expires-in", "5d"], "--expires-in: The new key must work for longer than the old one."),
        (["--expires-in", "1h", "--from", "first-use"], "--expires-in: The new key must work for longer"),
        (["--expires-in", "99999d"], "--expires-in: The expiry must be before the end of the year 2100."),
        (["--link", "15d"], "--link: A link is good for 10 minutes to 14 days."),
        (["--link", "none"], "--link: A link is good for 10 minutes to 14 days."),
        (["--note", "x" * 501], "--note: Ensure this value has at most 500 characters (it has 501)."),
        (["--note", "bell\a"], "--note: "),
    ],
)
def test_a_value_that_cannot_be_names_its_option_and_changes_nothing(organization, rotate, mailoutbox, options, told):
    key = make_key(organization, expires_at=soon(100)).key
    before = snapshot()
    ran = rotate(key, *options)
    assert (ran.status, ran.out) == (1, "")
    assert told in ran.err
    assert snapshot() == before
    assert mailoutbox == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--overlap", "soon"], "argument --overlap: must read like 7d, 12h or none, not 'soon'."),
        (["--overlap", "-1d"], "argument --overlap"),
        (["--overlap", "0d"], "argument --overlap: must read like 7d, 12h or none, not '0d'."),
        (["--overlap", "٣d"], "argument --overlap"),
        (["--until", "tomorrow"], "argument --until: must read like 2026-12-31T18:00, in UTC, not 'tomorrow'."),
        (["--until", "2026-02-30T10:00"], "argument --until"),
        (["--from", "later"], "argument --from: invalid choice: 'later'"),
        (["--finish", "never"], "argument --finish: invalid choice: 'never'"),
        (["--expires-in", "none"], "argument --expires-in: must read like 90d, 12h or never, not 'none'."),
        (["--link", "1"], "argument --link"),
        (["--reason", "bored"], "argument --reason: invalid choice: 'bored'"),
        (["--unknown"], "unrecognized arguments: --unknown"),
    ],
)
def test_wrong_usage_exits_with_2_and_names_the_option(issued, rotate, options, told):
    ran = rotate(issued.key, *options)
    assert (ran.status, ran.out) == (2, "")
    assert told in ran.err
    assert not Rotation.objects.exists()


@pytest.mark.parametrize("missing", ["--reason", "--by"])
def test_reason_and_person_are_required(issued, operator, missing):
    given = {"--reason": "regular", "--by": operator.email}
    del given[missing]
    ran = run("rotate_key", issued.key.public_id, *(part for pair in given.items() for part in pair))
    assert ran.status == 2
    assert f"the following arguments are required: {missing}" in ran.err


def test_help_states_each_option_and_the_exit_statuses(capsys):
    assert run("rotate_key", "--help").status == 0
    told = capsys.readouterr().out
    for option in ("--reason", "--overlap", "--from", "--until", "--finish", "--expires-in", "--link", "--note"):
        assert option in told, option
    assert "Default: 7d; none for compromise and incident." in " ".join(told.split())
    assert "exit status:\n  0  done\n  1  nothing was changed\n  2  wrong usage" in told


def test_the_policy_cuts_the_usual_end_and_refuses_one_that_is_chosen(organization, rotate, issued):
    make_policy(organization, max_lifetime=30, expiry_required=True, max_rate=(10, 1))
    for lives in ("90d", "never"):
        ran = rotate(issued.key, "--expires-in", lives)
        assert ran.status == 1
        assert "--expires-in" in ran.err
        assert "by your organization's policy" in ran.err
    ran = rotate(issued.key, "--json")
    assert ran.status == 0
    new = ApiKey.objects.get(public_id=ran.json["id"])
    assert new.expires_at - new.created_at < 31 * DAY
