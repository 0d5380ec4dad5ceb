import pytest

from apikeys.models import AuditAction, AuditEntry, Member, Organization, Role, User, Via
from tests.commands.running import run
from tests.factories import make_user

pytestmark = pytest.mark.django_db
ACME = ("--name", "Acme", "--slug", "acme", "--email", "Ada@Example.com")


def test_it_creates_the_organization_and_an_admin_with_a_password_shown_once():
    ran = run("create_organization", *ACME, "--person-name", "Ada Admin", "--json")
    assert ran.status == 0
    assert ran.json["organization"] == "acme"
    assert ran.json["email"] == "ada@example.com"
    user = User.objects.get(email="ada@example.com")
    assert user.name == "Ada Admin"
    assert user.check_password(ran.json["password"])
    member = Member.objects.get(organization__slug="acme", user=user)
    assert member.role == Role.ADMIN
    assert [one.code for one in member.organization.environments.all()] == ["prod", "stag", "dev"]
    assert {entry.via for entry in AuditEntry.objects.all()} == {Via.COMMAND}


def test_in_words_the_password_stands_in_the_sentence():
    ran = run("create_organization", *ACME)
    assert "Password, shown this once: " in ran.out
    assert User.objects.get().check_password(ran.out.rpartition(": ")[2].strip())


def test_a_password_from_stdin_is_used_and_not_printed():
    ran = run("create_organization", *ACME, "--password-stdin", stdin="wind over the hills\nnot this\n")
    assert ran.status == 0
    assert "wind over the hills" not in ran.out + ran.err
    assert User.objects.get().check_password("wind over the hills")


@pytest.mark.parametrize("password", ["", "short", "password1234", "x" * 1001])
def test_a_poor_password_is_refused_and_nothing_is_made(password):
    ran = run("create_organization", *ACME, "--password-stdin", stdin=password + "\n")
    assert ran.status == 1
    assert "--password-stdin: " in ran.err
    assert not User.objects.exists()
    assert not Organization.objects.exists()


def test_who_has_an_account_keeps_the_password():
    user = make_user("ada@example.com", password="wind over the hills", name="Ada")
    ran = run("create_organization", *ACME, "--person-name", "Other", "--password-stdin", "--json", stdin="x\n")
    assert ran.status == 0
    assert ran.json["password"] is None
    user.refresh_from_db()
    assert user.name == "Ada"
    assert user.check_password("wind over the hills")
    assert user.memberships.get().role == Role.ADMIN


def test_a_closed_account_is_refused():
    make_user("ada@example.com", is_active=False)
    ran = run("create_organization", *ACME)
    assert ran.status == 1
    assert "--email: the account of ada@example.com is closed." in ran.err


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--slug", "static", "--slug: 'static' is a path of keyadmin itself"),
        ("--slug", "Ä b", "--slug: "),
        ("--slug", "a" * 41, "--slug: Ensure this value has at most 40 characters (it has 41)."),
        ("--name", "", "--name: This field cannot be blank."),
        ("--name", "a" * 101, "--name: Ensure this value has at most 100 characters (it has 101)."),
        ("--name", "a\nb", "--name: Control characters are not allowed (U+000A)."),
        ("--email", "nobody", "--email: Enter a valid email address."),
        ("--person-name", "a" * 101, "--person-name: Ensure this value has at most 100"),
        ("--key-prefix", "A_b", "--key-prefix: Use 2 to 10 lower-case letters"),
    ],
)
def test_a_fault_names_its_option_and_nothing_is_made(option, value, said):
    ran = run("create_organization", *ACME, option, value)
    assert ran.status == 1
    assert said in ran.err
    assert not User.objects.exists()
    assert not Organization.objects.exists()
    assert not AuditEntry.objects.filter(action=AuditAction.ORGANIZATION_CREATE).exists()


def test_a_slug_that_is_taken_is_refused(organization):
    ran = run("create_organization", *ACME)
    assert ran.status == 1
    assert "--slug: Organization with this Slug already exists." in ran.err
    assert Organization.objects.count() == 1
    assert not User.objects.filter(email="ada@example.com").exists()


@pytest.mark.parametrize("value", ["a\udcff", "a\0b"])
def test_bytes_that_are_no_text_are_a_usage_error(value):
    ran = run("create_organization", *ACME, "--name", value)
    assert ran.status == 2
    assert "argument --name: " in ran.err
