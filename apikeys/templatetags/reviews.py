"""How reviews and the answers in them are drawn: `{% load reviews %}`."""

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apikeys.models import Review, ReviewItem, ReviewProgress, ReviewState
from apikeys.templatetags.keyadmin import icon

register = template.Library()

STATES = {
    ReviewState.OPEN: ("warn", "circle-dashed"),
    ReviewState.NEEDED: ("good", "check"),
    ReviewState.UNNEEDED: ("bad", "circle-x"),
    ReviewState.ENDED: ("mute", "ban"),
}


@register.simple_tag
def review_badge(review: Review) -> SafeString:
    """Say with icon, word and colour whether a review is open, overdue or closed."""
    if review.closed_at:
        kind, image, word = "mute", "lock", "Closed"
    elif review.is_overdue:
        kind, image, word = "warn", "clock-alert", "Overdue"
    else:
        kind, image, word = "good", "clipboard-check", "Open"
    return format_html('<span class="badge {}">{}{}</span>', kind, icon(image, 14), word)


@register.simple_tag
def answer_badge(item: ReviewItem) -> SafeString:
    """Say with icon, word and colour how a key stands in its review."""
    kind, image = STATES[item.state]
    word = "Not answered" if item.state == ReviewState.OPEN else item.state.label.capitalize()
    return format_html('<span class="badge {}">{}{}</span>', kind, icon(image, 14), word)


@register.simple_tag
def progress_bar(progress: ReviewProgress) -> SafeString:
    """Draw how many keys stand how, as parts of a bar; its words are for those who do not see it."""
    total, at = max(progress.total, 1), 0.0
    parts: list[SafeString] = []
    for name in ("needed", "unneeded", "ended"):
        width = 100 * getattr(progress, name) / total
        if width:
            parts.append(
                format_html('<rect class="{}" x="{}" width="{}" height="8"/>', name, round(at, 3), round(width, 3))
            )
        at += width
    words = f"{progress.done:,} of {progress.total:,} done"
    return format_html(
        '<svg class="review-bar" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>',
        words,
        SafeString("".join(parts)),
    )
