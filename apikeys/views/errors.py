"""The pages for what goes wrong."""

import logging
import sys
from http import HTTPStatus

from django.conf import settings
from django.core.exceptions import BadRequest, RequestDataTooBig, TooManyFieldsSent
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string

from apikeys.models import User
from apikeys.permissions import RoleRequired, public

log = logging.getLogger(__name__)


def _tell_of_refusal(request: HttpRequest, why: str) -> None:
    """Say in the log which person was refused what: who tries what they may not is worth a look."""
    person = getattr(request, "user", None)
    if not isinstance(person, User):
        return
    address = getattr(request, "client_address", None)
    facts = {"person": person.email, "address": address, "method": request.method, "path": request.path}
    told = "Refused %(person)s at %(address)s: %(method)s %(path)s: %(why)s"
    log.warning(told, facts | {"why": why}, extra=facts)


@public(because="it says what is wrong with the request itself")
def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 400, or 413 to what is too large; what Django refuses names its settings, which are nobody's business."""
    status = HTTPStatus.BAD_REQUEST
    reason = str(exception) if isinstance(exception, BadRequest) else ""
    if isinstance(exception, TooManyFieldsSent):
        reason = f"It has more than {settings.DATA_UPLOAD_MAX_NUMBER_FIELDS:,} fields, in its address or its form."
    elif isinstance(exception, RequestDataTooBig):
        status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        reason = f"It is larger than {settings.DATA_UPLOAD_MAX_MEMORY_SIZE // 1024:,} KB."
    return render(request, "400.html", {"reason": reason}, status=status)


@public(because="it says only that something is not allowed")
def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 403 with the role that would do."""
    _tell_of_refusal(request, str(exception))
    required = exception.role.label if isinstance(exception, RoleRequired) else ""
    return render(request, "403.html", {"required_role": required, "reason": str(exception)}, status=403)


@public(because="it says only that there is nothing")
def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """Answer 404: there is no such page, or nothing there that the person may know of."""
    if request.resolver_match:
        _tell_of_refusal(request, "there is nothing of theirs")
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
