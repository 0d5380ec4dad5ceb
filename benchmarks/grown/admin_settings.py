"""keyadmin with Django's own admin, to hold the key list against its changelist."""

from keyadmin.settings import *  # noqa: F403
from keyadmin.settings import INSTALLED_APPS, TEMPLATES

INSTALLED_APPS = [*INSTALLED_APPS, "django.contrib.admin"]
ROOT_URLCONF = "benchmarks.grown.admin_urls"
TEMPLATES = [
    {**TEMPLATES[0], "OPTIONS": {**TEMPLATES[0]["OPTIONS"]}},
]
SILENCED_SYSTEM_CHECKS = ["admin.E403", "admin.E404", "admin.E408", "admin.E409", "admin.E410"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
