"""The addresses of the stylesheet and the script, which change with their content."""

from django import template
from django.urls import reverse

from apikeys.assets import bundle

register = template.Library()


@register.simple_tag
def stylesheet_url() -> str:
    """Return the address of the stylesheet."""
    return f"{reverse('stylesheet')}?v={bundle('css').version}"


@register.simple_tag
def script_url() -> str:
    """Return the address of the script."""
    return f"{reverse('script')}?v={bundle('js').version}"
