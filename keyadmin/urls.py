"""Every address, grouped by its base path. The verifier's are in apikeys/gateway.py, before Django."""

from allauth.account.urls import urlpatterns as account_pages
from django.urls import include, path, register_converter
from django.views.generic import RedirectView

from apikeys.alert_code import AlertCode
from apikeys.views import (
    alert_handling,
    alert_rules,
    alerts,
    audit,
    catalogue,
    deliveries,
    exemptions,
    handover,
    home,
    invitations,
    keys,
    members,
    narrowing,
    organization,
    overview,
    policies,
    policy_exemptions,
    proving,
    requests,
    review_answers,
    review_handling,
    reviews,
    revocation,
    rotating,
    rotations,
    sessions,
    sign_on,
    statistics,
    usage,
    webhooks,
)

register_converter(AlertCode, "alert")

handler400 = "apikeys.views.errors.bad_request"
handler403 = "apikeys.views.errors.permission_denied"
handler404 = "apikeys.views.errors.page_not_found"
handler500 = "apikeys.views.errors.server_error"

# What of django-allauth is ours: people do not sign up, and an admin keeps the addresses.
ACCOUNT_PAGES = {
    "account_login",
    "account_logout",
    "account_signup",
    "account_inactive",
    "account_reauthenticate",
    "account_change_password",
    "account_set_password",
    "account_reset_password",
    "account_reset_password_done",
    "account_reset_password_from_key",
    "account_reset_password_from_key_done",
}

urlpatterns = [
    # /
    path("", home.home, name="home"),
    path("assets/style.css", home.stylesheet, name="stylesheet"),
    path("assets/script.js", home.script, name="script"),
    path("settings", home.preferences, name="preferences"),
    path("sessions", sessions.sessions, name="sessions"),
    path("sessions/end", sessions.sessions_end, name="sessions_end"),
    path("sessions/<slug:handle>/end", sessions.session_end, name="session_end"),
    path("accounts/oidc/", sign_on.sign_on, name="sign_on"),
    path("accounts/oidc/callback", sign_on.sign_on_return, name="sign_on_return"),
    path("accounts/", include([page for page in account_pages if page.name in ACCOUNT_PAGES])),
    # The list is part of the page that tells of all of them.
    path("accounts/2fa/webauthn/", RedirectView.as_view(pattern_name="mfa_index"), name="mfa_list_webauthn"),
    path("accounts/2fa/", include("allauth.mfa.urls")),
    path("handover/<str:token>", handover.rotation_take, name="rotation_take"),
    path("invitation/<str:token>", invitations.invitation_take, name="invitation_take"),
    # /<organization>/
    path("<slug:organization>/", overview.overview, name="overview"),
    # /<organization>/keys/
    path("<slug:organization>/keys/", keys.key_list, name="key_list"),
    path("<slug:organization>/keys/find", keys.key_find, name="key_find"),
    path("<slug:organization>/keys/export.<str:kind>", keys.key_export, name="key_export"),
    path("<slug:organization>/keys/new", keys.key_create, name="key_create"),
    path("<slug:organization>/keys/revoke", revocation.key_bulk_revoke, name="key_bulk_revoke"),
    path("<slug:organization>/keys/rotate", rotating.key_bulk_rotate, name="key_bulk_rotate"),
    path("<slug:organization>/keys/<str:public_id>", statistics.key_detail, name="key_detail"),
    path("<slug:organization>/keys/<str:public_id>/edit", keys.key_edit, name="key_edit"),
    path("<slug:organization>/keys/<str:public_id>/narrow", narrowing.key_narrow, name="key_narrow"),
    path(
        "<slug:organization>/keys/<str:public_id>/export/<str:table>.<str:kind>",
        statistics.key_usage_export,
        name="key_usage_export",
    ),
    path("<slug:organization>/keys/<str:public_id>/pause", revocation.key_pause, name="key_pause"),
    path("<slug:organization>/keys/<str:public_id>/resume", revocation.key_resume, name="key_resume"),
    path(
        "<slug:organization>/keys/<str:public_id>/regenerate",
        revocation.key_regenerate,
        name="key_regenerate",
    ),
    path("<slug:organization>/keys/<str:public_id>/rotate", rotating.key_rotate, name="key_rotate"),
    path("<slug:organization>/keys/<str:public_id>/revoke", revocation.key_revoke, name="key_revoke"),
    path("<slug:organization>/keys/<str:public_id>/exempt", exemptions.key_exempt, name="key_exempt"),
    path(
        "<slug:organization>/keys/<str:public_id>/exempt/end",
        exemptions.key_exempt_end,
        name="key_exempt_end",
    ),
    path(
        "<slug:organization>/keys/<str:public_id>/policy/<str:rule>/exempt",
        policy_exemptions.policy_exempt,
        name="policy_exempt",
    ),
    path(
        "<slug:organization>/keys/<str:public_id>/policy/<str:rule>/exempt/end",
        policy_exemptions.policy_exempt_end,
        name="policy_exempt_end",
    ),
    path("<slug:organization>/keys/<str:public_id>/requests", requests.key_requests, name="key_requests"),
    path(
        "<slug:organization>/keys/<str:public_id>/first-request",
        requests.key_first_request,
        name="key_first_request",
    ),
    # /<organization>/rotations/
    path("<slug:organization>/rotations/", rotations.rotation_list, name="rotation_list"),
    path("<slug:organization>/rotations/export.<str:kind>", rotations.rotation_export, name="rotation_export"),
    path("<slug:organization>/rotations/<int:number>", rotations.rotation_detail, name="rotation_detail"),
    path("<slug:organization>/rotations/<int:number>/extend", rotations.rotation_extend, name="rotation_extend"),
    path("<slug:organization>/rotations/<int:number>/finish", rotations.rotation_finish, name="rotation_finish"),
    path("<slug:organization>/rotations/<int:number>/cancel", rotations.rotation_cancel, name="rotation_cancel"),
    path("<slug:organization>/rotations/<int:number>/link", rotations.rotation_link, name="rotation_link"),
    path(
        "<slug:organization>/rotations/<int:number>/callers.<str:kind>",
        rotations.rotation_callers_export,
        name="rotation_callers_export",
    ),
    # /<organization>/reviews/
    path("<slug:organization>/reviews/", reviews.review_list, name="review_list"),
    path("<slug:organization>/reviews/new", review_handling.review_start, name="review_start"),
    path("<slug:organization>/reviews/<int:number>", reviews.review_detail, name="review_detail"),
    path("<slug:organization>/reviews/<int:number>/find", reviews.review_find, name="review_find"),
    path("<slug:organization>/reviews/<int:number>/print", reviews.review_print, name="review_print"),
    path("<slug:organization>/reviews/<int:number>/export.<str:kind>", reviews.review_export, name="review_export"),
    path(
        "<slug:organization>/reviews/<int:number>/confirm",
        review_answers.review_bulk_confirm,
        name="review_bulk_confirm",
    ),
    path(
        "<slug:organization>/reviews/<int:number>/keys/<str:public_id>",
        review_answers.review_confirm,
        name="review_confirm",
    ),
    path("<slug:organization>/reviews/<int:number>/remind", review_handling.review_remind, name="review_remind"),
    path("<slug:organization>/reviews/<int:number>/revoke", review_handling.review_revoke, name="review_revoke"),
    path("<slug:organization>/reviews/<int:number>/close", review_handling.review_close, name="review_close"),
    # /<organization>/alerts/
    path("<slug:organization>/alerts/", alerts.alert_list, name="alert_list"),
    path("<slug:organization>/alerts/find", alerts.alert_find, name="alert_find"),
    path("<slug:organization>/alerts/export.<str:kind>", alerts.alert_export, name="alert_export"),
    path(
        "<slug:organization>/alerts/acknowledge",
        alert_handling.alert_bulk_acknowledge,
        name="alert_bulk_acknowledge",
    ),
    path("<slug:organization>/alerts/resolve", alert_handling.alert_bulk_resolve, name="alert_bulk_resolve"),
    path("<slug:organization>/alerts/mails", alert_rules.alert_mails, name="alert_mails"),
    path("<slug:organization>/alerts/digest", alert_rules.alert_settings_edit, name="alert_settings_edit"),
    path("<slug:organization>/alerts/rules", alert_rules.alert_rules, name="alert_rules"),
    path("<slug:organization>/alerts/rules/<str:rule>", alert_rules.alert_rule_edit, name="alert_rule_edit"),
    path("<slug:organization>/alerts/rules/<str:rule>/usual", alert_rules.alert_rule_reset, name="alert_rule_reset"),
    path("<slug:organization>/alerts/mails/test", alert_rules.alert_mail_test, name="alert_mail_test"),
    path("<slug:organization>/alerts/deliveries/", deliveries.delivery_list, name="delivery_list"),
    path("<slug:organization>/alerts/deliveries/export.<str:kind>", deliveries.delivery_export, name="delivery_export"),
    path("<slug:organization>/alerts/deliveries/<uuid:pk>", deliveries.delivery_detail, name="delivery_detail"),
    path("<slug:organization>/alerts/deliveries/<uuid:pk>/again", deliveries.delivery_resend, name="delivery_resend"),
    path("<slug:organization>/alerts/webhooks/", webhooks.webhook_list, name="webhook_list"),
    path("<slug:organization>/alerts/webhooks/new", webhooks.webhook_create, name="webhook_create"),
    path("<slug:organization>/alerts/webhooks/<int:number>", webhooks.webhook_detail, name="webhook_detail"),
    path("<slug:organization>/alerts/webhooks/<int:number>/edit", webhooks.webhook_edit, name="webhook_edit"),
    path("<slug:organization>/alerts/webhooks/<int:number>/secret", webhooks.webhook_rotate, name="webhook_rotate"),
    path("<slug:organization>/alerts/webhooks/<int:number>/delete", webhooks.webhook_delete, name="webhook_delete"),
    path("<slug:organization>/alerts/webhooks/<int:number>/switch", webhooks.webhook_switch, name="webhook_switch"),
    path("<slug:organization>/alerts/webhooks/<int:number>/test", webhooks.webhook_test, name="webhook_test"),
    path("<slug:organization>/alerts/<alert:number>", alerts.alert_detail, name="alert_detail"),
    path(
        "<slug:organization>/alerts/<alert:number>/acknowledge",
        alert_handling.alert_acknowledge,
        name="alert_acknowledge",
    ),
    path("<slug:organization>/alerts/<alert:number>/resolve", alert_handling.alert_resolve, name="alert_resolve"),
    # /<organization>/usage/
    path("<slug:organization>/usage/", usage.usage, name="usage"),
    path("<slug:organization>/usage/export/<str:table>.<str:kind>", usage.usage_export, name="usage_export"),
    path("<slug:organization>/prove", proving.prove, name="prove"),
    # /<organization>/audit/
    path("<slug:organization>/audit/", audit.audit_list, name="audit_list"),
    path("<slug:organization>/audit/export.<str:kind>", audit.audit_export, name="audit_export"),
    # /<organization>/scopes/
    path("<slug:organization>/scopes/", catalogue.scope_list, name="scope_list"),
    path("<slug:organization>/scopes/new", catalogue.scope_create, name="scope_create"),
    path("<slug:organization>/scopes/<str:name>/edit", catalogue.scope_edit, name="scope_edit"),
    path("<slug:organization>/scopes/<str:name>/delete", catalogue.scope_delete, name="scope_delete"),
    # /<organization>/members/
    path("<slug:organization>/members/", members.member_list, name="member_list"),
    path("<slug:organization>/members/invite", invitations.invitation_create, name="invitation_create"),
    path(
        "<slug:organization>/members/invitations/<int:number>/resend",
        invitations.invitation_resend,
        name="invitation_resend",
    ),
    path(
        "<slug:organization>/members/invitations/<int:number>/withdraw",
        invitations.invitation_withdraw,
        name="invitation_withdraw",
    ),
    path("<slug:organization>/members/leave", members.member_leave, name="member_leave"),
    path("<slug:organization>/members/<int:pk>/edit", members.member_edit, name="member_edit"),
    path("<slug:organization>/members/<int:pk>/remove", members.member_remove, name="member_remove"),
    # /<organization>/settings/
    path("<slug:organization>/settings/", organization.organization_edit, name="organization_edit"),
    path("<slug:organization>/settings/policies", policies.policies, name="policies"),
    path("<slug:organization>/settings/policies/edit", policies.policy_edit, name="policy_edit"),
    path("<slug:organization>/settings/policies/preview", policies.policy_preview, name="policy_preview"),
    path(
        "<slug:organization>/settings/policies/exemptions",
        policy_exemptions.policy_exemptions,
        name="policy_exemptions",
    ),
    path(
        "<slug:organization>/settings/environments/new",
        catalogue.environment_create,
        name="environment_create",
    ),
    path(
        "<slug:organization>/settings/environments/<str:code>/edit",
        catalogue.environment_edit,
        name="environment_edit",
    ),
    path(
        "<slug:organization>/settings/environments/<str:code>/delete",
        catalogue.environment_delete,
        name="environment_delete",
    ),
]
