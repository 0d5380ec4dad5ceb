"""The scheduled commands: when each ran last, what it did, and which of them are late."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Final

from django.db import DatabaseError, InterfaceError, models, transaction
from django.utils import timezone

from apikeys.key_secret import redact

CHECK: Final = "check_recording"
# A job is late when it has not succeeded for so long: its interval in deploy/, and some time to run.
LATE_AFTER: Final = {
    CHECK: timedelta(minutes=20),
    "evaluate_alerts": timedelta(minutes=35),
    "finish_rotations": timedelta(minutes=20),
    "send_alerts": timedelta(minutes=20),
    "remind_reviews": timedelta(hours=2, minutes=15),
    "roll_up_usage": timedelta(hours=2, minutes=15),
    "verify_audit_log": timedelta(hours=2, minutes=15),
    "checkpoint_audit_log": timedelta(hours=26),
    "flag_keys": timedelta(hours=26),
    "prune_usage": timedelta(hours=26),
}
KEPT_RUNS: Final = 100


class JobRunQuerySet(models.QuerySet["JobRun"]):
    """Recording and reading of runs."""

    @contextmanager
    def record(self, job: str) -> Iterator[JobRun]:
        """Keep that a job runs, and how it ended; set ``done`` to what it did. An error is kept and goes on."""
        run = self.create(job=job, started_at=timezone.now())
        try:
            yield run
        except SystemExit as end:
            # A status is an answer: flag_keys ends with 3 when it found something.
            run.finish(error="" if end.code != 1 else "ended with status 1")
            raise
        except BaseException as error:
            # Of a database that fails nothing can be kept there.
            with suppress(DatabaseError, InterfaceError):
                run.finish(error=redact(str(error).strip() or type(error).__name__))
            raise
        run.finish()

    def latest_of(self, job: str) -> JobRun | None:
        """Return the newest run of a job."""
        return self.filter(job=job).order_by("-started_at", "-pk").first()

    def newest(self) -> dict[str, JobRun]:
        """Return the newest run of each job."""
        first = JobRun.objects.filter(job=models.OuterRef("job")).order_by("-started_at", "-pk").values("pk")[:1]
        return {run.job: run for run in self.filter(pk=models.Subquery(first))}

    def late(self, now: datetime | None = None) -> list[str]:
        """Return the jobs that have not succeeded for longer than they may; one that never ran is late."""
        now = now or timezone.now()
        worked = self._worked()
        return [job for job, limit in LATE_AFTER.items() if job not in worked or worked[job] < now - limit]

    def report(self, now: datetime | None = None) -> list[JobReport]:
        """Return how each scheduled command is doing."""
        now = now or timezone.now()
        newest, worked = self.newest(), self._worked()
        return [JobReport.of(job, newest.get(job), worked.get(job), now - limit) for job, limit in LATE_AFTER.items()]

    def _worked(self) -> dict[str, datetime]:
        """Return when each job succeeded last."""
        done = self.filter(finished_at__isnull=False, error="").values_list("job")
        return dict(done.annotate(models.Max("finished_at")).order_by())

    def recording(self, now: datetime | None = None) -> Recording:
        """Return whether requests are recorded, as far as check_recording knows."""
        now = now or timezone.now()
        runs = self.filter(job=CHECK, finished_at__isnull=False).order_by("-finished_at", "-pk")
        newest = runs.first()
        if newest is None:
            return Recording(RecordingState.UNKNOWN)
        works = newest if not newest.error else runs.filter(error="").first()
        worked_at = works.finished_at if works else None
        if newest.error:
            return Recording(RecordingState.STOPPED, newest.finished_at, worked_at, newest.error)
        is_late = newest.finished_at is None or newest.finished_at < now - LATE_AFTER[CHECK]
        return Recording(
            RecordingState.UNKNOWN if is_late else RecordingState.WORKS, newest.finished_at, worked_at, newest.done
        )


class JobState(models.TextChoices):
    """How a scheduled command is doing."""

    WORKS = "works", "works"
    NEVER = "never", "has never run"
    FAILED = "failed", "failed"
    LATE = "late", "late"


@dataclass(frozen=True, slots=True)
class JobReport:
    """How a scheduled command is doing: when it began last, and when it succeeded last."""

    job: str
    state: JobState
    started_at: datetime | None
    worked_at: datetime | None

    @classmethod
    def of(cls, job: str, newest: JobRun | None, worked_at: datetime | None, limit: datetime) -> JobReport:
        """Judge its newest run; it is late when it has not succeeded since a limit."""
        if newest is None:
            return cls(job, JobState.NEVER, None, None)
        state = JobState.LATE if worked_at is None or worked_at < limit else JobState.WORKS
        return cls(job, JobState.FAILED if newest.error else state, newest.started_at, worked_at)


class RecordingState(models.TextChoices):
    """Whether requests are recorded."""

    WORKS = "works", "works"
    STOPPED = "stopped", "has stopped"
    UNKNOWN = "unknown", "was not checked lately"


@dataclass(frozen=True, slots=True)
class Recording:
    """What the last self-check found, and when; ``worked_at`` is the last time that it found all well."""

    state: RecordingState
    checked_at: datetime | None = None
    worked_at: datetime | None = None
    words: str = ""


class JobRun(models.Model):
    """One run of a scheduled command. Without ``finished_at`` it is under way, or was killed."""

    job = models.CharField(max_length=40)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    done = models.CharField(max_length=500, blank=True)
    error = models.CharField(max_length=500, blank=True)

    objects: ClassVar = JobRunQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["job", "-started_at"], name="newest_runs")]

    def __str__(self) -> str:
        return f"{self.job} {self.started_at.isoformat()} {self.error or self.done}"

    def finish(self, error: str = "") -> None:
        """Say how it ended, and forget the oldest runs of the same job."""
        with transaction.atomic():
            self.finished_at = timezone.now()
            self.error = error[:500]
            self.done = self.done[:500]
            self.save(update_fields=["finished_at", "error", "done"])
            runs = JobRun.objects.filter(job=self.job).order_by("-started_at", "-pk")
            oldest = runs.values_list("started_at", flat=True)[KEPT_RUNS : KEPT_RUNS + 1].first()
            if oldest:
                JobRun.objects.filter(job=self.job, started_at__lte=oldest).delete()
