"""create_organization: the first organization and its admin, without a browser."""

from __future__ import annotations

import secrets
import sys
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management import CommandError
from django.core.management.base import CommandParser
from django.db import transaction

from apikeys.management.arguments import fault, text
from apikeys.management.base import Command as Base
from apikeys.models import Actor, Organization, User
from apikeys.password_validators import validators_with

MAX_PASSWORD = 1000
OPTIONS = {"name": "--name", "slug": "--slug", "key_prefix": "--key-prefix"}
PERSON_OPTIONS = {"email": "--email", "name": "--person-name", "password": "--password-stdin"}


class Command(Base):
    """Create an organization and its first admin."""

    help = "Create an organization with its three usual environments, and its first admin."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument("--name", required=True, type=text, help="The organization's name, 100 characters.")
        parser.add_argument("--slug", required=True, type=text, help="The first part of its pages' addresses.")
        parser.add_argument("--email", required=True, type=text, help="The admin, who may have an account already.")
        parser.add_argument("--person-name", default="", type=text, help="The admin's name.")
        parser.add_argument(
            "--password-stdin",
            action="store_true",
            help="Read a new admin's password from the first line of stdin. Without it a random one is printed, once.",
        )
        parser.add_argument("--key-prefix", default="ka", type=text, help="What its keys begin with; default: ka.")
        self.add_json(parser)

    def handle(self, **options: Any) -> None:
        """Create them, or nothing."""
        with transaction.atomic():
            admin, password = self._admin(options)
            try:
                organization = Organization.objects.found(
                    name=options["name"],
                    slug=options["slug"],
                    key_prefix=options["key_prefix"],
                    admin=admin,
                    by=Actor.command(),
                )
            except ValidationError as error:
                raise fault(error, OPTIONS) from None
        # A password that was read from stdin is known to whoever gave it.
        shown = None if options["password_stdin"] else password
        facts = {"organization": organization.slug, "email": admin.email, "password": shown}
        self.answer(options, facts, _words(organization, admin, known=password is None, shown=shown))

    def _admin(self, options: dict[str, Any]) -> tuple[User, str | None]:
        """Return the admin, and the password where it is a new one."""
        email = options["email"].strip().lower()
        if found := User.objects.filter(email=email).first():
            if not found.is_active:
                raise CommandError(f"--email: the account of {email} is closed.")
            return found, None
        person = User(email=email, name=options["person_name"].strip())
        try:
            person.full_clean(exclude={"password"})
            password = self._password(person, options) if options["password_stdin"] else secrets.token_urlsafe(18)
        except ValidationError as error:
            raise fault(error, PERSON_OPTIONS) from None
        return User.objects.create_user(person.email, password, name=person.name), password

    def _password(self, person: User, options: dict[str, Any]) -> str:
        password = sys.stdin.readline(MAX_PASSWORD + 2).rstrip("\r\n")
        if len(password) > MAX_PASSWORD:
            raise ValidationError({"password": f"At most {MAX_PASSWORD} characters."})
        try:
            validate_password(password, person, validators_with(options["name"], options["slug"]))
        except ValidationError as error:
            raise ValidationError({"password": error.messages}) from None
        return password


def _words(organization: Organization, admin: User, *, known: bool, shown: str | None) -> str:
    created = f"{organization.name} is created; {admin.email} is its admin"
    if known:
        return f"{created} and keeps their password."
    return f"{created}. Password, shown this once: {shown}" if shown else f"{created}."
