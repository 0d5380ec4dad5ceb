"""The pages for what goes wrong."""

import logging
import sys

from django.conf import settings
from django.core.exceptions import BadRequest, TooManyFieldsSent
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string

from apikeys.permissions import RoleRequired, public

log = logging.getLogger(__name__)


@public(because="it says what is wrong with the request itself")
def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 400; what Django refuses names its settings, which are nobody's business."""
    reason = str(exception) if isinstance(exception, BadRequest) else ""
    if isinstance(exception, TooManyFieldsSent):
        reason = f"It has more than {settings.DATA_UPLOAD_MAX_NUMBER_FIELDS:,} fields, in its address or its form."
    return render(request, "400.html", {"reason": reason}, status=400)


@public(because="it says only that something is not allowed")
def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 403 with the role that would do."""
    required = exception.role.label if isinstance(exception, RoleRequired) else ""
    return render(request, "403.html", {"required_role": required, "reason": str(exception)}, status=403)


@public(because="it says only that there is nothing")
def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """Answer 404."""
    return render(request, "404.html", status=404)


@public(because="it says only that something went wrong")
def server_error(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """Answer 503 when the database is away, 500 otherwise; neither page asks the database for anything."""
    if isinstance(sys.exc_info()[1], OperationalError | InterfaceError):
        return HttpResponse(render_to_string("503.html"), status=503, headers={"Retry-After": "5"})
    return HttpResponse(render_to_string("500.html"), status=500)


@public(because="it asks to send the form again")
def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer a form without a valid token: usually one that was open while the session changed."""
    log.warning("CSRF check failed at %s: %s", request.path, reason)
    told = "This form is too old or came from elsewhere. Go back, reload the page and send it again."
    return render(request, "403.html", {"required_role": "", "reason": told}, status=403)
