"""The Django peers of benchmarks/verify.py: djangorestframework-api-key, django-rest-knox, a view that does nothing.

Each as fast as it goes: no middleware, persistent connections, the smallest view. `python django_peers.py prepare`
makes the tables and the keys; granian serves `django_peers:application`. Runs in an environment of its own.
"""

import os
import sys
from typing import Any

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="a benchmark has no secrets",  # noqa: S106 - it has none
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[],
    USE_TZ=True,
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "rest_framework",
        "rest_framework_api_key",
        "knox",
    ],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": "127.0.0.1",
            "PORT": os.environ["BENCHMARK_PORT"],
            "USER": "keyadmin",
            "NAME": "peers",
            "CONN_MAX_AGE": None,
            "OPTIONS": {"sslmode": "disable"},
        }
    },
    REST_FRAMEWORK={"DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"]},
)
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402
from knox.auth import TokenAuthentication  # noqa: E402
from rest_framework.decorators import (  # noqa: E402
    api_view,
    authentication_classes,
    permission_classes,
)
from rest_framework.permissions import IsAuthenticated  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework_api_key.permissions import HasAPIKey  # noqa: E402


def nothing(_request: HttpRequest) -> HttpResponse:
    """Answer 200 and do nothing else: the floor of everything in Django."""
    return HttpResponse()


@api_view(["GET"])
@authentication_classes([])
@permission_classes([HasAPIKey])
def api_key(_request: Any) -> Response:
    """Answer 200 to a valid key of djangorestframework-api-key."""
    return Response()


@api_view(["GET"])
@authentication_classes([TokenAuthentication])
@permission_classes([IsAuthenticated])
def knox(_request: Any) -> Response:
    """Answer 200 to a valid token of django-rest-knox."""
    return Response()


urlpatterns = [path("nothing", nothing), path("api-key", api_key), path("knox", knox)]
application = get_wsgi_application()


def prepare(count: int) -> None:
    """Make the tables and `count` keys of each; print one valid key of each, "Authorization" values, a line each."""
    from django.contrib.auth.models import User  # noqa: PLC0415
    from django.core.management import call_command  # noqa: PLC0415
    from django.utils import timezone  # noqa: PLC0415
    from knox.models import AuthToken  # noqa: PLC0415
    from rest_framework_api_key.models import APIKey  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    now = timezone.now()
    keys = (
        APIKey(id=f"{n:08x}.filler", prefix=f"{n:08x}", hashed_key="filler", name=f"key {n}", created=now)
        for n in range(count)
    )
    APIKey.objects.bulk_create(keys, batch_size=5000)
    # A token to a user: knox looks at every token of the user that signs in.
    users = User.objects.bulk_create((User(username=f"user {n}") for n in range(count)), batch_size=5000)
    user = User.objects.create(username="benchmark")
    tokens = (
        AuthToken(digest=f"{n:0128x}", token_key=f"{n:015x}", user=owner, created=now, expiry=None)
        for n, owner in enumerate(users)
    )
    AuthToken.objects.bulk_create(tokens, batch_size=5000)
    print(f"Api-Key {APIKey.objects.create_key(name='benchmark')[1]}")
    print(f"Token {AuthToken.objects.create(user=user, expiry=None)[1]}")


if __name__ == "__main__":
    prepare(int(sys.argv[1]))
