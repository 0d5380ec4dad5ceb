"""The daily checkpoints of audit logs: made where a log has grown and is as it was written, mailed, and posted."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from smtplib import SMTPException

from django.core import mail
from django.db import transaction
from django.template.loader import render_to_string

from apikeys.audit_proof import Verdict, check_chain
from apikeys.audit_signing import sign, statement_of
from apikeys.models import AuditChain, AuditCheckpoint, Delivery, Organization

log = logging.getLogger(__name__)


def make_checkpoint(chain: AuditChain, now: datetime) -> Verdict | None:
    """Check a chain and sign as much of it as was checked; None where it has not grown since its last one, or today.

    One that is not as it was written is not signed: the verdict has its fault.
    """
    last = AuditCheckpoint.objects.filter(number=chain.number).order_by("-sequence").first()
    if last and (last.sequence >= chain.sequence or last.at.astimezone(UTC).date() >= now.astimezone(UTC).date()):
        return None
    verdict = check_chain(chain.number)
    if not verdict.fault:
        checked = AuditChain(number=chain.number, sequence=verdict.entries, hash=verdict.hash)
        _keep(sign(checked, now))
    return verdict


def _keep(made: AuditCheckpoint) -> None:
    """Store a checkpoint, and have the webhooks that want it told; another run may have done so meanwhile."""
    with transaction.atomic():
        told = {"hash": made.hash, "at": made.at, "key": made.key, "signature": made.signature}
        kept, is_new = AuditCheckpoint.objects.get_or_create(number=made.number, sequence=made.sequence, defaults=told)
        if is_new:
            Delivery.objects.enqueue_checkpoint(kept)


def send_checkpoints(now: datetime) -> tuple[int, int]:
    """Mail the newest of each organization that wants it, once; return how many were sent and how many were not.

    An older one that was not sent says nothing more than the newest.
    """
    sent = failed = 0
    for organization in Organization.objects.exclude(checkpoint_mail="").order_by("pk"):
        newest = AuditCheckpoint.objects.filter(number=organization.pk).order_by("-sequence").first()
        if not newest or not AuditCheckpoint.objects.filter(pk=newest.pk, sent_at=None).update(sent_at=now):
            continue
        try:
            _mail(organization, newest).send()
        except (SMTPException, OSError) as error:
            log.warning("The checkpoint of %s was not mailed: %s", organization.slug, type(error).__name__)
            AuditCheckpoint.objects.filter(pk=newest.pk).update(sent_at=None)
            failed += 1
        else:
            sent += 1
    return sent, failed


def _mail(organization: Organization, checkpoint: AuditCheckpoint) -> mail.EmailMessage:
    line = json.dumps(statement_of(checkpoint)) + "\n"
    context = {"organization": organization, "checkpoint": checkpoint}
    made = mail.EmailMessage(
        f"[{organization.name}] Audit log: checkpoint of entry {checkpoint.sequence:,}",
        render_to_string("emails/checkpoint.txt", context),
        to=[organization.checkpoint_mail],
    )
    made.attach(f"{organization.slug}-{checkpoint.sequence}.checkpoint.json", line, "application/json")
    return made
