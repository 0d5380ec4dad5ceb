"""Large exports are sent while they are read: what they take of memory does not grow with their rows."""

import gc
import tracemalloc
from datetime import timedelta

import pytest
from django.utils import timezone

from apikeys.models import AuditAction, AuditEntry, KeyActivity, Outcome, UsageEvent, Via
from tests.factories import make_key
from tests.pages import make_keys, soon, url

pytestmark = pytest.mark.django_db

# At least two of the chunks in which rows are read: while one is sent, the next one comes.
FEW, MANY = 2_000, 6_000


@pytest.fixture
def peak(organization, viewer, client_of):
    """Return how many bytes an export has at once at most, and how many lines it has."""
    client = client_of(viewer)

    def measure(name, *args):
        response = client.get(url(name, organization, *args))
        assert response.streaming
        gc.freeze()  # what is there before is not looked through again and again
        tracemalloc.start()
        try:
            lines = 0
            for number, part in enumerate(response.streaming_content):
                lines += part.count(b"\n")
                if number % 250 == 0:
                    gc.collect()  # rows refer to one another, and are gone when Python looks for such circles
            return tracemalloc.get_traced_memory()[1], lines
        finally:
            tracemalloc.stop()
            gc.unfreeze()

    return measure


def check(measured, rows):
    (few, _), (many, lines) = measured
    assert lines >= rows
    assert many < 1.3 * few


def test_keys_are_not_held(organization, peak):
    measured = []
    for number in (1_000, 2_000):
        make_keys(organization, number)
        measured.append(peak("key_export", "json"))
    check(measured, 3_000)


def test_audit_entries_are_not_held(organization, peak):
    measured = []
    for number in (FEW, MANY):
        AuditEntry.objects.bulk_create(
            AuditEntry(
                at=timezone.now(),
                organization=organization,
                actor_label="x",
                via=Via.COMMAND,
                action=AuditAction.SIGN_OUT,
            )
            for _ in range(number)
        )
        measured.append(peak("audit_export", "csv"))
    check(measured, FEW + MANY)


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_single_requests_are_not_held(organization, peak, kind):
    key = make_key(organization).key
    measured = []
    for number in (FEW, MANY):
        now = timezone.now()
        UsageEvent.objects.bulk_create(
            UsageEvent(key_id=key.pk, at=now - timedelta(seconds=second), outcome=Outcome.VALID, path=f"/{second}")
            for second in range(number)
        )
        measured.append(peak("key_usage_export", key.public_id, "requests", kind))
    check(measured, FEW + MANY)


def test_what_needs_attention_is_not_held(organization, peak):
    measured = []
    for number in (1_000, 2_000):
        keys = make_keys(organization, number, change=lambda key, _: setattr(key, "expires_at", soon(3)))
        KeyActivity.objects.filter(key__in=keys).update(last_used_at=timezone.now())
        measured.append(peak("usage_export", "attention", "csv"))
    check(measured, 3_000)
