"""What the keys of a review can be narrowed to, and the order in which they are read."""

from __future__ import annotations

from typing import Any, Final

import django_filters
from django import forms
from django.db.models import Q
from django.utils import timezone

from apikeys.filters import CLOSED_ACCOUNTS, ListFilter, found_keys, owner_choices, quick_choice_filter
from apikeys.models import Decision, Member, Review, ReviewItem, ReviewState
from apikeys.models.review_item import ReviewItemQuerySet, count_waiting, nobodys
from apikeys.paging import Column, Ordered, number_text

TABS: Final = {
    "": "All",
    "open": "Not answered",
    "needed": "Still needed",
    "unneeded": "No longer needed",
    "ended": "Ended meanwhile",
}
# No address: it holds no @.
NOBODY: Final = "nobody"
ORDER: Final = [Column("id", int)]
OWNERS_SHOWN: Final = 300
# So many keys that wait for somebody are counted for the navigation.
BADGE_LIMIT: Final = 99


class ReviewFilter(ListFilter):
    """The filters of a review's keys."""

    q = django_filters.CharFilter(label="Search", method="search", max_length=200)
    status = django_filters.ChoiceFilter(
        label="Status",
        choices=[(value, label) for value, label in TABS.items() if value],
        method="keep",
        widget=forms.HiddenInput,
    )
    environment = quick_choice_filter(label="Environment", method="by_environment")
    owner = quick_choice_filter(label="Owner", method="by_owner")

    class Meta:
        model = ReviewItem
        fields: list[str] = []

    def __init__(self, *args: Any, review: Review, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.review, self.now = review, timezone.now()
        self.filters["environment"].extra["choices"] = self._environments()
        self.filters["owner"].extra["choices"] = self._owners(str(self.data.get("owner", "")))

    def _environments(self) -> list[tuple[str, str]]:
        if self.review.is_open:
            return [(one.code, one.name) for one in self.organization.environments.all()]
        names = self.review.items.order_by("environment").values_list("environment", flat=True).distinct()
        return [(name, name) for name in names]

    def _owners(self, asked: str) -> list[tuple[str, str]]:
        if self.review.is_open:
            choices = [one for one in owner_choices(self.organization, asked) if one[0] != CLOSED_ACCOUNTS]
            return [*choices, (NOBODY, "owners who cannot answer")]
        owners = list(self.review.items.order_by("owner").values_list("owner", flat=True).distinct()[:OWNERS_SHOWN])
        if len(owners) == OWNERS_SHOWN and asked not in owners:
            owners += self.review.items.filter(owner=asked).values_list("owner", flat=True)[:1]
        return [(owner, owner) for owner in owners]

    def search(self, items: ReviewItemQuerySet, _name: str, value: str) -> ReviewItemQuerySet:
        """Find a text in a key's name, purpose, owner or fingerprint, or in the note of an answer."""
        noted = Q(note__icontains=value)
        if self.review.is_open:
            keys = found_keys(self.organization.keys.all(), self.organization, value)
            return items.filter(noted | Q(key__in=keys.values("pk")))
        told = Q(name__icontains=value) | Q(fingerprint__icontains=value) | Q(owner__icontains=value)
        return items.filter(noted | told | Q(key__public_id=value))

    def by_environment(self, items: ReviewItemQuerySet, _name: str, value: str) -> ReviewItemQuerySet:
        """Keep the keys of an environment."""
        if self.review.is_open:
            return items.filter(key__environment__organization=self.organization, key__environment__code=value)
        return items.filter(environment=value)

    def by_owner(self, items: ReviewItemQuerySet, _name: str, value: str) -> ReviewItemQuerySet:
        """Keep the keys of an owner, by address; or those whose owner cannot answer."""
        return items.filter(nobodys()) if value == NOBODY else items.owned_by(self.review, value)

    def keep(self, items: ReviewItemQuerySet, _name: str, _value: str) -> ReviewItemQuerySet:
        """Narrow nothing: the tab is put on by parts()."""
        return items

    @property
    def tab(self) -> str:
        """Which of TABS is shown."""
        return self.form.cleaned_data.get("status") or ""

    def is_on(self) -> bool:
        """Say whether anything narrows the list besides its tab."""
        return any(value for name, value in self.form.cleaned_data.items() if name != "status")

    def told(self) -> list[str]:
        """Return each filter that is on in words, the tab among them."""
        return [*([f"Status: {TABS[self.tab]}"] if self.tab else []), *super().told()]

    def parts(self) -> list[Ordered[ReviewItem]]:
        """Return the items in their order, to page by: what is to be answered, then what may go, then the others."""
        states = [ReviewState(self.tab)] if self.tab else list(ReviewState)
        return [Ordered(self.qs.standing(self.review, state, self.now), ORDER) for state in states]

    def answerable(self) -> ReviewItemQuerySet:
        """Return the items to answer that the filters keep and whose answer the member may give."""
        open_ones: ReviewItemQuerySet = self.qs.standing(self.review, ReviewState.OPEN, self.now)
        member = self.request.member
        return open_ones if member.can_administer else open_ones.filter(key__owner=member)


def revocable(review: Review, *, unneeded_only: bool) -> ReviewItemQuerySet:
    """Return the keys of a review that can be used now and that nobody confirmed: those no longer needed first."""
    decided = [Decision.UNNEEDED] if unneeded_only else [Decision.UNNEEDED, Decision.OPEN]
    items: ReviewItemQuerySet = review.items.filter(decision__in=decided).usable(timezone.now())
    # "unneeded" sorts after "open".
    return items.order_by("-decision", "pk")


def waiting_text(member: Member) -> str:
    """Return how many keys wait for a member's answer, for the navigation: empty for none, "99+" beyond that."""
    count = count_waiting(member, BADGE_LIMIT + 1)
    return number_text(count, BADGE_LIMIT) if count else ""
