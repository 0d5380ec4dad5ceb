"""The mails that tell of alerts: which alerts a delivery tells a recipient of, why, and in which words.

They hold no link: whoever gets one opens keyadmin as they always do and searches for a code, so that a mail that holds
a link is known to be somebody else's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.db.models import Case, Count, Exists, F, IntegerField, OuterRef, Q, When
from django.template.loader import render_to_string

from apikeys import alert_words
from apikeys.models import Alert, AlertEvent, AlertKind, AlertMail, AlertRule, AlertSettings, Delivery, Member, Role
from apikeys.models.alert import MAILED, AlertQuerySet

MOST_TOLD: Final = 20
# What mail programs make links of: "https:", "mailto:", "www.".
_LINK: Final = re.compile(r"\b(?:[a-z][a-z0-9+.-]{1,20}:(?=//)|(?:mailto|tel|javascript):|www\.)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Concern:
    """Why somebody is mailed: by role, for the keys that they own, or both; ``alerts`` are those still open."""

    alerts: AlertQuerySet
    why: str
    where: str


def concern_of(delivery: Delivery) -> Concern:
    """Return the open alerts that a mail tells its recipient of, and why they are told."""
    organization = delivery.organization
    rules = AlertRule.objects.of(organization)
    member = Member.objects.filter(organization=organization, user__email=delivery.email, user__is_active=True).first()
    owned = [kind for kind, rule in rules.items() if rule.to_owner]
    if member is None:
        mine = Q(kind__in=owned, key__owner__isnull=True, key__owner_contact=delivery.email)
        why = f"you are named as the owner of these API keys of {organization}"
        return Concern(_alerts(delivery, mine), why, f"Ask an admin of {organization} to name somebody else.")
    wants = AlertMail(member.alert_mail).wants(urgent=delivery.is_urgent)
    told = [kind for kind, rule in rules.items() if rule.role and Role(member.role).includes(Role(rule.role))]
    mine = Q(kind__in=told) | Q(kind__in=owned, key__owner=member)
    role = f"you are {'an' if member.role[0] in 'aeiou' else 'a'} {member.get_role_display()} of {organization}"
    why = role if told else f"you own these API keys of {organization}"
    return Concern(_alerts(delivery, mine if wants else Q(pk__in=[])), why, "In keyadmin: Alerts, then My mails.")


def _alerts(delivery: Delivery, mine: Q) -> AlertQuerySet:
    events = AlertEvent.objects.filter(
        alert=OuterRef("pk"),
        pk__gte=delivery.first_event,
        pk__lte=delivery.last_event,
        event__in=MAILED,
        is_urgent=delivery.is_urgent,
    )
    return Alert.objects.open().filter(mine, Exists(events), organization=delivery.organization)


def compose(delivery: Delivery) -> EmailMultiAlternatives | None:
    """Return the mail of a delivery, None where there is nothing left to tell."""
    if delivery.is_test:
        return _mail(delivery, "Test of keyadmin's alerts", {"is_test": True, "why": "somebody asked for a test"})
    concern = concern_of(delivery)
    order = Case(*(When(kind=kind, then=place) for place, kind in enumerate(AlertKind)), output_field=IntegerField())
    counts = list(concern.alerts.values("kind").annotate(count=Count("pk")).order_by(order))
    total = sum(row["count"] for row in counts)
    if not total:
        return None
    zone = AlertSettings.objects.of(delivery.organization).zone
    shown: list[dict[str, Any]] = [
        {"alert": alert, "seen": alert_words.seen(alert, zone), "expected": alert_words.expected(alert, zone)}
        for alert in concern.alerts.for_pages().order_by(order, F("pk").desc())[:MOST_TOLD]
    ]
    kinds = [(AlertKind(row["kind"]).label, row["count"]) for row in counts]
    context = {"shown": shown, "kinds": kinds, "total": total, "more": total - len(shown), "why": concern.why}
    context |= {"where": concern.where}
    return _mail(delivery, _subject(delivery, shown[0]["alert"], total), context)


def _subject(delivery: Delivery, first: Alert, total: int) -> str:
    what = f"{first.get_kind_display()}: {first.key.name if first.key else first.subject}"
    more = f" and {total - 1:,} more" if total > 1 else ""
    urgent = "Urgent: " if delivery.is_urgent else ""
    # A line feed of a name would begin another header.
    return " ".join(f"[{delivery.organization}] {urgent}{what}{more}".split())[:200]


def _mail(delivery: Delivery, subject: str, context: dict[str, object]) -> EmailMultiAlternatives:
    subject = unlinked(subject)
    context |= {"delivery": delivery, "organization": delivery.organization, "subject": subject}
    host = settings.DEFAULT_FROM_EMAIL.rpartition("@")[2].strip("> ") or "localhost"
    mail = EmailMultiAlternatives(
        subject,
        unlinked(render_to_string("emails/alerts.txt", context)),
        to=[delivery.email],
        headers={
            # The same in every attempt, by which a mailbox knows what it has already.
            "Message-ID": f"<{delivery.pk}@{host}>",
            "Auto-Submitted": "auto-generated",
            "List-Id": f"Alerts of keyadmin <alerts.{delivery.organization.slug}.{host}>",
        },
    )
    mail.attach_alternative(unlinked(render_to_string("emails/alerts.html", context)), "text/html")
    return mail


def unlinked(text: str) -> str:
    """Return a text in which nothing that a name holds is taken for a link by a mail program."""
    return _LINK.sub(lambda found: f"{found[0][:-1]}[{found[0][-1]}]", text)
