"""The server's entry: the verifier first, Django for everything else."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keyadmin.settings")

from django.core.wsgi import get_wsgi_application

django_application = get_wsgi_application()

from apikeys.gateway import mount  # noqa: E402 - models need Django to be set up

application = mount(django_application)
