"""The server's entry: the verifier on the event loop, Django for everything else in threads.

Django's own ASGI handler would give each request a thread of its own, and with it a connection to the database.
"""

from typing import Any, cast

from a2wsgi import WSGIMiddleware
from django.conf import settings

from apikeys.gateway import mount

# Sets Django up, which the verifier needs.
from keyadmin.wsgi import application as pages

# The types of a2wsgi tell the kinds of messages apart, which nobody here does.
application = mount(cast(Any, WSGIMiddleware(cast(Any, pages), workers=settings.PAGE_THREADS)))
