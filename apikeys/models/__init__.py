"""The data of keyadmin: one noun a module, imports in one direction."""

from apikeys.models.audit import Actor, AuditAction, AuditEntry, Via
from apikeys.models.catalogue import Environment, EnvironmentKind, InUseError, Scope
from apikeys.models.key import (
    AlreadyIssuedError,
    ApiKey,
    IssuedKey,
    KeyActivity,
    KeyExpiredError,
    KeyRevokedError,
    KeyScope,
    KeyTerms,
    RateLimit,
    RevocationReason,
    StaleKeyError,
    Status,
)
from apikeys.models.organization import LastAdminError, Member, Organization, OwnsKeysError, Role
from apikeys.models.usage import (
    Caller,
    KeyEvidence,
    Outcome,
    UsageEvent,
    UsageHour,
    UsageSeries,
    UsageWatermark,
)
from apikeys.models.user import User

__all__ = [
    "Actor",
    "AlreadyIssuedError",
    "ApiKey",
    "AuditAction",
    "AuditEntry",
    "Caller",
    "Environment",
    "EnvironmentKind",
    "InUseError",
    "IssuedKey",
    "KeyActivity",
    "KeyEvidence",
    "KeyExpiredError",
    "KeyRevokedError",
    "KeyScope",
    "KeyTerms",
    "LastAdminError",
    "Member",
    "Organization",
    "Outcome",
    "OwnsKeysError",
    "RateLimit",
    "RevocationReason",
    "Role",
    "Scope",
    "StaleKeyError",
    "Status",
    "UsageEvent",
    "UsageHour",
    "UsageSeries",
    "UsageWatermark",
    "User",
    "Via",
]
