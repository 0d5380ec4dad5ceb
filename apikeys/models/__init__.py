"""The data of keyadmin: one noun a module, imports in one direction."""

from apikeys.models.audit import Actor, AuditAction, AuditEntry, Via
from apikeys.models.busiest import BusiestKey, BusyKey, RankKind
from apikeys.models.catalogue import Environment, EnvironmentKind, InUseError, Scope
from apikeys.models.evidence import Habit, KeyEvidence, Recent, ScopeEvidence
from apikeys.models.exemption import ExemptionTerms, KeyExemption, StaleExemptionError
from apikeys.models.job import JobReport, JobRun, JobState, Recording, RecordingState
from apikeys.models.key import (
    AlreadyIssuedError,
    ApiKey,
    IssuedKey,
    KeyActivity,
    KeyExpiredError,
    KeyPausedError,
    KeyRevokedError,
    KeyScope,
    KeyTerms,
    RateLimit,
    RevocationReason,
    RotationRunningError,
    StaleKeyError,
    Status,
)
from apikeys.models.organization import LastAdminError, Member, Organization, OwnsKeysError, Role
from apikeys.models.organization_usage import EnvironmentUsage, OrganizationDay, OrganizationHour, OwnerUsage
from apikeys.models.pause import Pause
from apikeys.models.progress import Move, Place, RotationProgress, Safety
from apikeys.models.recording import UsageWatermark
from apikeys.models.rhythm import KeyRhythm
from apikeys.models.rollup import Dimension, UsageDay, UsageHour, UsageValue, UsageValues
from apikeys.models.rotation import (
    AlreadyStartedError,
    Clock,
    Ending,
    LinkError,
    Rotation,
    RotationOverError,
    RotationReason,
    RotationTerms,
    StaleRotationError,
    StartedRotation,
)
from apikeys.models.series import RANGES, UsageRange, UsageSeries
from apikeys.models.silence import KeySilence, Silence
from apikeys.models.usage import Outcome, UsageEvent
from apikeys.models.user import User
from apikeys.models.watermark import LateHour

__all__ = [
    "RANGES",
    "Actor",
    "AlreadyIssuedError",
    "AlreadyStartedError",
    "ApiKey",
    "AuditAction",
    "AuditEntry",
    "BusiestKey",
    "BusyKey",
    "Clock",
    "Dimension",
    "Ending",
    "Environment",
    "EnvironmentKind",
    "EnvironmentUsage",
    "ExemptionTerms",
    "Habit",
    "InUseError",
    "IssuedKey",
    "JobReport",
    "JobRun",
    "JobState",
    "KeyActivity",
    "KeyEvidence",
    "KeyExemption",
    "KeyExpiredError",
    "KeyPausedError",
    "KeyRevokedError",
    "KeyRhythm",
    "KeyScope",
    "KeySilence",
    "KeyTerms",
    "LastAdminError",
    "LateHour",
    "LinkError",
    "Member",
    "Move",
    "Organization",
    "OrganizationDay",
    "OrganizationHour",
    "Outcome",
    "OwnerUsage",
    "OwnsKeysError",
    "Pause",
    "Place",
    "RankKind",
    "RateLimit",
    "Recent",
    "Recording",
    "RecordingState",
    "RevocationReason",
    "Role",
    "Rotation",
    "RotationOverError",
    "RotationProgress",
    "RotationReason",
    "RotationRunningError",
    "RotationTerms",
    "Safety",
    "Scope",
    "ScopeEvidence",
    "Silence",
    "StaleExemptionError",
    "StaleKeyError",
    "StaleRotationError",
    "StartedRotation",
    "Status",
    "UsageDay",
    "UsageEvent",
    "UsageHour",
    "UsageRange",
    "UsageSeries",
    "UsageValue",
    "UsageValues",
    "UsageWatermark",
    "User",
    "Via",
]
