"""The dashboard's pages, which run in threads; keyadmin/asgi.py serves them beside the verifier."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keyadmin.settings")

from django.core.wsgi import get_wsgi_application

django_application = get_wsgi_application()

from apikeys.operations import mount  # noqa: E402 - models need Django to be set up

application = mount(django_application)
