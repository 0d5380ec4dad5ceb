"""The owner's way to a new key: by a link that is good once."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods

from apikeys.http import actor, zone_of
from apikeys.models import Actor, LinkError, Rotation
from apikeys.permissions import public
from apikeys.views.keys import secret_context


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@public(because="the owner of a key may be somebody without an account; the link is the right to it", asks_who=True)
@sensitive_variables("token")
def rotation_take(request: HttpRequest, token: str) -> HttpResponse:
    """Ask the owner to take the new key, then show it once. Opening the link changes nothing: robots open links."""
    rotation = Rotation.objects.with_token(token)
    if rotation is None or not rotation.link_is_good:
        return _not_good(request)
    owner = rotation.old_key.owner
    if owner is not None and not request.user.is_authenticated:
        return redirect_to_login(request.get_full_path())
    if owner is not None and request.user.pk != owner.user_id:
        context = {"rotation": rotation, "is_other": True}
        return render(request, "apikeys/rotation_take.html", context, status=HTTPStatus.FORBIDDEN)
    with timezone.override(zone_of(request)):
        context = {"rotation": rotation, "key": rotation.old_key}
        if request.method != "POST":
            return render(request, "apikeys/rotation_take.html", context)
        try:
            issued = rotation.take(token, by=_taker(request, rotation))
        except LinkError:
            return _not_good(request)
        except ValidationError as error:
            context["faults"] = error.messages
            return render(request, "apikeys/rotation_take.html", context, status=HTTPStatus.UNPROCESSABLE_ENTITY)
        return render(request, "apikeys/rotation_take.html", context | secret_context(issued))


def _taker(request: HttpRequest, rotation: Rotation) -> Actor:
    """Return who takes the key: without an account, whoever reads the mail of that address."""
    by = actor(request)
    return by if by.user else replace(by, label=rotation.link_sent_to)


def _not_good(request: HttpRequest) -> HttpResponse:
    """Say the same of every link that is not good: used, run out, replaced, or made up."""
    return render(request, "apikeys/rotation_take.html", {"is_over": True}, status=HTTPStatus.GONE)
