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
from apikeys.models.former_member import FormerMember
from apikeys.models.invitation import (
    AccountExistsError,
    Invitation,
    InvitationOverError,
    InvitationTerms,
    SentInvitation,
)
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
from apikeys.models.key_networks import KeyNetwork
from apikeys.models.key_queries import AlreadyIssuedError, IssuedKey
from apikeys.models.key_status import Status
from apikeys.models.key_terms import KeyTerms, RateLimit
from apikeys.models.organization import (
    AlertMail,
    LastAdminError,
    Member,
    NoSecondFactorError,
    Organization,
    OwnsKeysError,
    Role,
)
from apikeys.models.organization_usage import EnvironmentUsage, OrganizationDay, OrganizationHour, OwnerUsage
from apikeys.models.pause import Pause
from apikeys.models.policy import Policy, StalePolicyError
from apikeys.models.policy_exemption import PolicyExemption, PolicyExemptionTerms
from apikeys.models.policy_rule import PolicyRule, PolicyTerms
from apikeys.models.progress import Move, Place, RotationProgress, Safety
from apikeys.models.reach import MemberEnvironment, OutOfReachError, require_reach
from apikeys.models.recording import UsageWatermark
from apikeys.models.review import (
    Answer,
    NotTheirsError,
    RemindedError,
    Review,
    ReviewClosedError,
    ReviewRunningError,
    ReviewTerms,
)
from apikeys.models.review_item import Decision, ReviewItem, ReviewState
from apikeys.models.review_progress import ReviewProgress
from apikeys.models.review_reminder import ReviewReminder
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
from apikeys.models.sign_on import Asserted, Refusal, SignOnDomain, SignOnIdentity, SignOnRefusedError
from apikeys.models.silence import KeySilence, Silence
from apikeys.models.usage import Outcome, UsageEvent
from apikeys.models.usage_forecast import UsageForecast
from apikeys.models.user import User, has_second_factor
from apikeys.models.watermark import LateHour
from apikeys.models.webhook import Webhook, WebhookFormat

__all__ = [
    "RANGES",
    "AccountExistsError",
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
    "Answer",
    "ApiKey",
    "Asserted",
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
    "Decision",
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
    "FormerMember",
    "Habit",
    "InUseError",
    "Invitation",
    "InvitationOverError",
    "InvitationTerms",
    "IssuedKey",
    "JobReport",
    "JobRun",
    "JobState",
    "KeyActivity",
    "KeyEvidence",
    "KeyExemption",
    "KeyExpiredError",
    "KeyNetwork",
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
    "MemberEnvironment",
    "Move",
    "NoSecondFactorError",
    "NotTheirsError",
    "Organization",
    "OrganizationDay",
    "OrganizationHour",
    "OutOfReachError",
    "Outcome",
    "OwnerUsage",
    "OwnsKeysError",
    "Pause",
    "Place",
    "Policy",
    "PolicyExemption",
    "PolicyExemptionTerms",
    "PolicyRule",
    "PolicyTerms",
    "RankKind",
    "RateLimit",
    "Recent",
    "Recording",
    "RecordingState",
    "Refusal",
    "RemindedError",
    "Review",
    "ReviewClosedError",
    "ReviewItem",
    "ReviewProgress",
    "ReviewReminder",
    "ReviewRunningError",
    "ReviewState",
    "ReviewTerms",
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
    "SentInvitation",
    "Session",
    "Sighting",
    "SignOnDomain",
    "SignOnIdentity",
    "SignOnRefusedError",
    "Silence",
    "StaleAlertError",
    "StaleExemptionError",
    "StaleKeyError",
    "StalePolicyError",
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
    "has_second_factor",
    "require_reach",
]
