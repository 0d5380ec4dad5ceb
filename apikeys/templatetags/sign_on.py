"""Whether pages offer single sign-on: `{% load sign_on %}`."""

from django import template
from django.conf import settings

register = template.Library()


@register.simple_tag
def sign_on_name() -> str:
    """Return what people sign in with beside passwords, empty where there is nothing."""
    return str(settings.OIDC_NAME) if settings.OIDC_ISSUER else ""
