"""The shape of the code: imports point one way, and each action has one name everywhere."""

import ast
import importlib
from pathlib import Path

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from apikeys.models.organization import RESERVED_SLUGS

pytestmark = pytest.mark.any_engine

ROOT = Path(__file__).resolve().parent.parent
# From the top down: a module may import from its own layer's later entries and from the layers below.
LAYERS = [
    {"apps", "views", "management", "accounts", "second_factor", "single_sign_on"},
    {
        "forms",
        "member_forms",
        "invitation_mails",
        "rotation_forms",
        "sign_on_forms",
        "notifiers",
        "tallies",
        "filters",
        "widgets",
        "usage_forms",
        "key_tables",
        "rotation_tables",
        "review_filters",
        "review_forms",
        "review_mails",
        "review_tables",
        "organization_tables",
        "breakdown",
        "request_log",
        "callers",
        "permissions",
        "step_up",
        "passkeys",
        "sessions",
        "http",
        "exports",
        "policy_forms",
        "policy_limits",
        "policy_words",
        "csv_export",
        "json_export",
        "attention",
        "paging",
        "assets",
        "demo",
        "evaluation",
        "alert_mails",
        "alert_words",
        "alert_actions",
        "alert_filters",
        "alert_forms",
        "alert_moment",
        "sending",
        "checkpoints",
        "webhook_forms",
        "webhook_messages",
        "templatetags",
    },
    {
        "gateway",
        "operations",
        "identity_provider",
        "charts",
        "ranges",
        "checks",
        "password_validators",
        "audit_proof",
        "audit_signing",
        "audit_stream",
        "flagging",
        "retention",
        "partitions",
        "self_check",
    },
    {"metrics", "readiness", "tombstones"},
    {"verification"},
    {"ledger"},
    {"models"},
    {"lanes"},
    {"blocking"},
    {"pipeline", "ledger_sql"},
    {
        "alert_code",
        "breached_passwords",
        "sealing",
        "unusual_usage",
        "outgoing",
        "key_secret",
        "places",
        "proxies",
        "logs",
        "connections",
        "statements",
        "time_zones",
    },
]
MODELS = [
    "progress",
    "evidence",
    "forecast",
    "busiest",
    "organization_usage",
    "rollup",
    "usage_forecast",
    "rhythm",
    "counting",
    "watermark",
    "series",
    "usage",
    "counting_sql",
    "job",
]
MODELS += ["review", "review_reminder"]
MODELS += ["alert", "delivery", "webhook", "alert_rule", "alert_kind"]
MODELS += ["review_item", "review_progress"]
MODELS += ["rotation", "policy_exemption", "exemption", "key", "key_queries", "policy", "policy_rule", "key_networks"]
MODELS += ["key_status", "key_terms", "key_age", "silence", "invitation", "reach", "catalogue"]
MODELS += ["sign_on", "organization", "former_member", "session", "user", "audit", "audit_chain"]
MODELS += ["recording", "among", "extremes", "text"]


def imports_of(path):
    """Return (module, whether it is imported for types only) of each import from apikeys."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in typing_only:
            if node.module == "apikeys":
                yield from (f"apikeys.{alias.name}" for alias in node.names)
            elif node.module.startswith("apikeys."):
                yield node.module


def layer_of(name):
    return next((number for number, layer in enumerate(LAYERS) if name in layer), None)


MODULES = [path for path in (ROOT / "apikeys").rglob("*.py") if "migrations" not in path.parts]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    parts = path.relative_to(ROOT / "apikeys").with_suffix("").parts
    if parts == ("__init__",):
        return
    here = layer_of(parts[0])
    assert here is not None, f"{parts[0]} has no layer: add it to LAYERS"
    for module in imports_of(path):
        there = layer_of(module.split(".")[1])
        assert there is not None, module
        assert there >= here, f"{path.name} imports {module}, which lies above it"


@pytest.mark.parametrize("name", MODELS)
def test_models_import_in_one_direction(name):
    allowed = {f"apikeys.models.{other}" for other in MODELS[MODELS.index(name) + 1 :]}
    for module in imports_of(ROOT / "apikeys/models" / f"{name}.py"):
        assert module in allowed | {"apikeys.key_secret", "apikeys.time_zones", "apikeys.alert_code"}, (
            f"{name} imports {module}"
        )


def test_verification_knows_nothing_of_http():
    source = (ROOT / "apikeys/verification.py").read_text()
    assert "django.http" not in source
    assert "gateway" not in "".join(imports_of(ROOT / "apikeys/verification.py"))


def patterns(resolver=None, prefix=""):
    """Yield (route, pattern) of every page."""
    for pattern in (resolver or get_resolver()).url_patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from patterns(pattern, route)
        elif isinstance(pattern, URLPattern):
            yield route, pattern


OURS = [(route, pattern) for route, pattern in patterns() if not route.startswith("accounts/")]


@pytest.mark.parametrize(("route", "pattern"), OURS, ids=[pattern.name for _, pattern in OURS])
def test_every_view_says_who_may_see_it_and_has_one_name(route, pattern):
    access = getattr(pattern.callback, "access", "")
    assert access.startswith(("role:", "public: ", "signed in: ")), f"{pattern.name} declares nobody"
    assert pattern.name == pattern.callback.__name__
    if route.startswith("<slug:organization>/"):
        assert access.startswith("role:")


def test_each_page_has_a_template_of_its_name():
    stems = {path.stem for path in (ROOT / "templates/apikeys").glob("*.html")}
    without = {"home", "stylesheet", "script", "key_find", "key_export", "audit_export", "key_usage_export"}
    without |= {"usage_export", "alert_find", "alert_export", "alert_rule_reset"}
    without |= {"rotation_export", "rotation_callers_export", "session_end", "sessions_end"}
    without |= {"invitation_resend", "invitation_withdraw"}
    without |= {"review_export", "review_find", "review_remind", "review_revoke"}
    without |= {"alert_mail_test", "delivery_export", "delivery_resend", "webhook_switch", "webhook_test"}
    shared = {
        "key_create": "key_form",
        "key_edit": "key_form",
        "scope_edit": "scope_form",
        "scope_create": "scope_list",
    }
    shared |= {
        "invitation_create": "member_list",
        "member_edit": "member_form",
        "organization_edit": "organization_form",
    }
    shared |= {"webhook_create": "webhook_form", "webhook_edit": "webhook_form"}
    shared |= {"environment_create": "environment_form", "environment_edit": "environment_form"}
    for _, pattern in OURS:
        if pattern.name not in without:
            assert shared.get(pattern.name, pattern.name) in stems, pattern.name


def test_each_address_has_a_test_file_of_its_name():
    files = {path.stem.removeprefix("test_") for path in (ROOT / "tests/views").glob("test_*.py")}
    assert {pattern.name for _, pattern in OURS} == files


def test_no_organization_can_take_a_path_of_ours():
    first = {route.split("/")[0] for route, _ in patterns()} - {"", "<slug:organization>"}
    assert first | {"v1", "healthz", "readyz", "metrics", "static"} <= RESERVED_SLUGS


@pytest.mark.parametrize(
    "path", sorted((ROOT / "benchmarks").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_what_a_benchmark_takes_from_us_is_there(path):
    # They are run by hand: a name that was changed would be missed long after.
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in {
            "apikeys",
            "tests",
            "benchmarks",
        }:
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
