"""People: who signs in. What they may do is their membership of an organization."""

from __future__ import annotations

from typing import Any, ClassVar

from django.apps import apps
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

from apikeys.models.text import validate_line
from apikeys.time_zones import find_zone


def has_second_factor(user: str) -> models.Exists:
    """Return whether somebody has an authenticator app or a passkey, where ``user`` names their id in a query.

    Recovery codes only stand in for one of these.
    """
    authenticators = apps.get_model("mfa", "Authenticator").objects
    return models.Exists(authenticators.filter(user=models.OuterRef(user), type__in=("totp", "webauthn")))


class UserManager(BaseUserManager["User"]):
    """Makes people; an address is kept in lower case, so that one person has one account."""

    def create_user(self, email: str, password: str | None = None, *, name: str = "", **extra: Any) -> User:
        """Create a person; without a password nobody can sign in until it is reset by mail."""
        user = self.model(email=email.strip().lower(), name=name.strip(), **extra)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def get_by_natural_key(self, username: str | None) -> User:
        """Find a person by address, whatever its case."""
        return self.get(email=(username or "").strip().lower())


class User(AbstractBaseUser):
    """A person, known by e-mail address."""

    email = models.EmailField(max_length=254, unique=True)
    name = models.CharField(max_length=100, blank=True, validators=[validate_line])
    is_active = models.BooleanField(default=True)
    date_joined = models.DateTimeField(default=timezone.now)
    # Empty: as the browser says.
    time_zone = models.CharField(max_length=64, blank=True)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"

    class Meta:
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_any_case")]

    def __str__(self) -> str:
        return self.label

    @property
    def label(self) -> str:
        """The name where one is known, else the address."""
        return self.name or self.email

    @property
    def initials(self) -> str:
        """One or two letters for the round picture."""
        words = self.label.replace("@", " ").replace(".", " ").split()
        return "".join(word[0] for word in words[:2]).upper()

    def choose_time_zone(self, name: str) -> None:
        """Set the zone in which the person reads days and hours; empty is what the browser says.

        Raises ValidationError for a zone that does not exist.
        """
        zone = find_zone(name)
        if zone is None and name:
            raise ValidationError({"time_zone": [f"There is no time zone {name[:64]!r}. One is Europe/Berlin."]})
        self.time_zone = zone.key if zone else ""
        self.save(update_fields=["time_zone"])
