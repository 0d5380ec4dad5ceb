"""What a policy asks, in words: for its page, its preview and the forms of keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from apikeys.models import Organization, PolicyRule, PolicyTerms


class Facet(NamedTuple):
    """One thing that a policy can ask: what of PolicyTerms.facts() says it, and the rule that keys can violate."""

    fact: str
    label: str
    rule: PolicyRule | None
    about: str


FACETS: Final = (
    Facet("max_lifetime", "Longest lifetime", PolicyRule.LIFETIME, "From a key's creation to its expiry."),
    Facet("expiry_required", "Expiry required", PolicyRule.EXPIRY, "No key works until somebody remembers it."),
    Facet("max_key_age", "Key age until rotation", PolicyRule.AGE, "Older keys are listed as to rotate; they go on."),
    Facet("unused_after_days", "Days until unused", None, "How long a silence makes a key unused."),
    Facet("least_purpose", "Purpose", PolicyRule.PURPOSE, "What it is used for, and where it is stored."),
    Facet("owner_required", "Owner", PolicyRule.OWNER, "Who answers for a key."),
    Facet("admin_scopes", "Scopes that need an admin", PolicyRule.SCOPES, "An operator cannot give them to a key."),
    Facet("networks_required", "Networks for production", PolicyRule.NETWORKS, "From where production keys work."),
    Facet(
        "environments_apart",
        "Separate keys per environment",
        PolicyRule.SEPARATION,
        "A network may use keys of production or of other environments, never of both.",
    ),
    Facet("max_rate", "Largest rate limit", PolicyRule.RATE, "How fast a key may be used."),
)
FACET_OF: Final = {facet.rule: facet for facet in FACETS if facet.rule}


def asked(facet: Facet, terms: PolicyTerms, organization: Organization) -> str:
    """Say what a policy asks of a facet, empty where it asks nothing."""
    match facet.fact:
        case "max_lifetime":
            return f"at most {_days(terms.max_lifetime)}" if terms.max_lifetime else ""
        case "expiry_required":
            return "every key expires" if terms.expiry_required else ""
        case "max_key_age":
            return f"rotate after {_days(terms.max_key_age)}" if terms.max_key_age else ""
        case "unused_after_days":
            own = terms.unused_after_days
            usual = organization.usual_unused_after
            return f"{_days(own)} of silence" if own else f"{_days(usual)} of silence, as everywhere here"
        case "least_purpose":
            least = terms.least_purpose
            return f"at least {least} character{'' if least == 1 else 's'}" if least else "always required"
        case "owner_required":
            return (
                "a member whose account is open" if terms.owner_required else "always required: a member or an address"
            )
        case "admin_scopes":
            return ", ".join(scope.name for scope in terms.admin_scopes)
        case "networks_required":
            return "at least one, not all addresses" if terms.networks_required else ""
        case "environments_apart":
            return "no shared networks" if terms.environments_apart else ""
        case _:
            return f"at most {terms.rate_text}" if terms.max_rate else ""


def _days(days: int | None) -> str:
    return f"{days or 0:,} day{'' if days == 1 else 's'}"


class FacetChange(NamedTuple):
    """What would be asked of a facet instead of what is."""

    facet: Facet
    before: str
    after: str


def facet_changes(old: PolicyTerms, new: PolicyTerms, organization: Organization) -> Iterator[FacetChange]:
    """Yield what differs between two policies."""
    before, after = old.facts(), new.facts()
    for facet in FACETS:
        if before[facet.fact] != after[facet.fact]:
            words = [asked(facet, terms, organization) or "not asked" for terms in (old, new)]
            yield FacetChange(facet, *words)
