"""What the inbox of alerts can be narrowed to, and the order in which it is read."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import django_filters
from django import forms
from django.db.models import Q
from django.utils import timezone

from apikeys import alert_code
from apikeys.filters import ListFilter, found_keys, later_owner_choices, ours, owned_keys, quick_choice_filter
from apikeys.models import Alert, AlertKind, AlertRule, AlertStatus, Environment, Organization
from apikeys.models.alert import AlertQuerySet
from apikeys.models.alert_kind import alert_kinds
from apikeys.paging import Column, Ordered, count_each, number_text

TABS: Final = {"": "Open", "acknowledged": "Acknowledged", "resolved": "Resolved", "all": "All"}
URGENCIES: Final = [("urgent", "urgent"), ("digest", "in the daily digest")]
NEWEST: Final = [Column("id", int, descending=True)]
# So many open alerts are counted for the navigation.
BADGE_LIMIT: Final = 99


class AlertFilter(ListFilter):
    """The inbox's filters. Without a status it shows what is open."""

    q = django_filters.CharFilter(label="Search", method="search", max_length=200)
    status = django_filters.ChoiceFilter(
        label="Status",
        choices=[(value, label) for value, label in TABS.items() if value],
        method="keep",
        widget=forms.HiddenInput,
    )
    kind = quick_choice_filter(label="Kind", choices=alert_kinds)
    urgency = quick_choice_filter(label="Urgency", choices=URGENCIES, method="by_urgency")
    environment = django_filters.ModelMultipleChoiceFilter(
        label="Environment", queryset=ours(Environment), to_field_name="code", method="by_environment"
    )
    owner = quick_choice_filter(label="Owner", method="by_owner")

    class Meta:
        model = Alert
        fields: list[str] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.now = timezone.now()
        self.urgent = AlertRule.objects.urgent_kinds(self.organization)
        self.filters["owner"].extra["choices"] = later_owner_choices(self.organization, self.data)

    def search(self, alerts: AlertQuerySet, _name: str, value: str) -> AlertQuerySet:
        """Find an alert by its code, or those of keys with a text in name, purpose, owner or fingerprint."""
        number = alert_code.decode(value)
        if number is not None and (exact := alerts.filter(pk=number)).exists():
            return exact
        keys = found_keys(self.organization.keys.all(), self.organization, value)
        return alerts.filter(Q(key__in=keys.values("pk")) | Q(subject__icontains=value))

    def by_urgency(self, alerts: AlertQuerySet, _name: str, value: str) -> AlertQuerySet:
        """Keep the alerts of kinds that are urgent, or those of the others."""
        return alerts.filter(kind__in=self.urgent) if value == "urgent" else alerts.exclude(kind__in=self.urgent)

    def by_environment(self, alerts: AlertQuerySet, _name: str, value: list[Environment]) -> AlertQuerySet:
        """Keep the alerts of keys in any of some environments."""
        return alerts.filter(key__environment__in=value) if value else alerts

    def by_owner(self, alerts: AlertQuerySet, _name: str, value: str) -> AlertQuerySet:
        """Keep the alerts of an owner's keys."""
        keys = owned_keys(self.organization.keys.all(), self.organization, value, self.now)
        return alerts.filter(key__in=keys.values("pk"))

    def keep(self, alerts: AlertQuerySet, _name: str, _value: str) -> AlertQuerySet:
        """Narrow nothing: the tab is put on by parts()."""
        return alerts

    @property
    def tab(self) -> str:
        """Which of TABS is shown."""
        return self.form.cleaned_data.get("status") or ""

    def is_on(self) -> bool:
        """Say whether anything narrows the list besides its tab."""
        return any(value for name, value in self.form.cleaned_data.items() if name != "status")

    def parts(self) -> list[Ordered[Alert]]:
        """Return the alerts in their order, to page by: the newest first, of those to look at the urgent before."""
        rows = in_tab(self.qs, self.tab, self.now)
        return urgent_first(rows, self.urgent) if self.tab in {"", "acknowledged"} else [Ordered(rows, NEWEST)]

    def tab_counts(self) -> dict[str, str]:
        """Return how many alerts each of TABS has under the filters."""
        counts = count_each({tab: in_tab(self.qs, tab, self.now) for tab in TABS})
        return {tab: number_text(count) for tab, count in counts.items()}


def in_tab(alerts: AlertQuerySet, tab: str, now: datetime) -> AlertQuerySet:
    """Return the alerts that one of TABS shows."""
    return alerts if tab == "all" else alerts.with_status(AlertStatus(tab or AlertStatus.OPEN), now)


def urgent_first(alerts: AlertQuerySet, urgent: list[AlertKind]) -> list[Ordered[Alert]]:
    """Return alerts in two parts, each newest first: those of urgent kinds, then the others."""
    return [Ordered(alerts.filter(kind__in=urgent), NEWEST), Ordered(alerts.exclude(kind__in=urgent), NEWEST)]


def open_count(organization: Organization) -> str:
    """Return how many alerts nobody has in hand, for the navigation: empty for none, "99+" beyond that."""
    waiting = organization.alerts.with_status(AlertStatus.OPEN)
    count = waiting.order_by()[: BADGE_LIMIT + 1].count()
    return number_text(count, BADGE_LIMIT) if count else ""
