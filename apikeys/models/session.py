"""Sessions: where a person is signed in, since when, and from where."""

from __future__ import annotations

import hashlib
import re
from importlib import import_module
from typing import Any, ClassVar, Final, Self

from django.conf import settings
from django.contrib.sessions.base_session import AbstractBaseSession, BaseSessionManager
from django.db import models

_BROWSERS: Final = {"Edg": "Edge", "OPR": "Opera", "Firefox": "Firefox", "Chrome": "Chrome", "Safari": "Safari"}
_SYSTEMS: Final = {
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Android": "Android",
    "Windows": "Windows",
    "Mac OS X": "macOS",
    "CrOS": "ChromeOS",
    "Linux": "Linux",
}


class Session(AbstractBaseSession):
    """One browser in which somebody is signed in, or was about to. Without its row it is over."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, null=True, related_name="sessions")
    began_at = models.DateTimeField(null=True)
    seen_at = models.DateTimeField(null=True)
    address = models.GenericIPAddressField(null=True)
    user_agent = models.CharField(max_length=200, blank=True)

    objects: ClassVar[BaseSessionManager[Self]] = BaseSessionManager()

    class Meta(AbstractBaseSession.Meta):
        abstract = False
        verbose_name = "session"
        verbose_name_plural = "sessions"

    @classmethod
    def get_session_store_class(cls) -> Any:
        """Return what reads and writes them."""
        return import_module(settings.SESSION_ENGINE).SessionStore

    @property
    def handle(self) -> str:
        """What names it in a page: its key is as good as a password."""
        return hashlib.sha256(self.session_key.encode()).hexdigest()[:20]

    @property
    def device(self) -> str:
        """The browser and the system that it says it is, in words."""
        browser = next((name for token, name in _BROWSERS.items() if f"{token}/" in self.user_agent), "")
        system = next((name for token, name in _SYSTEMS.items() if token in self.user_agent), "")
        if browser and system:
            return f"{browser} on {system}"
        return browser or system or re.split(r"[ /(]", self.user_agent, maxsplit=1)[0] or "Unknown"

    @property
    def words(self) -> str:
        """What the audit log and a screen reader call it."""
        return f"{self.device}, {self.address or 'unknown address'}"
