"""The environments that an operator is limited to, and the one place that refuses what lies outside of them.

Every verb that changes a key, its rotation, its exemption or an alert of it calls require_reach() first;
tests/test_reach.py tries each of them.
"""

from __future__ import annotations

from typing import ClassVar

from django.core.exceptions import PermissionDenied
from django.db import models

from apikeys.models.audit import Actor
from apikeys.models.catalogue import Environment
from apikeys.models.organization import Member, Role


class OutOfReachError(PermissionDenied):
    """The actor is an operator who is limited to other environments; its text is a sentence for people."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(
            f"Your role is limited to some environments, and {environment.name} is not one of them."
            " An admin of the organization can change that."
        )
        self.environment = environment


class MemberEnvironment(models.Model):
    """That an operator may touch an environment. Without any row they may touch all; the last one is never lost:

    the database refuses to delete an environment that one names.
    """

    member = models.ForeignKey(Member, models.CASCADE)
    environment = models.ForeignKey(Environment, models.PROTECT)

    objects: ClassVar = models.Manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["member", "environment"], name="environment_once_per_member")]

    def __str__(self) -> str:
        return f"{self.member_id} {self.environment_id}"


def require_reach(by: Actor, *environments: Environment) -> None:
    """Refuse an actor who is limited to other environments than these; raises OutOfReachError.

    Read anew each time: a limit counts from the moment that it is set. What runs by itself, and the command line
    without a person, have none.
    """
    if by.user is None or not environments:
        return
    rows = MemberEnvironment.objects.filter(
        member__user=by.user, member__organization=environments[0].organization_id, member__role=Role.OPERATOR
    )
    limit = set(rows.values_list("environment_id", flat=True))
    for environment in environments:
        if limit and environment.pk not in limit:
            raise OutOfReachError(environment)
