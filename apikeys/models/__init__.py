"""The data of keyadmin: one noun a module, imports in one direction."""

from apikeys.models.alert import (
    Alert,
    AlertEvent,
    AlertOverError,
    AlertStatus,
    EventType,
    Sighting,
    StaleAlertError,
)
from apikeys.models.alert_kind import AlertKind
from apikeys.models.alert_rule import AlertRule, AlertRuleTerms, AlertSettings
from apikeys.models.audit import Actor, AuditAction, AuditEntry, Via
from apikeys.models.audit_chain import AuditChain, AuditCheck, AuditCheckpoint, AuditLink, AuditStreamPosition
from apikeys.models.busiest import BusiestKey, BusyKey, RankKind
from apikeys.models.catalogue import Environment, EnvironmentKind, InUseError, Scope
from apikeys.models.delivery import Channel, Delivery, DeliveryAttempt, DeliveryState
from apikeys.models.evidence import Habit, KeyEvidence, Recent, ScopeEvidence
from apikeys.models.exemption import ExemptionTerms, KeyExemption, StaleExemptionError
from apikeys.models.job import JobReport, JobRun, JobState, Recording, RecordingState
from apikeys.models.key import (
    ApiKey,
    KeyActivity,
    KeyExpiredError,
    KeyPausedError,
    KeyRevokedError,
    KeyScope,
    RevocationReason,
    RotationRunningError,
    StaleKeyError,
)
from apikeys.models.key_queries import AlreadyIssuedError, IssuedKey
from apikeys.models.key_status import Status
from apikeys.models.key_terms import KeyTerms, RateLimit
from apikeys.models.organization import AlertMail, LastAdminError, Member, Organization, OwnsKeysError, Role
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
from apikeys.models.session import Session
from apikeys.models.silence import KeySilence, Silence
from apikeys.models.usage import Outcome, UsageEvent
from apikeys.models.usage_forecast import UsageForecast
from apikeys.models.user import User
from apikeys.models.watermark import LateHour
from apikeys.models.webhook import Webhook, WebhookFormat

__all__ = [
    "RANGES",
    "Actor",
    "Alert",
    "AlertEvent",
    "AlertKind",
    "AlertMail",
    "AlertOverError",
    "AlertRule",
    "AlertRuleTerms",
    "AlertSettings",
    "AlertStatus",
    "AlreadyIssuedError",
    "AlreadyStartedError",
    "ApiKey",
    "AuditAction",
    "AuditChain",
    "AuditCheck",
    "AuditCheckpoint",
    "AuditEntry",
    "AuditLink",
    "AuditStreamPosition",
    "BusiestKey",
    "BusyKey",
    "Channel",
    "Clock",
    "Delivery",
    "DeliveryAttempt",
    "DeliveryState",
    "Dimension",
    "Ending",
    "Environment",
    "EnvironmentKind",
    "EnvironmentUsage",
    "EventType",
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
    "Session",
    "Sighting",
    "Silence",
    "StaleAlertError",
    "StaleExemptionError",
    "StaleKeyError",
    "StaleRotationError",
    "StartedRotation",
    "Status",
    "UsageDay",
    "UsageEvent",
    "UsageForecast",
    "UsageHour",
    "UsageRange",
    "UsageSeries",
    "UsageValue",
    "UsageValues",
    "UsageWatermark",
    "User",
    "Via",
    "Webhook",
    "WebhookFormat",
]
