"""The one app."""

from django.apps import AppConfig


class ApiKeysConfig(AppConfig):
    """Keys, and everything about them."""

    name = "apikeys"
    verbose_name = "API keys"

    def ready(self) -> None:
        """Register the checks of our own settings, and who hears of connections, revocations and sign-ins."""
        from apikeys import checks, connections, second_factor, sessions, step_up, tombstones  # noqa: F401, PLC0415 - models must be loaded first
