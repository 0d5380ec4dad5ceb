"""The form of webhooks, and the filter of what was sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import django_filters
from django import forms
from django.db.models import Q, QuerySet
from django.http import QueryDict

from apikeys.filters import ListFilter
from apikeys.models import AlertKind, Channel, Delivery, DeliveryState, Webhook, WebhookFormat
from apikeys.models.text import validate_line
from apikeys.models.webhook import CHECKPOINT
from apikeys.outgoing import Network, OutgoingError, check_url


class WebhookForm(forms.Form):
    """A webhook: where it is, in which format and of which kinds it is told."""

    name = forms.CharField(label="Name", max_length=100, validators=[validate_line])
    url = forms.CharField(
        label="URL",
        max_length=500,
        widget=forms.URLInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text="Reached over https, at a public address. A redirect is not followed.",
    )
    format = forms.ChoiceField(label="Format", choices=WebhookFormat.choices, widget=forms.RadioSelect)
    kinds = forms.MultipleChoiceField(
        label="Told of",
        choices=[*AlertKind.choices, (CHECKPOINT, "Checkpoints of the audit log, signed, once a day")],
        required=False,
        help_text="None chosen: all kinds of alerts, and no checkpoints.",
    )

    def __init__(
        self, data: QueryDict | None = None, *, webhook: Webhook | None = None, allowed: Iterable[Network] = ()
    ) -> None:
        self.allowed = list(allowed)
        initial: dict[str, Any] = {"format": WebhookFormat.STANDARD}
        if webhook:
            initial = {"name": webhook.name, "url": webhook.url, "format": webhook.format, "kinds": webhook.kinds}
        super().__init__(data, initial=initial)

    def clean_url(self) -> str:
        """Refuse what can be told of an address without asking anybody."""
        url: str = self.cleaned_data["url"]
        try:
            check_url(url, self.allowed)
        except OutgoingError as error:
            raise forms.ValidationError(str(error)) from error
        return url


class DeliveryFilter(ListFilter):
    """The filters of what was sent."""

    state = django_filters.ChoiceFilter(label="State", choices=DeliveryState.choices, method="by_state")
    channel = django_filters.ChoiceFilter(label="By", choices=Channel.choices)
    to = django_filters.CharFilter(label="To", method="by_recipient", max_length=254)

    class Meta:
        model = Delivery
        fields: list[str] = []

    def by_state(self, deliveries: QuerySet[Delivery], _name: str, value: str) -> QuerySet[Delivery]:
        """Keep what is in a state."""
        return deliveries.filter(STATES[DeliveryState(value)])

    def by_recipient(self, deliveries: QuerySet[Delivery], _name: str, value: str) -> QuerySet[Delivery]:
        """Keep what went to an address or a webhook, by a part of its name."""
        return deliveries.filter(Q(email__icontains=value) | Q(webhook__name__icontains=value))


_OPEN = Q(sent_at__isnull=True, failed_at__isnull=True)
# Delivery.state says the same of one.
STATES = {
    DeliveryState.WAITING: _OPEN & Q(attempts=0),
    DeliveryState.RETRYING: _OPEN & Q(attempts__gt=0),
    DeliveryState.SENT: Q(sent_at__isnull=False),
    DeliveryState.FAILED: Q(sent_at__isnull=True, failed_at__isnull=False),
}
