"""What lists can be narrowed to: query strings in, querysets out."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import django_filters
from django import forms
from django.db.models import F, Q, QuerySet
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce, Lower
from django.db.models.lookups import GreaterThan, LessThanOrEqual
from django.http import QueryDict
from django.utils import timezone

from apikeys.key_secret import PUBLIC_ID_LENGTH
from apikeys.models import (
    ApiKey,
    AuditAction,
    AuditEntry,
    Environment,
    Organization,
    Policy,
    PolicyRule,
    Scope,
    Silence,
    Status,
)
from apikeys.models.extremes import OrLatest, floor_minute
from apikeys.models.key_age import ROTATE_SOON
from apikeys.models.key_queries import ApiKeyQuerySet, violations
from apikeys.models.silence import never_used, not_exempt_condition, used, used_before, used_since
from apikeys.paging import Column, Ordered, changed_url, expected_count
from apikeys.proxies import parse_address
from apikeys.ranges import RangeError, check_order
from apikeys.widgets import DAY_OPTIONS, QuickSelect

TABS: Final = {
    "": "All",
    "active": "Active",
    "expiring": "Expiring",
    "unused": "Unused",
    "paused": "Paused",
    "expired": "Expired",
    "revoked": "Revoked",
}
DEAD_TABS: Final = {"expired", "revoked"}
USABLE_TABS: Final = set(TABS) - DEAD_TABS - {""}
EXPIRY_CHOICES: Final = [
    ("7", "within 7 days"),
    ("30", "within 30 days"),
    ("60", "within 60 days"),
    ("past", "in the past"),
    ("never", "never"),
]
CREATED_CHOICES: Final = [
    ("0-30", "in the last 30 days"),
    ("30-90", "30 to 90 days ago"),
    ("90-365", "90 days to a year ago"),
    ("365+", "more than a year ago"),
]
# What the list offers beside those that do not overlap: what is often rotated.
AGE_CHOICES: Final = [*CREATED_CHOICES, ("180+", "more than 180 days ago")]
RECENT_CHOICES: Final = [
    ("1", "in the last 24 hours"),
    ("7", "in the last 7 days"),
    ("30", "in the last 30 days"),
    ("90", "in the last 90 days"),
    ("395", "in the last 13 months"),
]
LAST_USED_CHOICES: Final = [
    *RECENT_CHOICES,
    ("30+", "more than 30 days ago"),
    ("90+", "more than 90 days ago"),
    ("never", "never"),
]
# Silent keys that are not unused because somebody said so; each other choice leaves these out.
EXEMPT: Final = "exempt"
SILENCE_CHOICES: Final = [*Silence.choices, (EXEMPT, "may be silent")]
# "due" is over; the others tell what is still to come.
ROTATION_CHOICES: Final = [
    ("due", "overdue"),
    ("soon", f"due within {ROTATE_SOON.days} days"),
    ("30", "due within 30 days"),
]
VIOLATING: Final = "violating"
POLICY_CHOICES: Final = [(VIOLATING, "violates a rule"), *PolicyRule.choices]
SORT_LABELS: Final = {
    "name": "Name and purpose",
    "created": "Created",
    "last_used": "Last used",
    "expires": "Expires",
}
DEFAULT_SORT: Final = "-created"
# No address: it holds no @.
CLOSED_ACCOUNTS: Final = "closed"
CONTACTS_SHOWN: Final = 200

# Each of these is what an index holds after the organization (ApiKey.Meta).
_SORTS: Final[dict[str, tuple[Combinable, type[str | datetime]]]] = {
    "name": (Lower("name"), str),
    "created": (F("created_at"), datetime),
    "expires": (OrLatest("expires_at"), datetime),
}


@dataclass(frozen=True, slots=True)
class Chip:
    """One filter that is on, and the address without it."""

    label: str
    value: str
    remove_url: str


def ours(model: type[Environment | Scope]) -> Any:
    """Return what a filter asks for an organization's own things by."""

    def queryset(request: Any) -> QuerySet[Any]:
        return model._default_manager.filter(organization=request.member.organization)

    return queryset


class ListFilter(django_filters.FilterSet):
    """What the lists' filters share: chips, and being usable from a request of a member."""

    base_filters: dict[str, Any]

    @property
    def organization(self) -> Organization:
        """Whose list it is."""
        organization: Organization = self.request.member.organization
        return organization

    def chips(self, path: str, query: QueryDict) -> list[Chip]:
        """Return a chip for each filter that is on, in the form's order."""
        found = []
        for name, field in self.form.fields.items():
            value = self.form.cleaned_data.get(name)
            if value and not isinstance(field.widget, forms.HiddenInput):
                found.append(Chip(field.label or name, _words(field, value), changed_url(path, query, **{name: None})))
        return found

    def told(self) -> list[str]:
        """Return each filter that is on in words, for the audit log: "Owner: mara@example.org"."""
        return [f"{chip.label}: {chip.value}" for chip in self.chips("", QueryDict())]


def _words(field: forms.Field, value: Any) -> str:
    if isinstance(field, forms.ModelMultipleChoiceField):
        return ", ".join(str(item) for item in value)
    if isinstance(field, forms.ModelChoiceField):
        return str(value)
    if isinstance(field, forms.ChoiceField):
        return str(dict(field.choices).get(value, value))  # type: ignore[arg-type]
    return str(value)


def quick_choice_filter(
    choices: Sequence[tuple[str, str]] | Callable[[], Any] = (), **options: Any
) -> django_filters.ChoiceFilter:
    """Return a filter of some choices that is quick to copy, as each request does, and to draw.

    Choices are copied one by one, and what a function returns is not.
    """
    later = choices if callable(choices) else lambda: choices
    return django_filters.ChoiceFilter(choices=later, widget=QuickSelect, **options)


class KeyFilter(ListFilter):
    """The key list's filters."""

    q = django_filters.CharFilter(label="Search", method="search", max_length=200)
    status = quick_choice_filter(
        label="Status", choices=[(value, label) for value, label in TABS.items() if value], method="by_status"
    )
    environment = django_filters.ModelMultipleChoiceFilter(
        label="Environment", queryset=ours(Environment), to_field_name="code", method="by_environment"
    )
    owner = quick_choice_filter(label="Owner", method="by_owner")
    scope = django_filters.ModelChoiceFilter(
        label="Scope",
        queryset=ours(Scope),
        to_field_name="name",
        field_name="scopes",
        widget=QuickSelect,
    )
    expires = quick_choice_filter(label="Expires", choices=EXPIRY_CHOICES, method="by_expiry")
    created = quick_choice_filter(label="Created", choices=AGE_CHOICES, method="by_age")
    last_used = quick_choice_filter(label="Last used", choices=LAST_USED_CHOICES, method="by_last_use")
    silence = quick_choice_filter(label="Silence", choices=SILENCE_CHOICES, method="by_silence")
    generation = quick_choice_filter(
        label="Generation", choices=[("newest", "the newest only")], method="by_generation"
    )
    rotate = quick_choice_filter(label="Rotation", choices=ROTATION_CHOICES, method="by_rotation")
    policy = quick_choice_filter(label="Policy", choices=POLICY_CHOICES, method="by_policy")
    refused = quick_choice_filter(label="Last refused", choices=RECENT_CHOICES, method="by_last_refusal")
    tried = quick_choice_filter(label="Tried since its end", choices=RECENT_CHOICES, method="by_try")
    sort = django_filters.ChoiceFilter(
        label="Sort",
        choices=[(sign + name, label) for name, label in SORT_LABELS.items() for sign in ("", "-")],
        method="keep",
        widget=forms.HiddenInput,
    )

    class Meta:
        model = ApiKey
        fields: list[str] = []

    def __init__(self, data: QueryDict, *args: Any, asked_only: bool = False, **kwargs: Any) -> None:
        """Make the filters, or only those that are asked for: all that a page needs which does not show their form."""
        if asked_only:
            self.base_filters = {name: one for name, one in self.base_filters.items() if name == "q" or name in data}
        super().__init__(data, *args, **kwargs)
        self.now = timezone.now()
        self._expected: dict[frozenset[str], int] = {}
        if "owner" in self.filters:
            self.filters["owner"].extra["choices"] = later_owner_choices(self.organization, self.data)
        if self.organization.max_key_age is None and "rotate" not in self.data:
            self.filters.pop("rotate", None)

    def search(self, keys: ApiKeyQuerySet, _name: str, _value: str) -> ApiKeyQuerySet:
        """Find a text in name, purpose, owner or public id; a fingerprint by its two visible ends."""
        return keys.filter(self.searched)

    @functools.cached_property
    def searched(self) -> Q:
        """The condition of the keys that are searched for, whose owners are looked up once."""
        return search_condition(self.organization, self.form.cleaned_data["q"])

    def by_status(self, keys: ApiKeyQuerySet, _name: str, value: str) -> ApiKeyQuerySet:
        """Keep the keys of a tab."""
        return in_tab(keys, value, self.now, self.organization)

    def by_environment(self, keys: ApiKeyQuerySet, _name: str, value: list[Environment]) -> ApiKeyQuerySet:
        """Keep the keys of any of some environments."""
        return keys.filter(environment__in=value) if value else keys

    def by_owner(self, keys: ApiKeyQuerySet, _name: str, value: str) -> ApiKeyQuerySet:
        """Keep the keys of an owner, a member or a contact, by address; or those for which nobody answers."""
        return owned_keys(keys, self.organization, value, self.now)

    def by_expiry(self, keys: ApiKeyQuerySet, _name: str, value: str) -> ApiKeyQuerySet:
        """Keep the keys that expire when asked."""
        end = OrLatest("expires_at")
        if value == "never":
            return keys.filter(expires_at__isnull=True)
        if value == "past":
            return keys.filter(LessThanOrEqual(end, self.now))
        return keys.filter(GreaterThan(end, self.now), LessThanOrEqual(end, self.now + timedelta(days=int(value))))

    def by_last_use(self, keys: ApiKeyQuerySet, _name: str, value: str) -> ApiKeyQuerySet:
        """Keep the keys whose last accepted request was when asked."""
        keys = keys.with_activity()
        if value == "never":
            return keys.filter(never_used())
        border = self.now - timedelta(days=int(value.rstrip("+")))
        if value.endswith("+"):
            # A key is made before it is used: said, the newest are not looked at. A day, for clocks that differ.
            return keys.filter(used_before(border), used(), created_at__lt=border + timedelta(days=1))
        # Nothing uses an expired key: said, it finds the few that expired meanwhile by the index of ends.
        return keys.filter(used_since(border), GreaterThan(OrLatest("expires_at"), floor_minute(border)))

    def by_age(self, keys: ApiKeyQuerySet, _name: str, value: str) -> ApiKeyQuerySet:
        """Keep the keys that were created when asked."""
        return of_age(keys, value, self.now)

    def by_silence(self, keys: ApiKeyQuerySet, _name: str, value: str) -> ApiKeyQuerySet:
        """Keep the keys whose silence means what was asked."""
        if value == EXEMPT:
            return keys.exempted(self.now)
        silent = keys.with_silence(Silence(value), now=self.now, organization=self.organization)
        return silent.filter(not_exempt_condition(self.now))

    def by_generation(self, keys: ApiKeyQuerySet, _name: str, _value: str) -> ApiKeyQuerySet:
        """Leave out the keys whose place another one has taken, or is taking."""
        return keys.newest()

    def by_rotation(self, keys: ApiKeyQuerySet, _name: str, value: str) -> ApiKeyQuerySet:
        """Keep the usable keys that should be rotated when asked."""
        if value == "due":
            return keys.to_rotate(self.now, organization=self.organization)
        within = ROTATE_SOON if value == "soon" else timedelta(days=int(value))
        return keys.to_rotate_soon(self.now, within, organization=self.organization)

    def by_policy(self, keys: ApiKeyQuerySet, _name: str, value: str) -> ApiKeyQuerySet:
        """Keep the usable keys that violate the policy, or one of its rules, and are not exempt."""
        wanted = [self.violations[rule] for rule in self.violations if value in {VIOLATING, rule}]
        if not wanted:
            return keys.none()
        return keys.usable(self.now).filter(functools.reduce(operator.or_, wanted))

    @functools.cached_property
    def violations(self) -> dict[PolicyRule, Q]:
        """The condition of the keys that violate each rule of the organization's policy, read once."""
        terms = Policy.objects.of(self.organization).full_terms()
        return violations(terms, self.organization, self.now)

    def by_last_refusal(self, keys: ApiKeyQuerySet, _name: str, value: str) -> ApiKeyQuerySet:
        """Keep the keys of which a request was refused, of any reason, when asked."""
        return keys.with_activity().filter(activity__last_refused_at__gte=self.now - timedelta(days=int(value)))

    def by_try(self, keys: ApiKeyQuerySet, _name: str, value: str) -> ApiKeyQuerySet:
        """Keep the dead keys that somebody presented after their end, when asked."""
        return keys.tried_since_end(self.now - timedelta(days=int(value)), self.now)

    def keep(self, keys: ApiKeyQuerySet, _name: str, _value: str) -> ApiKeyQuerySet:
        """Narrow nothing: the order is put on by ordered()."""
        return keys

    def without(self, *names: str) -> ApiKeyQuerySet:
        """Return the organization's keys that all filters keep but for some."""
        self.form.is_valid()
        keys: ApiKeyQuerySet = self.organization.keys.all()
        for name, value in self.form.cleaned_data.items():
            if name not in names:
                keys = self.filters[name].filter(keys, value)
        return keys

    def expected(self, *names: str) -> int:
        """Return how many keys PostgreSQL expects that all filters keep but for some. It is asked once."""
        self.form.is_valid()
        left_out = frozenset(name for name in names if self.form.cleaned_data.get(name))
        if left_out not in self._expected:
            self._expected[left_out] = expected_count(self.without(*left_out))
        return self._expected[left_out]

    def is_on(self, *, besides: Collection[str] = ()) -> bool:
        """Say whether anything narrows the list, besides some filters."""
        self.form.is_valid()
        return any(value for name, value in self.form.cleaned_data.items() if name not in {"sort", *besides})

    def empty_tabs(self) -> set[str]:
        """Return tabs that need no look: with these filters they hold no key."""
        self.form.is_valid()
        asked = self.form.cleaned_data.get
        usable_only = asked("silence") or asked("rotate") or asked("policy") or asked("owner") == CLOSED_ACCOUNTS
        dead_only = asked("tried") or asked("expires") == "past"
        days = asked("last_used") or ""
        in_use = days.isdecimal() and int(days) <= self.organization.unused_after
        empty: set[str] = {"unused"} if in_use else set()
        if asked("expires") == "never":
            empty |= {"expiring", "expired"}
        if usable_only:
            empty |= DEAD_TABS
        if dead_only:
            empty |= USABLE_TABS
        return empty

    @property
    def sort_name(self) -> str:
        """The order asked for."""
        return self.form.cleaned_data.get("sort") or DEFAULT_SORT

    def parts(self) -> list[Ordered[ApiKey]]:
        """Return the filtered keys in their order, to page by: the usable ones, then the dead ones.

        Where a tab or another filter leaves only one of both, there is no part for the other.
        """
        tab, empty = self.form.cleaned_data.get("status"), self.empty_tabs()
        usable, dead = self.qs.usable(self.now), self.qs.dead(self.now)
        if empty >= DEAD_TABS or (tab and tab not in DEAD_TABS):
            kept = [usable]
        elif empty >= USABLE_TABS or tab in DEAD_TABS:
            kept = [dead]
        else:
            kept = [usable, dead]
        name = self.sort_name.removeprefix("-")
        descending = self.sort_name.startswith("-")
        if name == "last_used":
            return [part for rows in kept for part in _by_last_use(rows, descending)]
        expression, kind = _SORTS[name]
        if self.form.cleaned_data.get("silence") in {Silence.SEASONAL, EXEMPT}:
            # They are few, and found by an index of theirs; the order's would be read nearly to its end for them.
            expression = Coalesce(expression, expression)
        parts = []
        for rows in kept:
            wanted = rows.annotate(sort_order=expression)
            if name == "expires" and rows is usable:
                wanted = wanted.filter(GreaterThan(expression, self.now))
            parts.append(Ordered(wanted, [Column("sort_order", kind, descending), Column("id", int, descending)]))
        return parts


def _by_last_use(rows: ApiKeyQuerySet, descending: bool) -> list[Ordered[ApiKey]]:
    """Return the keys in the order of their last use; those that were never used are a part of their own.

    The index knows the minute; the keys of one minute are few, and are sorted.
    """
    rows = rows.with_activity().annotate(
        sort_order=F("activity__last_used_minute"),
        sort_instant=F("activity__last_used_at"),
        sort_key=F("activity__key_id"),
    )
    by_key = Column("sort_key", int, descending)
    by_use = [Column(name, datetime, descending) for name in ("sort_order", "sort_instant")]
    never, known = Ordered(rows.filter(never_used()), [by_key]), Ordered(rows.filter(used()), [*by_use, by_key])
    return [known, never] if descending else [never, known]


def later_owner_choices(organization: Organization, data: Mapping[str, Any]) -> Callable[[], list[tuple[str, str]]]:
    """Return owner_choices() as a function that looks once, when it is first asked.

    A form copies its choices, all of them, but not what a function returns.
    """
    return functools.cache(functools.partial(owner_choices, organization, str(data.get("owner", ""))))


def owner_choices(organization: Organization, asked: str) -> list[tuple[str, str]]:
    """Return the owners to choose from, members and contacts by address, the one that is asked for among them."""
    # Hundreds of people: their rows take as long to read as all else of the form.
    members = organization.members.values_list("user__email", "user__name")
    contacts = list(ApiKey.objects.contacts_of(organization, CONTACTS_SHOWN))
    # A page may lead to a contact that the choices have no room for.
    if len(contacts) == CONTACTS_SHOWN and asked not in contacts:
        contacts += organization.keys.filter(owner_contact=asked).values_list("owner_contact", flat=True)[:1]
    return [
        *((email, name or email) for email, name in members),
        *((contact, contact) for contact in contacts),
        (CLOSED_ACCOUNTS, "a closed account"),
    ]


def found_keys(keys: ApiKeyQuerySet, organization: Organization, text: str) -> ApiKeyQuerySet:
    """Return an organization's keys with a text in name, purpose, owner or public id; see search_condition()."""
    return keys.filter(search_condition(organization, text))


def search_condition(organization: Organization, text: str) -> Q:
    """Return the condition of an organization's keys with a text in name, purpose, owner or public id.

    A fingerprint is found by its visible ends, and a whole public id finds its key alone.
    """
    start, ellipsis, end = text.rpartition("_")[2].partition("…")
    if ellipsis and start and end:
        return Q(public_id__startswith=start, public_id__endswith=end)
    public_id = text.rpartition("_")[2] or text
    if len(public_id) == PUBLIC_ID_LENGTH and organization.keys.filter(public_id=public_id).exists():
        return Q(public_id=public_id)
    found = (
        Q(name__icontains=text)
        | Q(purpose__icontains=text)
        | Q(public_id__icontains=public_id)
        | Q(owner_contact__icontains=text)
    )
    # Members are few, and a condition on the key's own columns is one that an index can answer.
    people = Q(user__name__icontains=text) | Q(user__email__icontains=text)
    owners = list(organization.members.filter(people).values_list("pk", flat=True))
    return found | Q(owner__in=owners) if owners else found


def owned_keys(keys: ApiKeyQuerySet, organization: Organization, email: str, now: datetime) -> ApiKeyQuerySet:
    """Return the keys of an owner, a member or a contact, by address; or those for which nobody answers."""
    if email == CLOSED_ACCOUNTS:
        return keys.without_owner(now)
    member = organization.members.filter(user__email=email).first()
    # Two conditions on the key itself, so that an index finds each.
    return keys.filter(Q(owner=member) | Q(owner_contact=email)) if member else keys.filter(owner_contact=email)


def in_tab(keys: ApiKeyQuerySet, tab: str, now: datetime, organization: Organization | None = None) -> ApiKeyQuerySet:
    """Return the keys that one of TABS shows. ``organization`` is that of all the keys, where they are of one."""
    if tab == "expiring":
        return keys.expiring(now)
    if tab == "unused":
        return keys.unused(now, organization=organization)
    return keys.with_status(Status(tab), now) if tab else keys


def of_age(keys: ApiKeyQuerySet, age: str, now: datetime) -> ApiKeyQuerySet:
    """Return the keys that were created as long ago as one of AGE_CHOICES says."""
    youngest, _, oldest = age.rstrip("+").partition("-")
    keys = keys.filter(created_at__lte=now - timedelta(days=int(youngest)))
    return keys.filter(created_at__gt=now - timedelta(days=int(oldest))) if oldest else keys


class DaysForm(forms.Form):
    """A form whose days are in order, the first of them not still to come."""

    def clean(self) -> dict[str, Any]:
        """Compare the days."""
        found = super().clean() or self.cleaned_data
        since, today = found.get("since"), timezone.localdate()
        if since:
            try:
                check_order(since, min(found.get("until") or today, today), today=today)
            except RangeError as error:
                self.add_error(error.field, str(error))
        return found


class AuditFilter(ListFilter):
    """The audit log's filters."""

    actor = django_filters.CharFilter(label="Who", field_name="actor_label", lookup_expr="icontains", max_length=254)
    action = django_filters.ChoiceFilter(label="Action", choices=AuditAction.choices)
    key = django_filters.CharFilter(label="Key", method="by_key", max_length=100)
    lineage = django_filters.CharFilter(label="All generations of", method="by_lineage", max_length=12)
    address = django_filters.CharFilter(label="Address", method="by_address", max_length=45)
    since = django_filters.DateFilter(label="From", field_name="at", lookup_expr="date__gte", **DAY_OPTIONS)
    until = django_filters.DateFilter(label="To", field_name="at", lookup_expr="date__lte", **DAY_OPTIONS)

    class Meta:
        model = AuditEntry
        fields: list[str] = []
        form = DaysForm

    def by_key(self, entries: QuerySet[AuditEntry], _name: str, value: str) -> QuerySet[AuditEntry]:
        """Keep the entries of a key, by public id, fingerprint or a part of its name."""
        public_id = value.rpartition("_")[2]
        return entries.filter(
            Q(key_public_id=public_id)
            | Q(key_fingerprint=value)
            | Q(target_label__icontains=value, key_id__isnull=False)
        )

    def by_lineage(self, entries: QuerySet[AuditEntry], _name: str, value: str) -> QuerySet[AuditEntry]:
        """Keep the entries of a key, by public id, and of all that it replaced or that replaced it."""
        key = self.organization.keys.filter(public_id=value).first()
        return entries.filter(key_id__in=key.lineage.values("pk")) if key else entries.none()

    def by_address(self, entries: QuerySet[AuditEntry], _name: str, value: str) -> QuerySet[AuditEntry]:
        """Keep the entries from one address; a text that is none matches nothing."""
        address = parse_address(value)
        return entries.filter(address=str(address)) if address else entries.none()
