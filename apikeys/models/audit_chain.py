"""The hash chain of an audit log: what is hashed of an entry, and how each link holds the one before it.

docs/audit-log.md is the specification for whoever checks an export. The database itself adds the links, in the
transaction of the entries (migration 0022): nothing here writes one.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Final

import orjson
from django.db import connection, models

if TYPE_CHECKING:
    _CharField = models.CharField[str, str]
else:
    _CharField = models.CharField

# What the first link holds in place of one before it.
GENESIS: Final = "0" * 64
# The chain of what belongs to no organization, as a failed sign-in of nobody known.
NOBODY: Final = 0

# The columns that are hashed, by their names in the canonical form.
COLUMNS: Final = {
    "at": "at",
    "organization": "organization_id",
    "actor_id": "actor_id",
    "actor": "actor_label",
    "via": "via",
    "address": "address",
    "user_agent": "user_agent",
    "action": "action",
    "target": "target_label",
    "key_row": "key_id",
    "key_id": "key_public_id",
    "fingerprint": "key_fingerprint",
    "changes": "changes",
    "reason": "reason",
}


def content_of(values: Sequence[Any]) -> dict[str, Any]:
    """Return the canonical form of an entry, before it is written as JSON, from its values in the order of COLUMNS."""
    at, organization, actor_id, actor, via, address, user_agent, action, target, key_row, key_id, *rest = values
    fingerprint, changes, reason = rest
    # Written out: this is most of the time that a check of a million entries takes.
    return {
        "at": time_text(at),
        "organization": organization,
        "actor_id": actor_id,
        "actor": actor,
        "via": via,
        "address": _address_text(address) if address else None,
        "user_agent": user_agent,
        "action": action,
        "target": target,
        "key_row": key_row,
        "key_id": key_id,
        "fingerprint": fingerprint,
        "changes": changes,
        "reason": reason,
    }


@lru_cache(maxsize=1000)
def _address_text(address: str) -> str:
    return str(ipaddress.ip_address(address))


def line_of(sequence: int, previous: str, link: str, values: Sequence[Any]) -> dict[str, Any]:
    """Return an entry with its link as an export has it, from its place, two links and the values of its content."""
    return {"sequence": sequence, **content_of(values), "previous": previous, "hash": link}


def link_now() -> None:
    """Give the entries of the running transaction their places, which PostgreSQL does by itself when it commits."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS keyadmin_audit_link IMMEDIATE")
            cursor.execute("SET CONSTRAINTS keyadmin_audit_link DEFERRED")


def time_text(at: datetime) -> str:
    """Return a time as the canonical form has it: "2026-11-28T07:05:00.000000Z"."""
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    return at.isoformat(timespec="microseconds")[: -len("+00:00")] + "Z"


def hash_of(content: dict[str, Any]) -> str:
    """Return the SHA-256, in hexadecimal, of a canonical form written after RFC 8785 (JCS).

    orjson writes that form for what an entry holds: names in ASCII, whole numbers of 64 bits, no fractions. Raises
    TypeError for text that is no Unicode, greater numbers and what is nested hundreds deep.
    """
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def link_of(sequence: int, previous: str, content_hash: str) -> str:
    """Return the hash of a link: of its number, of the link before it, and of its entry's content."""
    return hashlib.sha256(f"{sequence}:{previous}:{content_hash}".encode()).hexdigest()


class ContentHashField(_CharField):
    """The hash of an entry's content, computed when it is saved: nobody can forget it or choose another."""

    def pre_save(self, model_instance: models.Model, add: bool) -> str:  # noqa: ARG002 - Django's signature
        """Return the hash of what is about to be saved."""
        values = tuple(getattr(model_instance, column) for column in COLUMNS.values())
        found = hash_of(content_of(values))
        setattr(model_instance, self.attname, found)
        return found


class AuditChain(models.Model):
    """How far a chain has got: an organization's, whose number is that organization's id, or that of NOBODY."""

    number = models.BigIntegerField(primary_key=True)
    sequence = models.BigIntegerField()
    hash = models.CharField(max_length=64)

    class Meta:
        verbose_name = "chain of audit entries"

    def __str__(self) -> str:
        return f"{self.number}: {self.sequence} entries"


class AuditLink(models.Model):
    """The place of an entry in its chain. The database makes it, and refuses to change or delete it."""

    entry = models.OneToOneField("apikeys.AuditEntry", models.PROTECT, primary_key=True, related_name="link")
    chain = models.BigIntegerField()
    sequence = models.BigIntegerField()
    # The hash of the link before it.
    previous = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["chain", "sequence"], name="audit_link_place")]
        verbose_name = "link of an audit entry"

    def __str__(self) -> str:
        return f"{self.chain}: {self.sequence}"


class AuditCheck(models.Model):
    """When a chain was last checked as a whole, and what was found: nothing, or the first fault in words."""

    number = models.BigIntegerField(primary_key=True)
    checked_at = models.DateTimeField()
    entries = models.BigIntegerField()
    fault = models.CharField(max_length=200, blank=True)

    class Meta:
        verbose_name = "check of audit entries"

    def __str__(self) -> str:
        return f"{self.number}: {self.fault or 'as written'}"


class AuditCheckpoint(models.Model):
    """How far a chain had got at some time, signed: what cuts off or rewrites its newest entries later disagrees."""

    number = models.BigIntegerField()
    sequence = models.BigIntegerField()
    hash = models.CharField(max_length=64)
    at = models.DateTimeField()
    # Ed25519, in base64: the public key, and the signature of the statement (docs/audit-log.md).
    key = models.CharField(max_length=44)
    signature = models.CharField(max_length=88)
    # When it was mailed; never where nobody wants it.
    sent_at = models.DateTimeField(null=True)

    class Meta:
        ordering: ClassVar = ["number", "sequence"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["number", "sequence"], name="audit_checkpoint_place")]
        verbose_name = "checkpoint of audit entries"

    def __str__(self) -> str:
        return f"{self.number}: {self.sequence}"


class AuditStreamPosition(models.Model):
    """Up to which entry of a chain somebody has been handed what happens."""

    name = models.CharField(max_length=100)
    number = models.BigIntegerField()
    sequence = models.BigIntegerField()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["name", "number"], name="audit_stream_position")]
        verbose_name = "position of a stream of audit entries"

    def __str__(self) -> str:
        return f"{self.name}: {self.number}: {self.sequence}"
