"""The organization's own settings."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import Count
from django.http import HttpResponse
from django.views.decorators.http import require_http_methods

from apikeys.forms import OrganizationForm, add_verb_errors
from apikeys.http import MemberRequest, actor
from apikeys.models import NoSecondFactorError, Role
from apikeys.permissions import role_required
from apikeys.views.pages import form_status, go_to, page, posted
from apikeys.views.proving import proven

NO_SECOND_FACTOR = "Set up one of your own first, under “Second factor” in the menu of your account."


@require_http_methods(["GET", "HEAD", "POST"])
@role_required(Role.ADMIN)
@proven
def organization_edit(request: MemberRequest) -> HttpResponse:
    """Change the organization's name, key prefix and maximum key age; list its environments and domains."""
    organization = request.member.organization
    form = OrganizationForm(posted(request), initial=organization.facts())
    if form.is_valid():
        try:
            organization.edit(by=actor(request), **form.cleaned_data)
        except ValidationError as error:
            add_verb_errors(form, error)
            organization.refresh_from_db()
        except NoSecondFactorError:
            form.add_error("requires_second_factor", NO_SECOND_FACTOR)
            organization.refresh_from_db()
        else:
            messages.success(request, "The organization was saved.")
            return go_to(request, request.path)
    environments = organization.environments.annotate(key_count=Count("keys")).order_by("id")
    context = {"form": form, "environments": environments, "domains": organization.sign_on_domains.all()}
    return page(request, "apikeys/organization_form.html", "settings", context, status=form_status(form))
