"""Who was taken out of an organization: single sign-on does not bring them back, an admin does."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone


class FormerMember(models.Model):
    """A person who was removed from an organization and not added again since."""

    organization = models.ForeignKey("apikeys.Organization", models.CASCADE, related_name="former_members")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    removed_at = models.DateTimeField(default=timezone.now)

    objects: ClassVar = models.Manager["FormerMember"]()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "user"], name="one_former_membership")]

    def __str__(self) -> str:
        return f"{self.user} in {self.organization}"
