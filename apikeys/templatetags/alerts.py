"""How the dashboard writes alerts: `{% load alerts %}`."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst

from apikeys import alert_words, charts
from apikeys.evaluation.preview import Preview
from apikeys.models import Alert, AlertEvent, AlertKind, AlertRule, AlertStatus, EventType
from apikeys.models.alert_kind import ChoiceOption, DaysOption
from apikeys.templatetags.keyadmin import day, exact, icon

register = template.Library()

EVENT_ICONS = {
    EventType.OPENED: "bell-ring",
    EventType.ESCALATED: "trending-up",
    EventType.REOPENED: "bell-ring",
    EventType.ACKNOWLEDGED: "eye",
    EventType.RESOLVED: "check",
}
MAILED_WORDS = {"viewer": "every member", "operator": "operators and admins", "admin": "admins"}


@register.filter
def seen(alert: Alert) -> str:
    """Say what was seen, in the reader's time zone."""
    told = alert_words.seen(alert, timezone.get_current_timezone())
    # The name of a command or a webhook stays as it is.
    return str(capfirst(told)) if alert.key else told


@register.filter
def expected(alert: Alert) -> str:
    """Say what was expected instead."""
    return alert_words.expected(alert, timezone.get_current_timezone())


@register.simple_tag
def alert_kind(kind: str, urgent: Collection[str] = (), size: int = 16) -> SafeString:
    """Name a kind with its icon, which has a colour where the kind is urgent."""
    found = AlertKind(kind)
    css = "kind urgent" if found in urgent else "kind"
    return format_html('<span class="{}">{}<span>{}</span></span>', css, icon(found.traits.icon, size), found.label)


@register.simple_tag
def alert_status(alert: Alert) -> SafeString:
    """Say with icon, word and colour what became of an alert."""
    if alert.status == AlertStatus.RESOLVED:
        css, image, word = "good", "check", "Resolved"
    elif alert.status == AlertStatus.ACKNOWLEDGED:
        css, image, word = "mute", "eye", "Acknowledged"
    else:
        css, image, word = "warn", "circle-alert", "Open"
    return format_html('<span class="badge {}">{}{}</span>', css, icon(image, 14), word)


@register.simple_tag
def event_icon(event: AlertEvent) -> SafeString:
    """Draw what happened to an alert."""
    return icon(EVENT_ICONS[EventType(event.event)])


@register.simple_tag
def event_until(event: AlertEvent) -> SafeString | str:
    """Say until when an event acknowledged an alert."""
    try:
        return exact(datetime.fromisoformat(event.note).astimezone(UTC))
    except ValueError:
        return ""


@register.simple_tag
def mailed_words(rule: AlertRule) -> str:
    """Say who is mailed by a rule."""
    told = MAILED_WORDS.get(rule.role, "")
    if rule.to_owner:
        return f"{told}, the key's owner" if told else "the key's owner"
    return told or "nobody"


@register.simple_tag
def option_words(rule: AlertRule) -> list[str]:
    """Say how a rule is tuned, a text an option."""
    found, values = [], rule.terms.options
    for option in AlertKind(rule.kind).traits.options:
        value: Any = values[option.name]
        if isinstance(option, ChoiceOption):
            value = dict(option.choices).get(value, value)
        elif isinstance(option, DaysOption):
            value = ", ".join(str(days) for days in value)
        else:
            value = f"{value:,}"
        found.append(f"{option.label}: {value}")
    return found


@register.simple_tag
def per_week(preview: Preview) -> str:
    """Say how many alerts that are a week."""
    weekly = preview.total * 7 / max(len(preview.by_day), 1)
    return f"{weekly:,.0f} a week" if weekly >= 9.95 else f"{weekly:.1f} a week" if weekly >= 0.1 else "few"


@register.simple_tag
def foreseen_days(preview: Preview) -> SafeString:
    """Draw the alerts of each day as a row of bars; its words are for those who do not see it."""
    width, days = len(preview.by_day) * 3, sum(1 for count in preview.by_day if count)
    words = f"{preview.total:,} alerts on {days} of {len(preview.by_day)} days, at most {max(preview.by_day):,} on one"
    return format_html(
        '<figure class="foreseen-days"><svg viewBox="0 0 {} 40" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<path d="{}"/></svg><figcaption><span>{}</span><span>at most {} a day</span><span>today</span></figcaption>'
        "</figure>",
        width,
        words,
        charts.sparkline_path(preview.by_day, height=40),
        day(preview.since),
        f"{max(preview.by_day):,}",
    )
