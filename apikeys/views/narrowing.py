"""Taking scopes from a key: what it would have refused, and the change."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.template.defaultfilters import pluralize
from django.views.decorators.http import require_http_methods

from apikeys.forms import NarrowForm, add_verb_errors
from apikeys.http import MemberRequest, actor
from apikeys.models import KeyRevokedError, Role, ScopeEvidence, StaleKeyError
from apikeys.permissions import in_reach, role_required
from apikeys.views.pages import form_status, get_key, go_to, page, posted
from apikeys.views.revocation import already_revoked


@require_http_methods(["GET", "HEAD", "POST"])
@role_required(Role.OPERATOR)
@in_reach(get_key)
def key_narrow(request: MemberRequest, public_id: str) -> HttpResponse:
    """Take the scopes from a key that nobody asked for; of others, show first what that would have refused."""
    key = get_key(request, public_id)
    if key.revoked_at:
        return already_revoked(request, key)
    evidence = ScopeEvidence.of(key)
    form = NarrowForm(posted(request), key=key, evidence=evidence)
    if form.is_valid():
        scopes = form.cleaned_data["scopes"]
        try:
            key.narrow(scopes, by=actor(request), version=form.cleaned_data["version"])
        except KeyRevokedError:
            return already_revoked(request, get_key(request, public_id))
        except StaleKeyError:
            messages.warning(request, f"{key.name} was changed since you opened this. Nothing was taken: look again.")
            return go_to(request, request.path)
        except ValidationError as error:
            add_verb_errors(form, error)
        else:
            messages.success(request, f"{len(scopes)} scope{pluralize(len(scopes))} taken from {key.name}.")
            return go_to(request, key.get_absolute_url())
    context = {"key": key, "evidence": evidence, "form": form}
    return page(request, "apikeys/key_narrow.html", "keys", context, partial="dialog", status=form_status(form))
