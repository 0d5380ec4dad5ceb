"""The server's entry: the verifier on the event loop, Django for everything else in threads.

Django's own ASGI handler would give each request a thread of its own, and with it a connection to the database.
"""

import signal
from typing import Any, cast

# A worker of granian begins with its parent's handlers, which lose a signal to stop that comes while it starts. It has
# nothing to finish yet.
if str(getattr(signal.getsignal(signal.SIGTERM), "__module__", "")).startswith("granian"):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

from a2wsgi import WSGIMiddleware
from django.conf import settings

from keyadmin.garbage import collect_seldom
from keyadmin.wsgi import application as pages

# The types of a2wsgi tell the kinds of messages apart, which nobody here does.
threaded_pages = cast(Any, WSGIMiddleware(cast(Any, pages), workers=settings.PAGE_THREADS))

from apikeys.gateway import mount  # noqa: E402 - models need Django to be set up

application = mount(threaded_pages)

collect_seldom()
