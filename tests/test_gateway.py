"""The verifier's WSGI face: statuses, headers, bad input, and that nobody can tell refusals apart."""

import json

import pytest
from django.conf import settings as django_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apikeys import key_secret
from apikeys.models import Actor, RateLimit, RevocationReason, UsageEvent
from tests.factories import make_expired_key, make_key, make_organization, make_revoked_key

pytestmark = pytest.mark.django_db
BY = Actor.command()
HANDED_ON = ["X-Key-Id", "X-Key-Organization", "X-Key-Environment", "X-Key-Scopes"]


def paused_key(organization):
    issued = make_key(organization)
    issued.key.pause(by=BY)
    return issued


def test_a_service_is_told_about_a_valid_key(organization, verifier):
    key, secret = make_key(organization)
    answer = verifier.verify(organization, {"key": secret.text, "scope": "orders:read"})
    assert answer.status == 200
    assert answer.json() == {
        "outcome": "valid",
        "organization": "acme",
        "key": {
            "id": key.public_id,
            "name": key.name,
            "environment": "prod",
            "scopes": ["orders:read"],
            "expires_at": None,
        },
    }


@pytest.mark.parametrize(
    ("make", "scope", "status", "outcome"),
    [
        (make_key, "orders:write", 403, "scope_missing"),
        (make_revoked_key, "", 401, "revoked"),
        (make_expired_key, "", 401, "expired"),
        (paused_key, "", 401, "paused"),
    ],
)
def test_a_service_is_told_the_outcome_of_a_refusal(organization, verifier, make, scope, status, outcome):
    answer = verifier.verify(organization, {"key": make(organization).secret.text, "scope": scope})
    assert (answer.status, answer.json()["outcome"]) == (status, outcome)


def test_a_gateway_gets_what_it_hands_on(organization, verifier):
    key, secret = make_key(organization, scopes=["orders:write", "orders:read"])
    answer = verifier.authorize(organization, secret.text, scope="orders:read")
    assert answer.status == 200
    assert [answer.headers[name] for name in HANDED_ON] == [key.public_id, "acme", "prod", "orders:read orders:write"]
    assert answer.body == b""
    assert answer.headers["Cache-Control"] == "no-store"


def test_refusals_of_a_credential_are_told_apart_by_nobody(organization, verifier):
    other = make_organization()
    real = make_key(organization).secret
    credentials = {
        "none": None,
        "empty": "",
        "malformed": "ka_prod_nonsense",
        "mistyped": real.text[:-1] + ("A" if real.text[-1] != "A" else "B"),
        "unknown": key_secret.make("ka", "prod").text,
        "of another organization": make_key(other).secret.text,
        "a wrong secret": key_secret.KeySecret(real.prefix, real.code, real.public_id, "0" * 43).text,
        "revoked": make_revoked_key(organization).secret.text,
        "expired": make_expired_key(organization).secret.text,
        "paused": paused_key(organization).secret.text,
    }
    answers = {name: verifier.authorize(organization, credential) for name, credential in credentials.items()}
    shapes = {(a.status, tuple(a.headers.items()), a.body) for a in answers.values()}
    assert len(shapes) == 1
    [(status, headers, body)] = shapes
    assert (status, body) == (401, b"")
    assert ("www-authenticate", 'Bearer realm="acme", error="invalid_token"') in headers


def test_every_header_that_a_gateway_copies_is_set_in_every_answer(organization, verifier):
    limited = make_key(organization, rate_limit=RateLimit(1, 3600, 1)).secret.text
    far = make_key(organization, networks=["192.0.2.0/24"]).secret.text
    answers = [
        verifier.authorize(organization, limited),
        verifier.authorize(organization, limited),
        verifier.authorize(organization, limited, scope="orders:write"),
        verifier.authorize(organization, far),
        verifier.authorize(organization, "nonsense"),
    ]
    assert [answer.status for answer in answers] == [200, 429, 403, 403, 401]
    for answer in answers[1:]:
        assert [answer.headers[name] for name in HANDED_ON] == ["", "", "", ""]


def test_a_limit_is_told_in_the_standard_fields(organization, verifier):
    secret = make_key(organization, rate_limit=RateLimit(2, 60, 1)).secret.text
    first, second = verifier.authorize(organization, secret), verifier.authorize(organization, secret)
    assert first.headers["RateLimit-Policy"] == '"key";q=2;w=60'
    assert first.headers["RateLimit"] == '"key";r=0;t=30'
    assert "Retry-After" not in first.headers
    assert (second.status, second.headers["Retry-After"]) == (429, "30")
    free = verifier.authorize(organization, make_key(organization).secret.text)
    assert "RateLimit" not in free.headers


def test_the_key_may_come_in_either_header(organization, verifier):
    secret = make_key(organization).secret.text
    assert verifier.authorize(organization, Authorization=f"bearer   {secret}").status == 200
    assert verifier.authorize(organization, X_Api_Key=secret).status == 200
    assert verifier.authorize(organization, Authorization=f"Basic {secret}").status == 401


def test_what_the_gateway_tells_is_recorded(organization, verifier):
    key, secret = make_key(organization)
    headers = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Original-Method": "DELETE",
        "X-Original-URI": "/orders/7?token=abc",
        "User-Agent": "agent/1",
    }
    verifier.authorize(organization, secret.text, **headers)
    event = UsageEvent.objects.get(key_id=key.pk)
    assert (event.address, event.method, event.path) == ("203.0.113.9", "DELETE", "/orders/7")
    assert event.user_agent == "agent/1"


def test_a_peer_that_is_not_trusted_cannot_forge_anything(organization, verifier):
    key, secret = make_key(organization, networks=["10.0.0.0/8"])
    forged = {"X-Forwarded-For": "10.0.0.1", "X-Original-Method": "DELETE", "X-Original-URI": "/secret"}
    assert verifier.authorize(organization, secret.text, peer="203.0.113.66", **forged).status == 403
    event = UsageEvent.objects.get(key_id=key.pk)
    assert (event.address, event.method, event.path) == ("203.0.113.66", "GET", "")
    for origin in ({"peer": "203.0.113.66"}, {"X-Forwarded-For": "203.0.113.66"}, {"X-Forwarded-For": "é"}):
        claimed = verifier.verify(organization, {"key": secret.text, "address": "10.0.0.1"}, **origin)
        assert (claimed.status, list(claimed.json()["errors"])) == (400, ["address"])


def test_a_trusted_service_may_name_its_client(organization, verifier):
    key, secret = make_key(organization, networks=["10.0.0.0/8"])
    body = {"key": secret.text, "address": "10.0.0.1", "user_agent": "app/1", "method": "PUT", "path": "/a?b"}
    assert verifier.verify(organization, body).status == 200
    event = UsageEvent.objects.get(key_id=key.pk)
    assert (event.address, event.user_agent, event.method, event.path) == ("10.0.0.1", "app/1", "PUT", "/a")


BAD_BODIES = {
    "not JSON": (b"key=abc", "body"),
    "not UTF-8": (b'{"key": "\xff\xfe"}', "body"),
    "nothing": (b"", "body"),
    "a list": (b"[]", "body"),
    "nested deeply": (b"[" * 5000 + b"]" * 5000, "body"),
    "no key": (b"{}", "key"),
    "a number": (b'{"key": 7}', "key"),
    "null": (b'{"key": null}', "key"),
    "an unknown field": (b'{"key": "x", "kee": "y"}', "kee"),
    "a scope that cannot be one": (b'{"key": "x", "scope": "Orders Read"}', "scope"),
    "a scope with NUL": (b'{"key": "x", "scope": "a\\u0000b"}', "scope"),
    "an address that is none": (b'{"key": "x", "address": "here"}', "address"),
    "a path that is no text": (b'{"key": "x", "path": ["/"]}', "path"),
}


@pytest.mark.parametrize(("body", "field"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_bad_body_is_answered_with_the_name_of_its_field(organization, verifier, body, field):
    answer = verifier.verify(organization, body)
    assert answer.status == 400
    assert list(answer.json()["errors"]) == [field]


def test_a_body_of_a_megabyte_is_refused_by_its_size(organization, verifier):
    answer = verifier.verify(organization, b'{"key": "' + b"x" * 1_000_000 + b'"}')
    assert (answer.status, list(answer.json()["errors"])) == (413, ["body"])


def test_a_header_of_a_megabyte_is_just_a_malformed_key(organization, verifier):
    assert verifier.authorize(organization, "k" * 1_000_000).status == 401


def test_hostile_text_around_a_good_key_is_recorded_without_harm(organization, verifier):
    key, secret = make_key(organization)
    hostile = "\x00\x1b[31m\u202e\u2066\x9b<script>\udcff" + "é" * 400
    headers = {"User-Agent": hostile, "X-Original-URI": "/\x00" + "p" * 2000, "X-Original-Method": "M" * 99}
    assert verifier.authorize(organization, secret.text, **headers).status == 200
    event = UsageEvent.objects.get(key_id=key.pk)
    assert not set("\x00\x1b\u202e\u2066\x9b") & set(event.user_agent + event.path)
    assert (len(event.user_agent), len(event.path), len(event.method)) == (200, 500, 16)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=300), scope=st.text(max_size=80), header=st.text(max_size=80))
def test_no_request_makes_an_error_of_ours(organization, verifier, body, scope, header):
    assert verifier.verify(organization, body).status in {400, 401}
    header = header.encode("utf-8", "replace").decode()
    assert verifier.authorize(organization, header, scope=scope.encode("utf-8", "replace").decode()).status in {
        400,
        401,
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(["key", "scope", "address", "user_agent", "method", "path", "x"]), json_values))
def test_no_json_makes_an_error_of_ours(organization, verifier, body):
    assert verifier.verify(organization, json.dumps(body).encode()).status in {400, 401}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.fixed_dictionaries({name: st.text(max_size=600) for name in ("user_agent", "method", "path")}))
def test_a_valid_key_passes_with_any_text_beside_it(organization, verifier, values):
    secret = make_key(organization).secret.text
    assert verifier.verify(organization, json.dumps({"key": secret, **values}).encode()).status == 200


def test_envoy_appends_the_original_path_to_the_scope_and_keeps_method_and_query(organization, verifier):
    key, secret = make_key(organization)
    headers = {"Authorization": f"Bearer {secret.text}", "X-Forwarded-For": "203.0.113.9"}
    path, query = "/v1/acme/authorize/orders:read/v2/orders/é\n/7", "scope=orders:write&page=2"
    assert verifier.call("DELETE", path, headers | {"X-Original-URI": "/forged"}, query=query).status == 200
    event = UsageEvent.objects.get(key_id=key.pk)
    assert (event.address, event.method, event.path) == ("203.0.113.9", "DELETE", "/v2/orders/é/7")
    assert event.scope == "orders:read"


def test_envoy_s_scope_is_checked_and_a_dash_asks_for_none(organization, verifier):
    headers = {"Authorization": f"Bearer {make_key(organization).secret.text}"}
    asked = {"orders:read": 200, "-": 200, "orders:write": 403, "Orders Read": 400}
    for scope, status in asked.items():
        assert verifier.call("GET", f"/v1/acme/authorize/{scope}/v2", headers).status == status
        assert verifier.call("GET", f"/v1/acme/authorize/{scope}/../orders:read/v2", headers).status == status


@pytest.mark.parametrize(
    "path",
    [
        "/v1/",
        "/v1/acme/authorize/",
        "/v1/acme/authorize/-",
        "/v1/acme/verify/-/x",
        "/v1/acme",
        "/v1/acme/verify/",
        "/v1/ACME/verify",
        "/v1/a%00/verify",
        "/v1//verify",
    ],
)
def test_any_other_path_below_v1_is_a_404_in_json(organization, verifier, path):
    answer = verifier.call("GET", path)
    assert answer.status == 404
    assert "error" in answer.json()


def test_verify_takes_post_only(organization, verifier):
    answer = verifier.call("GET", "/v1/acme/verify")
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")


def test_authorize_takes_one_scope_and_no_other_parameter(organization, verifier):
    for query, field in (("scope=a:b&scope=c:d", "scope"), ("scoop=a", "scoop"), ("scope=A%00", "scope")):
        answer = verifier.call("GET", "/v1/acme/authorize", query=query)
        assert (answer.status, list(answer.json()["errors"])) == (400, [field])


def test_a_head_request_has_no_body(organization, verifier):
    assert verifier.call("HEAD", "/healthz").body == b""


def test_health_is_told_without_the_database(verifier, django_assert_num_queries):
    with django_assert_num_queries(0):
        answer = verifier.call("GET", "/healthz", {"Host": "10.9.8.7"})
    assert (answer.status, answer.body) == (200, b"ok\n")


def test_django_answers_everything_else(verifier):
    assert verifier.call("GET", "/accounts/login/").status == 200
    assert django_settings.WSGI_APPLICATION == "keyadmin.wsgi.application"


def test_a_revocation_ends_a_key_for_the_very_next_request(organization, verifier):
    key, secret = make_key(organization)
    assert verifier.verify(organization, secret.text).status == 200
    key.revoke(reason=RevocationReason.LEAKED, by=BY)
    assert verifier.verify(organization, secret.text).status == 401
    assert verifier.authorize(organization, secret.text).status == 401
