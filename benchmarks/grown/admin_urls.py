"""Django's own admin of keys, as its documentation sets one up, with the relations of its rows joined."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.urls import path
from django.utils import timezone

from apikeys.models import ApiKey, Status
from keyadmin.urls import urlpatterns as ours


class StatusFilter(admin.SimpleListFilter):
    """Filters by status, as the key list's tabs do."""

    title = "status"
    parameter_name = "status"

    def lookups(self, _request: Any, _model_admin: Any) -> list[tuple[str, str]]:
        """Return the choices."""
        return list(Status.choices)

    def queryset(self, _request: Any, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        """Return the keys of the chosen status."""
        return queryset.with_status(Status(self.value()), timezone.now()) if self.value() else queryset


class OpenSite(admin.AdminSite):
    """An admin for everybody: what is measured is the list, not permissions."""

    def has_permission(self, _request: Any) -> bool:
        """Let everybody pass."""
        return True


class KeyAdmin(admin.ModelAdmin):
    """The changelist."""

    list_display = ("name", "public_id", "environment", "owner", "created_at", "expires_at", "revoked_at")
    list_filter = (StatusFilter,)
    list_per_page = 50
    list_select_related = ("environment", "owner__user")
    search_fields = ("name", "purpose", "public_id", "owner_contact", "owner__user__name", "owner__user__email")
    ordering = ("-created_at",)

    def has_view_permission(self, _request: Any, _obj: Any = None) -> bool:
        """Let everybody look."""
        return True

    has_module_permission = has_change_permission = has_view_permission

    def has_add_permission(self, _request: Any) -> bool:
        """Let nobody change anything."""
        return False

    has_delete_permission = has_add_permission


site = OpenSite()
site.register(ApiKey, KeyAdmin)
# Its pages go through keyadmin's own middleware, which leads to keyadmin's pages.
urlpatterns = [path("admin/", site.urls), *ours]
